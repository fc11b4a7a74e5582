//! `stats --html`: one page with all figures, without scripts and without anything from the network. This module prepares the
//! texts; the templates in this folder draw them and escape every text.

mod calendar;
mod chart;
mod ribbon;
mod stack;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use askama::Template;
use chrono::{DateTime, Utc};

use self::calendar::Month;
use self::chart::{AxisUnit, Chart, Series};
use self::ribbon::Ribbon;
use self::stack::StackedChart;
use super::{
    StatsSummary, StatsTable, age, forecast, main_problem, not_good, over_time, places_table, seconds,
};
use crate::base::beneath::settled;
use crate::base::error::{Error, Result};
use crate::base::files::replace;
use crate::base::secret::Redactor;
use crate::base::units;
use crate::catalog::fault::ShownStatus;
use crate::catalog::run::Status;
use crate::catalog::verdict::Drill;
use crate::cli::restorable::closed_gaps;
use crate::model::id::BackupId;
use crate::notify::message::{Sender, Tone, plain};
use crate::ops::stats::{StatsReport, StatsRun};
use crate::retention::Rule;
use crate::retention::outlook::{HORIZON, Stay};

/// The mode of the file: a web server of another user reads it.
const MODE: u32 = 0o644;
/// The most runs in a chart.
const CHART_RUNS: usize = 400;
/// The most backups that are shown at once.
const VISIBLE_BACKUPS: usize = 7;
/// The most backups that are shown after a click, so that the page stays small.
const HIDDEN_BACKUPS: usize = 193;
/// The most failures before the last runs, and the most drills.
const FAILURES: usize = 10;
/// The most characters of an error or warning. Some servers put whole commands into their errors.
const LONGEST: usize = 1500;

/// A figure at the top of the page.
#[derive(Debug)]
struct Card {
    label: &'static str,
    value: String,
    note: String,
    tone: Option<Tone>,
}

/// A backup in the list of kept backups.
#[derive(Debug)]
struct KeptRow {
    id: String,
    size: String,
    until: String,
    why: String,
    /// The selection of a partial backup.
    partial: Option<String>,
    /// Why a backup of the whole job is not good.
    wrong: Option<String>,
}

#[derive(Debug)]
struct RunRow {
    id: String,
    status: String,
    tone: Option<Tone>,
    started: String,
    facts: String,
    /// The error and the warnings.
    remarks: Vec<String>,
}

#[derive(Debug)]
struct DrillRow {
    id: String,
    ended: String,
    took: String,
    speed: String,
    target: String,
    sound: bool,
    remarks: Vec<String>,
}

#[derive(Template)]
#[template(path = "stats.html")]
struct Page<'a> {
    job: &'a str,
    place: String,
    at: String,
    sender: &'a Sender,
    summary: StatsSummary,
    cards: Vec<Card>,
    /// The points in time that can be restored.
    ribbon: Option<Ribbon>,
    charts: Vec<Chart>,
    /// What the backups waited for.
    waits: Option<StackedChart>,
    periods: Vec<StatsTable>,
    /// The places, if there are copies.
    places: Option<StatsTable>,
    storage: Option<Chart>,
    storage_facts: Vec<(&'static str, String)>,
    months: Vec<Month>,
    frozen: bool,
    kept: Vec<KeptRow>,
    more: Vec<KeptRow>,
    left_out: usize,
    last: Vec<RunRow>,
    failures: Vec<RunRow>,
    drills: Vec<DrillRow>,
}

impl Page<'_> {
    fn tone(&self, tone: &Tone) -> &'static str {
        match tone {
            Tone::Good => "good",
            Tone::Warning => "warning",
            Tone::Bad => "bad",
        }
    }
}

