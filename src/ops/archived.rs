//! Backups whose objects are in an archive class of the bucket: they exist, and must be thawed before they can be read.

use crate::base::error::{Error, Result};
use crate::catalog::layout;
use crate::model::id::BackupId;
use crate::store::{Archive, Store};

/// Proves that the artifact of a backup, and whatever the listing shows as archived, can be read. Asked before anything
/// is begun with a backup: a thaw takes hours, so all objects have to be named at once.
///
/// # Errors
/// Returns an error that says how to thaw the backup. A missing object is no error here.
pub async fn refuse(store: &dyn Store, id: &BackupId) -> Result<()> {
    match found(store, id).await? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// The error for a backup that cannot be read now; `None` if it can be.
pub async fn found(store: &dyn Store, id: &BackupId) -> Result<Option<Error>> {
    let (mut frozen, mut thawing) = (Vec::new(), 0);
    for object in store.list(&layout::folder(id)).await? {
        let artifact = layout::parse(&object.key).is_some_and(|(_, file)| layout::is_artifact(file));
        if object.archive.is_none() && !artifact {
            continue;
        }
        match store.head(&object.key).await?.and_then(|object| object.archive) {
            Some(Archive::Frozen) => frozen.push(object.key),
            Some(Archive::Thawing) => thawing += 1,
            None => {}
        }
    }
    if frozen.is_empty() && thawing == 0 {
        return Ok(None);
    }
    let what = format!("the backup {id} is in an archive class of the bucket and cannot be read now");
    if frozen.is_empty() {
        return Ok(Some(Error::failed(format!("{what}: it is being thawed")).hint(
            "Run this command again when it can be read; `aws s3api head-object` then shows ongoing-request=\"false\" \
             (Standard takes 3 to 12 hours, Bulk up to 48)",
        )));
    }
    let commands: Vec<String> = frozen.iter().filter_map(|key| store.thaw(key)).collect();
    Ok(Some(Error::failed(what).hint(format!(
        "Thaw it, and run this command again when it can be read (Standard takes 3 to 12 hours): {}",
        commands.join("; ")
    ))))
}
