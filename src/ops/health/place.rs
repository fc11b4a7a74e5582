//! The checks of the store: a small upload, the free space, and the clock.

use std::path::Path;

use chrono::TimeDelta;

use super::environment::creatable;
use super::{Context, Finding, blocking, folder_of, probe};
use crate::base::error::{Error, Result};
use crate::base::units::several;
use crate::catalog::layout;
use crate::config::place::Place;
use crate::config::store::S3Options;
use crate::retention::CLOCK_TOLERANCE;
use crate::store::dir;
use crate::store::{Deleted, Protection, Store, StoreErrorKind};

/// The number of inodes that a backup, its marks and its verification take.
const INODES: u64 = 32;

/// Writes, reads back, compares and deletes a small object, then uploads one like a backup's artifact.
pub(super) async fn store(context: &Context) -> Result<Finding> {
    let Some(store) = context.store().await? else { return missing(context).await };
    store.check().await?;
    let key = layout::probe(&context.subject.settings.host);
    context.probing(Some(key.clone()));
    let mut compared = probe::compare(store, &key).await;
    if compared.is_ok() && matches!(context.subject.place, Place::Dir(_)) {
        compared = probe::upload(store, &key).await;
    }
    let deleted = store.delete(&key).await;
    context.probing(None);
    compared?;
    let place = match &context.subject.place {
        Place::Dir(_) => {
            let lacking = store.lacking().into_iter().map(|lack| format!(" (its file system has {lack})"));
            store.place() + &lacking.collect::<String>()
        }
        Place::S3(options) => {
            // If probes cannot be deleted or are only hidden, all runs use the same key.
            let own = matches!(deleted, Ok(Deleted::Gone));
            let key = if own { format!("{key}-{:016x}", rand::random::<u64>()) } else { key };
            context.probing(Some(key.clone()));
            let probed = probe::parts(store, &key, own, options).await;
            let cleared = store.delete(&key).await;
            context.probing(None);
            probed?;
            if own {
                cleared?;
            }
            format!("{} ({})", store.place(), protection(store, options).await?)
        }
    };
    match deleted {
        Ok(Deleted::Gone) => Finding::ok(format!("{place}, a probe was written, read and deleted")),
        Ok(Deleted::Hidden) => {
            Finding::ok(format!("{place}, a probe was written, read and deleted; its versions remain"))
        }
        // The next run writes the same key.
        Err(e) if e.kind == StoreErrorKind::Denied && matches!(context.subject.place, Place::S3(_)) => {
            Finding::ok(format!(
                "{place}, a probe was written and read; \
                 it could not be deleted (no DeleteObject), which is fine for a backup key"
            ))
        }
        Err(e) => Err(e.into()),
    }
}

/// Describes the protection of the backups against a stolen key.
///
/// # Errors
/// Returns an error if the settings ask for a protection that the bucket does not have.
async fn protection(store: &dyn Store, options: &S3Options) -> Result<String> {
    let Protection { versions, locks } = store.protection().await?.unwrap_or_default();
    if options.object_lock_days.is_some() && locks == Some(false) {
        return Err(Error::failed(format!(
            "{} has no Object Lock, which S3_OBJECT_LOCK_DAYS needs",
            store.place()
        ))
        .hint("Turn Object Lock on for the bucket, or unset S3_OBJECT_LOCK_DAYS"));
    }
    if options.versioned && versions == Some(false) {
        return Err(Error::failed(format!("{} keeps no versions, but S3_VERSIONED is set", store.place()))
            .hint("Turn versioning on for the bucket, or unset S3_VERSIONED"));
    }
    Ok(match (versions, locks) {
        (Some(true), Some(true)) => "it keeps versions, and objects can be locked",
        (Some(true), _) => "it keeps versions: objects that this key overwrites or deletes can be recovered",
        (Some(false), _) => "it keeps no versions: this key can overwrite backups",
        (None, _) => {
            "it is unknown if it keeps versions: the key may not ask, or the service does not answer"
        }
    }
    .into())
}

