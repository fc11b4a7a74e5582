//! Files about a place in the state directory: the backups that this machine knows there, and caches of objects.
//!
//! **Known backups.** An empty directory may be the mount point of a disk that is not mounted. Then nothing may be written
//! to it, and its emptiness proves nothing.
//!
//! **Cache.** Objects that did not change are not read again. The file is a zstd frame with a checksum: a line of JSON with
//! the [`CacheHeader`], then a line for each object with its key, size and tag from the listing. An entry counts only if
//! all three are still the same, so a replaced object is read again. The file is replaced as a whole. A file that is
//! lost, damaged, too large, or of another version or place is built again, which costs only time.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Summary;
use super::compare::NamePool;
use super::marks::{FailedRun, Pin};
use super::verdict::Verdict;
use crate::base::beneath::Folder;
use crate::base::clock;
use crate::base::error::{Error, Kind};
use crate::base::files;
use crate::base::minisign::PublicKey;
use crate::base::units::count;
use crate::model::id::BackupId;
use crate::model::slice::SliceManifest;
use crate::store::StoredObject;

/// The version of the format of these files.
const FORMAT: u32 = 1;
/// The folder of these files in the state directory.
const FOLDER: &str = "places";
/// The ending of the cache of backups. The manifests of oplog slices have a cache for each job.
pub(super) const CACHE: &str = "cache";

/// The largest file of known backups that is read, in bytes: 1,000,000 ids.
const LARGEST_KNOWN: u64 = 32 << 20;
/// The number of deletions, and of removed pins, that are remembered. The oldest are dropped.
const REMEMBERED: usize = 20_000;

/// The largest cache that is read or written, in bytes.
const LARGEST_CACHE: u64 = 64 << 20;
/// The longest line of a cache, in bytes: about 200,000 namespaces.
const LONGEST_LINE: u64 = 16 << 20;
/// The largest size of a cache when it is decompressed, in bytes.
const EXPANDED: u64 = 1 << 30;

/// A file about a place in the state directory.
#[derive(Debug, Clone)]
pub(super) struct PlaceFile {
    state_dir: PathBuf,
    name: PathBuf,
}

impl PlaceFile {
    pub(super) fn new(state_dir: &Path, place: &str, ending: &str) -> PlaceFile {
        let name = blake3::hash(place.as_bytes()).to_hex();
        let name = PathBuf::from(FOLDER).join(format!("{}.{ending}", &name[..16]));
        PlaceFile { state_dir: state_dir.into(), name }
    }

    /// Opens the file if it is a regular file without a link on its path.
    fn open(&self) -> io::Result<File> {
        Folder::open(&self.state_dir)?.read(&self.name)
    }

    /// Reads the file, and at most `most` bytes of it.
    pub(super) fn read_all(&self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let state_dir = Folder::create(&self.state_dir, 0o700)?;
        state_dir.make_folder(Path::new(FOLDER), 0o700)?;
        let (folder, name) = state_dir.folder_of(&self.name)?;
        files::replace_in(&folder, &name, bytes, 0o600)
    }

    /// Logs a failed write. It costs the next run a check or time, but never fails a run.
    pub(super) fn log_failure(&self, written: io::Result<()>) {
        if let Err(e) = written {
            log::debug!("{} cannot be written: {e}", self.state_dir.join(&self.name).display());
        }
    }
}

/// The backups that this machine knows in a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBackups {
    format: u32,
    place: String,
    /// The backups that existed at the last listing.
    pub backups: BTreeSet<BackupId>,
    /// The backups that cleanups of this machine deleted, or were about to delete.
    pub deleted: BTreeSet<BackupId>,
    /// The backups that this machine unpinned. `copy` does not bring their pins back.
    #[serde(default)]
    pub unpinned: BTreeSet<BackupId>,
}

impl KnownBackups {
    /// Reads the file of a place. Returns `None` if it does not exist or cannot be used.
    pub fn load(state_dir: Option<&Path>, place: &str) -> Option<KnownBackups> {
        let bytes = PlaceFile::new(state_dir?, place, "known.json").read_all(LARGEST_KNOWN).ok()?;
        let known: KnownBackups = serde_json::from_slice(&bytes).ok()?;
        (known.format == FORMAT && known.place == place).then_some(known)
    }

