//! Remembering uploads under way, so that the next run can end those that a killed one left behind.
//!
//! A bucket cannot be asked for them everywhere (MinIO lists uploads only for an exact key), so each
//! is a small file in the state directory while it lasts, locked by the process that made it: a file
//! that can be locked belongs to a process that is gone.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::owner;
use crate::store::Store;

/// An upload under way.
#[derive(Debug, Serialize, Deserialize)]
struct Upload {
    /// [`Store::place`].
    place: String,
    key: String,
    upload_id: String,
}

/// The file of an upload under way. Dropped, it stays for the next run, which can then lock it.
#[derive(Debug)]
pub struct Marker {
    path: PathBuf,
    _locked: File,
}

impl Marker {
    /// The upload is completed or aborted: nothing is left to remember.
    pub fn forget(self) {
        // A file that stays is found by the next run, which then finds no such upload.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes the file of an upload that was begun.
pub fn remember(state: &Path, name: &str, place: &str, key: &str, upload_id: &str) -> Result<Marker> {
    let folder = state.join("uploads");
    // The process in the name tells of a file without content whether somebody is about to write it.
    let path = folder.join(format!("{name}.{}.json", std::process::id()));
    let failed = |e: std::io::Error| {
        Error::failed(format!("cannot write {}", path.display()))
            .hint("Set state_dir (UZIMA_BACKUP_STATE_DIR) to a directory that this user may write")
            .caused_by(e)
    };
    owner::create_folders(&folder, 0o700).map_err(failed)?;
    let mut file = File::create(&path).map_err(failed)?;
    owner::inherit(&file, &path);
    file.lock().map_err(failed)?;
    let upload = Upload { place: place.into(), key: key.into(), upload_id: upload_id.into() };
    let json = serde_json::to_vec(&upload).map_err(|e| failed(e.into()))?;
    file.write_all(&json).map_err(failed)?;
    Ok(Marker { path, _locked: file })
}

/// Ends the uploads to `store` that dead processes left behind; what was done, a line each. What
/// cannot be ended now is left for the next run.
pub async fn sweep(state: Option<&Path>, store: &dyn Store) -> Vec<String> {
    let mut lines = Vec::new();
    let mut known = HashSet::new();
    match store.leftovers().await {
        Ok(dead) => {
            for (key, id) in dead {
                if end(store, &key, &id, &mut lines).await {
                    known.insert(key);
                }
            }
        }
        Err(e) => lines.push(format!("cannot look for uploads that an earlier run left behind: {e}")),
    }
    let entries = state.and_then(|state| fs::read_dir(state.join("uploads")).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        let Some((file, upload)) = dead(&path) else { continue };
        let over = match upload {
            // Killed between making the file and writing it; what was begun is not known.
            None => writer_is_gone(&path),
            Some(upload) if upload.place != store.place() => false,
            Some(upload) if known.contains(&upload.key) => true,
            Some(upload) => end(store, &upload.key, &upload.upload_id, &mut lines).await,
        };
        if over {
            let _ = fs::remove_file(&path);
        }
        drop(file);
    }
    lines
}

async fn end(store: &dyn Store, key: &str, id: &str, lines: &mut Vec<String>) -> bool {
    match store.abort_left(key, id).await {
        Ok(()) => {
            lines.push(format!(
                "removed the unfinished upload of {key}, which an earlier run left behind when it was killed"
            ));
            true
        }
        Err(e) => {
            lines
                .push(format!("an earlier run left an unfinished upload behind that cannot be removed: {e}"));
            false
        }
    }
}

/// The upload of a file that nobody has locked; `None` inside if it has no content.
fn dead(path: &Path) -> Option<(File, Option<Upload>)> {
    let file = File::open(path).ok()?;
    file.try_lock().ok()?;
    let upload = serde_json::from_reader(&file).ok();
    Some((file, upload))
}

/// Whether the process that a file's name tells is gone.
fn writer_is_gone(path: &Path) -> bool {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    match name.rsplit('.').next().and_then(|id| id.parse::<u32>().ok()) {
        Some(id) => id != std::process::id() && !Path::new(&format!("/proc/{id}")).exists(),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::dir::{DirOptions, DirStore};

    #[tokio::test]
    async fn a_file_without_content_goes_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(DirOptions::new(folder.path().join("store"))).unwrap();
        let uploads = folder.path().join("uploads");
        fs::create_dir(&uploads).unwrap();
        let (own, dead) =
            (uploads.join(format!("a.{}.json", std::process::id())), uploads.join("b.999999999.json"));
        for path in [&own, &dead] {
            File::create(path).unwrap();
        }
        assert!(sweep(Some(folder.path()), &store).await.is_empty());
        assert!(own.exists() && !dead.exists());
        // One that is locked belongs to a process that lives.
        let marker = remember(folder.path(), "c", &store.place(), "k", "id").unwrap();
        sweep(Some(folder.path()), &store).await;
        assert!(marker.path.exists());
        marker.forget();
    }
}
