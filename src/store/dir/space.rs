//! Room on the file system, so that backups never fill the disk that others live on.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::super::{Error, Kind, Result};
use super::files;

/// A file system's size and what is left of it for ordinary users, in bytes (`statvfs(3)`).
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// All of it.
    pub total: u64,
    /// What is left.
    pub free: u64,
}

/// Refuses to write `bytes` more where less than the share `min_free` would stay free.
pub fn check(root: &Path, bytes: u64, min_free: f64, doing: impl Fn() -> String) -> Result<Room> {
    let room = room(root).map_err(|e| files::error(doing(), e))?;
    let keep = (room.total as f64 * min_free) as u64;
    if room.free >= bytes.saturating_add(keep) {
        return Ok(room);
    }
    let size = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
    let needs = if bytes > 0 { format!("this needs {} more and ", size(bytes)) } else { String::new() };
    Err(Error::new(
        Kind::Full,
        doing(),
        format!(
            "{} of {} are free, {needs}{} must stay free (min_free)",
            size(room.free),
            size(room.total),
            size(keep)
        ),
    )
    .hint("Free some space, give the backups a larger disk, or lower min_free (BACKUP_MIN_FREE)"))
}

fn room(root: &Path) -> io::Result<Room> {
    let path = CString::new(root.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends in NUL and `stat` has room for what the call writes.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, and filled by the call that succeeded.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the widths of these fields differ between targets")]
    let (unit, blocks, free) = (stat.f_frsize as u64, stat.f_blocks as u64, stat.f_bavail as u64);
    Ok(Room { total: blocks.saturating_mul(unit), free: free.saturating_mul(unit) })
}
