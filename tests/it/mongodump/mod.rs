//! The mongodump engine: a stand-in that plays recordings and fails in every way, and the official tools
//! where they are installed.

mod failures;
mod login;
mod official;
mod played;
pub mod support;
