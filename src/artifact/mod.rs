//! Writing and reading artifacts. An artifact is the object that holds the data of a backup.
//!
//! Documents are packed into blocks and compressed on all cores ([`pack`]), framed as a tar or as mongodump's
//! archive ([`tar`], [`writer`]), and cut into parts for the store ([`parts`]). [`read`] reads artifacts again.
//! docs/format.md is the specification.

pub mod codec;
pub mod pack;
pub mod parts;
pub mod read;
pub mod tar;
pub mod writer;
