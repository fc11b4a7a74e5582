//! Files and folders below the root: paths, reading, listing, deleting, and what errors mean.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::DateTime;

use super::super::{Error, Kind, Object, Result};
use crate::owner;
use crate::units::several;

/// The store's root directory, which exists.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

/// A regular file met by [`Root::walk`].
pub(super) struct Entry {
    pub key: String,
    meta: fs::Metadata,
}

impl Entry {
    pub fn object(&self) -> Object {
        object(&self.key, &self.meta)
    }
}

impl Root {
    /// Opens the root; creates its last component where only that is missing.
    pub fn open(path: &Path) -> Result<Root> {
        let doing = || format!("cannot use the backup directory {}", path.display());
        match owner::create_folder(path, 0o700) {
            Ok(()) => {
                if let Some(parent) = path.parent() {
                    sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::new(Kind::NoPlace, doing(), "its parent directory does not exist")
                    .hint("Mount the disk, or create the directory"));
            }
            Err(e) => return Err(error(doing(), e)),
        }
        let root = Root(fs::canonicalize(path).map_err(|e| error(doing(), e))?);
        root.check()?;
        Ok(root)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Proves that the root is a directory that can be read.
    pub fn check(&self) -> Result<()> {
        let doing = || format!("cannot use the backup directory {}", self.0.display());
        match fs::read_dir(&self.0) {
            Ok(_) => Ok(()),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Err(Error::new(Kind::NoPlace, doing(), e).hint("Mount the disk, or create the directory"))
            }
            Err(e) => Err(error(doing(), e)),
        }
    }

    /// The file of a key (which was checked).
    pub fn file(&self, key: &str) -> PathBuf {
        self.0.join(key)
    }

    /// Reads a whole file of at most `most` bytes.
    pub fn read(&self, key: &str, most: u64) -> Result<Bytes> {
        let path = self.file(key);
        let doing = || format!("cannot read {}", path.display());
        let file = self.open_file(key)?;
        let size = file.metadata().map_err(|e| error(doing(), e))?.len();
        if size > most {
            return Err(Error::too_large(doing(), Some(size), most));
        }
        let mut bytes = Vec::new();
        // The file may grow while it is read.
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| error(doing(), e))?;
        if bytes.len() as u64 > most {
            return Err(Error::too_large(doing(), None, most));
        }
        Ok(bytes.into())
    }

    /// Returns true if the file of a key has exactly these bytes.
    pub fn is(&self, key: &str, body: &Bytes) -> Result<bool> {
        match self.read(key, body.len() as u64) {
            Ok(found) => Ok(found == body),
            Err(e) if e.kind == Kind::Damaged => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Reads a range of a file, all of it.
    pub fn read_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let path = self.file(key);
        let doing = || format!("cannot read bytes {} to {} of {}", range.start, range.end, path.display());
        let file = self.open_file(key)?;
        let size = file.metadata().map_err(|e| error(doing(), e))?.len();
        if range.end > size {
            return Err(Error::new(Kind::Damaged, doing(), format!("it has only {}", several(size, "byte"))));
        }
        let len = usize::try_from(range.end.saturating_sub(range.start))
            .map_err(|e| Error::new(Kind::Failed, doing(), e))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, range.start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Error::new(Kind::Damaged, doing(), "it became shorter meanwhile"),
            _ => error(doing(), e),
        })?;
        Ok(bytes.into())
    }

    fn open_file(&self, key: &str) -> Result<File> {
        let path = self.file(key);
        let doing = || format!("cannot read {}", path.display());
        let file = File::open(&path).map_err(|e| error(doing(), e))?;
        if file.metadata().map_err(|e| error(doing(), e))?.is_dir() {
            return Err(Error::new(Kind::NotFound, doing(), "it is a directory"));
        }
        Ok(file)
    }

    /// Size and time of a file, `None` if there is none.
    pub fn stat(&self, key: &str) -> Result<Option<Object>> {
        let path = self.file(key);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(Some(object(key, &meta))),
            Ok(_) => Ok(None),
            Err(e) if missing(&e) => self.check().map(|()| None),
            Err(e) => Err(error(format!("cannot look at {}", path.display()), e)),
        }
    }

    /// Deletes a file, then the folders that this leaves empty.
    pub fn delete(&self, key: &str) -> Result<()> {
        let path = self.file(key);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if missing(&e) => return self.check(),
            Err(e) => return Err(error(format!("cannot delete {}", path.display()), e)),
        }
        let mut folder = path.parent().unwrap_or(&self.0);
        sync_folder(folder)?;
        while folder != self.0 && fs::remove_dir(folder).is_ok() {
            folder = folder.parent().unwrap_or(&self.0);
            sync_folder(folder)?;
        }
        Ok(())
    }

    /// Creates the folders above a file, each on the disk before the next.
    pub fn make_folders(&self, file: &Path) -> Result<()> {
        let Some(folder) = file.parent() else { return Ok(()) };
        if folder == self.0 || folder.is_dir() {
            return Ok(());
        }
        self.make_folders(folder)?;
        match owner::create_folder(folder, 0o700) {
            Ok(()) => sync_folder(folder.parent().unwrap_or(&self.0)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(e) => Err(error(format!("cannot create the folder {}", folder.display()), e)),
        }
    }

    /// Calls `met` for every regular file whose key starts with `prefix`. Links are not followed; a
    /// name that is not UTF-8 is no key of ours.
    pub fn walk(&self, prefix: &str, met: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        self.check()?;
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !folder.is_empty() {
            super::key::check(folder)?;
        }
        self.walk_folder(folder, prefix, met)
    }

    fn walk_folder(
        &self,
        folder: &str,
        prefix: &str,
        met: &mut dyn FnMut(Entry) -> Result<()>,
    ) -> Result<()> {
        let path = self.0.join(folder);
        let doing = || format!("cannot list {}", path.display());
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // A cleanup may remove an empty folder at any time.
            Err(e) if missing(&e) && !folder.is_empty() => return Ok(()),
            Err(e) => return Err(error(doing(), e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| error(doing(), e))?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let key = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(e) if missing(&e) => continue,
                Err(e) => return Err(error(doing(), e)),
            };
            if meta.is_dir() && (key.starts_with(prefix) || prefix.starts_with(&format!("{key}/"))) {
                self.walk_folder(&key, prefix, met)?;
            } else if meta.is_file() && key.starts_with(prefix) {
                met(Entry { key, meta })?;
            }
        }
        Ok(())
    }
}

