//! `restore --continue`: an interrupted restore goes on, and drops only what its mark says that it made.

mod foreign;
mod killed;
mod marks;
mod replayed;
pub mod support;
mod varieties;
