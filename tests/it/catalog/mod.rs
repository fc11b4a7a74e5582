//! Reading the backups of a place: the requests and memory it takes, the cache, and untrusted objects.

mod future;
mod memory;
mod named;
mod partial;
mod places;
mod planted;
mod remembered;
mod requests;
mod slowdown;
mod support;
