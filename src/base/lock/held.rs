//! A lock on a file system without locks: a file that exists while its owner runs.
//!
//! `NAME.held` beside the lock's file is created with `O_EXCL`, names its owner, and has a heartbeat (the modification
//! time, every 30 s). A run that finds one takes it over if its owner's process is gone, or if its heart has not beaten for
//! five minutes. Two runs that take over in the same instant may both go on; two runs at once do no harm.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{Holder, field};
use crate::base::beneath::Folder;
use crate::base::claim::{Heartbeat, beat};

/// A holder without a heartbeat for this long is dead.
const SILENT: Duration = Duration::from_secs(300);

/// A lock that is held; dropped, its file is removed.
#[derive(Debug)]
pub(super) struct Held {
    folder: Folder,
    name: PathBuf,
    _heartbeat: Heartbeat,
}

impl Drop for Held {
    fn drop(&mut self) {
        // A file that stays has no heartbeat.
        let _ = self.folder.remove(&self.name);
    }
}

/// Tries once to hold the lock whose (empty) `file` is called `name`; else its holder.
pub(super) fn try_hold(
    folder: Folder,
    name: &str,
    text: &str,
    file: &File,
) -> io::Result<Result<Held, Holder>> {
    let name = PathBuf::from(format!("{name}.held"));
    // Setting this file's time shows the present by the clock of the file system, which may be another host's.
    beat(file)?;
    let now = file.metadata()?.modified()?;
    for _ in 0..4 {
        match folder.create_file(&name, 0o600) {
            Ok(mut file) => {
                file.write_all(format!("{text}space {}\n", space()).as_bytes())?;
                let heartbeat = Heartbeat::start(&file)?;
                return Ok(Ok(Held { folder, name, _heartbeat: heartbeat }));
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
        let mut text = String::new();
        let _ = (&file).take(1024).read_to_string(&mut text);
        if !is_gone(&text) && now.duration_since(last).is_ok_and(|silent| silent < SILENT) {
            return Ok(Err(Holder::of(&text)));
        }
        take_away(&folder, &name, &file)?;
    }
    Ok(Err(Holder::of("")))
}

/// Removes the file of a dead holder, and no other one that came in its place meanwhile.
fn take_away(folder: &Folder, name: &Path, file: &File) -> io::Result<()> {
    let aside = PathBuf::from(format!("{}.{}", name.display(), std::process::id()));
    match folder.rename(name, &aside) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => done?,
    }
    if folder.reopen(&aside, file).is_err() {
        let _ = folder.rename_new(&aside, name);
    }
    match folder.remove(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Whether the holder was a process of this machine that runs no more.
fn is_gone(text: &str) -> bool {
    let pid = field(text, "pid").and_then(|pid| pid.parse::<u32>().ok());
    field(text, "space") == Some(&space())
        && pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

/// Where a process number means the same process: this boot, and this namespace.
fn space() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}
