//! The hooks before and after a backup: their order, environment, failures, time limits and secrets.

mod failures;
mod runs;
mod secrets;
pub mod support;