    /// Changes the file of a place. A failure is only logged.
    pub fn update(state_dir: Option<&Path>, place: &str, change: impl FnOnce(&mut KnownBackups)) {
        let Some(dir) = state_dir else { return };
        let before = KnownBackups::load(state_dir, place);
        let mut known = before.clone().unwrap_or_default();
        change(&mut known);
        if before.is_some_and(|before| before == known) {
            return;
        }
        (known.format, known.place) = (FORMAT, place.into());
        for remembered in [&mut known.deleted, &mut known.unpinned] {
            while remembered.len() > REMEMBERED {
                remembered.pop_first();
            }
        }
        let file = PlaceFile::new(dir, place, "known.json");
        let json = serde_json::to_vec(&known).map_err(io::Error::from);
        file.log_failure(json.and_then(|json| file.replace(&json)));
    }
}

/// The next step if known backups are missing.
const REMOUNT: &str = "Mount the disk, or correct the place; if the backups are gone for good, or this is a new \
     place for them, run `uzima-backup backup --new-place` once, or, if it is one of several places, \
     `uzima-backup copy --missing --to NAME --new-place`";

/// Known backups that are missing in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingBackups {
    backups: usize,
    /// The newest known backup is missing. A cleanup deletes it only after all older ones.
    pub newest: bool,
    place: String,
}

impl MissingBackups {
    /// Compares the known backups with those that exist. Returns `None` if most of them exist, or if a newer backup than
    /// all of them exists: then the place is in use, and a cleanup of another machine deleted the others. Backups dated in
    /// the future prove nothing.
    pub(super) fn find(
        place: &str,
        known: &BTreeSet<BackupId>,
        here: &BTreeSet<BackupId>,
        now: DateTime<Utc>,
    ) -> Option<MissingBackups> {
        let past = |id: &&BackupId| !clock::is_future(id.started(), now);
        let newest = known.iter().rev().find(past)?;
        if here.iter().rev().find(past).is_some_and(|newest_here| newest_here > newest) {
            return None;
        }
        let backups = known.difference(here).count();
        let newest = !here.contains(newest);
        (backups * 2 > known.len()).then(|| MissingBackups { backups, newest, place: place.into() })
    }

    fn words(&self) -> String {
        let (backups, place) = (count(self.backups as u64), &self.place);
        let words = if self.backups == 1 { "known backup is" } else { "known backups are" };
        format!("{backups} {words} not in {place}: is the disk mounted?")
    }

    /// Returns the problem with the next step.
    pub fn message(&self) -> String {
        format!("{}; {REMOUNT}", self.words())
    }

    /// The error of a run that must not write to the place.
    pub fn error(&self) -> Error {
        Error::new(Kind::Unmounted, self.words()).hint(REMOUNT)
    }
}

/// The first line of a cache.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CacheHeader {
    format: u32,
    /// The version of the program. Another version may decode objects that this one cannot.
    tool: String,
    place: String,
}

impl CacheHeader {
    fn of(place: &str) -> CacheHeader {
        CacheHeader { format: FORMAT, tool: env!("CARGO_PKG_VERSION").into(), place: place.into() }
    }
}

