//! A list of the uploads under way, so that the next run can abort uploads that a killed run left behind.
//!
//! Not every service can list uploads (MinIO lists uploads only for an exact key), so each upload has a small
//! file in the state directory, which its process [claims](crate::base::lock).

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::beneath::Folder;
use crate::base::error::{Error, Result};
use crate::base::lock::Claim;
use crate::base::room;
use crate::store::Store;

/// The folder of the files in the state directory.
const FOLDER: &str = "uploads";
/// The largest file in bytes: a place, a key of at most 1,024 bytes, and an upload id.
const LARGEST: u64 = 64 << 10;

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
struct UploadNote {
    /// [`Store::place`].
    place: String,
    key: String,
    upload_id: String,
}

/// The claimed file of an upload. If it is dropped, the file stays for the next run, which can then claim it.
#[derive(Debug)]
pub struct Marker {
    folder: Arc<Folder>,
    name: PathBuf,
    _claim: Claim,
}

impl Marker {
    /// Removes the file, because the upload is completed or aborted.
    pub fn forget(self) {
        // If the file stays, the next run finds that there is no such upload.
        let _ = self.folder.remove(&self.name);
    }
}

/// Writes the file of an upload that has begun. The calls are quick: the file is small, and it is not synced.
pub fn remember(state: &Path, name: &str, place: &str, key: &str, upload_id: &str) -> Result<Marker> {
    // The process id in the name shows whether the process that created an empty file still runs.
    let name = PathBuf::from(format!("{name}.{}.json", std::process::id()));
    let failed = |e: io::Error| {
        Error::failed(format!("cannot write {}", state.join(FOLDER).join(&name).display()))
            .hint("Set state_dir (UZIMA_BACKUP_STATE_DIR) to a directory that this user may write")
            .caused_by(room::explained(e, state))
    };
    let created = || -> io::Result<Marker> {
        let state = Folder::create(state, 0o700)?;
        state.make_folder(Path::new(FOLDER), 0o700)?;
        let folder = Arc::new(state.folder(Path::new(FOLDER))?);
        // A dead process with the same id may have left a file, or another user a link.
        let _ = folder.remove(&name);
        let claim = Claim::take(folder.create_file(&name, 0o600)?)?;
        let claim = claim.ok_or_else(|| io::Error::other("another process has locked it"))?;
        let upload = UploadNote { place: place.into(), key: key.into(), upload_id: upload_id.into() };
        claim.file().write_all(&serde_json::to_vec(&upload)?)?;
        Ok(Marker { folder, name: name.clone(), _claim: claim })
    };
    created().map_err(failed)
}

/// Aborts the uploads to `store` that dead processes left behind. Returns a line for each. An upload that
/// cannot be aborted now is left for the next run.
pub async fn sweep(state: Option<&Path>, store: &dyn Store) -> Vec<String> {
    let mut lines = Vec::new();
    let mut known = HashSet::new();
    match store.leftovers().await {
        Ok(dead) => {
            for (key, id) in dead {
                if abort(store, &key, &id, &mut lines).await {
                    known.insert(key);
                }
            }
        }
        Err(e) => lines.push(format!("cannot look for uploads that an earlier run left behind: {e}")),
    }
    let Some(state) = state.map(Path::to_path_buf) else { return lines };
    let dead = tokio::task::spawn_blocking(move || dead_markers(&state)).await;
    for (marker, upload) in dead.unwrap_or_default() {
        let over = match upload {
            // The process was killed before it wrote the file, so the upload is unknown.
            None => writer_is_gone(&marker.name),
            Some(upload) if upload.place != store.place() => false,
            Some(upload) if known.contains(&upload.key) => true,
            Some(upload) => abort(store, &upload.key, &upload.upload_id, &mut lines).await,
        };
        if over {
            marker.forget();
        }
    }
    lines
}

/// Aborts an upload and adds a line about it. Returns false if that fails.
async fn abort(store: &dyn Store, key: &str, id: &str, lines: &mut Vec<String>) -> bool {
    let aborted = store.abort_left(key, id).await;
    lines.push(match &aborted {
        Ok(()) => format!("removed the unfinished upload of {key}, which an earlier run left behind"),
        Err(e) => format!("an earlier run left an unfinished upload behind that cannot be removed: {e}"),
    });
    aborted.is_ok()
}

/// Claims the files of dead writers and reads their uploads. An upload is `None` if its file is empty.
fn dead_markers(state: &Path) -> Vec<(Marker, Option<UploadNote>)> {
    let open = || Folder::open(state)?.folder(Path::new(FOLDER));
    let Ok(folder) = open().map(Arc::new) else { return Vec::new() };
    let claimed = |name: OsString| {
        let name = PathBuf::from(name);
        let claim = Claim::of_dead(folder.read(&name).ok()?).ok()??;
        let json = folder.read_all(&name, LARGEST).ok();
        let upload = json.and_then(|json| serde_json::from_slice(&json).ok());
        Some((Marker { folder: Arc::clone(&folder), name, _claim: claim }, upload))
    };
    folder.names().unwrap_or_default().into_iter().filter_map(claimed).collect()
}

/// Returns true if the process whose id is in the file's name no longer runs.
fn writer_is_gone(path: &Path) -> bool {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id = name.rsplit('.').next().and_then(|id| id.parse::<u32>().ok());
    id.is_none_or(|id| id != std::process::id() && !Path::new(&format!("/proc/{id}")).exists())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::config::store::DirOptions;
    use crate::store::dir::DirStore;

    #[tokio::test]
    async fn an_empty_file_is_removed_when_its_process_is_gone() {
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
        // A locked file belongs to a live process.
        let marker = remember(folder.path(), "c", &store.place(), "k", "id").unwrap();
        sweep(Some(folder.path()), &store).await;
        assert!(uploads.join(&marker.name).exists());
        marker.forget();
    }

    /// If the folder or a file is replaced by a link, the link is not followed.
    #[tokio::test]
    async fn planted_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(DirOptions::new(folder.path().join("store"))).unwrap();
        let (state, outside) = (folder.path().join("state"), folder.path().join("outside"));
        fs::create_dir_all(state.join(FOLDER)).unwrap();
        fs::create_dir(&outside).unwrap();
        let name = format!("a.{}.json", std::process::id());
        fs::write(outside.join("file"), "precious").unwrap();
        std::os::unix::fs::symlink(outside.join("file"), state.join(FOLDER).join(&name)).unwrap();
        remember(&state, "a", &store.place(), "k", "id").unwrap().forget();
        fs::remove_dir_all(state.join(FOLDER)).unwrap();
        std::os::unix::fs::symlink(&outside, state.join(FOLDER)).unwrap();
        assert!(remember(&state, "a", &store.place(), "k", "id").is_err());
        fs::write(outside.join("b.999999999.json"), "").unwrap();
        assert!(sweep(Some(&state), &store).await.is_empty());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious");
        assert!(outside.join("b.999999999.json").exists());
    }
}
