//! The entries of lists: jobs, backups, events, namespaces. Names come from stores, so they are escaped here.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use console::{measure_text_width, truncate_str};

use super::person::Entry;
use crate::base::escape;
use crate::base::units;
use crate::cli::timeline::change_text;
use crate::ops::list::{ListRow, ListedContent, ListedRun};
use crate::ops::restore::BackupNamespace;
use crate::ops::timeline::{TimelineChange, TimelineReport};

/// The gap between two columns.
const GAP: usize = 2;

/// A line of a list: a name, and figures at the right end.
struct Row {
    name: String,
    figures: Vec<String>,
}

/// Aligns rows at this width. A name that is too long is cut.
fn aligned(rows: &[Row], width: usize) -> Vec<Entry> {
    let columns = rows.iter().map(|row| row.figures.len()).max().unwrap_or_default();
    let widest = |at: usize| {
        rows.iter().filter_map(|row| row.figures.get(at)).map(|text| measure_text_width(text)).max()
    };
    let widths: Vec<usize> = (0..columns).map(|at| widest(at).unwrap_or_default()).collect();
    let names = rows.iter().map(|row| measure_text_width(&escape::line(&row.name))).max().unwrap_or_default();
    let room = width.saturating_sub(widths.iter().map(|figure| figure + GAP).sum()).clamp(8, names.max(8));
    let entry = |row: &Row| {
        let name = escape::line(&row.name).into_owned();
        let cut = truncate_str(&name, room, "…");
        let mut shown = format!("{cut}{}", " ".repeat(room.saturating_sub(measure_text_width(&cut))));
        for (figure, width) in row.figures.iter().zip(&widths) {
            let gap = width.saturating_sub(measure_text_width(figure)) + GAP;
            shown.push_str(&format!("{}{figure}", " ".repeat(gap)));
        }
        Entry { shown: shown.trim_end().to_string(), name }
    };
    rows.iter().map(entry).collect()
}

fn ago(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    format!("{} ago", units::age((now - then).to_std().unwrap_or_default()))
}

fn listed_run(row: &ListRow) -> Option<&ListedRun> {
    match &row.content {
        ListedContent::Run(run) => Some(run),
        ListedContent::Unreadable { .. } => None,
    }
}

/// The job of a row; `None` if it is not known.
pub(super) fn job_of(row: &ListRow) -> Option<&str> {
    listed_run(row).map(|run| run.job.as_str()).filter(|job| !job.is_empty())
}

/// The jobs of these rows, each with the number and the age of its backups. The job with the newest backup comes first.
pub(super) fn jobs(rows: &[ListRow], now: DateTime<Utc>, width: usize) -> (Vec<String>, Vec<Entry>) {
    let mut found: Vec<(&str, u64, DateTime<Utc>)> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows {
        let Some(job) = job_of(row) else { continue };
        let at = *places.entry(job).or_insert(found.len());
        match found.get_mut(at) {
            Some(known) => known.1 += 1,
            None => found.push((job, 1, row.id.started())),
        }
    }
    let row = |(job, backups, newest): &(&str, u64, DateTime<Utc>)| Row {
        name: job.to_string(),
        figures: vec![units::several(*backups, "backup"), format!("newest {}", ago(*newest, now))],
    };
    let entries = aligned(&found.iter().map(row).collect::<Vec<_>>(), width);
    (found.iter().map(|(job, ..)| job.to_string()).collect(), entries)
}

/// The backups of these rows: age, size, documents and status.
pub(super) fn backups(rows: &[&ListRow], now: DateTime<Utc>, width: usize) -> Vec<Entry> {
    let row = |row: &&ListRow| {
        let run = listed_run(row);
        let started = run.map_or(row.id.started(), |run| run.started_at);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let figures = vec![
            ago(started, now),
            or_dash(run.and_then(|run| run.stored_bytes).map(units::bytes)),
            or_dash(run.and_then(|run| run.documents).map(units::count)),
            row.status.to_string(),
        ];
        Row { name: row.id.to_string(), figures }
    };
    aligned(&rows.iter().map(row).collect::<Vec<_>>(), width)
}

/// The entry for a point in time, above the backups.
pub(super) const MOMENT: &str = "a moment between backups, from the timeline";

/// A moment of the timeline: the argument of `--at` or `--before`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Moment {
    At(String),
    Before(String),
    /// The person types it.
    Other,
}