/// Makes the names in a folder survive a power failure.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(folder)
        .and_then(|f| f.sync_all())
        .map_err(|e| error(format!("cannot write the folder {} to disk", folder.display()), e))
}

/// Runs blocking work on the runtime's threads for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::new(Kind::Failed, "cannot use the backup directory", e)),
    }
}

/// Gives an error of the file system its class.
pub(super) fn error(doing: String, e: io::Error) -> Error {
    match e.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => Error::new(Kind::NotFound, doing, e),
        Some(libc::ENOSPC | libc::EDQUOT) => {
            Error::new(Kind::Full, doing, e).hint("Free some space, or give the backups a larger disk")
        }
        Some(libc::EACCES | libc::EPERM) => Error::new(Kind::Denied, doing, e).hint(
            "Give the user that runs this the right to read and write there (`ls -ld` says whose it is; chown -R), or \
             run it as that one; a service of systemd sees no home directories (ProtectHome=)",
        ),
        Some(libc::EROFS) => Error::new(Kind::Denied, doing, e)
            .hint("Mount it for writing; for a service of systemd, name it in ReadWritePaths="),
        _ => Error::new(Kind::Failed, doing, e),
    }
}

fn missing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn object(key: &str, meta: &fs::Metadata) -> Object {
    let modified = DateTime::from_timestamp(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap_or(0));
    // A file system may hold a time that no calendar does.
    let modified = modified.unwrap_or_default();
    let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    // A writer can set the modification time back, but not the change time.
    let tag = format!("{}-{}.{}-{}.{}", meta.ino(), times.0, times.1, times.2, times.3);
    Object { key: key.to_owned(), size: meta.len(), modified, tag: Some(tag) }
}
