//! Signed backups and oplog slices, and backups that anybody may have written.

mod backups;
mod forged;
mod keys;
mod page;
mod slices;
pub mod support;
