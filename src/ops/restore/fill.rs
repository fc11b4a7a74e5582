//! Brings the documents of a backup or dump to the target.
//!
//! From a store, several segments are fetched and decompressed at once. A dump is read by one thread from beginning to end. In both
//! cases several inserts are under way, and several namespaces are created, counted and indexed while others are filled: the more, the
//! longer the way to the target is ([`Pace`]). Budgets bound the memory: of the segments that are read, of the inserts under way, and of
//! large documents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender};

use super::dump::Dump;
use super::load::Load;
use super::origin::StoredBackup;
use super::report::NamespaceOutcome;
use crate::artifact::read::segment::{self, DocumentRun, ORDINARY};
use crate::base::bounds::{Budget, Share};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::dumpformat::Sink;
use crate::model::index::Segment;
use crate::model::namespace::Type;
use crate::restore_target::insert::BATCH;
use crate::restore_target::pace::Pace;

/// The most runs of documents (1 to 2 MiB each) that wait for the connection.
const WAITING_RUNS: usize = 1;
/// The most bytes of documents in a tiny namespace. Reading and inserting it needs little memory, so that many can be under way.
const TINY: u64 = 64 << 10;
/// The memory that reading a large segment needs, in bytes of documents. Smaller segments need less, and more of them are read at once.
const READING: u64 = 8 << 20;

/// Segments of a namespace that are written one after the other.
struct SegmentJob {
    load: Arc<Load>,
    segments: Vec<Segment>,
    /// The number of unfinished jobs of the namespace.
    left: Arc<AtomicUsize>,
}

impl SegmentJob {
    /// The room that reading it takes, of [`READING`] for each large segment that is read at once.
    fn room(&self) -> u32 {
        let largest = self.segments.iter().map(|segment| segment.raw_bytes).max();
        largest.unwrap_or(0).min(READING) as u32
    }
}

/// The bounds that the jobs of a restore from a store share.
struct StoreFill<'a> {
    stored: &'a Arc<StoredBackup>,
    meter: &'a Meter,
    pace: Pace,
    /// The room for segments that are read.
    reading: Semaphore,
    /// The room for inserts, in bytes.
    inserts: Semaphore,
}

/// Fills all namespaces from a backup in a store, and reads `at_once` large segments at once.
pub(super) async fn fill_from_store(
    stored: &Arc<StoredBackup>,
    loads: Vec<Arc<Load>>,
    at_once: usize,
    pace: Pace,
    meter: &Meter,
) -> Result<Vec<NamespaceOutcome>> {
    let reading = Semaphore::new(at_once * READING as usize);
    let fill = StoreFill { stored, meter, pace, reading, inserts: Semaphore::new(pace.inserts) };
    let (views, loads): (Vec<_>, Vec<_>) = loads.into_iter().partition(|load| is_view(load));
    let (tiny, large): (Vec<_>, Vec<_>) = loads.into_iter().partition(|load| is_tiny(load));
    // While the server is busy with large collections, the many round trips of the tiny ones cost no time.
    let (mut outcomes, tiny) = tokio::try_join!(fill.run(large), fill.run(tiny))?;
    outcomes.extend(tiny);
    // Views come after the collections that they show.
    outcomes.extend(fill.run(views).await?);
    Ok(outcomes)
}

fn is_view(load: &Load) -> bool {
    load.planned.source.kind == Type::View
}

