//! Restores into real servers, compared with the original byte by byte.

mod asked;
mod dumps;
mod kinds;
mod logins;
mod lost;
mod of_one_database;
mod official;
mod one_fails;
mod part;
mod random;
mod rights;
mod round_trip;
mod safety;
mod stopped;
pub mod support;
mod sweep;
mod twice;
