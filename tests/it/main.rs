//! All integration tests: one binary, a module per subject.

mod cleanup;
mod cli;
mod docs;
mod generated;
mod health;
mod mongodump;
mod native;
mod notify;
mod readme;
mod records;
mod store;
mod verify;
mod year;
