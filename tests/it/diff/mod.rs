//! `diff` finds exactly what changed between two backups.

mod documents;
mod namespaces;
mod page;
mod slices;
mod support;
