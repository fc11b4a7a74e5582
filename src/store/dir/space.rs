//! Room on the file system, so that backups never fill the disk that others live on.

use std::path::Path;

use super::super::{Error, Kind, Result};
use super::files;
use crate::base::room;
use crate::base::room::Room;

/// Refuses a file of `bytes` that exceeds the file-size limit of this process.
pub fn check_file(bytes: u64, doing: impl Fn() -> String) -> Result<()> {
    match room::file_size_limit().filter(|limit| bytes > *limit) {
        Some(limit) => Err(files::no_room(doing(), room::too_large(Some(limit)))),
        None => Ok(()),
    }
}

/// Refuses to write `bytes` more where less than the share `min_free` would stay free.
pub fn check(root: &Path, bytes: u64, min_free: f64, doing: impl Fn() -> String) -> Result<Room> {
    let room = room::room(root).map_err(|e| files::error(doing(), e))?;
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
