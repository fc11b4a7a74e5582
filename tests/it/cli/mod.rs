//! The real binary, as cron, people and scripts start it.

mod configuration;
pub mod contents;
mod examples;
mod output;
mod s3;
mod signals;
pub mod support;