/// Renders the page.
pub fn render(report: &StatsReport, sender: &Sender, redactor: &Redactor) -> String {
    let clean = |text: &str| plain(&redactor.clean(text));
    let mut summary = StatsSummary::new(report);
    summary.looks.iter_mut().for_each(|line| *line = clean(line));
    let stays = &report.outlook.stays;
    let shown = stays.iter().take(VISIBLE_BACKUPS + HIDDEN_BACKUPS);
    let mut kept: Vec<KeptRow> = shown.map(|stay| kept_row(stay, report, clean)).collect();
    let more = kept.split_off(kept.len().min(VISIBLE_BACKUPS));
    let earlier = &report.runs[report.last().len()..];
    let failures = earlier.iter().filter(|run| run_tone(run) == Some(Tone::Bad)).take(FAILURES);
    let page = Page {
        job: &report.job,
        place: clean(&report.place),
        at: time(report.at),
        sender,
        summary,
        cards: cards(report),
        ribbon: report.restorable.as_ref().and_then(|found| Ribbon::of(found, report.at, clean)),
        charts: charts(report),
        waits: waits_chart(report),
        periods: over_time(report).into_iter().flatten().collect(),
        places: places_table(report),
        storage: storage_chart(report),
        storage_facts: storage_facts(report),
        months: calendar::months(report),
        frozen: !report.standing.frozen.is_empty(),
        left_out: stays.len() - kept.len() - more.len(),
        kept,
        more,
        last: report.last().iter().map(|run| run_row(run, clean)).collect(),
        failures: failures.map(|run| run_row(run, clean)).collect(),
        drills: report.drills.iter().take(FAILURES).map(|(id, drill)| drill_row(id, drill, clean)).collect(),
    };
    page.render().expect("rendering to memory does not fail") + "\n"
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %H:%M UTC").to_string()
}

fn cards(report: &StatsReport) -> Vec<Card> {
    let standing = &report.standing;
    let allowed = units::age(standing.max_age);
    let mut cards = vec![match standing.age {
        Some(age) => Card {
            label: "Newest good backup",
            value: format!("{} old", units::age(age)),
            note: format!("{allowed} are allowed"),
            tone: Some(if standing.fresh { Tone::Good } else { Tone::Bad }),
        },
        None => Card {
            label: "Newest good backup",
            value: "none".into(),
            note: format!("it should be at most {allowed} old"),
            tone: Some(if report.runs.is_empty() { Tone::Warning } else { Tone::Bad }),
        },
    }];
    if let Some(last) = report.runs.first() {
        cards.push(Card {
            label: "Last run",
            value: last.status.to_string(),
            note: format!("began {} ago", age(last.started_at, report)),
            tone: run_tone(last),
        });
    }
    let backups = units::several(report.backups as u64, "backup");
    cards.push(Card {
        label: "Stored",
        value: units::bytes(report.stored_bytes),
        note: format!("{backups}{}, {} raw", not_good(report), units::bytes(report.raw_bytes)),
        tone: (report.not_good + report.lost > 0).then_some(Tone::Warning),
    });
    let month = report.success.iter().find(|success| success.days == Some(30));
    if let Some((month, percent)) = month.and_then(|month| Some((month, month.percent?))) {
        cards.push(Card {
            label: "Runs that made a backup",
            value: format!("{percent:.1} %"),
            note: format!("{} of {} in 30 days", month.made, month.ended),
            tone: None,
        });
    }
    if let Some((found, rpo)) = report.restorable.as_ref().zip(report.rpo) {
        let since = found.continuous().next().map(|first| {
            let gaps = match closed_gaps(found, first) {
                0 => String::new(),
                n => format!(", except {}", units::several(n, "gap")),
            };
            format!("any second since {}{gaps}", time(first.from.date()))
        });
        cards.push(Card {
            label: "Newest second that can be restored",
            value: format!("{} ago", units::age(rpo)),
            note: since.unwrap_or_else(|| "no oplog slice continues a backup".into()),
            tone: Some(if found.open_gap().is_some() { Tone::Bad } else { Tone::Good }),
        });
    }
    if let Some((_, drill)) = report.drills.first() {
        let differs = if drill.is_sound() { "" } else { ", which found differences" };
        cards.push(Card {
            label: "Measured recovery time",
            value: seconds(drill.recovery_seconds),
            note: format!("by a drill {} ago{differs}", age(drill.at, report)),
            tone: Some(if drill.is_sound() { Tone::Good } else { Tone::Bad }),
        });
    }
    cards
}

