//! Connection strings as people write them: naming, reaching and logging in to a server, with both engines,
//! for backups, restores and records; and the errors about unusable ones.

mod addresses;
mod certificates;
mod options;
mod support;
mod unreachable;
