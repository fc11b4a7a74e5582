//! Talking to MongoDB servers: connecting, commands, errors, and comparing definitions.

pub mod client;
pub mod commands;
pub mod errors;
pub mod listing;
pub mod meaning;
pub mod notes;
pub mod server;
mod tls;
