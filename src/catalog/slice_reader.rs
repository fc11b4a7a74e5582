//! Reads the manifests of a job's oplog slices. A slice never changes, so the commands that show the slices or decide about
//! them read each manifest once, also over several runs: its content is kept in the state directory until the object changes.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::chain::{self, JobSlices, RetainedSlice, SliceEntry};
use super::layout;
use super::place_files::{Cache, CachedContent, ValidSignature};
use super::trust::{Distrust, Trust};
use crate::base::error::Result;
use crate::model::optime::OpTime;
use crate::model::slice::{ChainId, OplogGap, SliceManifest};
use crate::store::{Store, StoredObject};

/// The number of manifests that are fetched at once.
const FETCHING: usize = 16;

/// Lists the slices of a job, without those that are not trusted.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn list_trusted(
    store: &dyn Store,
    job: &str,
    trust: &Trust,
    state_dir: Option<&Path>,
) -> Result<JobSlices> {
    trusted(store, JobSlices::list(store, job).await?, trust, state_dir).await
}

/// Leaves out the slices that are not trusted. Their number is logged.
///
/// # Errors
/// Returns an error if the store does not answer.
pub(super) async fn trusted(
    store: &dyn Store,
    slices: JobSlices,
    trust: &Trust,
    state_dir: Option<&Path>,
) -> Result<JobSlices> {
    if trust.is_off() {
        return Ok(slices);
    }
    let reader = SliceReader::remembering(store, &slices, state_dir);
    let all = slices.chains().flat_map(|chain| slices.starts(chain).map(move |start| (chain, start)));
    let checking = all.map(|(chain, start)| reader.distrust(chain, start, trust));
    let found: Vec<_> = stream::iter(checking).buffered(FETCHING).try_collect().await?;
    reader.save();
    let untrusted: Vec<(ChainId, OpTime, Distrust)> = found.into_iter().flatten().collect();
    let slices = slices.without(&untrusted, trust);
    if let Some(first) = slices.untrusted().first() {
        let more = match slices.untrusted().len() - 1 {
            0 => String::new(),
            n => format!("; {n} more"),
        };
        log::warn!("{first}{more}");
    }
    Ok(slices)
}

/// A reader for the manifests of the listed slices.
pub struct SliceReader<'a> {
    store: &'a dyn Store,
    slices: &'a JobSlices,
    cache: Mutex<Cache>,
}

