//! The file of a lock: its name, its content, and one try to lock it.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Asked;
use crate::owner;

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
    fn read(file: &mut File) -> Holder {
        let mut text = String::new();
        // Somebody else's file may be anything.
        let _ = file.take(1024).read_to_string(&mut text);
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.filter(|value| !value.is_empty() && !value.contains(char::is_control)).map(str::to_string)
        };
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

/// What a try gave.
pub(super) enum Tried {
    Locked(Lock),
    Held(Holder),
}

/// The file of a job's operation. A name that is all dots is one like any other: the rest follows it.
pub(super) fn path(state: &Path, job: &str, operation: Operation) -> PathBuf {
    let mut name = utf8_percent_encode(job, PLAIN).to_string();
    if name.len() > LONGEST {
        let hash = blake3::hash(job.as_bytes()).to_hex();
        name = format!("{}~{}", &name[..LONGEST - 33], &hash[..32]);
    }
    state.join("locks").join(format!("{name}.{operation}.lock"))
}

/// Tries once.
pub(super) fn try_lock(state: &Path, asked: &Asked<'_>) -> io::Result<Tried> {
    let path = path(state, asked.job, asked.operation);
    owner::create_folders(&state.join("locks"), 0o700)?;
    // Opened with O_CLOEXEC, as by std everywhere: a child that outlives the run must not hold the lock.
    let mut options = fs::OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    owner::inherit(&file, &path);
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Tried::Held(Holder::read(&mut file))),
        Err(TryLockError::Error(e)) => return Err(e),
    }
    let since = asked.started.format("%Y-%m-%dT%H:%M:%SZ");
    let text = format!("pid {}\nhost {}\nsince {since}\n", std::process::id(), asked.host);
    // On a full disk the lock is as good without a text.
    let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
    Ok(Tried::Locked(Lock { job: asked.job.to_string(), operation: asked.operation, file }))
}
