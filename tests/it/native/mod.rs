//! Backups with the native engine from real servers, on good days and bad ones. Every fault is made by a proxy or
//! by the server itself at a chosen moment, and each test asserts that it happened.

mod collections;
mod cut;
mod decode;
mod lost;
mod members;
mod stall;
mod support;
