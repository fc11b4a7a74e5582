//! The real binary, as cron, people and scripts start it.

mod configuration;
pub mod contents;
mod examples;
mod hardship;
mod kills;
mod output;
mod parts;
pub mod s3;
mod schedule;
mod secrets;
pub mod signals;
pub mod support;
mod users;
