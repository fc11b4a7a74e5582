//! Restores into real servers, compared with the original byte by byte.

mod asked;
mod chosen;
mod dumps;
mod filter;
mod hand_made;
mod kinds;
mod logins;
mod lookalikes;
mod lost;
mod memory;
mod merge;
mod newer;
mod of_one_database;
mod official;
mod old_dumps;
mod one_fails;
mod part;
mod past_versions;
mod preflight;
mod rights;
mod round_trip;
mod safety;
mod staging;
mod stopped;
pub mod support;
mod sweep;
mod tars;
