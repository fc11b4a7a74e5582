//! The documents of a dump on their way: one thread reads it from its beginning to its end, and several
//! inserts are under way. A namespace that is complete is counted and indexed meanwhile. Batches of large documents
//! wait for room, so that memory is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Sender};
use tokio::task::JoinSet;

use super::dump::Dump;
use super::load::Load;
use super::report::Outcome;
use super::superseded::Scan;
use crate::artifact::read::segment::{self, ORDINARY};
use crate::base::bounds::{Budget, Share};
use crate::base::error::{Error, Result};
use crate::base::progress::Meter;
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::restore_target::batch::BATCH;

/// How many inserts are under way.
const INSERTS: usize = 4;
/// How many namespaces are counted and indexed at once.
const FINISHING: usize = 2;
/// How many batches wait.
const WAITING: usize = 4;

/// What the reader tells.
enum Step {
    Batch(usize, Vec<u8>, Option<Share>),
    Complete(usize),
}

/// Writes all loads.
pub async fn run(dump: &Arc<Dump>, loads: Vec<Arc<Load>>, meter: &Meter) -> Result<Vec<Outcome>> {
    let mut open: BTreeMap<usize, Arc<Load>> =
        loads.into_iter().map(|load| (load.planned.chosen.at, load)).collect();
    let (steps, mut taken) = mpsc::channel(WAITING);
    let reading = {
        let (dump, wanted) = (Arc::clone(dump), open.keys().copied().collect());
        tokio::task::spawn_blocking(move || {
            let mut feeder =
                Feeder { steps, wanted, at: None, batch: Vec::new(), large: segment::large_documents() };
            dump.read(&mut feeder)
        })
    };
    let mut finishing = Finishing { tasks: JoinSet::new(), room: Arc::new(Semaphore::new(FINISHING)) };
    let mut under_way = FuturesUnordered::new();
    loop {
        // Inserts go on while the reader waits for the room that they hold.
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
            Step::Batch(at, raw, room) => {
                let load = Arc::clone(&open[&at]);
                meter.doing(format!("restoring {}", load.planned.chosen.name()));
                load.begin().await?;
                let most = if load.ordered() { 1 } else { INSERTS };
                while under_way.len() >= most {
                    under_way.try_next().await?;
                }
                meter.add(0, raw.len() as u64, 0);
                under_way.push(async move {
                    let _room = room;
                    load.insert(&raw).await
                });
            }
            Step::Complete(at) => {
                while under_way.try_next().await?.is_some() {}
                finishing.add(dump, open.remove(&at).expect("it ends once"));
                meter.end(0);
            }
        }
    }
    reading.await.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
    // Views, which have no documents, and collections of which an archive has none.
    for load in open.into_values() {
        finishing.add(dump, load);
    }
    finishing.all().await
}

/// Namespaces that have all their documents.
struct Finishing {
    tasks: JoinSet<Result<Outcome>>,
    room: Arc<Semaphore>,
}

impl Finishing {
    fn add(&mut self, dump: &Arc<Dump>, load: Arc<Load>) {
        let (dump, room, at) = (Arc::clone(dump), Arc::clone(&self.room), load.planned.chosen.at);
        self.tasks.spawn(async move {
            let _turn = room.acquire().await;
            load.begin().await?;
            let scan: Scan = Box::new(move |each| dump.scan(at, each));
            load.finish(scan).await
        });
    }

    async fn all(mut self) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(done) = self.tasks.join_next().await {
            outcomes.push(done.map_err(|_| Error::failed("a task ended unexpectedly"))??);
        }
        Ok(outcomes)
    }
}

/// Puts documents into batches.
struct Feeder {
    steps: Sender<Step>,
    wanted: BTreeSet<usize>,
    at: Option<usize>,
    batch: Vec<u8>,
    large: Arc<Budget>,
}

impl Feeder {
    fn tell(&self, step: Step) -> Result<()> {
        self.steps.blocking_send(step).map_err(|_| Error::aftermath("nobody takes the documents"))
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        match self.at {
            Some(at) if !batch.is_empty() => {
                let room = (batch.len() > ORDINARY).then(|| self.large.take(batch.len()));
                self.tell(Step::Batch(at, batch, room))
            }
            _ => Ok(()),
        }
    }
}

impl Sink for Feeder {
    fn prelude(&mut self, _: Vec<Namespace>) -> Result<()> {
        Ok(())
    }

    fn begin(&mut self, at: usize) -> Result<()> {
        if self.at != Some(at) {
            self.flush()?;
        }
        self.at = self.wanted.contains(&at).then_some(at);
        Ok(())
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        if self.at.is_some() {
            // A large document goes alone.
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
            Some(at) => self.tell(Step::Complete(at)),
            None => Ok(()),
        }
    }
}
