//! Files and folders below the root: reading, listing and deleting them, the free space, and errors of the
//! file system.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chrono::DateTime;
use rustix::io::Errno;

use super::super::{StoreError, StoreErrorKind, StoreResult, StoredObject, check_key};
use crate::base::beneath::{About, Folder, Renamed, Synced};
use crate::base::clock::ClockAndRandom;
use crate::base::room::{self, Cause, Room};
use crate::base::units::several;

/// The deepest level of folders that is listed. The keys of this program are not deeper, and each level needs
/// an open descriptor.
const DEEPEST: usize = 64;

/// The next step if the directory is missing.
const MOUNT: &str = "Mount the disk, or create the directory";

#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    pub(super) machine: ClockAndRandom,
    /// Missing calls that were found so far.
    lacks: Mutex<BTreeSet<Lack>>,
}

/// A call that some file systems lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lack {
    /// `renameat2` with `RENAME_NOREPLACE`.
    RenameNoReplace,
    /// `link`.
    HardLinks,
    /// `flock`.
    Locks,
    /// `fsync` of a folder.
    FolderSync,
}

impl Lack {
    /// Names the missing call and its substitute.
    fn words(self) -> &'static str {
        match self {
            Lack::RenameNoReplace => "no RENAME_NOREPLACE: a new file gets its name by a hard link",
            Lack::HardLinks => {
                "neither RENAME_NOREPLACE nor hard links: an empty file reserves a new file's name and is then replaced"
            }
            Lack::Locks => "no locks (flock): files that are being written have a heartbeat",
            Lack::FolderSync => {
                "no fsync of folders: the whole file system is synced instead, if it supports that"
            }
        }
    }
}

impl Root {
    /// Opens the root. If only its last component is missing, it is created.
    pub(super) fn open(path: &Path, machine: ClockAndRandom) -> StoreResult<Root> {
        let created = Folder::of_file(path).and_then(|(above, name)| {
            let created = above.make_folder(&name, 0o700)?;
            if created {
                above.sync()?;
            }
            Ok(())
        });
        match created {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.exists() => {
                let cause = "its parent directory does not exist";
                return Err(StoreError::new(StoreErrorKind::NoPlace, unusable(path), cause).hint(MOUNT));
            }
            // An existing directory can be opened even if the one above is not writable.
            Err(_) if path.exists() => {}
            Err(e) => return Err(not_made(unusable(path), e, path)),
        }
        let path = fs::canonicalize(path).map_err(|e| error(unusable(path), e))?;
        let root = Root { path, machine, lacks: Mutex::default() };
        root.check()?;
        Ok(root)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the root is a readable directory.
    pub(super) fn check(&self) -> StoreResult<()> {
        self.folder()?;
        fs::read_dir(&self.path).map(drop).map_err(|e| error(unusable(&self.path), e))
    }

    /// Opens the root again: its disk may have been unmounted since.
    pub(super) fn folder(&self) -> StoreResult<Folder> {
        Folder::open(&self.path).map_err(|e| match missing(&e) {
            true => StoreError::new(StoreErrorKind::NoPlace, unusable(&self.path), e).hint(MOUNT),
            false => error(unusable(&self.path), e),
        })
    }

    /// The path of a key, for error messages.
    pub(super) fn shown(&self, key: &str) -> String {
        self.path.join(key).display().to_string()
    }

    /// Reads a whole file of at most `most` bytes.
    pub(super) fn read(&self, key: &str, most: u64) -> StoreResult<Bytes> {
        let doing = || format!("cannot read {}", self.shown(key));
        let file = self.open_file(key)?;
        let size = file.metadata().map_err(|e| error(doing(), e))?.len();
        if size > most {
            return Err(StoreError::too_large(doing(), Some(size), most));
        }
        let mut bytes = Vec::new();
        // The file may grow while it is read.
        file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| error(doing(), e))?;
        if bytes.len() as u64 > most {
            return Err(StoreError::too_large(doing(), None, most));
        }
        Ok(bytes.into())
    }

