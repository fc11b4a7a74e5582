//! Files below a directory that other users may write to.
//!
//! Root often runs backups in folders that belong to the user `uzima-backup`. That user can replace any name
//! by a symbolic link, a hard link, a FIFO or a device. So a directory is opened once by its configured path,
//! which the administrator chose, and everything below it is opened component by component from that
//! descriptor with `O_NOFOLLOW`. Only regular files are opened. A file is written, truncated or given to
//! another owner only if this process created it with `O_EXCL`, or if it has exactly one name.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::Errno;

/// For a folder on a path, which this process needs no permission to list.
const PASS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Without `NONBLOCK`, opening a FIFO waits for its other end.
const CAREFUL: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// An open directory. Names are relative to it, with `/` between their components; no component may be `..`,
/// and none may be a link.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// Facts about a name, as of `lstat(2)`.
#[derive(Debug, Clone, Copy)]
pub struct About {
    pub is_file: bool,
    pub is_folder: bool,
    /// In bytes.
    pub size: u64,
    /// The time of the last modification, which the file's owner can set: seconds since 1970, and
    /// nanoseconds.
    pub modified: (i64, i64),
    /// The time of the last change of content or attributes, by the file system's clock, in the same units.
    pub changed: (i64, i64),

    pub inode: u64,
    /// The number of names (hard links) of the file.
    pub links: u64,
}

/// How [`Folder::rename_new`] gave a file its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renamed {
    /// By `renameat2` with `RENAME_NOREPLACE`.
    AtOnce,
    /// By a hard link.
    ByLink,
    /// By an empty file that reserved the name, and was then replaced.
    OverPlaceholder,
}

/// How [`Folder::sync`] made names survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// By `fsync` of the folder.
    Folder,
    /// By `syncfs` of its file system, because the file system has no `fsync` for folders.
    FileSystem,
    /// The file system offers neither.
    Nothing,
}

