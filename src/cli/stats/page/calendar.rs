//! The calendar of the page: the runs of each day and the backups that a cleanup deletes on it, in UTC.

use std::collections::BTreeMap;

use chrono::{Datelike, Months, NaiveDate};

use crate::catalog::fault::ShownStatus;
use crate::catalog::run::Status;
use crate::ops::stats::StatsReport;

/// How many months before the current one are shown.
const BEFORE: u32 = 2;

/// A month. Its weeks begin on Monday.
#[derive(Debug)]
pub struct Month {
    pub name: String,
    pub weeks: Vec<Vec<Option<Day>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    pub number: u32,
    pub today: bool,
    /// The CSS class.
    pub class: &'static str,
    /// A symbol for people who cannot distinguish the colours.
    pub sign: String,
    /// The tooltip.
    pub text: String,
}

/// The runs of a day by outcome, and the existing backups that a cleanup deletes on it (`going`).
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    kept: usize,
    bad: usize,
    gone: usize,
    failed: usize,
    running: usize,
    going: usize,
    missed: bool,
}

/// The current month, the next one, and up to two before it that have runs. Empty without runs.
pub fn months(report: &StatsReport) -> Vec<Month> {
    let today = report.at.date_naive();
    let Some(first) = report.runs.last().map(|run| run.started_at.date_naive().min(today)) else {
        return Vec::new();
    };
    let counts = counts(report);
    let this = today.with_day(1).expect("every month has a first");
    let from = (this - Months::new(BEFORE)).max(first.with_day(1).expect("every month has a first"));
    let months = std::iter::successors(Some(from), |month| Some(*month + Months::new(1)));
    let shown = months.take_while(|month| *month <= this + Months::new(1));
    let day = |date: NaiveDate| day(date, counts.get(&date).copied().unwrap_or_default(), first, today);
    shown.map(|start| month(start, day)).collect()
}

fn counts(report: &StatsReport) -> BTreeMap<NaiveDate, Count> {
    let mut counts: BTreeMap<NaiveDate, Count> = BTreeMap::new();
    for run in &report.runs {
        let count = counts.entry(run.started_at.date_naive()).or_default();
        match run.status {
            ShownStatus::Fault(_) => count.bad += 1,
            ShownStatus::Run(Status::Completed) | ShownStatus::Archived => count.kept += 1,
            ShownStatus::Run(Status::Deleted) => count.gone += 1,
            ShownStatus::Run(Status::Failed | Status::Interrupted) => count.failed += 1,
            ShownStatus::Run(Status::Running) => count.running += 1,
        }
    }
    report.missed.iter().for_each(|day| counts.entry(*day).or_default().missed = true);
    let ends = report.outlook.stays.iter().filter_map(|stay| stay.until);
    ends.for_each(|at| counts.entry(at.date_naive()).or_default().going += 1);
    counts
}

fn month(start: NaiveDate, day: impl Fn(NaiveDate) -> Day) -> Month {
    let mut cells = vec![None; start.weekday().num_days_from_monday() as usize];
    cells.extend(
        start.iter_days().take_while(|date| date.month() == start.month()).map(|date| Some(day(date))),
    );
    cells.resize(cells.len().next_multiple_of(7), None);
    let weeks = cells.chunks(7).map(<[_]>::to_vec).collect();
    Month { name: start.format("%B %Y").to_string(), weeks }
}

fn day(date: NaiveDate, count: Count, first: NaiveDate, today: NaiveDate) -> Day {
    let Count { kept, bad, gone, failed, running, going, missed: _ } = count;
    let (class, mut sign) = match count {
        Count { kept: 1.., .. } => ("kept", "●".to_string()),
        Count { bad: 1.., .. } => ("failed", String::new()),
        Count { gone: 1.., .. } => ("gone", "○".into()),
        Count { failed: 1.., .. } => ("failed", String::new()),
        Count { running: 1.., .. } => ("running", "…".into()),
        Count { missed: true, .. } => ("missed", "–".into()),
        Count { going: 1.., .. } => ("going", String::new()),
        // Today's run may be still to come.
        _ if date >= first && date < today => ("none", "–".into()),
        _ => ("", String::new()),
    };
    if bad > 0 {
        sign.push('!');
    }
    if failed > 0 {
        sign.push('×');
    }
    if going > 0 {
        sign.push_str(&format!("−{going}"));
    }
    let parts = [
        (kept, "made and kept"),
        (bad, "made, its stored data is not good"),
        (gone, "made, deleted since"),
        (failed, "failed or interrupted"),
        (running, "under way"),
        (going, "to be deleted"),
    ];
    let counted: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let none = match class {
        "missed" => Some("no run, though one was expected".to_string()),
        "none" => Some("no run".into()),
        _ => None,
    };
    let outcome = none.into_iter().chain(counted).collect::<Vec<_>>().join(", ");
    let text = if outcome.is_empty() { date.to_string() } else { format!("{date}: {outcome}") };
    Day { number: date.day(), today: date == today, class, sign, text }
}
