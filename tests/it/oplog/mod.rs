//! `uzima-backup oplog`: slices of the oplog of real replica sets.

mod capture;
mod contests;
mod elections;
mod gaps;
mod overflow;
mod stores;
mod support;
mod timeline;
mod verified;