    /// Returns true if the file of a key has exactly these bytes.
    pub(super) fn is(&self, key: &str, body: &Bytes) -> StoreResult<bool> {
        match self.read(key, body.len() as u64) {
            Ok(found) => Ok(found == body),
            Err(e) if e.kind == StoreErrorKind::Damaged => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Reads a range of a file. A shorter file is an error.
    pub(super) fn read_range(&self, key: &str, range: Range<u64>) -> StoreResult<Bytes> {
        let doing = || format!("cannot read bytes {} to {} of {}", range.start, range.end, self.shown(key));
        let file = self.open_file(key)?;
        let size = file.metadata().map_err(|e| error(doing(), e))?.len();
        if range.end > size {
            return Err(StoreError::damaged(doing(), format!("it has only {}", several(size, "byte"))));
        }
        let len = usize::try_from(range.end.saturating_sub(range.start))
            .map_err(|e| StoreError::failed(doing(), e))?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, range.start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                StoreError::damaged(doing(), "it became shorter while it was read")
            }
            _ => error(doing(), e),
        })?;
        Ok(bytes.into())
    }

    fn open_file(&self, key: &str) -> StoreResult<File> {
        let doing = || format!("cannot read {}", self.shown(key));
        let folder = self.folder()?;
        folder.read(Path::new(key)).map_err(|e| match folder.about(Path::new(key)) {
            Ok(about) if about.is_folder => {
                StoreError::new(StoreErrorKind::NotFound, doing(), "it is a directory")
            }
            // This program never creates a link, a FIFO or a device.
            Ok(about) if !about.is_file => StoreError::damaged(doing(), error(String::new(), e).cause),
            _ => error(doing(), e),
        })
    }

    /// Returns size and time of a file; `None` if it does not exist.
    pub(super) fn stat(&self, key: &str) -> StoreResult<Option<StoredObject>> {
        match self.folder()?.about(Path::new(key)) {
            Ok(about) if about.is_file => Ok(Some(object(key, &about))),
            Ok(_) => Ok(None),
            Err(e) if missing(&e) => Ok(None),
            Err(e) => Err(error(format!("cannot look at {}", self.shown(key)), e)),
        }
    }

    /// Deletes a file, and then folders that become empty.
    pub(super) fn delete(&self, key: &str) -> StoreResult<()> {
        let (root, path) = (self.folder()?, Path::new(key));
        let fail = |e| error(format!("cannot delete {}", self.shown(key)), e);
        match root.remove(path) {
            Ok(()) => {}
            Err(e) if missing(&e) => return Ok(()),
            Err(e) => return Err(fail(e)),
        }
        let mut removed = path;
        loop {
            match root.folder_of(removed) {
                Ok((folder, _)) => self.sync(&folder)?,
                // Another run removed the folder after its last file.
                Err(e) if missing(&e) => {}
                Err(e) => return Err(fail(e)),
            }
            removed = removed.parent().unwrap_or(Path::new(""));
            if removed.as_os_str().is_empty() || root.remove_folder(removed).is_err() {
                return Ok(());
            }
        }
    }

    /// Opens the folder of a key and returns it with the key's last component. Missing folders are created;
    /// each is synced to disk before the next.
    pub(super) fn make_folders<'a>(&self, key: &'a str) -> StoreResult<(Folder, &'a str)> {
        let mut folder = self.folder()?;
        let (folders, last) = key.rsplit_once('/').unwrap_or(("", key));
        for part in Path::new(folders) {
            let part = Path::new(part);
            let path = folder.path().join(part);
            let fail = |e| not_made(format!("cannot create the folder {}", path.display()), e, &path);
            let below = match folder.folder(part) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if folder.make_folder(part, 0o700).map_err(fail)? {
                        self.sync(&folder)?;
                    }
                    folder.folder(part).map_err(fail)?
                }
                opened => opened.map_err(fail)?,
            };
            folder = below;
        }
        Ok((folder, last))
    }

    /// Writes the names in a folder to disk, so that they survive a power failure.
    pub(super) fn sync(&self, folder: &Folder) -> StoreResult<()> {
        let fail = |e| error(format!("cannot write the folder {} to disk", folder.path().display()), e);
        if folder.sync().map_err(fail)? != Synced::Folder {
            self.lacks(Lack::FolderSync);
        }
        Ok(())
    }

    /// Notes the calls that the file system lacked when a file got its name.
    pub(super) fn renamed(&self, how: Renamed) {
        match how {
            Renamed::AtOnce => {}
            Renamed::ByLink => self.lacks(Lack::RenameNoReplace),
            Renamed::OverPlaceholder => self.lacks(Lack::HardLinks),
        }
    }

    /// Notes that the file system lacks a call, and logs it the first time.
    pub(super) fn lacks(&self, lack: Lack) {
        if self.lacks.lock().unwrap_or_else(PoisonError::into_inner).insert(lack) {
            log::info!("the file system of {} has {}", self.path.display(), lack.words());
        }
    }

    /// Descriptions of the missing calls that were found so far.
    pub(super) fn lacking(&self) -> Vec<String> {
        let lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        lacks.iter().map(|lack| lack.words().to_string()).collect()
    }

    /// Calls `visit` for every regular file whose key starts with `prefix`. Links are not followed. Names that
    /// are not UTF-8 are skipped, because they cannot be keys.
    pub(super) fn walk(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(StoredObject) -> StoreResult<()>,
    ) -> StoreResult<()> {
        self.check()?;
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let root = self.folder()?;
        if folder.is_empty() {
            return self.walk_folder(&root, "", prefix, DEEPEST, visit);
        }
        check_key(folder)?;
        match root.folder(Path::new(folder)) {
            Ok(open) => self.walk_folder(&open, folder, prefix, DEEPEST, visit),
            Err(e) if missing(&e) => Ok(()),
            Err(e) => Err(error(format!("cannot list {}", self.shown(folder)), e)),
        }
    }

    fn walk_folder(
        &self,
        folder: &Folder,
        path: &str,
        prefix: &str,
        deeper: usize,
        visit: &mut dyn FnMut(StoredObject) -> StoreResult<()>,
    ) -> StoreResult<()> {
        let doing = || format!("cannot list {}", folder.path().display());
        let names = match folder.names() {
            Ok(names) => names,
            // A cleanup may remove an empty folder at any time.
            Err(e) if missing(&e) && !path.is_empty() => return Ok(()),
            Err(e) => return Err(error(doing(), e)),
        };
        for name in names {
            let Some(text) = name.to_str() else { continue };
            let key = if path.is_empty() { text.to_owned() } else { format!("{path}/{text}") };
            let name = Path::new(&name);
            let about = match folder.about(name) {
                Ok(about) => about,
                Err(e) if missing(&e) => continue,
                Err(e) => return Err(error(doing(), e)),
            };
            let wanted = key.starts_with(prefix) || prefix.starts_with(&format!("{key}/"));
            if about.is_folder && wanted && deeper > 0 {
                match folder.folder(name) {
                    Ok(below) => self.walk_folder(&below, &key, prefix, deeper - 1, visit)?,
                    // It has been removed, or replaced by a link.
                    Err(e) if missing(&e) || Errno::from_io_error(&e) == Some(Errno::LOOP) => {}
                    Err(e) => return Err(error(format!("cannot list {}", self.shown(&key)), e)),
                }
            } else if about.is_file && key.starts_with(prefix) {
                visit(object(&key, &about))?;
            }
        }
        Ok(())
    }
}

