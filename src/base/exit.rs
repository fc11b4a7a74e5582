//! The exit codes: a contract with cron, scripts and monitoring. Each way in which a run can end is a variant
//! of [`Exit`]. A new variant does not compile until it has a code.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, nothing new was stored.
    Failed,
    /// 2: wrong usage or configuration; nothing was attempted.
    Usage,
    /// 3: the backup is good, but something else failed or needs a look.
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

    /// The meaning, as in docs/operations.md, the man page and `--help`.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed; nothing new was stored",
            Exit::Usage => "wrong usage or configuration; nothing was attempted",
            Exit::NeedsLook => "the backup (or clean-up) is good, but something needs a look",
            Exit::Mismatch => "stored data does not match its manifest",
            Exit::Unhealthy => "a check of the health found something wrong",
            Exit::Key => "a key is missing or wrong",
            Exit::Busy => "another run of this job and operation is under way (--wait waits for it)",
            Exit::Signal(_) => "ended by signal n; nothing new was stored",
        }
    }

    /// The code for people: `75`, `128 + n`.
    pub fn shown(self) -> String {
        match self {
            Exit::Signal(_) => "128 + n".into(),
            other => other.code().to_string(),
        }
    }

    /// All exits in the order of their codes, with one signal for all.
    pub fn all() -> impl Iterator<Item = Exit> {
        std::iter::successors(Some(Exit::Done), |exit| exit.next())
    }

    /// A new variant does not compile until it has a place in this list.
    fn next(self) -> Option<Exit> {
        Some(match self {
            Exit::Done => Exit::Failed,
            Exit::Failed => Exit::Usage,
            Exit::Usage => Exit::NeedsLook,
            Exit::NeedsLook => Exit::Mismatch,
            Exit::Mismatch => Exit::Unhealthy,
            Exit::Unhealthy => Exit::Key,
            Exit::Key => Exit::Busy,
            Exit::Busy => Exit::Signal(1),
            Exit::Signal(_) => return None,
        })
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
