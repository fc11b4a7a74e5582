//! The data types of a backup: id, manifest, index, namespaces, selections, losses, tallies, timings, optimes and server versions.

pub mod id;
pub mod index;
pub mod losses;
pub mod manifest;
pub mod namespace;
pub mod optime;
pub mod selection;
pub mod server;
pub mod slice;
pub mod tally;
pub mod timing;
pub mod versions;
