//! A run failed. The longer there is no good backup, the louder it is told.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Occasion, Operation, between, time};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::units;
use crate::catalog::Reading;
use crate::catalog::state::State;
use crate::config::notify::Event;
use crate::notify::message::{Message, Sender, Tone};
use crate::retention;
use crate::store::Store;

/// What is known of the newest good backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewestGood {
    /// Nothing: the store could not be asked.
    Unknown,
    /// There is none.
    Missing,
    /// It began then.
    At(DateTime<Utc>),
}

impl NewestGood {
    /// Finds the newest good backup of the job in the store.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn read(store: &dyn Store, job: &str, reading: &Reading) -> Result<NewestGood> {
        let backups = State::read(store, job, reading).await?.backups();
        let newest = retention::freshness(&backups, job, reading.now, Duration::ZERO).newest;
        let started = newest.and_then(|(id, _)| backups.iter().find(|backup| backup.id == id));
        Ok(started.map_or(NewestGood::Missing, |backup| NewestGood::At(backup.started)))
    }
}

/// A run that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What failed, and its causes.
    pub error: String,
    /// What a person should do, if it is known.
    pub next_step: Option<String>,
    /// How the process ends.
    pub exit: Exit,
    /// The last lines of the log.
    pub log: Vec<String>,
    /// The newest good backup.
    pub newest_good: NewestGood,
    /// It is too old when it is older.
    pub max_age: Duration,
}

impl Failure {
    /// The run that ends with `error`.
    pub fn of(error: &Error, log: Vec<String>, newest_good: NewestGood, max_age: Duration) -> Failure {
        Failure {
            error: error.chain(),
            next_step: error.next_step().map(str::to_string),
            exit: error.exit(),
            log,
            newest_good,
            max_age,
        }
    }

    /// How long there has been no good backup, if that is too long: the age, and how many times
    /// `max_age` it is.
    fn too_old(&self, now: DateTime<Utc>) -> Option<(Duration, u32)> {
        let NewestGood::At(at) = self.newest_good else { return None };
        let age = between(at, now);
        let times = age.as_secs() / self.max_age.as_secs().max(1);
        (age > self.max_age).then_some((age, u32::try_from(times).unwrap_or(u32::MAX)))
    }

    /// Another run held the lock, and there is a fresh backup: nothing that a person must know.
    pub fn is_harmless(&self, now: DateTime<Utc>) -> bool {
        self.exit == Exit::Busy
            && matches!(self.newest_good, NewestGood::At(_))
            && self.too_old(now).is_none()
    }
}

/// The mail about it. `in_a_row` counts this failure too; `since` is when the first of them happened.
pub fn failure(
    of: &Occasion,
    f: &Failure,
    (in_a_row, since): (u32, DateTime<Utc>),
    now: DateTime<Utc>,
    sender: &Sender,
) -> Message {
    let (status, headline) = words(of, f, now);
    let mut message =
        Message::new(Event::Failure, Tone::Bad, &format!("{status}: {}", of.named()), &headline, sender)
            .fact("What failed", &f.error)
            .fact("Job", &of.job)
            .fact("Run", &of.run)
            .fact("When", time(now))
            .fact("Exit code", f.exit.code().to_string());
    if in_a_row > 1 {
        message = message.fact(
            "Failed in a row",
            format!("{}, since {}", units::several(in_a_row.into(), "run"), time(since)),
        );
    }
    message = message.fact(
        "Newest good backup",
        match f.newest_good {
            NewestGood::Unknown => "not known: the place of the backups could not be asked".into(),
            NewestGood::Missing => "there is none".into(),
            NewestGood::At(at) => format!("{}, {} old", time(at), units::duration(between(at, now))),
        },
    );
    let log = "The log of this run says more, and uzima-backup list which backups there are";
    message.next_step = Some(f.next_step.clone().unwrap_or_else(|| log.into()));
    message.log = f.log.clone();
    message
}

/// An age as people say it.
fn roughly(age: Duration) -> String {
    match age.as_secs() / 86_400 {
        0 | 1 => units::duration(age),
        days => format!("{days} days"),
    }
}

/// Status and headline: a backup that is too old weighs more than how this run failed.
fn words(of: &Occasion, f: &Failure, now: DateTime<Utc>) -> (String, String) {
    let (job, operation) = (&of.job, of.operation);
    let plain = format!("{operation} failed");
    if operation != Operation::Backup {
        return (plain, format!("The {operation} of {job} failed"));
    }
    let Some((age, times)) = f.too_old(now) else {
        let headline = match f.newest_good {
            NewestGood::Missing => format!("The backup of {job} failed, and there is no good one yet"),
            NewestGood::Unknown | NewestGood::At(_) => format!("The backup of {job} failed"),
        };
        return (plain, headline);
    };
    let age = roughly(age);
    match times {
        0..3 => (
            format!("{plain}, the newest good one is {age} old"),
            format!("The backup of {job} failed; the newest good one is {age} old, which is too old"),
        ),
        3..7 => (
            format!("BACKUPS KEEP FAILING, no good one for {age}"),
            format!("Backups of {job} keep failing: there has been no good one for {age}"),
        ),
        _ => (
            format!("NO GOOD BACKUP FOR {}", age.to_uppercase()),
            format!(
                "{job} is not protected: there has been no good backup for {age}. All that was written since would be lost"
            ),
        ),
    }
}
