//! All integration tests: one binary, a module per subject.

mod store;
