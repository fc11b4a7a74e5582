//! MongoDB backups that restore.

pub mod artifact;
pub mod cancel;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub mod exit;
pub mod leftovers;
pub mod ops;
pub mod progress;
pub mod secret;
pub mod source;
pub mod store;
