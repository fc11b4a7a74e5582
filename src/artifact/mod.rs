//! The artifact: the one object that holds a backup, and what describes it.
//!
//! A backup's data flows through here in one direction: documents are packed into blocks
//! ([`pack`]), blocks are compressed on their own by all cores ([`pool`]), framed as a tar or a
//! mongodump archive ([`tar`], [`archive`]) and cut into parts for the store ([`parts`]).
//! [`manifest`] and [`index`] describe the result; docs/format.md is their specification.

pub mod archive;
pub mod buffers;
pub mod codec;
pub mod out;
pub mod pack;
pub mod parts;
pub mod pool;
pub mod read;
pub mod recovery;
pub mod tar;
pub mod untar;
pub mod writer;
