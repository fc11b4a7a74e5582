//! Restores to points in time: a backup, and the oplog slices after it.

mod bases;
mod lanes;
mod memory;
mod official;
mod oracle;
mod refused;
mod shapes;
pub mod stored;
pub mod support;
mod transactions;
pub mod writers;
