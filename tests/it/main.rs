//! All integration tests: one binary, a module per subject.

mod cleanup;
mod cli;
mod docs;
mod generated;
mod health;
mod mongodump;
mod native;
mod readme;
mod records;
mod store;
mod verify;
