//! The chains of oplog slices in a store, and whether they are continuous.
//!
//! [`JobSlices`] is one listing. The manifests of slices are read only when they are needed
//! ([`SliceReader`](super::slice_reader::SliceReader)): a run of `oplog` needs only the newest one, which [`find_tip`] finds with
//! two requests if this machine remembers it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::place_files::PlaceFile;
use super::trust::{Distrust, Trust};
use super::{Signed, layout};
use crate::base::error::Result;
use crate::model::optime::OpTime;
use crate::model::slice::{self, ChainId, SliceManifest};
use crate::store::{self, Store, StoreErrorKind, StoredObject};

/// A body that no manifest names may belong to a run under way until it is this old.
const YOUNG: TimeDelta = TimeDelta::days(1);
/// The largest file with the newest slice that is read, in bytes.
const LARGEST_TIP: u64 = 64 << 10;
/// The seconds from the last listing of all slices to the start of the newest slice that this machine remembers, after which a
/// run lists them again. Otherwise two machines that began different chains would continue both.
const LISTED_EVERY: u32 = 3600;

/// The objects of a slice, by file name.
pub type SliceFolder = BTreeMap<String, StoredObject>;

/// An oplog slice of a job, with the facts that retention decides on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetainedSlice {
    pub chain: ChainId,
    pub start: OpTime,
    /// The slice ends at this optime or earlier. `None` if that is unknown.
    pub end: Option<OpTime>,
}

/// The slices of a job, from one listing.
#[derive(Debug, Clone, Default)]
pub struct JobSlices {
    job: String,
    chains: BTreeMap<ChainId, BTreeMap<OpTime, SliceFolder>>,
    /// Messages about slices that are left out, because they are not trusted.
    untrusted: Vec<String>,
    /// Which slices count, if the others are left out.
    trust: Trust,
}

/// The object under the key of a slice's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SliceEntry {
    Slice(Box<SliceManifest>),
    /// A manifest that cannot be decoded, is too large, or is in an archive class.
    Unreadable {
        key: String,
        start: OpTime,
        why: String,
    },
}

