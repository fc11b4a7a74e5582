//! `health`: green on a sound installation, and each thing that can be wrong named by its own check.

mod failing;
mod green;
mod history;
mod output;
mod probe;
mod stores;
pub mod support;
