//! A file whose writer shows that it is alive.
//!
//! The writer holds a kernel lock (`flock`) on the file, which ends with the process, however that ends. Some file
//! systems have no such locks (Lustre without `flock`, NFS without a lock manager: `ENOSYS`, `ENOLCK`, `EOPNOTSUPP`).
//! There a thread of the writer sets the file's modification time every 30 s, and a file whose time has not changed for a
//! day belongs to a dead process. A day is far beyond the differences between the clocks of two hosts.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};

use crate::base::beneath::is_unsupported;

/// The pause between two heartbeats.
const BEAT: Duration = Duration::from_secs(30);
/// A claim without a heartbeat for this long has ended.
const SILENT: Duration = Duration::from_secs(24 * 3600);

/// A claim to a file, which ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct Claim {
    file: File,
    heartbeat: Option<Heartbeat>,
}

impl Claim {
    /// Claims a file that this process created. `None` if another process has claimed it.
    ///
    /// # Errors
    /// Returns an error if the kernel's answer is neither; not if there are no locks.
    pub fn take(file: File) -> io::Result<Option<Claim>> {
        match lock(&file)? {
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
        let dead = match lock(&file)? {
            Locked::Yes => true,
            Locked::ByAnother => false,
            Locked::Unsupported => {
                let last = file.metadata()?.modified()?;
                SystemTime::now().duration_since(last).is_ok_and(|silent| silent > SILENT)
            }
        };
        Ok(dead.then_some(Claim { file, heartbeat: None }))
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Whether the file system has no locks, so that a heartbeat stands for one.
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
pub fn lock(file: &File) -> io::Result<Locked> {
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
pub struct Heartbeat {
    _stop: mpsc::Sender<()>,
}

impl Heartbeat {
    /// Sets it now and every 30 s.
    pub fn start(file: &File) -> io::Result<Heartbeat> {
        let file = file.try_clone()?;
        beat(&file)?;
        let (stop, stopped) = mpsc::channel::<()>();
        std::thread::Builder::new().name("heartbeat".into()).spawn(move || {
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                // A failure may pass; meanwhile the file looks older than it is.
                let _ = beat(&file);
            }
        })?;
        Ok(Heartbeat { _stop: stop })
    }
}

/// Sets a file's modification time to the present, by the file system's own clock.
pub fn beat(file: &File) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    Ok(futimens(file, &Timestamps { last_access: now, last_modification: now })?)
}