/// Runs work on a thread where it may block.
pub(in crate::store) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(StoreError::failed("cannot use the backup directory", e)),
    }
}

/// The error of a call that creates a file or folder at `path`.
pub(super) fn not_made(doing: String, e: io::Error, path: &Path) -> StoreError {
    match room::cause(&e, path) {
        Some(cause) => no_room(doing, cause),
        None => error(doing, e),
    }
}

/// The error of a file for which there is no room.
pub(super) fn no_room(doing: String, cause: Cause) -> StoreError {
    StoreError::new(StoreErrorKind::Full, doing, cause.what).hint(cause.hint)
}

/// Classifies an error of the file system and adds the next step.
pub(super) fn error(doing: String, e: io::Error) -> StoreError {
    let errno = Errno::from_io_error(&e);
    let (kind, hint) = match errno {
        Some(Errno::FBIG) => return no_room(doing, room::too_large(room::file_size_limit())),
        Some(Errno::NOENT | Errno::NOTDIR) => return StoreError::new(StoreErrorKind::NotFound, doing, e),
        Some(Errno::NOSPC | Errno::DQUOT) => {
            (StoreErrorKind::Full, "Free some space, or give the backups a larger disk")
        }
        Some(Errno::ACCESS | Errno::PERM) => (
            StoreErrorKind::Denied,
            "Allow the user that runs this program to read and write there (`ls -ld` shows the owner, chown -R \
             changes it), or run the program as the owner; systemd services see no home directories (ProtectHome=)",
        ),
        Some(Errno::LOOP) => (
            StoreErrorKind::Denied,
            "Remove the link; to keep backups elsewhere, set BACKUP_DIR to the directory itself",
        ),
        Some(Errno::ROFS) => {
            (StoreErrorKind::Denied, "Mount it for writing; for a systemd service, add it to ReadWritePaths=")
        }
        _ => return StoreError::failed(doing, e),
    };
    let cause = match errno {
        Some(Errno::LOOP) => "it is a link, or lies behind one, and is not followed".to_owned(),
        _ => e.to_string(),
    };
    StoreError::new(kind, doing, cause).hint(hint)
}

