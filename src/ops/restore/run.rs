//! The documents of a stored backup on their way: several segments are fetched, decompressed and inserted at
//! once, and a namespace that is complete is counted and indexed while others are still filled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::load::Load;
use super::report::Outcome;
use super::stored::Stored;
use super::superseded::Scan;
use crate::base::error::{Kind, Result};
use crate::base::progress::Meter;
use crate::model::index::Segment;

/// How many runs of 1 to 2 MiB of documents wait for the connection.
const WAITING: usize = 1;

/// Segments of a namespace that are written one after the other.
struct Job {
    load: Arc<Load>,
    segments: Vec<Segment>,
    /// How many jobs of the namespace are not done.
    left: Arc<AtomicUsize>,
}

/// Writes all loads; `at_once` jobs are under way.
pub async fn run(
    stored: &Arc<Stored>,
    loads: Vec<Arc<Load>>,
    at_once: usize,
    meter: &Meter,
) -> Result<Vec<Outcome>> {
    let jobs = loads.into_iter().flat_map(|load| jobs(stored, load));
    let work = stream::iter(jobs).map(|job| one(stored, job, meter)).buffer_unordered(at_once);
    let outcomes: Vec<Option<Outcome>> = work.try_collect().await?;
    Ok(outcomes.into_iter().flatten().collect())
}

fn jobs(stored: &Stored, load: Arc<Load>) -> Vec<Job> {
    let mut rest: VecDeque<Segment> = stored.segments(load.planned.chosen.at).into();
    // The order of a capped collection is part of it.
    let size = if load.ordered() { rest.len().max(1) } else { 1 };
    let left = Arc::new(AtomicUsize::new(rest.len().div_ceil(size).max(1)));
    let mut jobs = Vec::new();
    loop {
        let segments = rest.drain(..size.min(rest.len())).collect();
        jobs.push(Job { load: Arc::clone(&load), segments, left: Arc::clone(&left) });
        if rest.is_empty() {
            return jobs;
        }
    }
}

async fn one(stored: &Arc<Stored>, job: Job, meter: &Meter) -> Result<Option<Outcome>> {
    meter.doing(format!("restoring {}", job.load.planned.chosen.name()));
    job.load.begin().await?;
    for segment in &job.segments {
        fill(stored, &job.load, segment, meter).await?;
    }
    if job.left.fetch_sub(1, SeqCst) > 1 {
        return Ok(None);
    }
    let (again, at, handle) = (Arc::clone(stored), job.load.planned.chosen.at, Handle::current());
    let scan: Scan = Box::new(move |each| again.scan(at, &handle, each));
    let outcome = job.load.finish(scan).await?;
    meter.end(meter.read().packed_bytes);
    Ok(Some(outcome))
}

/// Reads a segment and writes it.
async fn fill(stored: &Arc<Stored>, load: &Load, segment: &Segment, meter: &Meter) -> Result<()> {
    let (runs, mut taken) = mpsc::channel(WAITING);
    let reading = stored.object.segment(segment, stored.name(segment.namespace), Some(runs));
    let writing = async {
        while let Some(run) = taken.recv().await {
            load.insert(&run.documents).await?;
        }
        Ok(())
    };
    let (tally, ()) = tokio::try_join!(reading, writing).map_err(|error| match error.kind() {
        Kind::Mismatch => {
            error.hint(stored.rest(&[segment.namespace].into(), stored.manifest.namespaces.len()))
        }
        _ => error,
    })?;
    meter.add(tally.documents, tally.raw_bytes, segment.offset + segment.length);
    Ok(())
}
