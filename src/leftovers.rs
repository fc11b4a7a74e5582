//! Remembering uploads under way, so that the next run can end those that a killed one left behind.
//!
//! A bucket cannot be asked for them everywhere (MinIO lists uploads only for an exact key), so each
//! is a small file in the state directory while it lasts, locked by the process that made it: a file
//! that can be locked belongs to a process that is gone.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
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
    let path = folder.join(format!("{name}.json"));
    let failed = |e: std::io::Error| {
        Error::failed(format!("cannot write {}", path.display()))
            .hint("Set state_dir (UZIMA_BACKUP_STATE_DIR) to a directory that this user may write")
            .caused_by(e)
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    let mut file = File::create(&path).map_err(failed)?;
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
    match store.leftovers().await {
        Ok(dead) => {
            for (key, id) in dead {
                end(store, &key, &id, &mut lines).await;
            }
        }
        Err(e) => lines.push(format!("cannot look for uploads that an earlier run left behind: {e}")),
    }
    let entries = state.and_then(|state| fs::read_dir(state.join("uploads")).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let Some((file, upload)) = dead(&entry.path()) else { continue };
        if upload.place == store.place() && end(store, &upload.key, &upload.upload_id, &mut lines).await {
            let _ = fs::remove_file(entry.path());
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

/// The upload of a file whose process is gone.
fn dead(path: &Path) -> Option<(File, Upload)> {
    let file = File::open(path).ok()?;
    file.try_lock().ok()?;
    let upload = serde_json::from_reader(&file).ok()?;
    Some((file, upload))
}
