//! The kit's own tests: one binary, a module per subject. They need a `mongod` and fail without one.

mod load;
mod mongod;
mod official;
mod raw;
mod replica_set;
mod standin;
mod torture;
mod wire_proxy;
mod writers;
