//! Reading MongoDB: two engines, which make the same artifact, and the oplog slice.

pub mod describe;
pub mod engine;
pub mod mongodump;
pub mod native;
pub mod oplog;
pub mod snapshot;
