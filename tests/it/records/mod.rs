//! Records of runs in MongoDB: written beside the backup, rebuilt from the store, and never required.

mod api;
mod reach;
mod rebuilt;
mod rights;
mod runs;
pub mod support;
