//! The replay of an oplog: what a restore makes of a dump that was taken while the server was written to.

mod found;
mod kinds;
mod newer;
mod one_fails;
mod part;
mod recorded;
mod rights;
pub mod stored;
pub mod support;