/// Returns true if few bytes are written into a namespace.
fn is_tiny(load: &Load) -> bool {
    !load.planned.is_kept() && load.planned.source.raw_bytes <= TINY
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

impl StoreFill<'_> {
    async fn run(&self, loads: Vec<Arc<Load>>) -> Result<Vec<NamespaceOutcome>> {
        let jobs = loads.into_iter().flat_map(|load| jobs(self.stored, load));
        let work = stream::iter(jobs).map(|job| self.one(job)).buffer_unordered(self.pace.namespaces);
        let outcomes: Vec<Option<NamespaceOutcome>> = work.try_collect().await?;
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Returns the outcome if the job is the last one of its namespace.
    async fn one(&self, job: SegmentJob) -> Result<Option<NamespaceOutcome>> {
        // A namespace is not dropped before it is its turn to be filled.
        let room = match is_tiny(&job.load) {
            true => None,
            false => Some(self.reading.acquire_many(job.room()).await.expect("it is not closed")),
        };
        job.load.begin().await?;
        for segment in &job.segments {
            let (runs, taken) = mpsc::channel(WAITING_RUNS);
            let reading =
                self.stored.object.segment(segment, self.stored.name(segment.namespace), Some(runs));
            let rest =
                || self.stored.rest(&[segment.namespace].into(), self.stored.manifest.namespaces.len());
            let (tally, ()) = tokio::try_join!(reading, self.insert(&job.load, taken)).map_err(|error| {
                match error.kind() {
                    Kind::Mismatch => error.hint(rest()),
                    _ => error,
                }
            })?;
            self.meter.add(tally.documents, 0);
        }
        drop(room);
        if job.left.fetch_sub(1, SeqCst) > 1 {
            return Ok(None);
        }
        let outcome = job.load.finish(self.meter).await?;
        self.meter.end();
        Ok(Some(outcome))
    }

    /// Inserts the runs of a segment, several at once unless the namespace keeps its order.
    async fn insert(&self, load: &Load, mut taken: mpsc::Receiver<DocumentRun>) -> Result<()> {
        let (mut under_way, mut waiting, mut more) = (FuturesUnordered::new(), None::<DocumentRun>, true);
        loop {
            // The number of tiny namespaces under way bounds their inserts.
            let run = waiting.as_ref().filter(|_| !is_tiny(load));
            let bytes = run.map_or(0, |run| weight(&run.documents, self.pace.inserts));
            let may_start = waiting.is_some() && (under_way.is_empty() || !load.ordered());
            tokio::select! {
                biased;
                done = under_way.try_next(), if !under_way.is_empty() => drop(done?),
                room = self.inserts.acquire_many(bytes as u32), if may_start => {
                    let room = room.expect("it is not closed");
                    let run = waiting.take().expect("a run waits");
                    // Several namespaces are filled at once: the one that moves is named.
                    self.meter.doing(load.planned.chosen.name());
                    under_way.push(async move {
                        let (_room, request) = (room, self.meter.request());
                        load.insert(&run.documents).await?;
                        drop(request);
                        self.meter.add(0, run.documents.len() as u64);
                        Ok::<_, Error>(())
                    });
                }
                run = taken.recv(), if more && waiting.is_none() => {
                    more = run.is_some();
                    waiting = run;
                }
                else => return Ok(()),
            }
        }
    }
}

/// The bytes that documents count as, of `most` for all inserts under way. A larger document is sent alone.
fn weight(documents: &[u8], most: usize) -> usize {
    documents.len().clamp(LEAST, most)
}

/// The bytes that the shortest insert counts as.
const LEAST: usize = BATCH / 8;
/// The most batches that wait in the channel.
const WAITING_BATCHES: usize = 4;

/// A message from the reader of a dump.
enum DumpStep {
    Batch(DumpBatch),
    Complete(usize),
}

struct DumpBatch {
    at: usize,
    documents: Vec<u8>,
    /// The room that a large document takes in the budget of the reader.
    _room: Option<Share>,
}

/// A namespace of a dump that is not complete at the target.
struct OpenNamespace {
    load: Arc<Load>,
    /// The number of its inserts under way.
    inserts: usize,
    /// True if all its documents were read.
    is_read: bool,
}

/// Fills all namespaces from a dump.
pub(super) async fn fill_from_dump(
    dump: &Arc<Dump>,
    loads: Vec<Arc<Load>>,
    pace: Pace,
    meter: &Meter,
) -> Result<Vec<NamespaceOutcome>> {
    let open = |load: Arc<Load>| (load.planned.chosen.at, OpenNamespace { load, inserts: 0, is_read: false });
    let mut open: BTreeMap<usize, OpenNamespace> = loads.into_iter().map(open).collect();
    let (steps, mut taken) = mpsc::channel(WAITING_BATCHES);
    let reading = {
        let filled = open.iter().filter(|(_, one)| !one.load.planned.is_kept());
        let (dump, wanted) = (Arc::clone(dump), filled.map(|(at, _)| *at).collect());
        tokio::task::spawn_blocking(move || {
            let mut feeder =
                DumpFeeder { steps, wanted, at: None, batch: Vec::new(), large: segment::large_documents() };
            dump.read(&mut feeder)
        })
    };
    let room = Semaphore::new(pace.namespaces);
    let finish = async |load: Arc<Load>| -> Result<(bool, NamespaceOutcome)> {
        let _turn = match is_tiny(&load) {
            true => None,
            false => Some(room.acquire().await.expect("it is not closed")),
        };
        load.begin().await?;
        let outcome = load.finish(meter).await?;
        meter.end();
        Ok((is_tiny(&load), outcome))
    };
    let insert = async |load: Arc<Load>, batch: DumpBatch| -> Result<(usize, usize)> {
        load.begin().await?;
        meter.doing(load.planned.chosen.name());
        let request = meter.request();
        load.insert(&batch.documents).await?;
        drop(request);
        meter.add(0, batch.documents.len() as u64);
        Ok((batch.at, weight(&batch.documents, pace.inserts)))
    };
    let (mut inserts, mut finishing, mut outcomes) =
        (FuturesUnordered::new(), FuturesUnordered::new(), Vec::new());
    let (mut waiting, mut under_way, mut tiny, mut more) = (None::<DumpBatch>, 0, 0, true);
    loop {
        if let Some(batch) = waiting.take_if(|batch| {
            let one = &open[&batch.at];
            one.inserts == 0 || !one.load.ordered()
        }) {
            let one = open.get_mut(&batch.at).expect("it is open until all its documents are written");
            one.inserts += 1;
            under_way += weight(&batch.documents, pace.inserts);
            inserts.push(insert(Arc::clone(&one.load), batch));
        }
        // Namespaces that are read are finished without further documents of the dump, so the wait for them ends.
        let may_read = waiting.is_none() && under_way < pace.inserts && tiny < pace.namespaces;
        // Inserts continue while the reader waits for the memory that they hold.
        let complete = tokio::select! {
            biased;
            done = inserts.try_next(), if !inserts.is_empty() => {
                let (at, weight) = done?.expect("it is not empty");
                under_way -= weight;
                open.get_mut(&at).expect("it is open").inserts -= 1;
                at
            }
            done = finishing.try_next(), if !finishing.is_empty() => {
                let (was_tiny, outcome) = done?.expect("it is not empty");
                tiny -= usize::from(was_tiny);
                outcomes.push(outcome);
                continue;
            }
            step = taken.recv(), if more && may_read => match step {
                Some(DumpStep::Batch(batch)) => {
                    waiting = Some(batch);
                    continue;
                }
                Some(DumpStep::Complete(at)) => {
                    let one = open.get_mut(&at).expect("it ends once");
                    one.is_read = true;
                    tiny += usize::from(is_tiny(&one.load));
                    at
                }
                None => {
                    more = false;
                    continue;
                }
            },
            else => break,
        };
        if open[&complete].is_read && open[&complete].inserts == 0 {
            let one = open.remove(&complete).expect("it is open");
            finishing.push(finish(one.load));
        }
    }
    reading.await.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
    // Views have no documents, and an archive may have none for a collection.
    let (views, rest): (Vec<_>, Vec<_>) =
        open.into_values().map(|one| one.load).partition(|load| is_view(load));
    for loads in [rest, views] {
        let mut rest = stream::iter(loads).map(&finish).buffer_unordered(pace.namespaces);
        while let Some((_, outcome)) = rest.try_next().await? {
            outcomes.push(outcome);
        }
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
                self.send(DumpStep::Batch(DumpBatch { at, documents: batch, _room: room }))
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
