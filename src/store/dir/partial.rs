//! Partials: what is being written, beside its final name, as `.<name>.<id>.partial`.
//!
//! A writer holds an exclusive `flock` on its partial. The kernel drops it when the process dies, so
//! a later process that gets the lock knows that the writer is dead, on any file system with locks
//! and without any clock.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::super::{Error, Kind, Result};
use super::direct::Direct;
use super::files::{Root, error, sync_folder};
use crate::owner;

/// A file that has not got its name yet. Dropped, it is removed.
pub(super) struct Partial {
    file: File,
    /// Past the page cache, where the file system has that.
    direct: Option<Direct>,
    path: PathBuf,
    target: PathBuf,
    id: String,
}

impl Partial {
    /// Creates and locks a partial for `key`, and the folders above it.
    pub fn create(root: &Root, key: &str) -> Result<Partial> {
        let target = root.file(key);
        let doing = || format!("cannot write {}", target.display());
        if is_partial(key) {
            return Err(Error::new(Kind::Failed, doing(), "the name is that of a partial"));
        }
        // A cleanup may remove an empty folder, or a partial not yet locked, between two of our calls.
        for _ in 0..100 {
            root.make_folders(&target)?;
            let id = format!("{:016x}", rand::random::<u64>());
            let path = partial_path(&target, &id);
            let file =
                match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                    Ok(file) => file,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(e) => return Err(error(doing(), e)),
                };
            owner::inherit(&file, &path);
            let partial = Partial { file, direct: Direct::open(&path), path, target: target.clone(), id };
            match partial.file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::new(
                        Kind::Failed,
                        partial.doing(),
                        "the new file is locked by another process",
                    ));
                }
                Err(TryLockError::Error(e)) => return Err(error(partial.doing(), e)),
            }
            if partial.file.metadata().map_err(|e| error(partial.doing(), e))?.nlink() > 0 {
                return Ok(partial);
            }
            // A cleanup took it for dead before it was locked.
        }
        Err(Error::new(Kind::Failed, doing(), "its folder is removed again and again"))
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn doing(&self) -> String {
        format!("cannot write {}", self.target.display())
    }

    /// Writes bytes at an offset; several threads may do so at once.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let fail = |e| error(self.doing(), e);
        let done =
            self.direct.as_ref().map_or(Ok(0), |direct| direct.write_at(bytes, offset)).map_err(fail)?;
        let (rest, offset) = (&bytes[done..], offset + done as u64);
        if rest.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(rest, offset).map_err(fail)?;
        // The disk starts now, not at the end, where everything waits for it. Only a wish: whether the
        // bytes arrived is for fsync to say.
        // SAFETY: a call without pointers, on a descriptor that is open.
        unsafe {
            libc::sync_file_range(
                self.file.as_raw_fd(),
                offset as i64,
                rest.len() as i64,
                libc::SYNC_FILE_RANGE_WRITE,
            )
        };
        Ok(())
    }

    /// Gives the file its name; [`Kind::Exists`] if that is taken.
    pub fn publish(self) -> Result<()> {
        self.finish(rename_noreplace)?;
        sync_folder(self.folder()).inspect_err(|_| {
            // The name may not survive a power failure: after an error there is no object.
            let _ = fs::remove_file(&self.target);
        })
    }

    /// Gives the file its name, in place of what had it.
    pub fn replace(self) -> Result<()> {
        self.finish(|from, to| fs::rename(from, to))?;
        sync_folder(self.folder())
    }

    fn finish(&self, rename: impl Fn(&Path, &Path) -> io::Result<()>) -> Result<()> {
        self.file.sync_all().map_err(|e| error(self.doing(), e))?;
        rename(&self.path, &self.target).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => Error::new(Kind::Exists, self.doing(), "it exists"),
            _ => error(self.doing(), e),
        })
    }

    /// Removes the file, and the folders that this leaves empty.
    pub fn remove(&self, root: &Root) -> Result<()> {
        let key = self.path.strip_prefix(root.path()).ok().and_then(Path::to_str);
        root.delete(key.ok_or_else(|| Error::new(Kind::Failed, self.doing(), "it is not below the root"))?)
    }

    fn folder(&self) -> &Path {
        self.target.parent().unwrap_or(Path::new("/"))
    }
}

impl Drop for Partial {
    /// Removes what did not get its name; after `finish` there is nothing under this path.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Renames without replacing. A plain rename overwrites; `RENAME_NOREPLACE` is missing on some file
/// systems (NFS answers `EINVAL`), which have hard links instead.
fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    let c = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (from_c, to_c) = (c(from)?, c(to)?);
    // SAFETY: both strings end in NUL and outlive the call.
    let answer = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            from_c.as_ptr(),
            libc::AT_FDCWD,
            to_c.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    if answer == 0 {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    match e.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        _ => Err(e),
    }
}

fn partial_path(target: &Path, id: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{id}.partial"));
    target.with_file_name(name)
}

/// The key and id of the partial that has this path below the root.
fn parse(path: &str) -> Option<(String, &str)> {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let (target, id) = name.strip_prefix('.')?.strip_suffix(".partial")?.rsplit_once('.')?;
    let id_is_ours = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let key = if folder.is_empty() { target.to_owned() } else { format!("{folder}/{target}") };
    (id_is_ours && !target.is_empty()).then_some((key, id))
}

/// Whether this is the name of a partial, ours or not: never an object.
pub(super) fn is_partial(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.starts_with('.') && name.ends_with(".partial")
}

/// Every partial below the root whose writer is dead.
pub(super) fn dead(root: &Root) -> Result<Vec<(String, String)>> {
    let mut dead = Vec::new();
    root.walk("", &mut |entry| {
        if let Some((key, id)) = parse(&entry.key)
            && lock_dead(&root.file(&entry.key))?.is_some()
        {
            dead.push((key, id.to_owned()));
        }
        Ok(())
    })?;
    dead.sort();
    Ok(dead)
}

/// Removes a partial of a dead writer; a live one's is an error, a missing one a success.
pub(super) fn remove_dead(root: &Root, key: &str, id: &str) -> Result<()> {
    let path = partial_path(&root.file(key), id);
    let doing = || format!("cannot remove {}", path.display());
    if path.strip_prefix(root.path()).ok().and_then(Path::to_str).and_then(parse).is_none() {
        return Err(Error::new(Kind::Failed, doing(), format!("{id:?} is not the id of a partial")));
    }
    if !path.exists() {
        return Ok(());
    }
    match lock_dead(&path)? {
        Some(_lock) => root.delete(path.strip_prefix(root.path()).ok().and_then(Path::to_str).unwrap_or(key)),
        None => Err(Error::new(Kind::Failed, doing(), "a running process is writing it")),
    }
}

/// Locks the partial of a dead writer; `None` while the writer lives.
fn lock_dead(path: &Path) -> Result<Option<File>> {
    let doing = || format!("cannot look at {}", path.display());
    let file = OpenOptions::new().read(true).open(path).map_err(|e| error(doing(), e))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(error(doing(), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let path = partial_path(Path::new("/r/2026/dump.tar.gz"), "00112233445566ff");
        assert_eq!(path, Path::new("/r/2026/.dump.tar.gz.00112233445566ff.partial"));
        assert_eq!(
            parse("2026/.dump.tar.gz.00112233445566ff.partial"),
            Some(("2026/dump.tar.gz".into(), "00112233445566ff"))
        );
        assert_eq!(parse(".a.00112233445566fg.partial"), None);
        assert!(is_partial("x/.a.partial") && !is_partial(".x.partial/a") && !is_partial("a.partial"));
    }
}