impl JobSlices {
    /// Lists the slices of a job. Foreign objects are left out.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn list(store: &dyn Store, job: &str) -> Result<JobSlices> {
        Ok(JobSlices::of(job, store.list(&layout::slices_of(job)).await?))
    }

    /// The slices among listed objects.
    pub fn of(job: &str, objects: impl IntoIterator<Item = StoredObject>) -> JobSlices {
        let mut chains: BTreeMap<ChainId, BTreeMap<OpTime, SliceFolder>> = BTreeMap::new();
        for object in objects {
            if let Some((chain, start, file)) = layout::parse_slice(job, &object.key) {
                let file = file.to_string();
                chains.entry(chain).or_default().entry(start).or_default().insert(file, object);
            }
        }
        JobSlices { job: job.into(), chains, ..JobSlices::default() }
    }

    /// Leaves out slices with all their objects, as if they did not exist.
    pub(super) fn without(mut self, untrusted: &[(ChainId, OpTime, Distrust)], trust: &Trust) -> JobSlices {
        self.trust = trust.clone();
        for (chain, start, why) in untrusted {
            let Some(slices) = self.chains.get_mut(chain) else { continue };
            slices.remove(start);
            let key = layout::slice(&self.job, chain, *start);
            self.untrusted.push(format!("the oplog slice {key} is untrusted and ignored: {why}"));
        }
        self
    }

    /// Which slices count. A slice may be replaced after its signature was checked.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Messages about the slices that are left out, because they are not trusted.
    pub fn untrusted(&self) -> &[String] {
        &self.untrusted
    }

    pub fn job(&self) -> &str {
        &self.job
    }

    /// The chains that have a slice, oldest first.
    pub fn chains(&self) -> impl DoubleEndedIterator<Item = &ChainId> {
        self.chains.iter().filter(|(_, slices)| slices.values().any(exists)).map(|(chain, _)| chain)
    }

    /// The newest chain of a replica set.
    pub fn newest_of(&self, set_id: &str) -> Option<&ChainId> {
        self.chains().rev().find(|chain| chain.set_id == set_id)
    }

    /// The start of the newest slice of a chain.
    pub fn newest_slice(&self, chain: &ChainId) -> Option<OpTime> {
        self.starts(chain).next_back()
    }

    /// The starts of the slices of a chain, in order.
    pub fn starts(&self, chain: &ChainId) -> impl DoubleEndedIterator<Item = OpTime> {
        let slices = self.chains.get(chain).into_iter().flatten();
        slices.filter(|(_, folder)| exists(folder)).map(|(start, _)| *start)
    }

    /// The manifests that must be read to find the orphans: those of slices beside which there are other objects than one body
    /// and one object of events. Each is a chain and the start of a slice.
    fn crowded(&self) -> impl Iterator<Item = (&ChainId, OpTime)> {
        let all =
            self.chains.iter().flat_map(|(chain, slices)| slices.iter().map(move |slice| (chain, slice)));
        let is_crowded = |folder: &SliceFolder| {
            let count = |beginning: &str| folder.keys().filter(|file| file.starts_with(beginning)).count();
            exists(folder) && ["slice-", "events-", "signature-"].into_iter().any(|kind| count(kind) > 1)
        };
        all.filter(move |(_, (_, folder))| is_crowded(folder)).map(|(chain, (start, _))| (chain, *start))
    }

    /// Bodies and events that no manifest names, because their run was killed or lost against another one. Young ones may
    /// belong to a run under way. `clock` is the store's.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn find_orphans(&self, store: &dyn Store, clock: DateTime<Utc>) -> Result<Vec<StoredObject>> {
        let mut named = BTreeSet::new();
        for (chain, start) in self.crowded() {
            match read_trusted(store, &self.job, chain, start, &self.trust).await? {
                Some(SliceEntry::Slice(slice)) => {
                    named.extend(slice.body.map(|body| body.key));
                    named.extend(slice.events.map(|events| events.key));
                    named.extend(slice.signature);
                }
                // Nothing says which of the objects belong to the slice.
                _ => named.extend(self.keys(chain, start)),
            }
        }
        let crowded: BTreeSet<(&ChainId, OpTime)> = self.crowded().collect();
        let all = self
            .chains
            .iter()
            .flat_map(|(chain, slices)| slices.iter().map(move |(start, folder)| (chain, *start, folder)));
        let orphans =
            all.filter(|(chain, start, folder)| !exists(folder) || crowded.contains(&(*chain, *start)));
        let objects = orphans.flat_map(|(_, _, folder)| folder.iter());
        let orphan = |(file, object): &(&String, &StoredObject)| {
            *file != layout::SLICE && !named.contains(&object.key) && clock - object.modified > YOUNG
        };
        Ok(objects.filter(orphan).map(|(_, object)| object.clone()).collect())
    }

    /// The keys of all objects of a slice, with its manifest first.
    pub fn keys(&self, chain: &ChainId, start: OpTime) -> Vec<String> {
        let folder = self.folder(chain, start).into_iter().flatten();
        let mut keys: Vec<(bool, String)> =
            folder.map(|(file, object)| (file != layout::SLICE, object.key.clone())).collect();
        keys.sort();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// The size of all objects of a slice in bytes.
    pub fn stored_bytes(&self, chain: &ChainId, start: OpTime) -> u64 {
        let folder = self.folder(chain, start).into_iter().flatten();
        folder.map(|(_, object)| object.size).fold(0, u64::saturating_add)
    }

    /// The listed objects of a slice.
    pub fn folder(&self, chain: &ChainId, start: OpTime) -> Option<&SliceFolder> {
        self.chains.get(chain)?.get(&start)
    }
}

fn exists(folder: &SliceFolder) -> bool {
    folder.contains_key(layout::SLICE)
}

/// Reads the manifest of a slice, or the reason why it is not trusted. Returns `None` if it does not exist.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn read_slice(
    store: &dyn Store,
    job: &str,
    chain: &ChainId,
    start: OpTime,
    trust: &Trust,
) -> Result<Option<Result<SliceEntry, Distrust>>> {
    let found = read_signed_slice(store, job, chain, start, trust).await?;
    Ok(found.map(|(entry, signed)| signed.map(|_| entry)))
}

/// Reads the manifest of a slice and its signature. Returns the key that signed it, too.
///
/// # Errors
/// Returns an error if the store does not answer.
pub(super) async fn read_signed_slice(
    store: &dyn Store,
    job: &str,
    chain: &ChainId,
    start: OpTime,
    trust: &Trust,
) -> Result<Option<(SliceEntry, Signed)>> {
    let key = layout::slice(job, chain, start);
    let unreadable = |key, why| Ok(Some((SliceEntry::Unreadable { key, start, why }, trust.unread())));
    match store.get(&key, slice::LARGEST).await {
        Ok(bytes) => match decode(job, chain, start, &bytes) {
            Ok(slice) => {
                let signed = match &slice.signature {
                    Some(signature) => trust.check(store, signature, &bytes).await?,
                    None => trust.unsigned(),
                };
                let signed = trust.slice_counts(&slice, signed);
                Ok(Some((SliceEntry::Slice(Box::new(slice)), signed)))
            }
            Err(why) => unreadable(key, why),
        },
        Err(e) => match e.kind {
            StoreErrorKind::NotFound => Ok(None),
            StoreErrorKind::Damaged => unreadable(key, e.cause),
            StoreErrorKind::Archived => unreadable(key, e.reason()),
            _ => Err(e.into()),
        },
    }
}

