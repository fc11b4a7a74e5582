//! The whole output of every command, as text and as JSON, compared with inline snapshots.
//!
//! Ids, times, ports and paths of one run are replaced by fixed values first. A changed message shows here as a
//! difference; `.config/insta.yaml` says how to update the snapshots.

mod details;
mod errors;
mod installation;
mod places;
mod servers;
mod settings;
mod signals;
mod stored;
pub mod support;
