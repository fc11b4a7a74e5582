//! Backups of real servers with the native engine, with and without faults. A proxy or the server itself
//! causes every fault at a chosen moment, and each test asserts that the fault occurred.

mod collections;
mod connect;
mod content;
mod cut;
pub mod decode;
mod failover;
pub mod lost;
mod malformed;
mod members;
pub mod random;
mod readers;
mod rights;
mod selection;
mod stall;
pub mod support;
mod tokenless;
mod versions;
mod views;
