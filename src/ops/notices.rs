//! What mails tell of an operation's report.

use chrono::{DateTime, Utc};

use super::{cleanup, health};
use crate::base::error::Result;
use crate::base::units;
use crate::catalog::Reading;
use crate::catalog::state::State;
use crate::model::id::BackupId;
use crate::notify::Outcome;
use crate::notify::events::{Cleanup, Deletion, Frozen, NewestGood, Report};
use crate::notify::message::{Table, Tone};
use crate::retention;
use crate::store::Store;

/// When the newest good backup of a job began.
pub async fn newest_good(store: &dyn Store, job: &str, reading: &Reading) -> Result<NewestGood> {
    let now = reading.now;
    let backups = State::read(store, job, reading).await?.backups();
    let newest = retention::freshness(&backups, job, now, std::time::Duration::ZERO).newest;
    let began = |id: &BackupId| backups.iter().find(|backup| backup.id == *id).map(|backup| backup.started);
    Ok(newest.and_then(|(id, _)| began(&id)).map_or(NewestGood::Missing, NewestGood::At))
}

/// How a clean-up ended.
pub fn cleanup(report: &cleanup::Report, now: DateTime<Utc>) -> Outcome {
    let of = |outcome| report.backups.iter().filter(move |row| row.outcome == outcome);
    if !report.frozen.is_empty() {
        return Outcome::Frozen(Frozen {
            place: report.place.clone(),
            why: report.frozen.clone(),
            waiting: of(cleanup::Outcome::Frozen).count() as u64,
            backups: report.backups.len() as u64,
            problems: report.problems.clone(),
        });
    }
    let deletion = |row: &cleanup::Row| Deletion {
        id: row.id.to_string(),
        age: (now - row.started).to_std().unwrap_or_default(),
        stored_bytes: row.stored_bytes,
        reason: row.reason.clone(),
    };
    Outcome::Cleanup(Cleanup {
        place: report.place.clone(),
        deleted: of(cleanup::Outcome::Deleted).map(deletion).collect(),
        kept: of(cleanup::Outcome::Kept).count() as u64,
        kept_bytes: of(cleanup::Outcome::Kept).map(|row| row.stored_bytes).fold(0, u64::saturating_add),
        problems: report.problems.clone(),
        notes: report.notes.clone(),
    })
}

/// The mail about the state of everything.
pub fn health(report: &health::Report, now: DateTime<Utc>) -> Report {
    let job = report.job.as_deref().unwrap_or("settings that are wrong");
    let (failed, all) = (report.failed(), report.checks.len());
    let (tone, status) = match failed.len() {
        0 => match report.warned().len() {
            0 => (Tone::Good, "healthy".to_string()),
            n => (Tone::Warning, format!("healthy, {}", units::several(n as u64, "warning"))),
        },
        n => (Tone::Bad, format!("{n} of {} failed", units::several(all as u64, "check"))),
    };
    let row = |row: &health::Row| {
        vec![row.name.to_string(), row.outcome.word().to_string(), row.detail.clone(), units::brief(row.took)]
    };
    let rows = report.checks.iter().map(row).collect();
    let steps =
        report.checks.iter().filter_map(|row| Some(format!("{}: {}", row.name, row.next_step.as_ref()?)));
    let steps: Vec<String> = steps.collect();
    Report {
        tone,
        subject: format!("health: {status}: {job}"),
        headline: format!("{job}: {status}"),
        facts: vec![("Checked".into(), now.format("%Y-%m-%d %H:%M UTC").to_string())],
        paragraphs: Vec::new(),
        tables: vec![Table::new("Checks", &["Check", "Result", "Found", "Took"], &[3], rows)],
        next_step: (!steps.is_empty()).then(|| steps.join(" · ")),
    }
}
