//! `uzima-backup oplog`: slices of the oplog of real replica sets.

mod capture;
mod contests;
mod gaps;
mod stores;
mod support;
mod timeline;
mod verified;
