//! Backups that read all collections as of one instant.

mod catalog;
mod cursors;
mod instant;
mod lost;
mod members;
mod support;
mod whole;
mod writers;
