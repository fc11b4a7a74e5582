//! The nights: backup, clean-up and their mails, by the real binary.

mod cleanup;
mod reports;
mod runs;
mod secrets;
mod service;
mod settings;
mod statistics;
pub mod support;
mod worst;
mod zones;
