//! The exit codes: a contract with cron, scripts and monitoring.
//!
//! Every way a run can end is a variant of [`Exit`]; a new one does not compile until it has a code.

use std::process::ExitCode;

/// How a command ended, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, nothing new was stored.
    Failed,
    /// 2: wrong usage or configuration; nothing was attempted.
    Usage,
    /// 3: the backup is good; something beside it failed or needs a look.
    NeedsLook,
    /// 4: stored data does not match its manifest.
    Mismatch,
    /// 5: `health`: a check failed.
    Unhealthy,
    /// 6: a key is missing or wrong.
    Key,
    /// 75: another run of this job and operation is under way (`EX_TEMPFAIL` of sysexits.h).
    Busy,
    /// 128+n: ended by signal n.
    Signal(u8),
}

impl Exit {
    /// The code for the operating system.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NeedsLook => 3,
            Exit::Mismatch => 4,
            Exit::Unhealthy => 5,
            Exit::Key => 6,
            Exit::Busy => 75,
            Exit::Signal(n) => 128u8.saturating_add(n),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
