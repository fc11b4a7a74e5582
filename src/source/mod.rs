//! Where the data comes from: a MongoDB server, read by one of two engines that make the same artifact.

pub mod describe;
pub mod engine;
pub mod mongodump;
pub mod native;
pub mod oplog;
mod size;
pub mod snapshot;
