//! The operations, one module each: resources and options in, a report out. Nothing here prints.

pub mod backup;
pub mod cleanup;
pub mod copy;
pub mod diff;
pub mod drill;
pub mod health;
pub mod init;
pub mod list;
pub mod oplog;
pub mod pin;
pub mod places;
pub mod restore;
pub mod stats;
pub mod timeline;
pub mod verify;
