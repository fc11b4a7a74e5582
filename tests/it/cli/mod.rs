//! Runs the real binary as cron, people and scripts do.

mod clocks;
mod configuration;
pub mod contents;
mod failures;
mod faults;
pub mod hardship;
mod kills;
mod lacking;
pub mod locks;
mod log;
mod misspelt;
mod outages;
mod output;
mod owners;
mod parts;
mod planted;
mod progress;
mod repeats;
pub mod s3;
mod s3_tls;
mod schedule;
pub mod secrets;
pub mod signals;
mod steps;
pub mod support;
pub mod terminal;
mod users;
