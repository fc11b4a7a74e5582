//! Connection strings as people write them: how a server is named, reached and logged in to, by both engines, for
//! backups, restores and records; and what is said of one that cannot be used.

mod addresses;
mod certificates;
mod options;
mod rights;
mod support;
mod unreachable;
