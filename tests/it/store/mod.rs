//! One conformance suite for all stores, and the faults of each kind of store.

mod backends;
mod child;
mod conformance;
mod dir_faults;
mod network;
mod s3_addresses;
mod s3_complete;
mod s3_objects;
mod s3_parts;
mod s3_sweep;
pub mod support;
mod uploads;
