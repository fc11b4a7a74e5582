//! Backups of a server that is written to: what is restored is of one instant, or the manifest says that it
//! is not.

pub mod instant;
mod refused;
mod rights;
mod snapshot;
pub mod support;
mod verified;
mod writing;
