//! Locks on files: one run per job, operation and host, and claims to files that are being written.
//!
//! A lock is a kernel lock (`flock`), so it ends with its process. Some file systems have no such locks
//! (Lustre without `flock`, NFS without a lock manager: `ENOSYS`, `ENOLCK`, `EOPNOTSUPP`). There a thread of
//! the owner sets a file's modification time every 30 s, and a file whose time no longer changes belongs to a
//! dead process.
//!
//! The file of a run's lock stays after the run: if one process unlinked it while another opens it, two runs
//! could lock two files of the same name. Two simultaneous runs do no harm (each backup has its own id, and
//! deletions converge), but cost twice as much. So a run goes on with a warning if its state directory cannot
//! be written.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use crate::base::beneath::{Folder, is_same, is_unsupported};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Kind, Result};
use crate::base::process;

/// The pause between two heartbeats.
const BEAT: Duration = Duration::from_secs(30);
/// A claim without a heartbeat for this long has ended. It is far longer than the clocks of two hosts differ.
const CLAIM_SILENT: Duration = Duration::from_secs(24 * 3600);
/// A run's lock without a heartbeat for this long has ended.
const LOCK_SILENT: Duration = Duration::from_secs(300);
/// The longest pause between two attempts to take a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The folder of the locks in the state directory.
const FOLDER: &str = "locks";
/// The characters that stay unchanged in a file's name. The name of a job that is named after its server may
/// contain others (a socket's path).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'@').remove(b'+').remove(b'-');
/// The most bytes of a job's name that become part of a file's name, which may have 255 bytes.
const LONGEST: usize = 200;

/// A claim to a file that is being written. It ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct Claim {
    file: File,
    heartbeat: Option<Heartbeat>,
}

impl Claim {
    /// Claims a file that this process created. `None` if another process has claimed it.
    ///
    /// # Errors
    /// Returns an error if the kernel neither grants nor refuses the lock. A file system without locks is not
    /// an error.
    pub fn take(file: File) -> io::Result<Option<Claim>> {
        match try_exclusive(&file)? {
            Locked::Yes => Ok(Some(Claim { file, heartbeat: None })),
            Locked::ByAnother => Ok(None),
            Locked::Unsupported => {
                let heartbeat = Some(Heartbeat::start(&file)?);
                Ok(Some(Claim { file, heartbeat }))
            }
        }
    }

    /// Claims a file whose writer may be dead. `None` if the writer lives, or may live.
    pub fn of_dead(file: File) -> io::Result<Option<Claim>> {
        let dead = match try_exclusive(&file)? {
            Locked::Yes => true,
            Locked::ByAnother => false,
            Locked::Unsupported => {
                let last = file.metadata()?.modified()?;
                SystemTime::now().duration_since(last).is_ok_and(|silent| silent > CLAIM_SILENT)
            }
        };
        Ok(dead.then_some(Claim { file, heartbeat: None }))
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns true if the file system has no locks, and a heartbeat replaces the lock.
    pub fn is_by_heartbeat(&self) -> bool {
        self.heartbeat.is_some()
    }
}

/// The kernel's answer to a request for an exclusive lock.
pub enum Locked {
    /// The lock is ours until the file is closed.
    Yes,
    /// Another process has it.
    ByAnother,
    /// The file system has no locks.
    Unsupported,
}

/// Asks once for an exclusive lock.
pub fn try_exclusive(file: &File) -> io::Result<Locked> {
    match file.try_lock() {
        Ok(()) => Ok(Locked::Yes),
        Err(TryLockError::WouldBlock) => Ok(Locked::ByAnother),
        Err(TryLockError::Error(e)) => {
            let unsupported = rustix::io::Errno::from_io_error(&e).is_some_and(is_unsupported);
            if unsupported { Ok(Locked::Unsupported) } else { Err(e) }
        }
    }
}

/// A thread that sets a file's modification time until it is dropped.
#[derive(Debug)]
struct Heartbeat {
    _stop: mpsc::Sender<()>,
}

impl Heartbeat {
    fn start(file: &File) -> io::Result<Heartbeat> {
        let file = file.try_clone()?;
        beat(&file)?;
        let (stop, stopped) = mpsc::channel::<()>();
        std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                // A failure may pass. Until then the file looks older than it is.
                let _ = beat(&file);
            }
        })?;
        Ok(Heartbeat { _stop: stop })
    }
}

/// Sets a file's modification time to the present, by the file system's own clock.
fn beat(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}

