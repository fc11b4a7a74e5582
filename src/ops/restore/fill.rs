//! Brings the documents of a backup or dump to the target.
//!
//! From a store, several segments are fetched, decompressed and inserted at once. A dump is read by one thread from
//! beginning to end, while several inserts are under way; batches of large documents wait for free memory, so that
//! memory is bounded. A complete namespace is counted and indexed while others are filled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

use super::dump::Dump;
use super::load::Load;
use super::origin::StoredBackup;
use super::report::NamespaceOutcome;
use crate::artifact::read::segment::{self, ORDINARY};
use crate::base::bounds::{Budget, Share};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::dumpformat::Sink;
use crate::model::index::Segment;
use crate::restore_target::insert::BATCH;

/// The most runs of documents (1 to 2 MiB each) that wait for the connection.
const WAITING_RUNS: usize = 1;

/// Segments of a namespace that are written one after the other.
struct SegmentJob {
    load: Arc<Load>,
    segments: Vec<Segment>,
    /// The number of unfinished jobs of the namespace.
    left: Arc<AtomicUsize>,
}

/// Fills all namespaces from a backup in a store, with `at_once` jobs at once.
pub(super) async fn fill_from_store(
    stored: &Arc<StoredBackup>,
    loads: Vec<Arc<Load>>,
    at_once: usize,
    meter: &Meter,
) -> Result<Vec<NamespaceOutcome>> {
    let jobs = loads.into_iter().flat_map(|load| jobs(stored, load));
    let work = stream::iter(jobs).map(|job| one(stored, job, meter)).buffer_unordered(at_once);
    let outcomes: Vec<Option<NamespaceOutcome>> = work.try_collect().await?;
    Ok(outcomes.into_iter().flatten().collect())
}

fn jobs(stored: &StoredBackup, load: Arc<Load>) -> Vec<SegmentJob> {
    let mut segments = stored.segments(load.planned.chosen.at);
    segments.retain(|_| !load.planned.is_kept());
    // A capped collection keeps its order, so it is one job. A namespace without documents is one job, too.
    let size = if load.ordered() { segments.len().max(1) } else { 1 };
    let mut parts: Vec<Vec<Segment>> = segments.chunks(size).map(<[Segment]>::to_vec).collect();
    if parts.is_empty() {
        parts.push(Vec::new());
    }
    let left = Arc::new(AtomicUsize::new(parts.len()));
    let job = |segments| SegmentJob { load: Arc::clone(&load), segments, left: Arc::clone(&left) };
    parts.into_iter().map(job).collect()
}

async fn one(stored: &Arc<StoredBackup>, job: SegmentJob, meter: &Meter) -> Result<Option<NamespaceOutcome>> {
    job.load.begin().await?;
    for segment in &job.segments {
        let (runs, mut taken) = mpsc::channel(WAITING_RUNS);
        let reading = stored.object.segment(segment, stored.name(segment.namespace), Some(runs));
        let writing = async {
            while let Some(run) = taken.recv().await {
                // Several namespaces are filled at once: the one that moves is named.
                meter.doing(job.load.planned.chosen.name());
                let request = meter.request();
                job.load.insert(&run.documents).await?;
                drop(request);
                meter.add(0, run.documents.len() as u64);
            }
            Ok(())
        };
        let rest = || stored.rest(&[segment.namespace].into(), stored.manifest.namespaces.len());
        let (tally, ()) = tokio::try_join!(reading, writing).map_err(|error| match error.kind() {
            Kind::Mismatch => error.hint(rest()),
            _ => error,
        })?;
        meter.add(tally.documents, 0);
    }
    if job.left.fetch_sub(1, SeqCst) > 1 {
        return Ok(None);
    }
    let outcome = job.load.finish(meter).await?;
    meter.end();
    Ok(Some(outcome))
}

/// The number of inserts at once.
const INSERTS: usize = 4;
/// The number of namespaces that are counted and indexed at once.
const FINISHING: usize = 2;
/// The most batches that wait in the channel.
const WAITING_BATCHES: usize = 4;

