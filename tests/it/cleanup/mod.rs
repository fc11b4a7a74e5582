//! `cleanup`, `pin` and `unpin`: which objects are deleted, which stay, and how the next run completes a
//! killed one.

mod breaking;
mod buckets;
mod clocks;
mod deletion;
mod failures;
mod histories;
mod litter;
pub mod oracle;
mod orphans;
mod pins;
mod rules;
pub mod slices;
pub mod support;
mod twice;