/// The operations of a job that have a lock. They do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Backup,
    Cleanup,
    Copy,
    Oplog,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Backup => "backup",
            Operation::Cleanup => "cleanup",
            Operation::Copy => "copy",
            Operation::Oplog => "oplog",
        })
    }
}

/// A request for the lock of a job's operation.
#[derive(Debug, Clone)]
pub struct LockRequest {
    pub state_dir: Option<PathBuf>,
    pub job: String,
    pub operation: Operation,
    /// The machine's name.
    pub host: String,
    /// When the run began.
    pub started: DateTime<Utc>,
    /// How long to wait for another run.
    pub wait: Option<Duration>,
}

/// The result of a request for a lock.
#[derive(Debug, Default)]
pub struct LockOutcome {
    /// The lock, which lasts until it is dropped.
    pub lock: Option<Lock>,
    /// Why the state directory gave no lock. A person should look at it.
    pub problem: Option<String>,
}

/// The lock of a job's operation: while it is held, no other process of this host runs the operation. So work
/// that an earlier run marked as under way is dead.
#[derive(Debug)]
pub struct Lock {
    file: File,
    /// Replaces the kernel's lock where the file system has none.
    held: Option<HeldFile>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty file shows people that no run is under way. Closing it unlocks it.
        let _ = self.file.set_len(0);
    }
}

/// Takes the lock. If the state directory cannot be used, the run goes on without a lock, and a warning is
/// logged.
///
/// # Errors
/// Returns an error of the kind [`Kind::Busy`] if another run holds the lock until the wait is over.
pub async fn take(request: &LockRequest, cancel: &Cancel) -> Result<LockOutcome> {
    let Some(state) = request.state_dir.as_deref() else {
        log::warn!("{}", without("there is no state directory"));
        return Ok(LockOutcome::default());
    };
    let began = Instant::now();
    let mut pause = Duration::from_millis(50);
    let mut logged = false;
    loop {
        // The directory may be on a network file system that answers late.
        let (folder, copy) = (state.to_path_buf(), request.clone());
        let attempt = tokio::task::spawn_blocking(move || try_lock(&folder, &copy));
        let attempt = cancel.or(async { Ok(attempt.await.map_err(io::Error::other)) }).await?;
        let holder = match attempt.and_then(|answer| answer) {
            Ok(Ok(lock)) => {
                if lock.held.is_some() {
                    log::info!(
                        "the file system of {} has no locks: a file with a heartbeat replaces the lock",
                        state.display()
                    );
                }
                return Ok(LockOutcome { lock: Some(lock), problem: None });
            }
            Ok(Err(holder)) => holder,
            Err(e) => {
                let file = path(state, &request.job, request.operation);
                let problem = without(&format!("cannot lock {}: {e}", file.display()));
                log::warn!("{problem}");
                return Ok(LockOutcome { lock: None, problem: Some(problem) });
            }
        };
        let wait = request.wait.unwrap_or_default();
        let left = wait.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(busy(request, &holder));
        }
        if !logged {
            log::info!("waiting up to {} s: {}", wait.as_secs(), under_way(request, &holder));
            logged = true;
        }
        let pausing = async {
            tokio::time::sleep(pause.min(left)).await;
            Ok(())
        };
        cancel.or(pausing).await?;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn without(why: &str) -> String {
    format!(
        "{why}: this run goes on, but cannot detect other runs of its job (next step: set state_dir, \
         UZIMA_BACKUP_STATE_DIR, to a directory that this user may write)"
    )
}

fn under_way(request: &LockRequest, holder: &str) -> String {
    format!("another {} of {} is under way{holder}", request.operation, request.job)
}

fn busy(request: &LockRequest, holder: &str) -> Error {
    let text = under_way(request, holder);
    match request.wait {
        None => Error::new(Kind::Busy, text).hint("To wait for its end use --wait, e.g. --wait 30m"),
        Some(wait) => {
            Error::new(Kind::Busy, format!("{text}, and it did not end within {} s", wait.as_secs()))
                .hint("Check that process, or raise --wait")
        }
    }
}

/// The file of a job's operation.
fn path(state: &Path, job: &str, operation: Operation) -> PathBuf {
    state.join(FOLDER).join(name(job, operation))
}

/// The name of a lock's file. A suffix follows the job's name, so a name of dots alone is harmless.
fn name(job: &str, operation: Operation) -> String {
    let mut name = utf8_percent_encode(job, PLAIN).to_string();
    if name.len() > LONGEST {
        let hash = blake3::hash(job.as_bytes()).to_hex();
        name = format!("{}~{}", &name[..LONGEST - 33], &hash[..32]);
    }
    format!("{name}.{operation}.lock")
}

/// Tries once to take the lock. Returns a description of the holder if another process has it. The lock's file is created,
/// or must be a regular file with one name; links are not followed.
fn try_lock(state: &Path, request: &LockRequest) -> io::Result<Result<Lock, String>> {
    let state = Folder::create(state, 0o700)?;
    state.make_folder(Path::new(FOLDER), 0o700)?;
    let locks = state.folder(Path::new(FOLDER))?;
    let name = name(&request.job, request.operation);
    // Opened with O_CLOEXEC: a child that outlives the run must not hold the lock.
    let mut file = locks.open_or_create(Path::new(&name), 0o600)?;
    let since = request.started.format("%Y-%m-%dT%H:%M:%SZ");
    let text = format!("pid {}\nhost {}\nsince {since}\n", std::process::id(), request.host);
    let held = match try_exclusive(&file)? {
        Locked::Yes => None,
        Locked::ByAnother => return Ok(Err(holder(&beginning(&file)))),
        Locked::Unsupported => match HeldFile::create(locks, &name, &text, &file)? {
            Ok(held) => Some(held),
            Err(text) => return Ok(Err(holder(&text))),
        },
    };
    // The lock is valid without its text, for example on a full disk.
    let _ = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
    Ok(Ok(Lock { file, held }))
}

/// The beginning of a lock's file. Another user may have put anything into it.
fn beginning(file: &File) -> String {
    let mut text = String::new();
    let _ = file.take(1024).read_to_string(&mut text);
    text
}

/// The holder that a lock's text names, as the end of a sentence; empty if it names none.
fn holder(text: &str) -> String {
    match (field(text, "pid"), field(text, "host"), field(text, "since")) {
        (Some(pid), Some(host), Some(since)) => format!(": process {pid} on {host}, since {since}"),
        _ => String::new(),
    }
}

/// The value of a line of a lock's text.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    (!value.is_empty() && !value.contains(char::is_control)).then_some(value)
}

