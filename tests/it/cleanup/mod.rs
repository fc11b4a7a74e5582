//! `cleanup`, `pin` and `unpin`: what goes, what stays, and what a run that was killed leaves to the next.

mod accepted;
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
pub mod support;
mod twice;