impl Folder {
    /// Opens a directory by a path that the administrator chose: links in it are followed.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let fd = fs::open(path, PASS.difference(OFlags::NOFOLLOW), Mode::empty())?;
        Ok(Folder { fd, path: path.to_path_buf() })
    }

    /// As [`Folder::open`], but creates missing directories of the path with this mode, owned by the owner of
    /// the directory above.
    ///
    /// # Errors
    /// Returns an error if a directory cannot be created, or if another object has its name.
    pub fn create(path: &Path, mode: u32) -> io::Result<Folder> {
        match Folder::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let (above, name) = Folder::above(path)?;
        Folder::create(&above, mode)?.make_folder(Path::new(&name), mode)?;
        Folder::open(path)
    }

    /// The folder of a file that the administrator named, and the file's name in it.
    ///
    /// # Errors
    /// Returns an error if the path has no file name at its end, as in `/` and `..`.
    pub fn of_file(path: &Path) -> io::Result<(Folder, PathBuf)> {
        let (above, name) = Folder::above(path)?;
        Ok((Folder::open(&above)?, name.into()))
    }

    fn above(path: &Path) -> io::Result<(PathBuf, OsString)> {
        let name = path.file_name().ok_or(Errno::NOENT)?;
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok((above.to_path_buf(), name.to_os_string()))
    }

    /// The path with which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a folder below this one.
    pub fn folder(&self, name: &Path) -> io::Result<Folder> {
        let fd = self.at(name, open_folder)?;
        Ok(Folder { fd, path: self.path.join(name) })
    }

    /// Opens the folder that contains a name below this one. Returns it with the name's last component.
    pub fn folder_of(&self, name: &Path) -> io::Result<(Folder, PathBuf)> {
        let last = PathBuf::from(name.file_name().ok_or(Errno::INVAL)?);
        let above = name.parent().unwrap_or(Path::new(""));
        match above.as_os_str().is_empty() {
            true => Ok((Folder { fd: self.fd.try_clone()?, path: self.path.clone() }, last)),
            false => Ok((self.folder(above)?, last)),
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// Returns an error if it is not a regular file. A FIFO does not block.
    pub fn read(&self, name: &Path) -> io::Result<File> {
        let file = self.at(name, |at, last| open_file(at, last, OFlags::RDONLY))?;
        regular(&file)?;
        Ok(file)
    }

    /// Reads a whole regular file of at most `most` bytes.
    pub fn read_all(&self, name: &Path, most: u64) -> io::Result<Vec<u8>> {
        bounded(self.read(name)?, most)
    }

    /// Creates a file for reading and writing. If this process is root, the file belongs to the folder's
    /// owner.
    ///
    /// # Errors
    /// Returns an error of the kind `AlreadyExists` if the name is taken, also by a dangling link.
    pub fn create_file(&self, name: &Path, mode: u32) -> io::Result<File> {
        self.at(name, |at, last| {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | CAREFUL;
            let file = File::from(fs::openat(at, last, flags, Mode::from_raw_mode(mode))?);
            inherit(at, file.as_fd());
            Ok(file)
        })
    }

    /// Opens a file for reading and writing, or creates it. An existing file keeps its owner and content.
    ///
    /// # Errors
    /// Returns an error if the name does not belong to a regular file with a single name.
    pub(super) fn open_or_create(&self, name: &Path, mode: u32) -> io::Result<File> {
        let file = self.existing_or_new(name, mode, OFlags::RDWR | CAREFUL)?;
        regular(&file)?;
        Ok(file)
    }

    fn existing_or_new(&self, name: &Path, mode: u32, flags: OFlags) -> io::Result<File> {
        // Another process may create or remove the file between two calls.
        for _ in 0..16 {
            match self.at(name, |at, last| Ok(fs::openat(at, last, flags, Mode::empty())?.into())) {
                Ok(file) if fs::fstat(&file)?.st_nlink > 1 => {
                    return Err(io::Error::other(
                        "it has several names (hard links), so it may belong to another user",
                    ));
                }
                Ok(file) => return Ok(file),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            if let Err(e) = self.create_file(name, mode)
                && e.kind() != io::ErrorKind::AlreadyExists
            {
                return Err(e);
            }
        }
        Err(io::Error::other("another process keeps creating and removing it"))
    }

    /// Opens a file again, if the name still belongs to the same file, for writing past the page cache (`O_DIRECT`,
    /// open(2)).
    pub fn reopen_direct(&self, name: &Path, file: &File) -> io::Result<File> {
        let again = self.at(name, |at, last| open_file(at, last, OFlags::WRONLY | OFlags::DIRECT))?;
        match is_same(file, &again)? {
            true => Ok(again),
            false => Err(io::Error::other("another file has taken its name")),
        }
    }

    /// Returns the facts about a name. A link is not followed.
    pub fn about(&self, name: &Path) -> io::Result<About> {
        self.at(name, |at, last| Ok(about(&fs::statat(at, last, AtFlags::SYMLINK_NOFOLLOW)?)))
    }

    /// The names in this folder, in no particular order. They may be invalid UTF-8.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        let list =
            fs::openat(&self.fd, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for entry in fs::Dir::new(list)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_os_string());
            }
        }
        Ok(names)
    }

    /// Creates a folder, which belongs to the owner of the folder above. Returns false if it exists already.
    pub fn make_folder(&self, name: &Path, mode: u32) -> io::Result<bool> {
        self.at(name, |at, last| {
            match fs::mkdirat(at, last, Mode::from_raw_mode(mode)) {
                Ok(()) => {}
                Err(Errno::EXIST) => return Ok(false),
                Err(e) => return Err(e.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(made) = fs::openat(at, last, flags, Mode::empty()) {
                inherit(at, made.as_fd());
            }
            Ok(true)
        })
    }

    /// Removes a file, a link, or any other object that is not a folder.
    pub fn remove(&self, name: &Path) -> io::Result<()> {
        self.at(name, |at, last| Ok(fs::unlinkat(at, last, AtFlags::empty())?))
    }

    /// Removes an empty folder.
    pub fn remove_folder(&self, name: &Path) -> io::Result<()> {
        self.at(name, |at, last| Ok(fs::unlinkat(at, last, AtFlags::REMOVEDIR)?))
    }

    /// Renames a file of this folder, and replaces a file that has the new name.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(fs::renameat(&self.fd, single(from)?, &self.fd, single(to)?)?)
    }

    /// Renames a file of this folder to a name that is free. If the file system has no `RENAME_NOREPLACE`
    /// (NFS answers `EINVAL`, Gluster `EOPNOTSUPP`), a hard link is made instead. If it has no hard links
    /// either (exFAT, sshfs with `disable_hardlink`), an empty file is created with `O_EXCL` and then
    /// replaced. A process that is killed between these two steps leaves the empty file behind.
    ///
    /// # Errors
    /// Returns an error of the kind `AlreadyExists` if the name is taken.
    pub fn rename_new(&self, from: &Path, to: &Path) -> io::Result<Renamed> {
        let (from, to) = (single(from)?, single(to)?);
        match fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Renamed::AtOnce),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e.into()),
        }
        match fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty()) {
            Ok(()) => {
                fs::unlinkat(&self.fd, from, AtFlags::empty())?;
                return Ok(Renamed::ByLink);
            }
            Err(Errno::PERM | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK) => {}
            Err(e) => return Err(e.into()),
        }
        drop(self.create_file(Path::new(to), 0o600)?);
        fs::renameat(&self.fd, from, &self.fd, to).inspect_err(|_| {
            let _ = fs::unlinkat(&self.fd, to, AtFlags::empty());
        })?;
        Ok(Renamed::OverPlaceholder)
    }

    /// Writes the names in this folder to disk, so that they survive a power failure.
    ///
    /// # Errors
    /// Returns an error if the disk fails. A file system that lacks this call is not an error.
    pub fn sync(&self) -> io::Result<Synced> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::openat(&self.fd, ".", flags, Mode::empty())?;
        match fs::fsync(&folder) {
            Ok(()) => return Ok(Synced::Folder),
            Err(e) if is_unsupported(e) => {}
            Err(e) => return Err(e.into()),
        }
        match fs::syncfs(&folder) {
            Ok(()) => Ok(Synced::FileSystem),
            Err(e) if is_unsupported(e) => Ok(Synced::Nothing),
            Err(e) => Err(e.into()),
        }
    }

    fn is_proc(&self) -> bool {
        fs::fstatfs(&self.fd).is_ok_and(|found| found.f_type == fs::PROC_SUPER_MAGIC)
    }

    /// Calls `act` with the folder that contains `name`, and the name's last component.
    fn at<T>(&self, name: &Path, act: impl FnOnce(BorrowedFd<'_>, &OsStr) -> io::Result<T>) -> io::Result<T> {
        let mut components = name.components();
        let last = components.next_back().ok_or(Errno::INVAL)?;
        let mut folder: Option<OwnedFd> = None;
        for component in components {
            let at = folder.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd());
            folder = Some(open_folder(at, normal(component)?)?);
        }
        act(folder.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd()), normal(last)?)
    }
}

