//! The mail about backups that have stopped. A machine that is off cannot send it, so the mail service keeps it: each backup
//! schedules the next one and then cancels the earlier one. If no backup comes, the service sends it.
//!
//! The order makes sure that a run that ends at any point leaves a mail too many, and never none: the new mail is scheduled,
//! its id is stored, and only then are earlier ones cancelled.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::events::LastBackup;
use super::mailer::Mailer;
use super::message::Sender;
use super::{line, mails};
use crate::base::error::Error;
use crate::catalog::marks::FORMAT;
use crate::catalog::scheduled::{ScheduledMail, ScheduledMails};
use crate::store::Store;

/// What the problems are about.
pub(super) const WHAT: &str = "the mail about stopped backups";
/// How much later than `max_age` the mail is sent: a run that is a little late must not alarm anybody.
const SLACK: TimeDelta = TimeDelta::hours(1);

/// Schedules the mail about the backup after `last`, and cancels the earlier one. Returns the problems.
pub(super) async fn renew(
    store: &dyn Store,
    mailer: &Mailer,
    last: &LastBackup<'_>,
    sender: &Sender,
    now: DateTime<Utc>,
    limit: Duration,
) -> Vec<String> {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    let problem = |doing: &str, error: &Error| format!("{WHAT} could not be {doing}: {}", line(error));
    let mut problems = Vec::new();
    let earlier = match ScheduledMails::read(store, last.job).await {
        Ok(Some(Ok(earlier))) => Some(earlier),
        Ok(None) => None,
        Ok(Some(Err(why))) => {
            problems
                .push(format!("{WHAT} may be sent although backups are made: {why}. The object is replaced"));
            None
        }
        // A new mail would replace the ids of the earlier ones, which could then never be cancelled. So they stay, and are sent in
        // time although this backup was made.
        Err(error) => return vec![problem("scheduled", &error)],
    };
    let at = wanted(last, now);
    let message = mails::stopped(last, at, sender);
    let kept = match mailer.schedule(&message, last.id, at, now, left()).await {
        Ok(kept) => kept,
        Err((ids, error)) => {
            // Those that were scheduled for some recipients are cancelled next time.
            if !ids.is_empty() {
                let mut earlier = earlier.unwrap_or_else(|| none(last, sender));
                earlier.superseded.extend(ids.into_iter().map(|id| ScheduledMail { id, at }));
                if let Err(error) = earlier.write(store).await {
                    log::warn!("{}", problem("recorded", &error));
                }
            }
            problems.push(problem("scheduled", &error));
            return problems;
        }
    };
    let to_cancel = earlier.map(|earlier| earlier.to_cancel(now)).unwrap_or_default();
    let mut scheduled = ScheduledMails {
        mails: kept.ids.into_iter().map(|id| ScheduledMail { id, at: kept.at }).collect(),
        wanted_at: (kept.at < at).then_some(at),
        superseded: to_cancel,
        ..none(last, sender)
    };
    if let Some(wanted) = scheduled.wanted_at {
        log::warn!(
            "{WHAT} is sent at {}, before it is due at {}: the mail service keeps no mail longer",
            super::time(kept.at),
            super::time(wanted)
        );
    }
    // Without the new id in the store, the next run could not cancel the new mail. The earlier one stays as well.
    if let Err(error) = scheduled.write(store).await {
        problems.push(problem("recorded", &error));
        return problems;
    }
    log::info!("{WHAT} is scheduled for {}", super::time(kept.at));
    let before = scheduled.superseded.len();
    while let Some(mail) = scheduled.superseded.first() {
        if let Err(error) = mailer.cancel(&mail.id, left()).await {
            let left = scheduled.superseded.len();
            problems.push(problem(&format!("cancelled ({left} of an earlier backup)"), &error));
            break;
        }
        scheduled.superseded.remove(0);
    }
    if scheduled.superseded.len() < before
        && let Err(error) = scheduled.write(store).await
    {
        // The next run finds out that they are cancelled.
        log::warn!("{}", problem("recorded", &error));
    }
    problems
}

/// The object of a job without mails.
fn none(last: &LastBackup<'_>, sender: &Sender) -> ScheduledMails {
    ScheduledMails {
        format: FORMAT,
        job: last.job.into(),
        host: sender.host.clone(),
        backup: last.id.into(),
        mails: Vec::new(),
        wanted_at: None,
        superseded: Vec::new(),
    }
}

/// When the newest good backup is too old. A backup that took longer than that still gets some time.
fn wanted(last: &LastBackup<'_>, now: DateTime<Utc>) -> DateTime<Utc> {
    let max_age = TimeDelta::from_std(last.max_age).unwrap_or(TimeDelta::days(365));
    (last.started_at + max_age).max(now) + SLACK
}
