//! MongoDB backups that restore.

pub mod artifact;
pub mod error;
pub mod exit;
pub mod progress;
pub mod secret;
pub mod source;
pub mod store;
