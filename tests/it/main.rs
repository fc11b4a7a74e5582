//! All integration tests: one binary, a module per subject.

mod docs;
mod generated;
mod readme;
mod store;
