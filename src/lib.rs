//! MongoDB backups that restore.

pub mod exit;
pub mod secret;
pub mod store;
