//! `diff` finds exactly what changed between two backups.

mod documents;
mod memory;
mod namespaces;
mod page;
mod slices;
mod support;
