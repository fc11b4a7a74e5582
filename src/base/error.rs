//! One error type for everything above the store: what failed, why, what to do next, and how the
//! run must end because of it.

use std::error::Error as StdError;
use std::fmt;

use crate::base::exit::Exit;

/// What the caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wrong settings or arguments: a person must change them.
    Usage,
    /// It failed, and trying the same again at once would fail too.
    Failed,
    /// The server was not reached, or let nobody in: nothing was begun, and who asks it next asks in vain.
    Away,
    /// What was asked for by its name is not there.
    Missing,
    /// A place does not have the backups that are known of it: a disk may not be mounted. Nothing was written there.
    Unmounted,
    /// A server refused an operation on one namespace. The work on other namespaces can go on.
    Refused,
    /// What was read so far is worthless, but a new run from the start may well succeed.
    Restart,
    /// A collection was renamed, dropped or recreated while it was read, or an operation was run that an oplog slice
    /// cannot hold. A new attempt may succeed, as it is or with a weaker consistency.
    Moved,
    /// The oplog slice cannot be read, and a new attempt could not read it either. A backup without a slice may succeed.
    NoSlice,
    /// The server does not keep the instant any more that all is read as of: a new run may bring the data
    /// together by the oplog.
    Instant,
    /// Another part of the same run failed first; that one's error is the one to tell.
    Aftermath,
    /// Stored data does not match its manifest.
    Mismatch,
    /// Another run of the job and operation is under way.
    Busy,
    /// The run was ended by this signal.
    Signal(u8),
}

/// A failure with its place, its cause and the next step.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The answer of everything that can fail above the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` whose message names the thing that failed.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), hint: None, source: None }
    }

    /// Wrong settings or arguments.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Kind::Usage, message)
    }

    /// A plain failure.
    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(Kind::Failed, message)
    }

    /// A failure that a new run from the start may cure.
    pub fn restart(message: impl Into<String>) -> Error {
        Error::new(Kind::Restart, message)
    }

    /// An error of the kind [`Kind::Moved`].
    pub fn moved(message: impl Into<String>) -> Error {
        Error::new(Kind::Moved, message)
    }

    /// A failure that follows from another one.
    pub fn aftermath(message: impl Into<String>) -> Error {
        Error::new(Kind::Aftermath, message)
    }

    /// The same error in another class.
    pub fn of_kind(mut self, kind: Kind) -> Error {
        self.kind = kind;
        self
    }

    /// Adds the next step for a person.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// The class.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a new run may well succeed.
    pub fn calls_for_another_run(&self) -> bool {
        matches!(self.kind, Kind::Restart | Kind::Moved | Kind::NoSlice | Kind::Instant)
    }

    /// The next step, if one is known.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The code the process ends with.
    pub fn exit(&self) -> Exit {
        match self.kind {
            Kind::Usage => Exit::Usage,
            Kind::Failed
            | Kind::Away
            | Kind::Missing
            | Kind::Unmounted
            | Kind::Refused
            | Kind::Restart
            | Kind::Moved
            | Kind::NoSlice
            | Kind::Instant
            | Kind::Aftermath => Exit::Failed,
            Kind::Mismatch => Exit::Mismatch,
            Kind::Busy => Exit::Busy,
            Kind::Signal(n) => Exit::Signal(n),
        }
    }

    /// Message and causes in one line, `: ` between them.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}
