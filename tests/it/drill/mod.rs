//! Drills: a backup is restored into a scratch server and compared, and the restored data is removed.

mod command;
pub mod lent;
mod own;
mod point;
mod slice;
pub mod support;
