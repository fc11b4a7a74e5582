//! The backups of a place that this machine knows of, in the state directory: an empty directory may be the mount point
//! of a disk that is not mounted, and then nothing must be written to it or concluded from it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::base::beneath::Folder;
use crate::base::clock;
use crate::base::error::{Error, Kind};
use crate::base::files;
use crate::base::units::count;
use crate::model::id::BackupId;

/// The version of the file's format.
const FORMAT: u32 = 1;
/// The largest file that is read, in bytes: 1,000,000 ids.
const LARGEST: u64 = 32 << 20;
/// So many deletions are remembered, the newest.
const DELETIONS: usize = 20_000;

/// The folder in the state directory.
const FOLDER: &str = "places";

/// A file about a place in the state directory.
#[derive(Debug, Clone)]
pub(super) struct PlaceFile {
    state_dir: PathBuf,
    name: PathBuf,
}

impl PlaceFile {
    pub fn new(state_dir: &Path, place: &str, ending: &str) -> PlaceFile {
        let name = blake3::hash(place.as_bytes()).to_hex();
        let name = PathBuf::from(FOLDER).join(format!("{}.{ending}", &name[..16]));
        PlaceFile { state_dir: state_dir.into(), name }
    }

    /// Opens it, if it is a regular file that no link leads to.
    pub fn open(&self) -> io::Result<File> {
        Folder::open(&self.state_dir)?.read(&self.name)
    }

    /// Puts these bytes in its place.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let state_dir = Folder::create(&self.state_dir, 0o700)?;
        state_dir.make_folder(Path::new(FOLDER), 0o700)?;
        let (folder, name) = state_dir.folder_of(&self.name)?;
        files::replace_in(&folder, &name, bytes, 0o600)
    }

    pub fn display(&self) -> String {
        self.state_dir.join(&self.name).display().to_string()
    }
}

/// What this machine knows of a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBackups {
    format: u32,
    /// The store, in words.
    place: String,
    /// The backups that were there when it was last looked at.
    pub backups: BTreeSet<BackupId>,
    /// The backups that clean-ups of this machine deleted, or were about to delete.
    pub deleted: BTreeSet<BackupId>,
}

impl KnownBackups {
    /// Reads the file of a place. `None` if there is none, or it cannot be used.
    pub fn load(state_dir: Option<&Path>, place: &str) -> Option<KnownBackups> {
        let file = PlaceFile::new(state_dir?, place, "known.json").open().ok()?;
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).ok()?;
        let known: KnownBackups = serde_json::from_slice(&bytes).ok()?;
        (known.format == FORMAT && known.place == place).then_some(known)
    }

    /// Writes it down. A failure costs a check, and is logged.
    pub fn save(&self, state_dir: Option<&Path>, place: &str) {
        let Some(state_dir) = state_dir else { return };
        let mut known = KnownBackups { format: FORMAT, place: place.into(), ..self.clone() };
        while known.deleted.len() > DELETIONS {
            known.deleted.pop_first();
        }
        let file = PlaceFile::new(state_dir, place, "known.json");
        let written =
            serde_json::to_vec(&known).map_err(io::Error::from).and_then(|json| file.replace(&json));
        if let Err(e) = written {
            log::debug!("{} cannot be written: {e}", file.display());
        }
    }

    /// Changes what is known of a place.
    pub fn update(state_dir: Option<&Path>, place: &str, change: impl FnOnce(&mut KnownBackups)) {
        let before = KnownBackups::load(state_dir, place);
        let mut known = before.clone().unwrap_or_default();
        change(&mut known);
        if before.is_none_or(|before| before != known) {
            known.save(state_dir, place);
        }
    }
}

/// Backups that are known of a place, and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingBackups {
    /// How many.
    pub backups: usize,
    /// The newest of those that are known is not there either: no clean-up takes it before the older ones.
    pub newest: bool,
    place: String,
}

impl MissingBackups {
    /// Compares what is known of a place with what is there. `None` if most of it is there, or if there is a newer
    /// backup than any that is known: then the place lives, and a clean-up of another machine took the others. What is
    /// dated in the future says nothing.
    pub fn of(
        place: &str,
        known: &BTreeSet<BackupId>,
        here: &BTreeSet<BackupId>,
        now: DateTime<Utc>,
    ) -> Option<MissingBackups> {
        let past = |id: &&BackupId| !clock::is_future(id.started(), now);
        let newest = known.iter().rev().find(past)?;
        if here.iter().rev().find(past).is_some_and(|there| there > newest) {
            return None;
        }
        let backups = known.difference(here).count();
        let newest = !here.contains(newest);
        (backups * 2 > known.len()).then(|| MissingBackups { backups, newest, place: place.into() })
    }

    /// The problem in words, for messages.
    pub fn words(&self) -> String {
        let (is, backups) = match self.backups {
            1 => ("is", "backup"),
            _ => ("are", "backups"),
        };
        format!(
            "{} known {backups} {is} not in {}: is the disk mounted?",
            count(self.backups as u64),
            self.place
        )
    }

    /// What to do about it.
    pub fn step(&self) -> String {
        "Mount the disk, or correct the place; if the backups are gone for good, or this is a new place for them, run \
         `uzima-backup backup --new-place` once"
            .into()
    }

    /// As the error of a run that must not write there.
    pub fn error(&self) -> Error {
        Error::new(Kind::Unmounted, self.words()).hint(self.step())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(days: &[u8]) -> BTreeSet<BackupId> {
        days.iter().map(|day| format!("202611{day:02}T030000Z-7k3q9d").parse().unwrap()).collect()
    }

    #[test]
    fn a_place_that_lost_most_of_its_backups_is_not_the_place() {
        let now = "2026-11-24T04:00:00Z".parse().unwrap();
        let absent = |known: &[u8], here: &[u8]| {
            let absent = MissingBackups::of("/b", &ids(known), &ids(here), now);
            absent.map(|absent| (absent.backups, absent.newest))
        };
        assert_eq!(absent(&[], &[]), None);
        assert_eq!(absent(&[], &[5]), None);
        assert_eq!(absent(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(absent(&[1, 2, 3], &[]), Some((3, true)));
        assert_eq!(absent(&[1], &[]), Some((1, true)));
        // Some that were there before the disk was mounted.
        assert_eq!(absent(&[3, 4, 5], &[1, 2]), Some((3, true)));
        assert_eq!(absent(&[1, 2, 3], &[1]), Some((2, true)));
        assert_eq!(absent(&[1, 2, 3], &[3]), Some((2, false)));
        assert_eq!(absent(&[1, 2], &[2]), None);
        // Others write there: what is missing, their clean-ups took.
        assert_eq!(absent(&[1, 2, 3], &[4, 5]), None);
        // A planted one of the future proves nothing.
        assert_eq!(absent(&[1, 2, 3], &[27]), Some((3, true)));
    }
}