/// The moments of a timeline: the newest one, those before its events with the newest first, and any other one.
pub(super) fn moments(report: &TimelineReport, width: usize) -> (Vec<Moment>, Vec<Entry>) {
    let mut events: Vec<(DateTime<Utc>, Row, Moment)> = Vec::new();
    for change in &report.changes {
        events.push((change.time, change_row(change), Moment::Before(change.before.clone())));
    }
    for period in &report.periods {
        for writes in &period.namespaces {
            let Some(before) = &writes.before else { continue };
            let deletes = units::several(writes.deletes, "delete");
            let name = format!("{} {deletes} in {}", period.start.format("%m-%d %H:%M:%S"), writes.ns);
            events.push((period.start, event(name, before, true), Moment::Before(before.clone())));
        }
    }
    events.sort_by_key(|(time, ..)| std::cmp::Reverse(*time));
    let mut moments = Vec::new();
    let mut rows = Vec::new();
    if let Some(last) = report.ranges.iter().rev().find(|range| !range.chains.is_empty()) {
        moments.push(Moment::At("newest".into()));
        let name = format!("the newest moment, {}", last.to.date().format("%Y-%m-%d %H:%M:%S"));
        rows.push(Row { name, figures: vec!["--at newest".into()] });
    }
    for (_, row, moment) in events {
        rows.push(row);
        moments.push(moment);
    }
    rows.push(Row { name: "another moment".into(), figures: vec!["--at TIME".into()] });
    moments.push(Moment::Other);
    (moments, aligned(&rows, width))
}

fn change_row(change: &TimelineChange) -> Row {
    let name = format!("{} {}", change.time.format("%m-%d %H:%M:%S"), change_text(change));
    event(name, &change.before, change.restorable)
}

fn event(name: String, before: &str, restorable: bool) -> Row {
    let argument = match restorable {
        true => format!("--before {before}"),
        false => "not restorable".into(),
    };
    Row { name, figures: vec![argument] }
}

/// Sums of namespaces, as `12 namespaces, 1,234 documents, 1.2 MiB`.
pub(super) fn sums(contents: &[BackupNamespace]) -> String {
    let sum = |figure: fn(&BackupNamespace) -> u64| contents.iter().map(figure).fold(0, u64::saturating_add);
    format!(
        "{}, {}, {}",
        units::several(contents.len() as u64, "namespace"),
        units::several(sum(|one| one.documents), "document"),
        units::bytes(sum(|one| one.raw_bytes))
    )
}

/// The namespaces with their documents and raw sizes.
pub(super) fn namespaces(contents: &[BackupNamespace], width: usize) -> Vec<Entry> {
    let row = |one: &BackupNamespace| {
        let figures = vec![units::several(one.documents, "document"), units::bytes(one.raw_bytes)];
        Row { name: one.name(), figures }
    };
    aligned(&contents.iter().map(row).collect::<Vec<_>>(), width)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::namespace::Type;

    pub(in super::super) fn namespace(db: &str, collection: &str, documents: u64) -> BackupNamespace {
        BackupNamespace {
            db: db.into(),
            collection: collection.into(),
            kind: Type::Collection,
            documents,
            raw_bytes: documents * 100,
            stored_bytes: documents,
            sum: 0,
        }
    }

    #[test]
    fn names_are_escaped_and_cut_and_figures_are_aligned() {
        let long = "of_the_warehouse_".repeat(5);
        let contents = [
            namespace("shop", "orders", 1_234_567),
            namespace("shop", &format!("注文_{long}"), 1),
            namespace("shop", "a\u{1b}]0;title\u{7}\u{202e}b\r\nc", 0),
        ];
        let entries = namespaces(&contents, 72);
        let lines: Vec<&str> = entries.iter().map(|entry| entry.shown.as_str()).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        shop.orders                               1,234,567 documents  117.7 MiB
        shop.注文_of_the_warehouse_of_the_wareh…           1 document      100 B
        shop.a\u{1b}]0;title\u{7}\u{202e}b\r\nc           0 documents        0 B
        ");
        for entry in &entries {
            assert_eq!(measure_text_width(&entry.shown), 72, "{}", entry.shown);
            assert!(!entry.shown.contains(escape::steers) && !entry.name.contains(escape::steers));
        }
        // The filter searches the whole name.
        assert!(entries[1].name.ends_with(&long), "{}", entries[1].name);
    }

    #[test]
    fn short_names_have_their_figures_beside_them() {
        let entries = namespaces(&[namespace("a", "b", 5), namespace("a", "longer", 10)], 72);
        assert_eq!(entries[0].shown, "a.b        5 documents   500 B");
        assert_eq!(entries[1].shown, "a.longer  10 documents  1000 B");
        assert_eq!(
            sums(&[namespace("a", "b", 5), namespace("c", "d", 10)]),
            "2 namespaces, 15 documents, 1.5 KiB"
        );
    }
}