/// The lines of a cache after the first.
struct CacheLines(BufReader<io::Take<zstd::Decoder<'static, BufReader<io::Take<File>>>>>);

impl CacheLines {
    /// Opens the cache of a place. At most `expanded` bytes are decompressed.
    fn open(file: &PlaceFile, place: &str, expanded: u64) -> io::Result<CacheLines> {
        let file = file.open()?;
        if file.metadata()?.len() > LARGEST_CACHE {
            return Err(unusable("it is too large"));
        }
        let decoder = zstd::Decoder::new(file.take(LARGEST_CACHE))?;
        let (mut lines, mut line) = (CacheLines(BufReader::new(decoder.take(expanded))), Vec::new());
        if !lines.next(&mut line)? || serde_json::from_slice::<CacheHeader>(&line)? != CacheHeader::of(place)
        {
            return Err(unusable("another version wrote it, or it belongs to another place"));
        }
        Ok(lines)
    }

    /// Reads the next line. Returns false at the end.
    fn next(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let read = self.0.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
        if read > 0 && line.last() != Some(&b'\n') {
            return Err(unusable("a line has no end"));
        }
        Ok(read > 0)
    }
}

fn unusable(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

/// The most bytes of a decompressed cache that are searched for completions.
const SEARCHED: u64 = 64 << 20;

/// A part `T` of a manifest in a line of a cache; `None` if the line has another object.
fn cached_manifest<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    #[derive(Deserialize)]
    struct Line<T> {
        what: Content<T>,
    }
    #[derive(Deserialize)]
    struct Content<T> {
        #[serde(rename = "Backup")]
        backup: Option<T>,
    }
    serde_json::from_slice::<Line<T>>(line).ok()?.what.backup
}

#[derive(Deserialize)]
struct OfJob {
    id: BackupId,
    job: String,
}

/// The job of each backup whose manifest is in the cache of a place. If the cache cannot be used, or is too large to be read at
/// once, the backups that were read until then.
pub fn cached_jobs(state_dir: &Path, place: &str) -> BTreeMap<BackupId, String> {
    let (mut jobs, mut line) = (BTreeMap::new(), Vec::new());
    let file = PlaceFile::new(state_dir, place, CACHE);
    let Ok(mut lines) = CacheLines::open(&file, place, SEARCHED) else { return jobs };
    while lines.next(&mut line).is_ok_and(|more| more) {
        jobs.extend(cached_manifest(&line).map(|OfJob { id, job }| (id, job)));
    }
    jobs
}

/// The namespaces of the newest backup whose manifest is in the cache of a place, and whose id and job are `wanted`. Empty if
/// there is none, or if it is encrypted.
pub fn cached_namespaces(
    state_dir: &Path,
    place: &str,
    wanted: impl Fn(&BackupId, &str) -> bool,
) -> Vec<String> {
    #[derive(Deserialize)]
    struct Named {
        namespaces: Vec<(String, u64, u64)>,
    }
    let (mut newest, mut line): (Option<(BackupId, Vec<String>)>, _) = (None, Vec::new());
    let file = PlaceFile::new(state_dir, place, CACHE);
    let Ok(mut lines) = CacheLines::open(&file, place, SEARCHED) else { return Vec::new() };
    while lines.next(&mut line).is_ok_and(|more| more) {
        let Some(OfJob { id, job }) = cached_manifest(&line) else { continue };
        if newest.as_ref().is_none_or(|(newest, _)| id > *newest)
            && wanted(&id, &job)
            && let Some(Named { namespaces }) = cached_manifest(&line)
        {
            newest = Some((id, namespaces.into_iter().map(|(name, ..)| name).collect()));
        }
    }
    newest.map(|(_, namespaces)| namespaces).unwrap_or_default()
}

/// The decoded content of an object. An object that cannot be decoded is not cached.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum CachedContent {
    #[serde(with = "arc")]
    Backup(Arc<Summary>),
    Verdict(Verdict),
    Failure(FailedRun),
    Pin(Pin),
    Slice(Box<SliceManifest>),
    Signature(ValidSignature),
}

/// A signature that was checked: it is that of the listed object with this size and tag, by this public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ValidSignature {
    pub size: u64,
    pub tag: String,
    pub key: String,
}

impl ValidSignature {
    /// A signature of a listed object that `key` made; `None` if the listing does not show when the object changes.
    pub fn new(object: &StoredObject, key: &PublicKey) -> Option<ValidSignature> {
        Some(ValidSignature { size: object.size, tag: object.tag.clone()?, key: key.to_string() })
    }

    /// Returns true if the listed object did not change since its signature was checked.
    pub fn is_of(&self, object: &StoredObject) -> bool {
        object.archive.is_none() && is_same(object, self.size, &self.tag)
    }
}

/// Does what serde does with its feature `rc`.
mod arc {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// A line of a cache after the first.
#[derive(Debug, Serialize, Deserialize)]
struct CachedObject {
    key: String,
    size: u64,
    tag: String,
    what: CachedContent,
}

/// The beginning of the same line, which shows whether the rest has to be decoded.
#[derive(Deserialize)]
struct CachedKey<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    size: u64,
    #[serde(borrow)]
    tag: Cow<'a, str>,
}

/// The objects of a place that were read before.
#[derive(Debug, Default)]
pub(super) struct Cache {
    /// `None` if there is no state directory: then nothing is cached.
    file: Option<PlaceFile>,
    place: String,
    entries: HashMap<String, CachedObject>,
    names: NamePool,
    changed: bool,
}