/// Reads a file that the administrator named. Links are followed, but it must be a regular file of at most
/// `most` bytes. `/dev/null` is an empty file.
///
/// # Errors
/// Returns an error at once if it is a FIFO or a device.
pub fn read_named(path: &Path, most: u64) -> io::Result<(Vec<u8>, File)> {
    let flags = OFlags::RDONLY | CAREFUL.difference(OFlags::NOFOLLOW);
    let file = File::from(fs::open(path, flags, Mode::empty())?);
    if is_null(&fs::fstat(&file)?) {
        return Ok((Vec::new(), file));
    }
    regular(&file)?;
    Ok((bounded(file.try_clone()?, most)?, file))
}

/// Opens a file that the administrator named for appending, or creates it. Devices and FIFOs are allowed, and
/// do not block.
///
/// # Errors
/// Returns an error if the file has several names, or if [`settled`] fails.
pub fn append_named(path: &Path, mode: u32) -> io::Result<File> {
    let (folder, name) = Folder::of_file(&settled(path)?)?;
    let careful = if folder.is_proc() { CAREFUL.difference(OFlags::NOFOLLOW) } else { CAREFUL };
    folder.existing_or_new(&name, mode, OFlags::WRONLY | OFlags::APPEND | careful)
}

/// Resolves links at the end of a path that the administrator named.
///
/// # Errors
/// Returns an error if a user other than root and this one may have created the link.
pub fn settled(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..40 {
        let (folder, name) = Folder::of_file(&path)?;
        let target = match fs::readlinkat(&folder.fd, &name, Vec::new()) {
            // The kernel's own links, such as the target of /dev/stderr, lead to no path.
            Ok(_) if folder.is_proc() => return Ok(path),
            Ok(target) => PathBuf::from(OsStr::from_bytes(target.as_bytes())),
            Err(Errno::INVAL | Errno::NOENT) => return Ok(path),
            Err(e) => return Err(e.into()),
        };
        let (link, around) =
            (fs::statat(&folder.fd, &name, AtFlags::SYMLINK_NOFOLLOW)?, fs::fstat(&folder.fd)?);
        let trusted = [0, rustix::process::geteuid().as_raw()];
        let planted = [&link, &around].iter().any(|stat| !trusted.contains(&stat.st_uid));
        if planted || around.st_mode & 0o002 != 0 {
            let (link, target) = (path.display(), target.display());
            return Err(io::Error::other(format!(
                "{link} is a link that another user may have created; it leads to {target}"
            )));
        }
        path = folder.path.join(target);
    }
    Err(Errno::LOOP.into())
}

