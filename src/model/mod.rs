//! The nouns of a backup: its id, its manifest, its index, namespaces, optimes and server versions.

pub mod id;
pub mod index;
pub mod manifest;
pub mod namespace;
pub mod optime;
pub mod server;
pub mod tally;
pub mod versions;
