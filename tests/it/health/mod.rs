//! `health`: green on a sound installation, and each fault is reported by its own check.

mod failing;
mod green;
mod history;
mod oplog;
mod output;
mod probe;
mod stores;
pub mod support;
