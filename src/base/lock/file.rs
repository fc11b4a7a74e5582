//! The file of a lock: its name, its content, and one try to lock it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Asked;
use super::held::{self, Held};
use crate::base::beneath::Folder;
use crate::base::claim;
use crate::base::claim::Locked;

/// What the names of jobs consist of; that of a job that nobody named may hold more (a socket's path).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'@').remove(b'+').remove(b'-');
/// The longest name of a job in a file's name, which may have 255 bytes.
const LONGEST: usize = 200;

/// What is locked of a job: its operations do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `backup`.
    Backup,
    /// `cleanup`.
    Cleanup,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Backup => "backup",
            Operation::Cleanup => "cleanup",
        })
    }
}

/// A lock that is held: no other process of this host runs this operation of this job. What an earlier
/// run of them left marked as under way is therefore dead.
#[derive(Debug)]
pub struct Lock {
    job: String,
    operation: Operation,
    file: File,
    /// Stands for the kernel's lock where the file system has none.
    held: Option<Held>,
}

impl Lock {
    /// The job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// What is locked of it.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Whether the state directory's file system has no locks, so that a file with a heartbeat stands for one.
    pub fn is_by_heartbeat(&self) -> bool {
        self.held.is_some()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty file tells people that nobody runs. It is unlocked when it is closed.
        let _ = self.file.set_len(0);
    }
}

/// What a lock's file says of its holder, in words that go on a sentence; nothing if it says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder(String);

impl Holder {
    pub(super) fn read(file: &mut File) -> Holder {
        let mut text = String::new();
        // Somebody else's file may be anything.
        let _ = file.take(1024).read_to_string(&mut text);
        Holder::of(&text)
    }

    /// The holder that a lock's text names.
    pub(super) fn of(text: &str) -> Holder {
        let field = |name: &str| field(text, name).map(str::to_string);
        Holder(match (field("pid"), field("host"), field("since")) {
            (Some(pid), Some(host), Some(since)) => format!(": process {pid} on {host}, since {since}"),
            _ => String::new(),
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a line of a lock's text.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    (!value.is_empty() && !value.contains(char::is_control)).then_some(value)
}

/// What a try gave.
pub(super) enum Tried {
    Locked(Lock),
    Held(Holder),
}

/// The folder of the locks.
const FOLDER: &str = "locks";

/// The file of a job's operation.
pub(super) fn path(state: &Path, job: &str, operation: Operation) -> PathBuf {
    state.join(FOLDER).join(name(job, operation))
}

/// The file's name. A job's name that is all dots is one like any other: the rest follows it.
fn name(job: &str, operation: Operation) -> String {
    let mut name = utf8_percent_encode(job, PLAIN).to_string();
    if name.len() > LONGEST {
        let hash = blake3::hash(job.as_bytes()).to_hex();
        name = format!("{}~{}", &name[..LONGEST - 33], &hash[..32]);
    }
    format!("{name}.{operation}.lock")
}

/// Tries once. The file is created, or is a regular file with one name: a link in its place is not followed.
pub(super) fn try_lock(state: &Path, asked: &Asked<'_>) -> io::Result<Tried> {
    let state = Folder::create(state, 0o700)?;
    state.make_folder(Path::new(FOLDER), 0o700)?;
    let locks = state.folder(Path::new(FOLDER))?;
    let name = name(asked.job, asked.operation);
    // Opened with O_CLOEXEC: a child that outlives the run must not hold the lock.
    let mut file = locks.open_or_create(Path::new(&name), 0o600)?;
    let since = asked.started.format("%Y-%m-%dT%H:%M:%SZ");
    let text = format!("pid {}\nhost {}\nsince {since}\n", std::process::id(), asked.host);
    let held = match claim::lock(&file)? {
        Locked::Yes => None,
        Locked::ByAnother => return Ok(Tried::Held(Holder::read(&mut file))),
        Locked::Unsupported => match held::try_hold(locks, &name, &text, &file)? {
            Ok(held) => Some(held),
            Err(holder) => return Ok(Tried::Held(holder)),
        },
    };
    // On a full disk the lock is as good without a text.
    let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
    Ok(Tried::Locked(Lock { job: asked.job.to_string(), operation: asked.operation, file, held }))
}
