//! Writing and reading artifacts. An artifact is the object that holds the data of a backup.
//!
//! Documents are packed into blocks and compressed on all cores ([`pack`], [`level`]), framed as a tar or as mongodump's
//! archive ([`tar`], [`writer`]), encrypted if the backup has recipients ([`seal`]), and cut into parts for the store
//! ([`out`], [`parts`]). [`read`] reads artifacts again, and [`unseal`] decrypts them. docs/format.md is the specification.

pub mod age_header;
pub mod codec;
pub mod level;
pub mod out;
pub mod pack;
pub mod parts;
pub mod read;
pub mod seal;
pub mod sealed;
pub mod tar;
mod tree_hash;
pub mod unseal;
pub mod writer;
