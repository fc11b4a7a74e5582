//! Real servers, fixtures and fault injectors for the tests, the quickstart and the bench.
//!
//! All servers run on one Linux machine without Docker. Tests share nothing: each server has its own port, folder and
//! lifetime, so tests can run in parallel.

pub mod clock;
pub mod load;
pub mod mongod;
pub mod moto;
pub mod official;
pub mod raw;
pub mod read_all;
pub mod replica_set;
pub mod s3_server;
pub mod smtp_server;
pub mod standin;
pub mod tcp_proxy;
pub mod torture;
pub mod wire_proxy;
pub mod writers;
