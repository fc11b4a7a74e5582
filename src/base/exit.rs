//! The exit codes: a contract with cron, scripts and monitoring. A new variant of [`Exit`] does not compile until it has a
//! code and a meaning.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    Usage,
    NeedsLook,
    Mismatch,
    Unhealthy,
    Key,
    Busy,
    Signal(u8),
}

impl Exit {
    /// The code for the operating system.
    pub fn code(self) -> u8 {
        self.row().0
    }

    /// The meaning, as in docs/operations.md, the man page and `--help`.
    pub fn meaning(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u8, &'static str) {
        match self {
            Exit::Done => (0, "done"),
            Exit::Failed => (1, "failed; nothing new was stored"),
            Exit::Usage => (2, "wrong usage or configuration; nothing was attempted"),
            Exit::NeedsLook => (3, "the backup (or cleanup) is good, but something needs a look"),
            Exit::Mismatch => (4, "stored data does not match its manifest"),
            Exit::Unhealthy => (5, "a health check found something wrong"),
            Exit::Key => (6, "a key is missing or wrong"),
            // EX_TEMPFAIL of sysexits.h.
            Exit::Busy => (75, "another run of this job and operation is under way (--wait waits for it)"),
            Exit::Signal(n) => (128_u8.saturating_add(n), "ended by signal n; nothing new was stored"),
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
