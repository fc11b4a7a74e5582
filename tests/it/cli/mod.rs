//! The real binary, as cron, people and scripts start it.

mod configuration;
pub mod contents;
mod examples;
mod output;
pub mod support;