/// Returns true if two open files are the same file.
pub(super) fn is_same(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (fs::fstat(one)?, fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == fs::makedev(1, 3)
}

/// Returns true if a call failed because the file system lacks it.
pub(super) fn is_unsupported(e: Errno) -> bool {
    matches!(e, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK)
}

/// Writes a file's content to disk.
pub fn sync_file(file: &File) -> io::Result<()> {
    match fs::fsync(file) {
        Err(e) if is_unsupported(e) => Ok(fs::fdatasync(file)?),
        done => Ok(done?),
    }
}

fn bounded(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // The size may grow between two calls.
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"))),
        false => Ok(bytes),
    }
}

fn open_folder(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    fs::openat(at, name, PASS, Mode::empty()).map_err(|e| match e {
        // Linux returns this error for a link if both flags are set.
        Errno::NOTDIR if is_link(at, name) => Errno::LOOP.into(),
        e => e.into(),
    })
}

fn open_file(at: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<File> {
    Ok(fs::openat(at, name, flags | CAREFUL, Mode::empty())?.into())
}

fn is_link(at: BorrowedFd<'_>, name: &OsStr) -> bool {
    let stat = fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

fn regular(file: &File) -> io::Result<()> {
    let what = match FileType::from_raw_mode(fs::fstat(file)?.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "it is a directory",
        FileType::Fifo => "it is a FIFO, not a regular file",
        FileType::Socket => "it is a socket, not a regular file",
        FileType::CharacterDevice | FileType::BlockDevice => "it is a device, not a regular file",
        _ => "it is not a regular file",
    };
    Err(io::Error::other(what))
}

/// Gives a file or folder that this process has just created to the owner of its folder. Only root can do
/// that.
fn inherit(folder: BorrowedFd<'_>, made: BorrowedFd<'_>) {
    let (Ok(folder), Ok(own)) = (fs::fstat(folder), fs::fstat(made)) else { return };
    let ours = own.st_uid == rustix::process::geteuid().as_raw();
    if ours && folder.st_uid != own.st_uid {
        let _ = fs::fchown(made, Some(Uid::from_raw(folder.st_uid)), Some(Gid::from_raw(folder.st_gid)));
    }
}

#[allow(clippy::unnecessary_cast, reason = "the widths of these fields differ between targets")]
fn about(stat: &Stat) -> About {
    let kind = FileType::from_raw_mode(stat.st_mode);
    About {
        is_file: kind == FileType::RegularFile,
        is_folder: kind == FileType::Directory,
        size: stat.st_size as u64,
        modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        inode: stat.st_ino as u64,
        links: stat.st_nlink as u64,
    }
}

fn normal(component: Component<'_>) -> io::Result<&OsStr> {
    match component {
        Component::Normal(name) => Ok(name),
        _ => Err(Errno::INVAL.into()),
    }
}

/// Returns the name if it contains no folders.
fn single(name: &Path) -> io::Result<&OsStr> {
    let mut components = name.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => Ok(name),
        _ => Err(Errno::INVAL.into()),
    }
}

#[cfg(test)]
mod tests;