impl Cache {
    /// Reads the entries of the objects that `listed` finds from the file with this ending. A cache that cannot be used is
    /// empty.
    pub fn load<'a>(
        state_dir: Option<&Path>,
        place: &str,
        ending: &str,
        listed: impl Fn(&str) -> Option<&'a StoredObject>,
    ) -> Cache {
        let file = state_dir.map(|dir| PlaceFile::new(dir, place, ending));
        let mut cache = Cache { file, place: place.into(), ..Cache::default() };
        if let Err(e) = cache.fill(listed) {
            if e.kind() != io::ErrorKind::NotFound {
                log::debug!("the cache of {place} cannot be used and is built again: {e}");
            }
            cache.entries.clear();
            cache.changed = true;
        }
        cache
    }

    fn fill<'a>(&mut self, listed: impl Fn(&str) -> Option<&'a StoredObject>) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut lines = CacheLines::open(file, &self.place, EXPANDED)?;
        let mut line = Vec::new();
        while lines.next(&mut line)? {
            let cached: CachedKey<'_> = serde_json::from_slice(&line)?;
            if !listed(&cached.key).is_some_and(|object| is_same(object, cached.size, &cached.tag)) {
                self.changed = true;
                continue;
            }
            let mut entry: CachedObject = serde_json::from_slice(&line)?;
            if let CachedContent::Backup(summary) = entry.what {
                entry.what = CachedContent::Backup(Arc::new(self.share(Arc::unwrap_or_clone(summary))));
            }
            self.entries.insert(entry.key.clone(), entry);
        }
        Ok(())
    }

    /// Returns the summary with namespace names that all summaries share.
    pub fn share(&mut self, summary: Summary) -> Summary {
        summary.map_namespaces(|namespaces| self.names.share(namespaces))
    }

    /// Returns the cached content of a listed object if its size and tag are still the same. An archived object has none,
    /// so that a read of it shows that it cannot be read now.
    pub fn get(&self, object: &StoredObject) -> Option<CachedContent> {
        let entry = self.entries.get(&object.key).filter(|_| object.archive.is_none())?;
        is_same(object, entry.size, &entry.tag).then(|| entry.what.clone())
    }

    /// Adds the content of an object.
    pub fn put(&mut self, object: &StoredObject, what: CachedContent) {
        if let Some(tag) = object.tag.clone().filter(|_| self.file.is_some()) {
            let (key, size) = (object.key.clone(), object.size);
            self.entries.insert(key.clone(), CachedObject { key, size, tag, what });
            self.changed = true;
        }
    }

    /// Writes the file if there is anything new. A failure is only logged.
    pub fn save(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.changed) {
            file.log_failure(self.encode().and_then(|bytes| file.replace(&bytes)));
            self.changed = false;
        }
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let mut out = zstd::Encoder::new(Vec::new(), 1)?;
        out.include_checksum(true)?;
        let mut line = serde_json::to_vec(&CacheHeader::of(&self.place))?;
        line.push(b'\n');
        out.write_all(&line)?;
        for entry in self.entries.values() {
            line.clear();
            serde_json::to_writer(&mut line, entry)?;
            line.push(b'\n');
            if line.len() as u64 <= LONGEST_LINE {
                out.write_all(&line)?;
            }
        }
        let bytes = out.finish()?;
        match bytes.len() as u64 > LARGEST_CACHE {
            true => Err(io::Error::other("it would be too large")),
            false => Ok(bytes),
        }
    }
}

fn is_same(object: &StoredObject, size: u64, tag: &str) -> bool {
    object.size == size && object.tag.as_deref() == Some(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(days: &[u8]) -> BTreeSet<BackupId> {
        days.iter().map(|day| format!("202611{day:02}T030000Z-7k3q9d").parse().unwrap()).collect()
    }

    #[test]
    fn a_place_without_most_of_the_known_backups_lacks_them() {
        let now = "2026-11-24T04:00:00Z".parse().unwrap();
        let missing = |known: &[u8], here: &[u8]| {
            let missing = MissingBackups::find("/b", &ids(known), &ids(here), now);
            missing.map(|missing| (missing.backups, missing.newest))
        };
        assert_eq!(missing(&[], &[]), None);
        assert_eq!(missing(&[], &[5]), None);
        assert_eq!(missing(&[1, 2, 3], &[1, 2, 3]), None);
        assert_eq!(missing(&[1, 2, 3], &[]), Some((3, true)));
        assert_eq!(missing(&[1], &[]), Some((1, true)));
        // Backups that were written before the disk was mounted.
        assert_eq!(missing(&[3, 4, 5], &[1, 2]), Some((3, true)));
        assert_eq!(missing(&[1, 2, 3], &[1]), Some((2, true)));
        assert_eq!(missing(&[1, 2, 3], &[3]), Some((2, false)));
        assert_eq!(missing(&[1, 2], &[2]), None);
        // Newer backups exist, so cleanups of other machines deleted the missing ones.
        assert_eq!(missing(&[1, 2, 3], &[4, 5]), None);
        // A planted backup of the future proves nothing.
        assert_eq!(missing(&[1, 2, 3], &[27]), Some((3, true)));
    }
}
