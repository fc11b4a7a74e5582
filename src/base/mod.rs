//! What every other module may use: errors and exit codes, time, locks, secrets, files and units.

pub mod beneath;
pub mod budget;
pub mod cancel;
pub mod claim;
pub mod clock;
pub mod crash;
pub mod dates;
pub mod depth;
pub mod error;
pub mod escape;
pub mod exit;
pub mod limited;
pub mod lock;
pub mod memory;
pub mod patience;
pub mod process;
pub mod program;
pub mod progress;
pub mod replace;
pub mod room;
pub mod secret;
pub mod shell;
pub mod suggest;
pub mod units;
pub mod writable;