impl<'a> SliceReader<'a> {
    /// A reader that remembers the manifests in a state directory, if there is one.
    pub fn remembering(
        store: &'a dyn Store,
        slices: &'a JobSlices,
        state_dir: Option<&Path>,
    ) -> SliceReader<'a> {
        let listed = |key: &str| {
            let (chain, start, file) = layout::parse_slice(slices.job(), key)?;
            slices.folder(&chain, start)?.get(file)
        };
        // A command about a job without slices neither reads nor writes the file.
        let state_dir = state_dir.filter(|_| slices.chains().next().is_some());
        let job = blake3::hash(slices.job().as_bytes()).to_hex();
        let ending = format!("oplog-{}.cache", &job[..16]);
        let cache = Cache::load(state_dir, &store.place(), &ending, listed);
        SliceReader { store, slices, cache: Mutex::new(cache) }
    }

    /// A reader that reads each manifest from the store.
    pub fn afresh(store: &'a dyn Store, slices: &'a JobSlices) -> SliceReader<'a> {
        SliceReader::remembering(store, slices, None)
    }

    /// Reads the manifest of a slice. Returns `None` if it was deleted since the listing.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn read(&self, chain: &ChainId, start: OpTime) -> Result<Option<SliceEntry>> {
        let object = self.slices.folder(chain, start).and_then(|folder| folder.get(layout::SLICE));
        if let Some(CachedContent::Slice(slice)) = object.and_then(|object| self.cache().get(object)) {
            return Ok(Some(SliceEntry::Slice(slice)));
        }
        let found =
            chain::read_trusted(self.store, self.slices.job(), chain, start, self.slices.trust()).await?;
        if let (Some(object), Some(SliceEntry::Slice(slice))) = (object, &found) {
            self.cache().put(object, CachedContent::Slice(slice.clone()));
        }
        Ok(found)
    }

    /// Returns a slice with the reason why it is not trusted; `None` if it is, or was deleted since the listing.
    async fn distrust(
        &self,
        chain: &ChainId,
        start: OpTime,
        trust: &Trust,
    ) -> Result<Option<(ChainId, OpTime, Distrust)>> {
        let folder = self.slices.folder(chain, start);
        let object = folder.and_then(|folder| folder.get(layout::SLICE));
        let signature = |slice: &SliceManifest| {
            let (_, file) = slice.signature.as_ref()?.rsplit_once('/')?;
            folder?.get(file)
        };
        if let Some(object) = object
            && let Some(CachedContent::Slice(slice)) = self.cached(object)
            && let Some(CachedContent::Signature(valid)) =
                signature(&slice).and_then(|signature| self.cached(signature))
            && valid.is_of(object)
            && trust.has(&valid.key)
        {
            return Ok(None);
        }
        let job = self.slices.job();
        let found = chain::read_signed_slice(self.store, job, chain, start, trust).await?;
        let Some((entry, signed)) = found else { return Ok(None) };
        if let (Some(object), SliceEntry::Slice(slice), Ok(key)) = (object, &entry, &signed) {
            self.cache().put(object, CachedContent::Slice(slice.clone()));
            let valid = key.as_ref().and_then(|key| ValidSignature::new(object, key));
            if let Some((signature, valid)) = signature(slice).zip(valid) {
                self.cache().put(signature, CachedContent::Signature(valid));
            }
        }
        Ok(signed.err().map(|why| (chain.clone(), start, why)))
    }

    /// Reads the manifests of all chains, oldest chain first, each in order, without those that were deleted since the listing.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn read_all(&self) -> Result<Vec<Vec<SliceEntry>>> {
        let mut chains = Vec::new();
        for chain in self.slices.chains() {
            chains.push(self.entries(chain, chain.start).await?);
        }
        self.cache().save();
        Ok(chains)
    }

    /// Reads the manifests of the slices of a chain that have entries after an optime, in order.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn read_since(&self, chain: &ChainId, from: OpTime) -> Result<Vec<SliceEntry>> {
        let entries = self.entries(chain, from).await?;
        self.cache().save();
        Ok(entries)
    }

    async fn entries(&self, chain: &ChainId, from: OpTime) -> Result<Vec<SliceEntry>> {
        let starts: Vec<OpTime> = self.slices.starts(chain).collect();
        let first = starts.partition_point(|start| *start <= from).saturating_sub(1);
        let reading = starts[first..].iter().map(|start| self.read(chain, *start));
        let found: Vec<Option<SliceEntry>> = stream::iter(reading).buffered(FETCHING).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The gap before a chain, which its first slice names.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn gap(&self, chain: &ChainId) -> Result<Option<OplogGap>> {
        Ok(match self.read(chain, chain.start).await? {
            Some(SliceEntry::Slice(slice)) => slice.gap,
            Some(SliceEntry::Unreadable { .. }) | None => None,
        })
    }

    /// The slices for retention, oldest first. A slice ends where the next slice of its chain begins; only the last slices of
    /// chains that have ended are read. The newest slice has no end, because the run of another machine may follow it.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn retained(&self) -> Result<Vec<RetainedSlice>> {
        let newest = self.slices.chains().next_back();
        let mut retained = Vec::new();
        for chain in self.slices.chains() {
            let starts: Vec<OpTime> = self.slices.starts(chain).collect();
            for (at, start) in starts.iter().enumerate() {
                let end = match starts.get(at + 1) {
                    Some(next) => Some(*next),
                    None if Some(chain) == newest => None,
                    None => match self.read(chain, *start).await? {
                        Some(SliceEntry::Slice(slice)) => Some(slice.end.at),
                        Some(SliceEntry::Unreadable { .. }) | None => None,
                    },
                };
                retained.push(RetainedSlice { chain: chain.clone(), start: *start, end });
            }
        }
        Ok(retained)
    }

    /// Keeps the manifests that were read for later runs.
    pub fn save(&self) {
        self.cache().save();
    }

    fn cached(&self, object: &StoredObject) -> Option<CachedContent> {
        self.cache().get(object)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
