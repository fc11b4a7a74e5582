//! The replay of the oplog of a dump that was taken while clients wrote to the server.

mod found;
mod kinds;
pub mod lanes;
mod one_fails;
mod part;
mod rights;
pub mod stored;
pub mod support;
