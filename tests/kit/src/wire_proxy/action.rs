//! The actions of rules on commands and their answers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::oid::ObjectId;

use super::malform::Malformed;
use crate::raw::{self, element, string};

/// Changes the document of an answer, as raw bytes.
pub type Edit = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

#[derive(Clone)]
pub enum Action {
    /// Do nothing. The rule only counts.
    Pass,
    /// Answer with this error; the server never sees the command.
    Fail(CommandError),
    /// Let the server execute the command, and answer with this error.
    FailAfter(CommandError),
    /// Close the connection; the server never sees the command.
    Close,
    /// Let the server execute the command, and close the connection instead of answering.
    CloseAfter,
    /// Send the first bytes of the answer (header included), then close.
    CutAnswer(usize),
    /// Delay the command, then go on normally.
    Stall(Duration),
    /// Hold the command until the gate is open, then go on normally.
    Hold(Gate),
    /// Send an answer that breaks the protocol.
    Malform(Malformed),
    /// Send these bytes instead of the answer.
    Bytes(Vec<u8>),
    /// Change the document of the answer.
    Edit(Edit),
    /// Change the document of the command before the server receives it.
    Rewrite(Edit),
}

/// A gate for [`Action::Hold`], closed at first. Clones share it.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    pub fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    pub code: i32,
    pub name: String,
    pub message: String,
}

impl Action {
    /// Fails with this code, and with the server's name for it if this file has it.
    pub fn fail(code: i32) -> Action {
        Action::Fail(CommandError::new(code))
    }

    /// Lets the server execute the command, then fails.
    pub fn fail_after(code: i32) -> Action {
        Action::FailAfter(CommandError::new(code))
    }

    pub fn edit(change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Action {
        Action::Edit(Arc::new(change))
    }

    pub fn rewrite(change: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Action {
        Action::Rewrite(Arc::new(change))
    }

    /// Changes `applyOps` to behave as on servers from 8.1 on: an update inserts nothing unless it has `b: true`.
    pub fn without_upserts() -> Action {
        Action::rewrite(|command| {
            let mut document = bson::RawDocumentBuf::from_bytes(command.to_vec()).expect("BSON");
            document.append(bson::raw::cstr!("alwaysUpsert"), false);
            document.into_bytes()
        })
    }

    /// Removes the resume token from an answer, but not the batch.
    pub fn without_resume_token() -> Action {
        Action::edit(|answer| raw::rewrite(answer, &["cursor", "postBatchResumeToken"], &|_, _| None))
    }

    /// Makes a member look restarted: `hello` has another `topologyVersion.processId`.
    pub fn process_id(id: ObjectId) -> Action {
        let path = ["topologyVersion", "processId"];
        Action::edit(move |answer| raw::rewrite(answer, &path, &|_, _| Some((7, id.bytes().to_vec()))))
    }

    /// Makes `hello` claim that the member is a secondary.
    pub fn secondary() -> Action {
        Action::edit(|answer| {
            let flag = |set: u8| move |_: u8, _: &[u8]| Some((8, vec![set]));
            let mut out = raw::rewrite(answer, &["isWritablePrimary"], &flag(0));
            out = raw::rewrite(&out, &["ismaster"], &flag(0));
            raw::rewrite(&out, &["secondary"], &flag(1))
        })
    }
}

impl CommandError {
    pub fn new(code: i32) -> Self {
        let name = match code {
            9 => "FailedToParse",
            11 => "UserNotFound",
            13 => "Unauthorized",
            18 => "AuthenticationFailed",
            26 => "NamespaceNotFound",
            43 => "CursorNotFound",
            50 => "MaxTimeMSExpired",
            91 => "ShutdownInProgress",
            136 => "CappedPositionLost",
            175 => "QueryPlanKilled",
            189 => "PrimarySteppedDown",
            211 => "KeyNotFound",
            239 => "SnapshotTooOld",
            10107 => "NotWritablePrimary",
            11600 => "InterruptedAtShutdown",
            11602 => "InterruptedDueToReplStateChange",
            13435 => "NotPrimaryNoSecondaryOk",
            _ => "",
        };
        let name = if name.is_empty() { format!("Location{code}") } else { name.to_owned() };
        CommandError { code, message: format!("{name} (from the proxy)"), name }
    }

    pub fn message(mut self, message: &str) -> Self {
        self.message = message.to_owned();
        self
    }

    /// Returns true if a driver asks the server for its state after this error.
    pub(super) fn is_state_change(&self) -> bool {
        [91, 189, 10107, 11600, 11602, 13435, 13436].contains(&self.code)
    }

    pub(super) fn document(&self) -> Vec<u8> {
        raw::document(&[
            element(1, b"ok", 0.0_f64.to_le_bytes()),
            element(2, b"errmsg", string(&self.message)),
            element(16, b"code", self.code.to_le_bytes()),
            element(2, b"codeName", string(&self.name)),
        ])
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Pass => f.write_str("Pass"),
            Action::Fail(error) => write!(f, "Fail({})", error.code),
            Action::FailAfter(error) => write!(f, "FailAfter({})", error.code),
            Action::Close => f.write_str("Close"),
            Action::CloseAfter => f.write_str("CloseAfter"),
            Action::CutAnswer(bytes) => write!(f, "CutAnswer({bytes})"),
            Action::Stall(time) => write!(f, "Stall({time:?})"),
            Action::Hold(_) => f.write_str("Hold"),
            Action::Malform(how) => write!(f, "Malform({how:?})"),
            Action::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Action::Edit(_) => f.write_str("Edit"),
            Action::Rewrite(_) => f.write_str("Rewrite"),
        }
    }
}
