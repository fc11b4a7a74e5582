//! The error type of everything above the store: a class, which decides the exit code and whether a run is
//! repeated, the message with its causes, and the next step for a person. Functions below may use
//! [`anyhow::Context`].

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::base::exit::Exit;

/// The class of an error, which decides how its caller reacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wrong settings or arguments: a person must change them.
    Usage,
    /// The operation failed, and an immediate second attempt would fail, too.
    Failed,
    /// The server was not reached, or refused the login. Nothing was begun, and a second request would fail, too.
    Away,
    /// The object that was requested by name does not exist.
    Missing,
    /// A place lacks backups that its records list: a disk may not be mounted. Nothing was written there.
    Unmounted,
    /// A server refused an operation on one namespace. The work on other namespaces can go on.
    Refused,
    /// The data that was read so far is useless, but a new run from the start may succeed.
    Restart,
    /// A collection was renamed, dropped or recreated while it was read, or an operation ran that an oplog
    /// slice cannot hold. A new attempt may succeed, as it is or with a weaker consistency.
    Moved,
    /// The oplog slice cannot be read, and a new attempt could not read it either. A backup without a slice
    /// may succeed.
    NoSlice,
    /// The server no longer keeps the snapshot that the run reads. A new run may make the data consistent
    /// with the oplog.
    Instant,
    /// Another part of the same run failed first, and its error is the one to report.
    Aftermath,
    /// Stored data does not match its manifest.
    Mismatch,
    /// A key that decrypts a backup is missing or wrong.
    Key,
    /// Another run of the job and operation is under way.
    Busy,
    /// This signal ended the run.
    Signal(u8),
}

/// A failure: its class, a chain of messages, and the next step for a person.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    hint: Option<String>,
    /// A store failed.
    of_store: bool,
    /// The message and its causes. Shared, because copies of an error are reported in several places.
    chain: Arc<anyhow::Error>,
}

/// The result of everything above the store that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` whose message names the thing that failed.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        let chain = Arc::new(anyhow::Error::msg(message.into()));
        Error { kind, hint: None, of_store: false, chain }
    }

    pub fn usage(message: impl Into<String>) -> Error {
        Error::new(Kind::Usage, message)
    }

    pub fn failed(message: impl Into<String>) -> Error {
        Error::new(Kind::Failed, message)
    }

    pub fn restart(message: impl Into<String>) -> Error {
        Error::new(Kind::Restart, message)
    }

    pub fn moved(message: impl Into<String>) -> Error {
        Error::new(Kind::Moved, message)
    }

    pub fn aftermath(message: impl Into<String>) -> Error {
        Error::new(Kind::Aftermath, message)
    }

    /// Changes the class.
    pub fn of_kind(mut self, kind: Kind) -> Error {
        self.kind = kind;
        self
    }

    /// Says that a store failed: another place may be usable.
    pub fn of_store(mut self) -> Error {
        self.of_store = true;
        self
    }

    /// Adds the next step for a person.
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause, in place of an earlier one.
    pub fn caused_by(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.chain = Arc::new(anyhow::Error::from_boxed(cause.into()).context(self.to_string()));
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns true if a store failed.
    pub fn is_of_store(&self) -> bool {
        self.of_store
    }

    /// Returns true if a new run is likely to succeed.
    pub fn calls_for_another_run(&self) -> bool {
        matches!(self.kind, Kind::Restart | Kind::Moved | Kind::NoSlice | Kind::Instant)
    }

    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code of the process.
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
            Kind::Key => Exit::Key,
            Kind::Busy => Exit::Busy,
            Kind::Signal(n) => Exit::Signal(n),
        }
    }

    /// Message and causes in one line, separated by `: `. A cause is left out if the text already ends with it.
    pub fn chain(&self) -> String {
        self.messages().join(": ")
    }

    /// The message, and below it the causes, outermost first. A cause that ends the text before it is left
    /// out.
    pub fn messages(&self) -> Vec<String> {
        let mut messages: Vec<String> = Vec::new();
        for part in self.chain.chain().map(ToString::to_string) {
            if messages.last().is_none_or(|last| !last.ends_with(&part)) {
                messages.push(part);
            }
        }
        messages
    }

    /// The [chain](Error::chain), and the next step in parentheses.
    pub fn chain_with_step(&self) -> String {
        let step = self.next_step().map(|step| format!(" ({step})"));
        self.chain() + &step.unwrap_or_default()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.chain, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.chain.source()
    }
}

impl From<&Error> for Error {
    /// Copies a stored error, so that each caller that needs the failed result can return it.
    fn from(error: &Error) -> Error {
        error.clone()
    }
}

impl From<anyhow::Error> for Error {
    /// Keeps class and next step of an [`Error`] that was given more context; any other error is of class
    /// [`Kind::Failed`].
    fn from(error: anyhow::Error) -> Error {
        let inner = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
        let of = |inner: &Error| (inner.kind, inner.hint.clone(), inner.of_store);
        let (kind, hint, of_store) = inner.map_or((Kind::Failed, None, false), of);
        Error { kind, hint, of_store, chain: Arc::new(error) }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;

    use super::*;

    #[test]
    fn a_chain_names_message_and_causes_once() {
        let cause = Error::failed("cannot open it").caused_by(io::Error::other("no such file"));
        let error = Error::usage("cannot read settings").caused_by(cause).hint("Create it");
        assert_eq!(error.to_string(), "cannot read settings");
        assert_eq!(error.chain(), "cannot read settings: cannot open it: no such file");
        assert_eq!(error.messages(), ["cannot read settings", "cannot open it", "no such file"]);
        let copy = Error::failed("no such file").caused_by(io::Error::other("no such file")).clone();
        assert_eq!(copy.chain(), "no such file");
    }

    #[test]
    fn context_keeps_class_and_hint() {
        let inner: Result<()> = Err(Error::new(Kind::Busy, "it is locked").hint("Wait"));
        let error = Error::from(inner.context("cannot begin").unwrap_err());
        assert_eq!((error.kind(), error.next_step()), (Kind::Busy, Some("Wait")));
        assert_eq!(error.chain(), "cannot begin: it is locked");
        let plain =
            Error::from(Err::<(), _>(io::Error::other("it broke")).context("cannot write").unwrap_err());
        assert_eq!((plain.kind(), plain.chain().as_str()), (Kind::Failed, "cannot write: it broke"));
    }
}
