//! Several places for the same backups.

mod cleanup;
mod faults;
mod health;
mod hooked;
mod init;
mod kills;
mod marks;
mod missing;
mod nights;
mod page;
mod planted;
mod readers;
mod readers_damage;
mod readers_past;
mod readers_slices;
pub mod readers_support;
mod recorded;
mod repairs;
mod same;
mod stats;
mod support;
mod year;
