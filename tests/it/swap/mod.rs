//! `restore --swap`, `--kept`, `--undo` and `--discard`.

mod exchange;
mod interrupted;
pub mod support;
