//! The file: read, changed and replaced by renaming, under a lock, for two jobs may end at once.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Sample;
use super::text::{Page, Read};
use crate::base::beneath::{Folder, settled};
use crate::base::error::{Error, Result};
use crate::base::files::replace;
use crate::base::units;

/// How long another run may hold the lock, which it needs for an instant.
const LOCKED: Duration = Duration::from_secs(2);
/// A file of ours is some kilobytes.
const LARGEST: u64 = 1024 * 1024;
/// The collector runs as another user.
const MODE: u32 = 0o644;

/// The keeper of the file.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
}

impl MetricsFile {
    /// Keeps this file, whose name has a folder.
    pub fn new(path: PathBuf) -> MetricsFile {
        MetricsFile { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets samples of a job. The answer: what of the old file could not be kept.
    ///
    /// # Errors
    /// If it cannot be written, or is a file that somebody else writes.
    pub async fn update(&self, job: &str, samples: &[Sample]) -> Result<Option<String>> {
        let _lock = self.lock().await?;
        let path = settled(&self.path).map_err(|e| self.failed("cannot be written", e))?;
        let (mut page, lost) = self.read(&path)?;
        for (name, value) in samples {
            page.set(name, job, *value);
        }
        replace(&path, page.text().as_bytes(), MODE).map_err(|e| self.failed("cannot be written", e))?;
        log::info!("wrote {}", self.path.display());
        let told = format!(
            "metrics_file: left out {} of {}; figures of earlier runs may be missing until the next ones",
            units::several(lost as u64, "damaged line"),
            self.path.display()
        );
        Ok((lost > 0).then_some(told))
    }

    /// Locks the folder: the file itself is replaced, and one beside it would stay.
    async fn lock(&self) -> Result<Option<File>> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let folder = File::open(folder).map_err(|e| self.failed("cannot be written", e))?;
        let late = Instant::now() + LOCKED;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Some(folder)),
                Err(TryLockError::WouldBlock) if Instant::now() < late => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let held = io::Error::other("another process has locked its folder");
                    return Err(self.failed("cannot be written", held));
                }
                // Where nothing can be locked, two jobs that end in the same instant lose a figure.
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    fn read(&self, path: &Path) -> Result<(Page, usize)> {
        let bytes = Folder::of_file(path).and_then(|(folder, name)| folder.read_all(&name, LARGEST));
        let text = match bytes {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(self.failed("cannot be read", e)),
        };
        match Page::read(&text) {
            Read::Page(page, lost) => Ok((page, lost)),
            Read::Foreign(n) => {
                let whose = io::Error::other(format!("line {n} is a metric of another program"));
                Err(self.failed("is left as it is", whose))
            }
        }
    }

    fn failed(&self, what: &str, why: io::Error) -> Error {
        let step = match why.kind() {
            io::ErrorKind::StorageFull => "Make room on its file system",
            io::ErrorKind::Other | io::ErrorKind::FileTooLarge => {
                "Give METRICS_FILE (metrics_file) a file of its own"
            }
            _ => "Create its folder, or let this user write there (METRICS_FILE, metrics_file)",
        };
        Error::failed(format!("metrics_file: {} {what}", self.path.display())).hint(step).caused_by(why)
    }
}
