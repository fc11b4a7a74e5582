//! Nightly runs: backup, cleanup and their mails, with the real binary.

mod deadman;
mod reports;
mod runs;
mod secrets;
mod service;
mod settings;
mod statistics;
pub mod support;
mod transports;
