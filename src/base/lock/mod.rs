//! One run per job, operation and host: a file in the state directory that the kernel locks.
//!
//! The lock is the kernel's (`flock`), so it ends with its process, however that ends; what stands in the
//! file is for people, and for the message of a run that finds it locked. The file stays after the run:
//! one that unlinks it while another opens it would let two runs lock two files of one name. Where the file
//! system has no locks, a second [file with a heartbeat](held) stands for the lock. Two runs at
//! once do no harm (each backup has an id of its own, deletions converge), they only cost twice: so a
//! state directory that cannot be written needs a look, and is not the end of the night.

mod file;
mod held;

use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

pub use self::file::{Holder, Lock, Operation};

use self::file::Tried;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Kind, Result};

/// The longest pause between two looks at a lock that is waited for.
const LOOK: Duration = Duration::from_millis(500);

/// Whose lock is taken.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The state directory, if there is one.
    pub state_dir: Option<&'a Path>,
    /// The job.
    pub job: &'a str,
    /// What is done with it.
    pub operation: Operation,
    /// The machine's name.
    pub host: &'a str,
    /// When the run began.
    pub started: DateTime<Utc>,
    /// How long another run is waited for.
    pub wait: Option<Duration>,
}

/// What came of asking for a lock.
#[derive(Debug, Default)]
pub struct Taken {
    /// The lock, which lasts until it is dropped.
    pub lock: Option<Lock>,
    /// Why there is none, though there is a place for it: a person should look.
    pub problem: Option<String>,
}

/// Takes the lock. Where that cannot be done the run goes on without; that has been logged as a warning.
///
/// # Errors
/// [`Kind::Busy`] if another run holds it until the wait is over.
pub async fn take(asked: &Asked<'_>, cancel: &Cancel) -> Result<Taken> {
    let Some(state) = asked.state_dir else {
        log::warn!("{}", without("there is no state directory"));
        return Ok(Taken::default());
    };
    let began = Instant::now();
    let mut pause = Duration::from_millis(50);
    let mut told = false;
    loop {
        let holder = match file::try_lock(state, asked) {
            Ok(Tried::Locked(lock)) => {
                if lock.is_by_heartbeat() {
                    log::info!(
                        "the file system of {} has no locks: a file with a heartbeat stands for the lock",
                        state.display()
                    );
                }
                return Ok(Taken { lock: Some(lock), problem: None });
            }
            Ok(Tried::Held(holder)) => holder,
            Err(e) => {
                let file = file::path(state, asked.job, asked.operation);
                let problem = without(&format!("cannot lock {}: {e}", file.display()));
                log::warn!("{problem}");
                return Ok(Taken { lock: None, problem: Some(problem) });
            }
        };
        let left = asked.wait.unwrap_or_default().saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(busy(asked, &holder));
        }
        if !told {
            log::info!(
                "waiting up to {} s: {}",
                asked.wait.unwrap_or_default().as_secs(),
                under_way(asked, &holder)
            );
            told = true;
        }
        let nap = tokio::time::sleep(pause.min(left));
        let napped = async {
            nap.await;
            Ok(())
        };
        cancel.or(napped).await?;
        pause = (pause * 2).min(LOOK);
    }
}

fn without(why: &str) -> String {
    format!(
        "{why}: this run does not know of another one of its job, and goes on (next step: set state_dir, \
         UZIMA_BACKUP_STATE_DIR, to a directory that this user may write)"
    )
}

fn under_way(asked: &Asked<'_>, holder: &Holder) -> String {
    format!("another {} of {} is under way{holder}", asked.operation, asked.job)
}

fn busy(asked: &Asked<'_>, holder: &Holder) -> Error {
    let mut text = under_way(asked, holder);
    if let Some(wait) = asked.wait {
        text.push_str(&format!(", and {} s of waiting were not enough", wait.as_secs()));
    }
    let step = match asked.wait {
        None => "To wait for its end use --wait, e.g. --wait 30m".to_string(),
        Some(_) => "See what it does there; a longer --wait waits longer".to_string(),
    };
    Error::new(Kind::Busy, text).hint(step)
}

#[cfg(test)]
mod tests;