/// A message from the reader of a dump.
enum DumpStep {
    Batch(usize, Vec<u8>, Option<Share>),
    Complete(usize),
}

/// Fills all namespaces from a dump.
pub(super) async fn fill_from_dump(
    dump: &Arc<Dump>,
    loads: Vec<Arc<Load>>,
    meter: &Meter,
) -> Result<Vec<NamespaceOutcome>> {
    let mut open: BTreeMap<usize, Arc<Load>> =
        loads.into_iter().map(|load| (load.planned.chosen.at, load)).collect();
    let (steps, mut taken) = mpsc::channel(WAITING_BATCHES);
    let reading = {
        let filled = open.iter().filter(|(_, load)| !load.planned.is_kept());
        let (dump, wanted) = (Arc::clone(dump), filled.map(|(at, _)| *at).collect());
        tokio::task::spawn_blocking(move || {
            let mut feeder =
                DumpFeeder { steps, wanted, at: None, batch: Vec::new(), large: segment::large_documents() };
            dump.read(&mut feeder)
        })
    };
    let (mut finishing, room) = (JoinSet::new(), Arc::new(Semaphore::new(FINISHING)));
    let finish = |load: Arc<Load>| {
        let (room, meter) = (Arc::clone(&room), meter.clone());
        async move {
            let _turn = room.acquire().await;
            load.begin().await?;
            let outcome = load.finish(&meter).await;
            meter.end();
            outcome
        }
    };
    let mut under_way = FuturesUnordered::new();
    loop {
        // Inserts continue while the reader waits for the memory that they hold.
        let step = tokio::select! {
            biased;
            done = under_way.try_next(), if !under_way.is_empty() => {
                done?;
                continue;
            }
            step = taken.recv() => step,
        };
        let Some(step) = step else { break };
        match step {
            DumpStep::Batch(at, raw, room) => {
                let load = Arc::clone(&open[&at]);
                meter.doing(load.planned.chosen.name());
                load.begin().await?;
                let most = if load.ordered() { 1 } else { INSERTS };
                while under_way.len() >= most {
                    under_way.try_next().await?;
                }
                under_way.push(async move {
                    let (_room, _request) = (room, meter.request());
                    let inserted = load.insert(&raw).await;
                    meter.add(0, raw.len() as u64);
                    inserted
                });
            }
            DumpStep::Complete(at) => {
                while under_way.try_next().await?.is_some() {}
                finishing.spawn(finish(open.remove(&at).expect("it ends once")));
            }
        }
    }
    reading.await.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
    // Views have no documents, and an archive may have none for a collection.
    open.into_values().for_each(|load| drop(finishing.spawn(finish(load))));
    let mut outcomes = Vec::new();
    while let Some(done) = finishing.join_next().await {
        outcomes.push(done.map_err(|_| Error::failed("a task ended unexpectedly"))??);
    }
    Ok(outcomes)
}

/// Collects documents into batches.
struct DumpFeeder {
    steps: Sender<DumpStep>,
    wanted: BTreeSet<usize>,
    at: Option<usize>,
    batch: Vec<u8>,
    large: Arc<Budget>,
}

impl DumpFeeder {
    fn send(&self, step: DumpStep) -> Result<()> {
        self.steps.blocking_send(step).map_err(|_| Error::aftermath("the restore has ended"))
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        match self.at {
            Some(at) if !batch.is_empty() => {
                let room = (batch.len() > ORDINARY).then(|| self.large.take(batch.len()));
                self.send(DumpStep::Batch(at, batch, room))
            }
            _ => Ok(()),
        }
    }
}

impl Sink for DumpFeeder {
    fn begin(&mut self, at: usize) -> Result<()> {
        if self.at != Some(at) {
            self.flush()?;
        }
        self.at = self.wanted.contains(&at).then_some(at);
        Ok(())
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        if self.at.is_some() {
            if self.batch.len() + raw.len() > ORDINARY {
                self.flush()?;
            }
            self.batch.extend_from_slice(raw);
            if self.batch.len() >= BATCH {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.flush()?;
        match self.at.take() {
            Some(at) => self.send(DumpStep::Complete(at)),
            None => Ok(()),
        }
    }
}