/// Checks that the first backup can create the missing directory.
async fn missing(context: &Context) -> Result<Finding> {
    let Place::Dir(dir) = &context.subject.place else { unreachable!("only a directory can be missing") };
    let root = dir.root.clone();
    blocking(move || {
        created_by_a_backup(&root)?;
        Finding::ok(format!("{} does not exist yet: the first backup creates it", root.display()))
    })
    .await
}

/// Checks that a backup can create this directory.
fn created_by_a_backup(root: &Path) -> Result<()> {
    let parent = folder_of(root);
    creatable(parent).map_err(|e| {
        let what = format!("{} does not exist and cannot be created in {}", root.display(), parent.display());
        Error::failed(what)
            .hint("Create the directory for the user that runs the backup, or correct BACKUP_DIR")
            .caused_by(e)
    })
}

/// Checks that there is space for another backup.
pub(super) async fn disk(context: &Context) -> Result<Finding> {
    let Place::Dir(dir) = &context.subject.place else {
        return Finding::not_configured("backups go to a bucket");
    };
    // The next nightly backup is as large as the last complete one.
    let newest = context.state().await?.and_then(|state| {
        let manifests = || state.trusted_manifests();
        manifests().rfind(|manifest| !manifest.partial).or(manifests().next_back())
    });
    let last = newest.map(|manifest| manifest.artifact.size);
    let (root, min_free) = (dir.root.clone(), dir.min_free);
    blocking(move || {
        let there = root.exists();
        if !there {
            // A directory that cannot be created is the clearer failure.
            created_by_a_backup(&root)?;
        }
        let path = if there { root.as_path() } else { folder_of(&root) };
        let doing = || match last {
            Some(_) => format!("{} has no room for a backup as large as the last one", root.display()),
            None => format!("{} already has less free space than must stay free", root.display()),
        };
        let room = dir::check_room(path, last.unwrap_or(0), min_free, doing)?;
        dir::check_size(last.unwrap_or(0), doing)?;
        let size = |n: u64| bytesize::ByteSize(n).display().iec().to_string();
        let last = match last {
            Some(n) => format!("there is room for another backup as large as the last one, {}", size(n)),
            None => "there is no backup yet to compare with".into(),
        };
        let (free, total) = (size(room.free), size(room.total));
        let found = format!("{free} of {total} free, {:.0} % must stay; {last}", min_free * 100.0);
        match room.inodes {
            // Without a free inode, writing the probe would have failed: a figure of 0 is wrong.
            Some(inodes @ 1..INODES) => Finding::warning(
                format!("{found}; only {} free", several(inodes, "inode")),
                "Delete files there (`df -i` shows how many inodes are used), or use a file system with more inodes",
            ),
            _ => Finding::ok(found),
        }
    })
    .await
}

/// Compares this machine's clock with the store's.
pub(super) async fn clock(context: &Context) -> Result<Finding> {
    let store = match &context.subject.place {
        Place::Dir(_) => return Finding::skipped("a directory has no clock of its own"),
        Place::S3(_) => context.store().await?.expect("a bucket is never missing"),
    };
    let theirs = store.clock().await?;
    let ahead = context.time() - theirs;
    let words = skew(ahead);
    if ahead.abs() > CLOCK_TOLERANCE {
        let (tolerated, zone) = (CLOCK_TOLERANCE.num_minutes(), theirs.format("%FT%TZ"));
        return Err(Error::failed(format!(
            "this machine's clock is {words} ({zone}); {tolerated} minutes are tolerated"
        ))
        .hint("Set this machine's clock (run `timedatectl` or a time daemon). Until then, cleanup deletes nothing"));
    }
    Finding::ok(format!("this machine's clock is {words}"))
}

/// Returns text such as `12 s ahead of the store's`.
fn skew(ahead: TimeDelta) -> String {
    match ahead.num_seconds() {
        // The store answers in whole seconds, and the answer took some time.
        -1..=1 => "the same as the store's".into(),
        seconds if seconds > 0 => format!("{seconds} s ahead of the store's"),
        seconds => format!("{} s behind the store's", -seconds),
    }
}
