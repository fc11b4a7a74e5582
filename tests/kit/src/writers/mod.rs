//! Writes while a dump runs. The written data has invariants by which the dump can be checked.
//!
//! Invariants at any one instant:
//! - `counter.v` is the largest `log._id`, or one more (it is incremented before each insert);
//! - `t1` and `t2` hold the same `_id`s (written in one transaction);
//! - `flip` holds exactly 200 documents, `_id` 0 to 199 (deleted and inserted again in one transaction).
//!
//! An invariant of any dump, even without a common instant: `churn` holds every `_id` of [`Report::untouched`] (its neighbours are
//! deleted and inserted again, which moves them to another record id).

mod check;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, bail};

pub use check::check;

pub const FLIP_DOCUMENTS: i32 = 200;
pub const CHURN_DOCUMENTS: i32 = 1000;

/// The kinds of writes.
#[derive(Clone, Debug)]
pub struct Options {
    pub database: String,
    /// Use transactions, which need a replica set.
    pub transactions: bool,
    /// Create collections `tmpN` with an index, and drop `tmp1` now and then.
    pub ddl: bool,
    /// Rename a collection now and then, which a dump with an oplog slice must refuse.
    pub renames: bool,
    /// The pause between two rounds.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let database = "live".to_owned();
        Options { database, transactions: true, ddl: true, renames: false, pause: Duration::ZERO }
    }
}

/// The work of the writers.
#[derive(Clone, Debug)]
pub struct Report {
    pub rounds: u64,
    /// `_id`s of `churn` that existed before the first round and that no writer touched.
    pub untouched: Vec<i32>,
}

/// Running writers. They have their own thread, so they continue while a test waits for a child process.
pub struct Writers {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Report>>>,
}

impl Writers {
    /// Prepares the collections, and returns when the first round is done.
    pub async fn start(uri: &str, options: Options) -> Result<Writers> {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let thread = {
            let (uri, stop, rounds) = (uri.to_owned(), stop.clone(), rounds.clone());
            std::thread::Builder::new().name("writers".into()).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(work::run(&uri, &options, &stop, &rounds))
            })?
        };
        let mut writers = Writers { stop, rounds, thread: Some(thread) };
        writers.wait_for_rounds(1).await?;
        Ok(writers)
    }

    /// Rounds done so far.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Waits until so many rounds are done: a dump that ends before the first write proves nothing.
    pub async fn wait_for_rounds(&mut self, rounds: u64) -> Result<()> {
        while self.rounds() < rounds {
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                self.join()?;
                bail!("the writers ended before round {rounds}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Ends the writers after the current round. Returns the error of a writer, if there was one.
    pub async fn stop(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || self.join()).await?
    }

    fn join(&mut self) -> Result<Report> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(report)) => report,
            Some(Err(_)) => bail!("the writers panicked"),
            None => bail!("the writers have ended"),
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.join();
    }
}