/// Reads the manifest of a slice. Returns `None` if it does not exist or is not trusted.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn read_trusted(
    store: &dyn Store,
    job: &str,
    chain: &ChainId,
    start: OpTime,
    trust: &Trust,
) -> Result<Option<SliceEntry>> {
    Ok(read_slice(store, job, chain, start, trust).await?.and_then(Result::ok))
}

/// Decodes a manifest. It must belong to its key, and may name only objects in its own folder, because these are read, and
/// deleted with the slice.
fn decode(job: &str, chain: &ChainId, start: OpTime, bytes: &[u8]) -> Result<SliceManifest, String> {
    let slice = SliceManifest::decode(bytes)?;
    if (slice.job.as_str(), &slice.chain, slice.start) != (job, chain, start) {
        return Err(format!("it is the manifest of the slice {} of {}", slice.start, slice.job));
    }
    let own = |key: &str, beginning: &str| {
        let parsed = layout::parse_slice(job, key);
        let fits = |(of, at, file): (ChainId, OpTime, &str)| {
            of == *chain && at == start && file.starts_with(beginning)
        };
        store::is_key(key) && parsed.is_some_and(fits)
    };
    let body = slice.body.iter().map(|body| (&body.key, "slice-"));
    let others = slice.events.iter().map(|events| (&events.key, "events-"));
    let signature = slice.signature.iter().map(|key| (key, "signature-"));
    let mut objects = body.chain(others).chain(signature);
    match objects.find(|(key, beginning)| !own(key, beginning)) {
        Some((key, _)) => Err(format!("it names {key:?}, which is not in its folder")),
        None => Ok(slice),
    }
}

/// The newest slice of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainTip {
    pub chain: ChainId,
    pub slice: SliceEntry,
    /// Where the newest slice ended when all slices were last listed, in Unix seconds. Zero if that is unknown.
    pub listed: u32,
}

/// Finds the newest slice of a replica set. If this machine remembers a slice, two requests are enough: one reads it, and
/// one shows that no slice follows it. Otherwise, and once an hour, `list` lists all trusted slices of the job: another machine
/// may have begun a newer chain.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn find_tip(
    store: &dyn Store,
    job: &str,
    set_id: &str,
    remembered: Option<&RememberedTip>,
    trust: &Trust,
    list: impl AsyncFnOnce() -> Result<JobSlices>,
) -> Result<Option<ChainTip>> {
    let usable = |tip: &&RememberedTip| {
        tip.chain.set_id == set_id && tip.start.t.saturating_sub(tip.listed) < LISTED_EVERY
    };
    if let Some(RememberedTip { chain, start, listed }) = remembered.filter(usable)
        && let Some(slice @ SliceEntry::Slice(_)) = read_trusted(store, job, chain, *start, trust).await?
    {
        let slice = follow(store, job, chain, slice, trust).await?;
        return Ok(Some(ChainTip { chain: chain.clone(), slice, listed: *listed }));
    }
    tip_of(store, &list().await?, set_id).await
}

/// Finds the newest slice of a replica set in a listing.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn tip_of(store: &dyn Store, slices: &JobSlices, set_id: &str) -> Result<Option<ChainTip>> {
    let Some(chain) = slices.newest_of(set_id) else { return Ok(None) };
    let Some(start) = slices.newest_slice(chain) else { return Ok(None) };
    let slice = read_trusted(store, &slices.job, chain, start, &slices.trust).await?;
    Ok(slice.map(|slice| {
        let listed = match &slice {
            SliceEntry::Slice(slice) => slice.end.at.t,
            SliceEntry::Unreadable { .. } => 0,
        };
        ChainTip { chain: chain.clone(), slice, listed }
    }))
}

/// Follows a chain from one of its slices to the newest one, which other machines may have stored.
async fn follow(
    store: &dyn Store,
    job: &str,
    chain: &ChainId,
    mut slice: SliceEntry,
    trust: &Trust,
) -> Result<SliceEntry> {
    while let SliceEntry::Slice(manifest) = &slice {
        let next = layout::slice_folder(job, chain, manifest.end.at);
        let listed = JobSlices::of(job, store.list(&next).await?);
        let Some(start) = listed.newest_slice(chain) else { break };
        let Some(found) = read_trusted(store, job, chain, start, trust).await? else { break };
        slice = found;
    }
    Ok(slice)
}