/// The operation in errors of the root directory.
pub(super) fn unusable(root: &Path) -> String {
    format!("cannot use the backup directory {}", root.display())
}

fn missing(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn object(key: &str, about: &About) -> StoredObject {
    let (modified, changed) = (about.modified, about.changed);
    let tag = format!("{}-{}.{}-{}.{}", about.inode, modified.0, modified.1, changed.0, changed.1);
    // A file system may store a time outside the calendar.
    let modified = DateTime::from_timestamp(modified.0, u32::try_from(modified.1).unwrap_or(0));
    let modified = modified.unwrap_or_default();
    StoredObject { key: key.to_owned(), size: about.size, modified, tag: Some(tag), archive: None }
}

/// Checks that a file of `bytes` does not exceed the file-size limit of this process.
pub fn check_size(bytes: u64, doing: impl Fn() -> String) -> StoreResult<()> {
    match room::file_size_limit().filter(|limit| bytes > *limit) {
        Some(limit) => Err(no_room(doing(), room::too_large(Some(limit)))),
        None => Ok(()),
    }
}

/// Checks that the share `min_free` of the file system stays free after `bytes` more are written.
pub fn check_room(root: &Path, bytes: u64, min_free: f64, doing: impl Fn() -> String) -> StoreResult<Room> {
    let room = room::room(root).map_err(|e| error(doing(), e))?;
    let keep = (room.total as f64 * min_free) as u64;
    if room.free >= bytes.saturating_add(keep) {
        return Ok(room);
    }
    let size = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
    let needs = if bytes > 0 { format!("this run needs {} more, and ", size(bytes)) } else { String::new() };
    let (free, total, keep) = (size(room.free), size(room.total), size(keep));
    let cause = format!("{free} of {total} are free, {needs}{keep} must stay free (min_free)");
    Err(StoreError::new(StoreErrorKind::Full, doing(), cause)
        .hint("Free some space, give the backups a larger disk, or lower min_free (BACKUP_MIN_FREE)"))
}
