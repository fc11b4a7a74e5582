//! Talking to MongoDB servers: connecting, errors in words, versions, and lists of collections.

pub mod client;
pub mod errors;
pub mod fcv;
pub mod hello;
pub mod listing;
pub mod meaning;
pub mod notes;
pub mod patience;
pub mod relay;
pub mod server;
pub mod tls;
pub mod unfound;