/// The size, duration and speed of the last runs.
fn charts(report: &StatsReport) -> Vec<Chart> {
    let shown: Vec<&StatsRun> = report.runs.iter().take(CHART_RUNS).rev().collect();
    let of = |outcomes: [Status; 2]| shown.iter().filter(move |run| outcomes.contains(&run.outcome));
    let failed: Vec<_> = of([Status::Failed, Status::Interrupted]).map(|run| run.started_at).collect();
    let chart = |title, unit, value: fn(&StatsRun) -> Option<f64>| {
        let made = of([Status::Completed, Status::Deleted]);
        let values: Vec<_> = made.filter_map(|run| Some((run.started_at, value(run)?))).collect();
        Chart::of(&Series { title, unit, ahead: false, values: &values, failed: &failed })
    };
    let charts = [
        chart("Size of a backup", AxisUnit::Bytes, |run| run.stored_bytes.map(|n| n as f64)),
        chart("Duration of a backup", AxisUnit::Seconds, |run| run.took().map(|took| took.as_secs_f64())),
        chart("Raw data read per second", AxisUnit::BytesPerSecond, |run| run.raw_bytes_per_second),
    ];
    charts.into_iter().flatten().collect()
}

/// The data phases of the last backups, and what they waited for.
fn waits_chart(report: &StatsReport) -> Option<StackedChart> {
    let shown = report.runs.iter().take(CHART_RUNS).rev();
    let values: Vec<_> = shown.filter_map(|run| Some((run.started_at, run.timing?))).collect();
    StackedChart::of(&values)
}

/// The forecast of the stored bytes.
fn storage_chart(report: &StatsReport) -> Option<Chart> {
    let values: Vec<_> = report.outlook.stored.iter().map(|s| (s.at, s.bytes as f64)).collect();
    let title = "Storage after each cleanup of the next 30 days";
    Chart::of(&Series { title, unit: AxisUnit::Bytes, ahead: true, values: &values, failed: &[] })
}

fn storage_facts(report: &StatsReport) -> Vec<(&'static str, String)> {
    let backups = units::several(report.backups as u64, "backup");
    let (stored, raw) = (units::bytes(report.stored_bytes), units::bytes(report.raw_bytes));
    let mut facts = vec![("now", format!("{stored} in {backups}, {raw} raw"))];
    let most = report.outlook.stored.iter().max_by_key(|stored| stored.bytes);
    facts.extend(
        most.map(|most| ("at most", format!("{} on {}", units::bytes(most.bytes), most.at.format("%F")))),
    );
    facts.extend(forecast(report).map(|forecast| ("forecast", forecast)));
    facts
}

fn kept_row(stay: &Stay, report: &StatsReport, clean: impl Fn(&str) -> String) -> KeptRow {
    let run = report.runs.iter().find(|run| run.id == stay.id);
    KeptRow {
        id: stay.id.to_string(),
        size: run.and_then(|run| run.stored_bytes).map_or("-".into(), units::bytes),
        until: match (stay.until, stay.rule) {
            (Some(at), _) => match (at.date_naive() - report.at.date_naive()).num_days() {
                0 => format!("{} (today)", at.format("%F")),
                1 => format!("{} (tomorrow)", at.format("%F")),
                days => format!("{} (in {days} days)", at.format("%F")),
            },
            (None, Rule::Pinned) => "it is unpinned".into(),
            (None, Rule::Untrusted) => "a person deletes it".into(),
            (None, _) => format!("later than in {HORIZON} days"),
        },
        why: stay.rule.word().into(),
        partial: stay.partial.as_deref().map(|what| shortened(&clean(what))),
        wrong: stay.wrong.as_deref().filter(|_| stay.partial.is_none()).map(|why| shortened(&clean(why))),
    }
}

