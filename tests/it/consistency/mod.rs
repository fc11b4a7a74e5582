//! Backups of a server during writes: a restore gives the state of one instant, or the manifest says that it
//! does not.

pub mod instant;
mod refused;
mod snapshot;
pub mod support;
mod verified;
mod writing;
