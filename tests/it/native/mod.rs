//! Backups with the native engine from real servers, on good days and bad ones. Every fault is made by a proxy or
//! by the server itself at a chosen moment, and each test asserts that it happened.

mod collapse;
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
mod rights;
mod selection;
mod stall;
pub mod support;
mod tokenless;
mod versions;
mod views;
