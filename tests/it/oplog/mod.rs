//! `uzima-backup oplog`: slices of the oplog of real replica sets.

mod capture;
mod clocks;
mod contests;
mod cuts;
mod elections;
mod gaps;
mod notices;
mod old_server;
mod overflow;
mod rights;
mod stores;
pub mod support;
mod timeline;
mod verified;