/// The newest slice that this machine knows, in its state directory. It saves requests; losing it costs a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedTip {
    pub chain: ChainId,
    pub start: OpTime,
    /// As in [`ChainTip`].
    #[serde(default)]
    pub listed: u32,
}

impl RememberedTip {
    /// Reads the file of a place and job. Returns `None` if it does not exist or cannot be used.
    pub fn load(state_dir: Option<&Path>, place: &str, job: &str) -> Option<RememberedTip> {
        let bytes = tip_file(state_dir?, place, job).read_all(LARGEST_TIP).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Replaces the file. A failure is only logged.
    pub fn save(&self, state_dir: Option<&Path>, place: &str, job: &str) {
        let Some(state_dir) = state_dir else { return };
        let file = tip_file(state_dir, place, job);
        let json = serde_json::to_vec(self).map_err(std::io::Error::from);
        file.log_failure(json.and_then(|json| file.replace(&json)));
    }
}

fn tip_file(state_dir: &Path, place: &str, job: &str) -> PlaceFile {
    let job = blake3::hash(job.as_bytes()).to_hex();
    PlaceFile::new(state_dir, place, &format!("oplog-{}.json", &job[..16]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::slice::tests::{mark, slice};

    fn at(t: u32) -> OpTime {
        OpTime { t, i: 1 }
    }

    #[test]
    fn a_manifest_of_another_slice_or_with_foreign_keys_is_refused() {
        let good = slice(110, 120);
        let check = |slice: &SliceManifest| {
            decode("nightly", &good.chain, at(110), &slice.encode().unwrap()).map(drop)
        };
        assert_eq!(check(&good), Ok(()));
        let mut other = slice(110, 120);
        other.job = "weekly".into();
        assert!(check(&other).unwrap_err().contains("of weekly"));
        assert!(check(&slice(120, 130)).unwrap_err().contains("manifest of the slice"));
        let folder = layout::slice_folder("nightly", &good.chain, at(110));
        for (key, right) in [
            (format!("{folder}slice-a.bson.zst"), true),
            (format!("{folder}events-a.json.zst"), false),
            ("2026/11/20261123T030000Z-7k3q9d/manifest.json".into(), false),
            (format!("{folder}../slice-a.bson.zst"), false),
        ] {
            let mut named = slice(110, 120);
            named.entries = 1;
            let hash = mark(1).blake3;
            let body = slice::SliceBody {
                key: key.clone(),
                size: 1,
                crc64nvme: "0".into(),
                blake3: hash.clone().unwrap(),
                raw_blake3: hash,
            };
            named.body = Some(body);
            assert_eq!(check(&named).is_ok(), right, "{key}");
        }
    }

    #[test]
    fn a_listing_shows_chains_slices_and_old_orphans() {
        let good = slice(110, 120);
        let clock: DateTime<Utc> = "2026-11-23T03:00:00Z".parse().unwrap();
        let object = |key: String, hours| StoredObject {
            key,
            size: 1,
            modified: clock - TimeDelta::hours(hours),
            tag: None,
            archive: None,
        };
        let (body, events) = layout::slice_objects("nightly", &good.chain, at(110), "a", false);
        let (orphan, _) = layout::slice_objects("nightly", &good.chain, at(110), "b", true);
        let (young, _) = layout::slice_objects("nightly", &good.chain, at(120), "c", true);
        let manifest = layout::slice("nightly", &good.chain, at(110));
        let listed = [
            object(body.clone(), 48),
            object(events.clone(), 48),
            object(orphan.clone(), 48),
            object(young, 1),
            object(manifest, 48),
            object(format!("{}notes.txt", layout::slices_of("nightly")), 48),
        ];
        let slices = JobSlices::of("nightly", listed);
        assert_eq!(slices.chains().collect::<Vec<_>>(), [&good.chain]);
        assert_eq!(slices.newest_of(&good.chain.set_id), Some(&good.chain));
        assert_eq!(slices.newest_of("0000000000000000000000ff"), None);
        assert_eq!(slices.newest_slice(&good.chain), Some(at(110)), "120 has no manifest");
        assert_eq!(slices.keys(&good.chain, at(110))[0], layout::slice("nightly", &good.chain, at(110)));
        assert_eq!(slices.stored_bytes(&good.chain, at(110)), 4);
        assert_eq!(slices.crowded().collect::<Vec<_>>(), [(&good.chain, at(110))]);
    }
}
