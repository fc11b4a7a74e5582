//! All integration tests: one binary, a module per subject.

mod cleanup;
mod cli;
mod docs;
mod generated;
mod mongodump;
mod native;
mod readme;
mod restore;
mod store;
mod verify;
