//! The rows of the page's lists.

use super::time;
use crate::base::units;
use crate::catalog::fault::ShownStatus;
use crate::catalog::run::{BackupRun, Status};
use crate::cli::stats::words::{seconds, to_look_at};
use crate::notify::message::Tone;
use crate::ops::stats::StatsReport;
use crate::retention::Rule;
use crate::retention::outlook::{HORIZON, Stay};

/// So many backups stand in sight, and so many more behind a click: a page must not grow for ever.
const IN_SIGHT: usize = 7;
const BEHIND: usize = 193;
/// So many failures beside those of the last runs.
const FAILURES: usize = 10;
/// The longest text, in characters.
const LONGEST: usize = 1500;

/// A backup, and until when it is kept.
#[derive(Debug)]
pub struct KeptRow {
    pub id: String,
    pub size: String,
    pub until: String,
    pub why: String,
    /// Why it is not good.
    pub wrong: Option<String>,
}

/// A run.
#[derive(Debug)]
pub struct RunRow {
    pub id: String,
    pub status: String,
    pub tone: Option<Tone>,
    pub started: String,
    pub facts: String,
    /// Why it failed, or what to look at.
    pub said: Vec<String>,
}

/// A drill.
#[derive(Debug)]
pub struct DrillRow {
    pub id: String,
    pub ended: String,
    pub took: String,
    pub speed: String,
    pub target: String,
    pub sound: bool,
    pub said: Vec<String>,
}

/// The backups in sight, those behind a click, and how many are left out.
pub fn kept(report: &StatsReport, clean: impl Fn(&str) -> String) -> (Vec<KeptRow>, Vec<KeptRow>, usize) {
    let size =
        |stay: &Stay| report.runs.iter().find(|run| run.id == stay.id).and_then(|run| run.stored_bytes);
    let row = |stay: &Stay| KeptRow {
        id: stay.id.to_string(),
        size: size(stay).map_or("-".into(), units::bytes),
        until: match (stay.until, stay.rule) {
            (Some(at), _) => match (at.date_naive() - report.at.date_naive()).num_days() {
                0 => format!("{} (today)", at.format("%F")),
                1 => format!("{} (tomorrow)", at.format("%F")),
                days => format!("{} (in {days} days)", at.format("%F")),
            },
            (None, Rule::Pinned) => "it is unpinned".into(),
            (None, _) => format!("later than in {HORIZON} days"),
        },
        why: stay.rule.to_string(),
        wrong: stay.wrong.as_deref().map(|why| shortened(&clean(why))),
    };
    let stays = &report.outlook.stays;
    let mut rows: Vec<KeptRow> = stays.iter().take(IN_SIGHT + BEHIND).map(row).collect();
    let more = rows.split_off(rows.len().min(IN_SIGHT));
    (rows, more, stays.len().saturating_sub(IN_SIGHT + BEHIND))
}

/// The last runs, and failures before them.
pub fn runs(report: &StatsReport, clean: impl Fn(&str) -> String) -> (Vec<RunRow>, Vec<RunRow>) {
    let row = |run: &BackupRun| {
        let mut facts = Vec::new();
        facts.extend(run.took().map(|took| format!("took {}", units::duration(took))));
        facts.extend(run.documents.map(|n| units::several(n, "document")));
        facts.extend(run.stored_bytes.map(units::bytes));
        let mut said = vec![to_look_at(report, run)];
        said.extend(run.warnings.iter().map(String::as_str));
        said.retain(|text| !text.is_empty());
        said.dedup();
        RunRow {
            id: run.id.to_string(),
            status: report.shown(run).to_string(),
            tone: tone(report, run),
            started: time(run.started_at),
            facts: facts.join(" · "),
            said: said.into_iter().map(|text| shortened(&clean(text))).collect(),
        }
    };
    let last = report.last();
    let failed = |run: &&BackupRun| tone(report, run) == Some(Tone::Bad);
    let failures = report.runs[last.len()..].iter().filter(failed).take(FAILURES).map(row).collect();
    (last.iter().map(row).collect(), failures)
}

/// How a run looks at first sight.
pub fn tone(report: &StatsReport, run: &BackupRun) -> Option<Tone> {
    match report.shown(run) {
        ShownStatus::Fault(_) | ShownStatus::Run(Status::Failed | Status::Interrupted) => Some(Tone::Bad),
        ShownStatus::Run(Status::Completed) if !run.warnings.is_empty() => Some(Tone::Warning),
        ShownStatus::Run(Status::Completed) => Some(Tone::Good),
        ShownStatus::Run(Status::Running | Status::Deleted) | ShownStatus::Archived => None,
    }
}

/// The last drill with each backup, newest first.
pub fn drills(report: &StatsReport, clean: impl Fn(&str) -> String) -> Vec<DrillRow> {
    let row = |(id, drill): &(_, crate::catalog::verdict::Drill)| DrillRow {
        id: crate::model::id::BackupId::to_string(id),
        ended: time(drill.at),
        took: seconds(drill.recovery_seconds),
        speed: format!("{}/s raw", units::bytes(drill.speed().round() as u64)),
        target: clean(&format!("{} {}", drill.target, drill.version)),
        sound: drill.findings.is_empty(),
        said: drill.findings.iter().chain(&drill.notes).map(|text| shortened(&clean(text))).collect(),
    };
    report.drills.iter().take(FAILURES).map(row).collect()
}

/// The beginning of a text: some servers put whole commands into their errors.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.into(),
    }
}
