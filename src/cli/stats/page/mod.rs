//! `stats --html`: one page that needs nothing else, neither a script nor anything of the network.
//! What it says is put together here; `stats.html` beside it draws it, and escapes every word.

mod calendar;
mod chart;
mod file;
#[cfg(test)]
mod fixture;
mod lists;
mod unit;

use askama::Template;
use chrono::{DateTime, Utc};

use super::standing::{self, Look};
use super::words::{StatsTable, ago, not_good, periods, seconds};
use crate::base::secret::Redactor;
use crate::base::units;
use crate::catalog::run::{BackupRun, Status};
use crate::notify::message::{Sender, Tone, plain};
use crate::ops::stats::{StatsReport, speed};
use calendar::Month;
use chart::{Chart, Series};
pub use file::{check, write};
use lists::{DrillRow, KeptRow, RunRow};
use unit::AxisUnit;

/// So many of the last runs are drawn.
const DRAWN: usize = 400;

/// A figure at a glance.
#[derive(Debug)]
struct Card {
    label: &'static str,
    value: String,
    note: String,
    tone: Option<Tone>,
}

#[derive(Template)]
#[template(path = "stats.html")]
struct Page<'a> {
    job: &'a str,
    place: String,
    at: String,
    sender: &'a Sender,
    look: Look,
    cards: Vec<Card>,
    charts: Vec<Chart>,
    periods: Option<StatsTable>,
    storage: Option<Chart>,
    stored: Vec<(&'static str, String)>,
    months: Vec<Month>,
    frozen: bool,
    kept: Vec<KeptRow>,
    more: Vec<KeptRow>,
    left_out: usize,
    last: Vec<RunRow>,
    failures: Vec<RunRow>,
    drills: Vec<DrillRow>,
}

/// The page.
pub fn render(report: &StatsReport, sender: &Sender, redactor: &Redactor) -> String {
    let clean = |text: &str| plain(&redactor.clean(text));
    let mut look = standing::look(report);
    look.looks.iter_mut().for_each(|line| *line = clean(line));
    let (kept, more, left_out) = lists::kept(report, clean);
    let (last, failures) = lists::runs(report, clean);
    let page = Page {
        job: &report.job,
        place: clean(&report.place),
        at: time(report.at),
        sender,
        look,
        cards: cards(report),
        charts: charts(report),
        periods: periods(report),
        storage: storage(report),
        stored: stored(report),
        months: calendar::months(report),
        frozen: !report.standing.frozen.is_empty(),
        kept,
        more,
        left_out,
        last,
        failures,
        drills: lists::drills(report, clean),
    };
    page.render().expect("rendering to memory does not fail") + "\n"
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

fn time(at: DateTime<Utc>) -> String {
    at.format("%F %H:%M UTC").to_string()
}

fn cards(report: &StatsReport) -> Vec<Card> {
    let standing = &report.standing;
    let allowed = units::duration(standing.max_age);
    let mut cards = vec![match &standing.freshness.newest {
        Some((_, age)) => Card {
            label: "Newest good backup",
            value: format!("{} old", units::duration(*age)),
            note: format!("{allowed} are allowed"),
            tone: Some(if standing.freshness.fresh { Tone::Good } else { Tone::Bad }),
        },
        None => Card {
            label: "Newest good backup",
            value: "none".into(),
            note: format!("one of at most {allowed} is wanted"),
            tone: Some(if report.runs.is_empty() { Tone::Warning } else { Tone::Bad }),
        },
    }];
    if let Some(last) = report.runs.first() {
        cards.push(Card {
            label: "Last run",
            value: report.shown(last).to_string(),
            note: format!("began {} ago", ago(last.started_at, report.at)),
            tone: lists::tone(report, last),
        });
    }
    let (kept, bytes) = report.kept;
    let value = units::bytes(bytes);
    let bad = not_good(report);
    let note =
        format!("{}{bad}, {} raw", units::several(kept as u64, "backup"), units::bytes(report.kept_raw));
    let tone = (report.not_good + report.lost > 0).then_some(Tone::Warning);
    cards.push(Card { label: "Stored", value, note, tone });
    let month = report.success.iter().find(|success| success.days == Some(30));
    if let Some((month, percent)) = month.and_then(|month| Some((month, month.percent()?))) {
        cards.push(Card {
            label: "Runs that made a backup",
            value: format!("{percent:.1} %"),
            note: format!("{} of {} in 30 days", month.made, month.ended),
            tone: None,
        });
    }
    if let Some((_, drill)) = report.drills.first() {
        let how = if drill.findings.is_empty() { "" } else { ", which found differences" };
        cards.push(Card {
            label: "Measured recovery time",
            value: seconds(drill.recovery_seconds),
            note: format!("by a drill {} ago{how}", ago(drill.at, report.at)),
            tone: Some(if drill.findings.is_empty() { Tone::Good } else { Tone::Bad }),
        });
    }
    cards
}

/// Size, duration and throughput of the last runs.
fn charts(report: &StatsReport) -> Vec<Chart> {
    let drawn: Vec<&BackupRun> = report.runs.iter().take(DRAWN).rev().collect();
    let no_backup = |run: &&&BackupRun| matches!(run.status, Status::Failed | Status::Interrupted);
    let failed: Vec<DateTime<Utc>> = drawn.iter().filter(no_backup).map(|run| run.started_at).collect();
    let chart = |title, unit, value: fn(&BackupRun) -> Option<f64>| {
        let made = drawn.iter().filter(|run| matches!(run.status, Status::Completed | Status::Deleted));
        let values: Vec<_> = made.filter_map(|run| Some((run.started_at, value(run)?))).collect();
        Chart::of(&Series { title, unit, ahead: false, values: &values, failed: &failed })
    };
    let charts = [
        chart("Size of a backup", AxisUnit::Bytes, |run| run.stored_bytes.map(|n| n as f64)),
        chart("How long it took", AxisUnit::Seconds, |run| run.took().map(|took| took.as_secs_f64())),
        chart("Raw data read per second", AxisUnit::BytesPerSecond, speed),
    ];
    charts.into_iter().flatten().collect()
}

/// What will be stored.
fn storage(report: &StatsReport) -> Option<Chart> {
    let values: Vec<_> = report.outlook.stored.iter().map(|s| (s.at, s.bytes as f64)).collect();
    let title = "Stored, after each clean-up of the next 30 days";
    Chart::of(&Series { title, unit: AxisUnit::Bytes, ahead: true, values: &values, failed: &[] })
}

/// The same in words.
fn stored(report: &StatsReport) -> Vec<(&'static str, String)> {
    let (kept, bytes) = report.kept;
    let now = format!(
        "{} in {}, {} raw",
        units::bytes(bytes),
        units::several(kept as u64, "backup"),
        units::bytes(report.kept_raw)
    );
    let mut facts = vec![("now", now)];
    let most = report.outlook.stored.iter().max_by_key(|stored| stored.bytes);
    facts.extend(
        most.map(|most| ("at most", format!("{} on {}", units::bytes(most.bytes), most.at.format("%F")))),
    );
    facts.extend(standing::forecast(report).map(|forecast| ("forecast", forecast)));
    facts
}

#[cfg(test)]
mod tests;
