//! Writes while a dump runs, so that what comes out of it can be checked against itself.
//!
//! True at any one instant, in the database that is written to:
//! - `counter.v` is the largest `log._id`, or one more (it is incremented before each insert);
//! - `t1` and `t2` hold the same `_id`s (written in one transaction);
//! - `flip` holds exactly 200 documents, `_id` 0 to 199 (deleted and inserted again in one transaction).
//!
//! True of any dump, however fuzzy: `churn` holds every `_id` of [`Report::untouched`] (its neighbours are
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

/// What the writers do.
#[derive(Clone, Debug)]
pub struct Options {
    pub database: String,
    /// A replica set can; a lone server cannot.
    pub transactions: bool,
    /// Make collections `tmpN` with an index, and drop `tmp1` now and then.
    pub ddl: bool,
    /// Rename a collection now and then, which a dump with an oplog slice must refuse.
    pub renames: bool,
    /// Between two rounds.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let database = "live".to_owned();
        Options { database, transactions: true, ddl: true, renames: false, pause: Duration::ZERO }
    }
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Report {
    pub rounds: u64,
    /// `_id`s of `churn` that were there before the first round and that nobody touched.
    pub untouched: Vec<i32>,
}

/// Running writers. They have a thread of their own, so they go on while a test waits for a child process.
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

    /// Waits until so many rounds are done: a dump that ends before anything was written proves nothing.
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

    /// Ends after the current round; an error of the writers is this call's.
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