fn run_row(run: &StatsRun, clean: impl Fn(&str) -> String) -> RunRow {
    let mut facts = Vec::new();
    facts.extend(run.took().map(|took| format!("took {}", units::duration(took))));
    facts.extend(run.documents.map(|n| units::several(n, "document")));
    facts.extend(run.stored_bytes.map(units::bytes));
    let speed = run.raw_bytes_per_second.map(units::bytes_per_second);
    facts.extend(speed.map(|speed| format!("{speed} raw")));
    facts.extend(run.timing.map(|timing| format!("waited {}", timing.words())));
    let mut remarks = vec![main_problem(run)];
    remarks.extend(run.warnings.iter().chain(&run.slow).map(String::as_str));
    remarks.retain(|text| !text.is_empty());
    remarks.dedup();
    RunRow {
        id: run.id.to_string(),
        status: run.status.to_string(),
        tone: run_tone(run),
        started: time(run.started_at),
        facts: facts.join(" · "),
        remarks: remarks.into_iter().map(|text| shortened(&clean(text))).collect(),
    }
}

fn run_tone(run: &StatsRun) -> Option<Tone> {
    match run.status {
        ShownStatus::Fault(_) | ShownStatus::Run(Status::Failed | Status::Interrupted) => Some(Tone::Bad),
        ShownStatus::Run(Status::Completed) if !run.warnings.is_empty() => Some(Tone::Warning),
        ShownStatus::Run(Status::Completed) => Some(Tone::Good),
        ShownStatus::Run(Status::Running | Status::Deleted) | ShownStatus::Archived => None,
    }
}

fn drill_row(id: &BackupId, drill: &Drill, clean: impl Fn(&str) -> String) -> DrillRow {
    let point = drill.point.as_ref().map(|point| format!("a point in time: {}", point.at.second()));
    DrillRow {
        id: id.to_string(),
        ended: time(drill.at),
        took: seconds(drill.recovery_seconds),
        speed: format!("{}/s raw", units::bytes(drill.speed().round() as u64)),
        target: clean(&format!("{} {}", drill.target, drill.version)),
        sound: drill.is_sound(),
        remarks: point
            .iter()
            .chain(drill.wrong())
            .chain(&drill.notes)
            .map(|text| shortened(&clean(text)))
            .collect(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.into(),
    }
}

/// Checks that the page can be written to this path, as far as possible without writing.
///
/// # Errors
/// Returns a usage error that names the path if something other than a file is there, a link that another user can have
/// made, or a folder that does not exist.
pub fn check_file(path: &Path) -> Result<()> {
    let wrong = |why: String| {
        Err(Error::usage(format!("--html {}: {why}", path.display()))
            .hint("Name a file in an existing directory; each run replaces the file"))
    };
    match fs::metadata(path) {
        // Renaming the page over a device would replace the device.
        Ok(there) if !there.is_file() => return wrong("it exists and is not a file".into()),
        Ok(_) => return settled(path).map(drop).or_else(|e| wrong(e.to_string())),
        Err(_) => {}
    }
    if path.file_name().is_none() {
        return wrong("it is not the name of a file".into());
    }
    match fs::metadata(folder(path)) {
        // A dangling link may also belong to another user.
        Ok(folder) if folder.is_dir() => settled(path).map(drop).or_else(|e| wrong(e.to_string())),
        Ok(_) => wrong(format!("{} is not a directory", folder(path).display())),
        Err(e) => wrong(format!("{}: {e}", folder(path).display())),
    }
}

/// Writes the page and replaces the file atomically. A link stays, and the file that it points to is replaced.
///
/// # Errors
/// Returns an error if the page cannot be written. The old file is unchanged then.
pub fn write_file(path: &Path, page: &str) -> Result<()> {
    settled(path).and_then(|target| replace(&target, page.as_bytes(), MODE)).map_err(|e| {
        Error::failed(format!("cannot write the page {}", path.display()))
            .hint("Name a file in a directory that this user may write to and that has room for it: --html FILE")
            .caused_by(e)
    })
}

fn folder(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).into()
}
