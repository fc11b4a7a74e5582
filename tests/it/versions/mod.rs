//! The same behaviour on every MongoDB version that the kit has: round trips, writers, lost cursors, users, drills
//! and upgrades.
//!
//! `cargo test` runs a part of each matrix: every version, one format per version in turn, both engines once.
//! `UZIMA_TEST_FULL=1 cargo test --test it versions::` runs all of it, and `UZIMA_TEST_VERSIONS=5.0.32,6.0.27` only
//! these versions. With `--nocapture` each test prints how many of its combinations it ran, and which.

mod backups;
mod drills;
mod restores;
mod support;
