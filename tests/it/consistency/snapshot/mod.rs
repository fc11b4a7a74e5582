//! Backups that read all collections as of one instant.

mod catalog;
mod instant;
mod lost;
mod support;
mod whole;