/// The lock of a run on a file system without locks: a file `NAME.held` beside the lock's file, which exists
/// while its owner runs. It is created with `O_EXCL`, names its owner, and has a heartbeat. A run takes it
/// over if the owner's process is gone, or after five minutes without a heartbeat. Two runs that take it over
/// in the same instant may both go on.
#[derive(Debug)]
struct HeldFile {
    folder: Folder,
    name: PathBuf,
    _heartbeat: Heartbeat,
}

impl Drop for HeldFile {
    fn drop(&mut self) {
        // If the file stays, it has no heartbeat any more.
        let _ = self.folder.remove(&self.name);
    }
}

impl HeldFile {
    /// Tries once to create `NAME.held`. `file` is the lock's own file, which stays empty. Returns the
    /// holder's text if another process has it.
    fn create(folder: Folder, name: &str, text: &str, file: &File) -> io::Result<Result<HeldFile, String>> {
        let name = PathBuf::from(format!("{name}.held"));
        // The new modification time is the present by the file system's clock, which may be another host's
        // clock.
        beat(file)?;
        let now = file.metadata()?.modified()?;
        for _ in 0..4 {
            match folder.create_file(&name, 0o600) {
                Ok(mut file) => {
                    file.write_all(format!("{text}space {}\n", process::space()).as_bytes())?;
                    let heartbeat = Heartbeat::start(&file)?;
                    return Ok(Ok(HeldFile { folder, name, _heartbeat: heartbeat }));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
            let file = match folder.read(&name) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let last = file.metadata()?.modified()?;
            let text = beginning(&file);
            if !is_gone(&text) && now.duration_since(last).is_ok_and(|silent| silent < LOCK_SILENT) {
                return Ok(Err(text));
            }
            remove_dead(&folder, &name, &file)?;
        }
        Ok(Err(String::new()))
    }
}

/// Removes the file of a dead holder, but not another file that has taken its name since.
fn remove_dead(folder: &Folder, name: &Path, file: &File) -> io::Result<()> {
    let aside = PathBuf::from(format!("{}.{}", name.display(), std::process::id()));
    match folder.rename(name, &aside) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => done?,
    }
    if !folder.read(&aside).and_then(|moved| is_same(file, &moved)).unwrap_or(false) {
        let _ = folder.rename_new(&aside, name);
    }
    match folder.remove(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Returns true if the holder was a process of this machine that no longer runs.
fn is_gone(text: &str) -> bool {
    let pid = field(text, "pid").and_then(|pid| pid.parse::<u32>().ok());
    pid.zip(field(text, "space")).is_some_and(|(pid, space)| process::is_gone(pid, space))
}

#[cfg(test)]
mod tests;
