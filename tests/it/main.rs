//! All integration tests: one binary, a module per subject.

mod cleanup;
mod cli;
mod consistency;
mod docs;
mod drill;
mod generated;
mod health;
mod init;
mod init_lines;
mod mongodump;
mod native;
mod night;
mod notify;
mod packaging;
mod pages;
mod readme;
mod records;
mod replay;
mod restore;
mod signals;
mod store;
mod symptoms;
mod verify;
mod version;
mod worst_day;
mod year;
