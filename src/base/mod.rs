//! The foundation of all other folders: errors and exit codes, time limits and retries, locks, secrets, files
//! and units.

pub mod beneath;
pub mod bounds;
pub mod cancel;
pub mod child_group;
pub mod clock;
pub mod crash;
pub mod error;
pub mod escape;
pub mod exit;
pub mod files;
pub mod heap;
pub mod keys;
pub mod lock;
pub mod minisign;
pub mod process;
pub mod progress;
pub mod retry;
pub mod room;
pub mod secret;
pub mod suggest;
pub mod units;
pub mod waits;
