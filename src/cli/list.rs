//! `uzima-backup list`.

mod details;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use anstyle::AnsiColor;
use chrono::{DateTime, TimeDelta, Utc};

use super::args::ListArgs;
use super::identity::identities;
use super::output::{self, Output};
use super::restorable::{open_gap_text, restorable_text, wrap};
use super::styled::{Colour, StyledText};
use super::{job_meant, units};
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::catalog::choose::{self, WhichBackup};
use crate::catalog::fault::{BackupFault, ShownStatus};
use crate::catalog::marks::Pin;
use crate::catalog::run::{Status, Verified};
use crate::catalog::{CatalogEntry, layout, records};
use crate::model::id::BackupId;
use crate::model::losses::Losses;
use crate::model::manifest::COLLAPSED;
use crate::notify::run::Run;
use crate::ops::list::{
    self, JobRanges, ListOptions, ListReport, ListRow, ListedContent, ListedRun, RowPlaces,
};
use crate::ops::places::Places;

pub async fn run(args: &ListArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let records = run.config.records.as_ref()?;
    let places = Places::open_existing(run.config).await?;
    let (job, reading) = (args.backups.job.as_deref(), run.reading()?);
    let known = records::known_runs(records, job).await;
    if let Some(which) = &args.which {
        let id = chosen(which, &places, job, run).await?;
        let keys = async || identities(run.config, run.cancel).await;
        let report = list::details::details_in(&places, &known, &id, job, keys, &reading).await?;
        output.styled(&report, || details::text(&report, reading.now, output.width(), output.colour));
        if output.quiet {
            report.problems.iter().for_each(|problem| output::needs_look(problem));
        }
        return Ok(report.exit());
    }
    let limit = args.limit.map(NonZeroUsize::get);
    let options = ListOptions {
        job: args.backups.job.clone(),
        configured_job: run.config.job.as_ref().ok().map(|settings| settings.job.clone()),
        limit,
        statuses: args.status.clone(),
    };
    let report = list::list_places(&places, &known, &options, &reading).await?;
    output.styled(&report, || text(&report, job, reading.now, output.width(), output.colour));
    if output.quiet {
        report.problems.iter().for_each(|problem| output::needs_look(problem));
    }
    Ok(report.exit())
}

/// The id of the chosen backup. An id may also be that of a run without a backup.
async fn chosen(which: &WhichBackup, places: &Places, job: Option<&str>, run: &Run<'_>) -> Result<BackupId> {
    match which {
        WhichBackup::Id(id) => return Ok(id.clone()),
        WhichBackup::Prefix(prefix) => return places.by_prefix(prefix, job).await,
        WhichBackup::Latest | WhichBackup::By(_) => {}
    }
    let (job, reading) = (job_meant(which, job, run.config), run.reading()?);
    let (mut newest, mut first) = (None, None);
    for place in &places.open {
        match choose::choose(&*place.store, which, job, &reading).await {
            Ok(CatalogEntry::Backup(manifest)) => newest = newest.max(Some(manifest.id)),
            Ok(
                CatalogEntry::Damaged { id, .. }
                | CatalogEntry::Archived { id, .. }
                | CatalogEntry::Untrusted { id, .. },
            ) => newest = newest.max(Some(id)),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    match (newest, first) {
        (Some(id), _) => Ok(id),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::failed("no place can be read")),
    }
}

/// Further columns are added only while they leave room for the notes, or for this many characters of them.
const NOTE_ROOM: usize = 40;
/// The width of the gap between two columns.
const GAP: usize = 2;
/// The fewest characters of the job's name that are shown.
const JOB_WIDTH: usize = 8;

/// A column of the table. `rank` is its place in the order in which columns are added while the terminal has room; columns
/// of rank 0 are always there.
struct Column {
    head: &'static str,
    rank: usize,
    right: bool,
    cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        let lengths = self.cells.iter().map(|cell| cell.chars().count());
        lengths.chain([self.head.len()]).max().unwrap_or_default()
    }
}

fn text(
    report: &ListReport,
    job: Option<&str>,
    now: DateTime<Utc>,
    width: usize,
    colour: Colour,
) -> StyledText {
    let mut text = StyledText::new(colour);
    if report.rows.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        text.push(&format!("{}\n", escape::line(&format!("no backups{of_job} in {}", report.place))));
        push_ranges(&mut text, report, now, width);
        push_problems(&mut text, report, width);
        return text;
    }
    let rows = &report.rows;
    let columns = shown_columns(rows, now, width);
    let status = columns.iter().position(|column| column.head == STATUS).unwrap_or_default();
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let pad = |column: usize, cell: &str| {
        let gap = " ".repeat(widths[column] - cell.chars().count());
        if columns[column].right { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
    };
    let before = widths[..status].iter().map(|width| width + GAP).sum::<usize>();
    let whole = widths.iter().map(|width| width + GAP).sum::<usize>();
    let heads: Vec<String> = (0..columns.len()).map(|column| pad(column, columns[column].head)).collect();
    let has_notes = rows.iter().any(|row| has_figures(row) && !notes(row).is_empty());
    let heads = format!("{}{}", heads.join("  "), if has_notes { "  NOTE" } else { "" });
    text.push(&format!("{}\n", heads.trim_end()));
    for (n, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            (0..columns.len()).map(|column| pad(column, &columns[column].cells[n])).collect();
        text.push(&cells[..status].iter().map(|cell| format!("{cell}  ")).collect::<String>());
        let word = row.status.to_string();
        text.paint(&word, status_colour(row));
        let rest = match reason(row) {
            // The reason takes the place of the figures.
            Some(reason) => {
                let room = width.saturating_sub(before + word.chars().count() + 2);
                format!(": {}", fitting(&reason, room))
            }
            None if !has_figures(row) => String::new(),
            None => {
                let figures: String = cells[status + 1..].iter().map(|cell| format!("  {cell}")).collect();
                let gap = " ".repeat(widths[status] - word.chars().count());
                format!("{gap}{figures}  {}", note(row, width.saturating_sub(whole)))
            }
        };
        text.push(&format!("{}\n", rest.trim_end().trim_end_matches(':')));
    }
    push_ranges(&mut text, report, now, width);
    push_problems(&mut text, report, width);
    text
}

fn push_problems(text: &mut StyledText, report: &ListReport, width: usize) {
    for problem in &report.problems {
        wrap("needs a look: ", "  ", problem, width).iter().for_each(|line| text.push(&format!("{line}\n")));
    }
}

/// The points in time that can be restored, below the table.
fn push_ranges(text: &mut StyledText, report: &ListReport, now: DateTime<Utc>, width: usize) {
    for JobRanges { job, restorable } in &report.oplog {
        let range = format!("{job}: restorable to {}", restorable_text(restorable, now));
        let gap = open_gap_text(restorable);
        text.push("\n");
        for line in wrap("", "  ", &range, width) {
            text.push(&format!("{line}\n"));
        }
        for line in gap.iter().flat_map(|gap| wrap("  ", "  ", gap, width)) {
            text.paint(&line, Some(AnsiColor::Red));
            text.push("\n");
        }
    }
}

const STATUS: &str = "STATUS";

/// The columns that fit, without the notes, which are the last column.
fn shown_columns(rows: &[ListRow], now: DateTime<Utc>, width: usize) -> Vec<Column> {
    let runs: Vec<Option<&ListedRun>> = rows.iter().map(listed_run).collect();
    let of_run = |run: &dyn Fn(&ListedRun) -> Option<String>| -> Vec<String> {
        let cell = |found: &Option<&ListedRun>| found.and_then(run).unwrap_or_else(|| "-".into());
        runs.iter().map(cell).map(|cell| one_line(&cell)).collect()
    };
    let column = |head, rank, right, cells| Column { head, rank, right, cells };
    let jobs: BTreeSet<&str> = runs.iter().flatten().map(|run| run.job.as_str()).collect();
    let started = |row: &ListRow| match listed_run(row) {
        Some(run) => run.started_at,
        None => row.id.started(),
    };
    let age = |row: &ListRow| units::duration((now - started(row)).to_std().unwrap_or_default());
    let status = |row: &ListRow| if has_figures(row) { row.status.to_string() } else { String::new() };
    let mut columns = vec![
        column("ID", 0, false, rows.iter().map(|row| row.id.to_string()).collect()),
        column("STARTED (UTC)", 0, false, rows.iter().map(|row| date(started(row), now)).collect()),
        column("AGE", 3, true, rows.iter().map(age).collect()),
        column(
            "JOB",
            if jobs.len() > 1 { 0 } else { usize::MAX },
            false,
            of_run(&|run| Some(run.job.clone())),
        ),
        column(
            "PLACES",
            if rows.iter().any(|row| row.places.is_some()) { 0 } else { usize::MAX },
            false,
            rows.iter().map(|row| row.places.as_ref().map_or("-".into(), places_text)).collect(),
        ),
        column(STATUS, 0, false, rows.iter().map(status).collect()),
        column("SIZE", 0, true, of_run(&|run| run.stored_bytes.map(units::bytes))),
        column("DOCUMENTS", 1, true, of_run(&|run| run.documents.map(units::count))),
        column("TOOK", 2, true, of_run(&|run| run.took().map(units::duration))),
        column("RAW SPEED", 7, true, of_run(&|run| run.raw_speed().map(units::bytes_per_second))),
        column("VERIFIED", 4, false, of_run(&|run| Some(verified(run, now)))),
        column("CONSISTENCY", 5, false, of_run(&|run| run.consistency.clone())),
        column("ENGINE", 6, false, of_run(&|run| run.engine.clone())),
    ];
    let longest = |note: &dyn Fn(&ListRow) -> String| {
        let noted = rows.iter().filter(|row| has_figures(row));
        let length = noted.map(|row| note(row).chars().count()).max().unwrap_or_default();
        if length == 0 { 0 } else { length + GAP }
    };
    let (short, full) = (longest(&short_note), longest(&|row| notes(row).join(", ")).min(NOTE_ROOM));
    let taken = |columns: &[Column], rank: usize| {
        let shown = columns.iter().filter(|column| column.rank <= rank);
        let widths = shown.map(|column| column.width() + GAP).sum::<usize>() - GAP;
        widths + if rank > 1 { full } else { short }
    };
    let most = (1..=7).take_while(|rank| taken(&columns, *rank) <= width).last().unwrap_or_default();
    let (over, job) = (taken(&columns, 0).saturating_sub(width), columns[3].width());
    if over > 0 && jobs.len() > 1 {
        let room = job.saturating_sub(over).max(JOB_WIDTH);
        columns[3].cells.iter_mut().for_each(|cell| *cell = units::brief_text(cell, room));
    }
    columns.retain(|column| column.rank <= most);
    columns
}

/// The places of a backup, such as `first, offsite (damaged)`.
fn places_text(places: &RowPlaces) -> String {
    let faults = places.faults.iter().map(|fault| format!("{} ({})", fault.place, fault.status));
    match places.whole.iter().cloned().chain(faults).collect::<Vec<_>>() {
        names if names.is_empty() => "-".into(),
        names => names.join(", "),
    }
}

/// Returns true if the row shows a backup and its size, and not a status with a reason.
fn has_figures(row: &ListRow) -> bool {
    reason(row).is_none() && listed_run(row).is_some_and(|run| run.stored_bytes.is_some())
}

fn listed_run(row: &ListRow) -> Option<&ListedRun> {
    match &row.content {
        ListedContent::Run(run) => Some(run),
        ListedContent::Unreadable { .. } => None,
    }
}

/// The start of a run as `ls` shows times: the time of day, or the year if the run is older than half a year.
fn date(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let recent = (now - at).abs() < TimeDelta::days(182);
    at.format(if recent { "%b %e %H:%M" } else { "%b %e  %Y" }).to_string()
}

/// The colour of a status: green for a good backup, yellow for one that needs a look, red for none.
fn status_colour(row: &ListRow) -> Option<AnsiColor> {
    let warned = listed_run(row).is_some_and(|run| !run.warnings.is_empty() || run.partial.is_some());
    match row.status {
        ShownStatus::Run(Status::Completed) if !warned => Some(AnsiColor::Green),
        ShownStatus::Run(Status::Completed) | ShownStatus::Archived => Some(AnsiColor::Yellow),
        ShownStatus::Run(Status::Failed | Status::Interrupted) | ShownStatus::Fault(_) => {
            Some(AnsiColor::Red)
        }
        ShownStatus::Run(Status::Running | Status::Deleted) => None,
    }
}

/// The reason why the run has no good backup, without its next step. Keys are shortened to the names of the files.
fn reason(row: &ListRow) -> Option<String> {
    let error = match &row.content {
        ListedContent::Run(run) => run.error.as_ref(),
        ListedContent::Unreadable { error, .. } => Some(error),
    };
    let why = row.fault.as_ref().map(BackupFault::detail).or(error.map(String::as_str))?;
    let why = why.split(" (next step: ").next().unwrap_or_default().replace(&layout::folder(&row.id), "");
    let known = format!("{} cannot be understood: ", layout::MANIFEST);
    Some(one_line(why.strip_prefix(&known).unwrap_or(&why)))
}

/// What a person should know about a backup, in full.
fn notes(row: &ListRow) -> Vec<String> {
    let pin = row.pinned.then(|| Pin { reason: row.pin_reason.clone() }.to_string());
    let partial = listed_run(row).and_then(|run| Some(format!("partial: {}", run.partial.as_ref()?)));
    let warnings = listed_run(row).map(|run| run.warnings.clone()).unwrap_or_default();
    // The warning of a collapse names the losses.
    let losses = losses(row).map(Losses::brief);
    pin.into_iter().chain(partial).chain(warnings).chain(losses).map(|note| one_line(&note)).collect()
}

/// The namespaces that vanished or shrank, if no warning names them.
fn losses(row: &ListRow) -> Option<&Losses> {
    let run = listed_run(row)?;
    let is_named = run.warnings.iter().any(|warning| warning.starts_with(COLLAPSED));
    run.losses.as_ref().filter(|_| !is_named)
}

fn short_note(row: &ListRow) -> String {
    let warnings = listed_run(row).map_or(0, |run| run.warnings.len());
    let warnings = match warnings {
        0 => None,
        1 => Some("warning".into()),
        n => Some(units::several(n as u64, "warning")),
    };
    let marks = marks(row).into_iter().map(String::from);
    marks.chain(warnings).chain(losses(row).map(|losses| losses.word().into())).collect::<Vec<_>>().join(", ")
}

/// The notes that are a word.
fn marks(row: &ListRow) -> Vec<&'static str> {
    let partial = listed_run(row).is_some_and(|run| run.partial.is_some());
    [row.pinned.then_some("pinned"), partial.then_some("partial")].into_iter().flatten().collect()
}

/// The notes on a backup in at most `room` characters: all of them, or the first clause of the first warning, or a word.
fn note(row: &ListRow, room: usize) -> String {
    let (full, short) = (notes(row).join(", "), short_note(row));
    if full.chars().count() <= room {
        return full;
    }
    let warning = listed_run(row).and_then(|run| run.warnings.first()).map(|warning| one_line(warning));
    let clause = warning.map(|warning| {
        let marks: String = marks(row).iter().map(|mark| format!("{mark}, ")).collect();
        format!("{marks}{}", fitting(&warning, room.saturating_sub(marks.len())))
    });
    clause.filter(|clause| !clause.ends_with('…')).unwrap_or_else(|| units::brief_text(&short, room))
}

/// The first clauses of a text that fit into `room` characters. A longer first clause is cut.
fn fitting(text: &str, room: usize) -> String {
    let ends = text.match_indices(": ").map(|(end, _)| end).chain([text.len()]);
    let fits = ends.take_while(|end| text[..*end].chars().count() <= room).last();
    fits.map_or_else(|| units::brief_text(text, room), |end| text[..end].to_string())
}

/// Joins the lines of a text and escapes control characters, so that its length is its width on the terminal.
fn one_line(text: &str) -> String {
    escape::line(&units::one_line(text)).into_owned()
}

fn verified(run: &ListedRun, now: DateTime<Utc>) -> String {
    match &run.verified {
        None => "-".into(),
        Some(Verified { sound: false, .. }) => "DAMAGED".into(),
        // A drill proves more than reading the artifact.
        Some(Verified { drilled: Some(at), .. }) => format!("drill {}", at.format("%F")),
        Some(Verified { at, .. }) => {
            format!("sound {} ago", units::duration((now - *at).to_std().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use crate::base::clock::clamped;
    use crate::catalog::CatalogOptions;
    use crate::catalog::run::BackupRun;
    use crate::catalog::trust::Trust;
    use crate::config::store::DirOptions;
    use crate::ops::list::{ListOptions, list};
    use crate::store::{DirStore, Store};

    use super::*;

    /// The runs of five nights: good, pinned, with warnings, failed and interrupted. Every second one is of `second`.
    async fn listed(second: &str, width: usize, colour: Colour) -> String {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(DirOptions::new(folder.path().join("store"))).unwrap();
        let now: DateTime<Utc> = "2026-11-24T04:00:00Z".parse().unwrap();
        let mut runs: Vec<BackupRun> = (0..5_u64)
            .map(|ago| {
                let started = clamped(now - TimeDelta::hours(1) - TimeDelta::days(ago as i64 * 47));
                let id = format!("{}-aaaaa{ago}", started.format("%Y%m%dT%H%M%SZ")).parse().unwrap();
                let job = if ago % 2 == 1 { second } else { "nightly" };
                BackupRun {
                    status: Status::Running,
                    finished_at: Some(started + TimeDelta::seconds(137)),
                    documents: Some(18_412_906 - ago),
                    raw_bytes: Some(23_600_000_000),
                    stored_bytes: Some(8_153_800_000),
                    engine: Some("native".into()),
                    consistency: Some("oplog".into()),
                    ..BackupRun::begun(id, job, "db1", &store.place(), started)
                }
            })
            .collect();
        (runs[0].finished_at, runs[0].stored_bytes) = (None, None);
        runs[1].status = Status::Failed;
        runs[1].error = Some(
            "cannot read shop.orders: connection to db1.example.com:27017 was lost 5 times: timed out waiting for an \
             answer (next step: See whether the server is up)"
                .into(),
        );
        (runs[3].status, runs[3].stored_bytes) = (Status::Interrupted, None);
        let options = CatalogOptions::remembering(None, now, Trust::default());
        let mut report = list(&store, &runs, &ListOptions::default(), &options).await.unwrap();
        let warned = |row: &mut ListRow, warnings: &[&str]| {
            row.status = ShownStatus::Run(Status::Completed);
            let ListedContent::Run(run) = &mut row.content else { panic!("{row:?}") };
            run.warnings = warnings.iter().map(ToString::to_string).collect();
        };
        warned(&mut report.rows[2], &["collapsed: 55,673 documents where the last backup had 139,796"]);
        warned(&mut report.rows[4], &[]);
        (report.rows[4].pinned, report.rows[4].pin_reason) = (true, Some("before the migration".into()));
        text(&report, None, now, width, colour).into_string()
    }

    #[tokio::test]
    async fn the_table_fits_80_columns_and_uses_more_if_there_are_more() {
        for width in [80, 100, 120, 160, 240] {
            for second in ["nightly", "hourly", "everything@db1.example.com:27017"] {
                let table = listed(second, width, Colour::Never).await;
                let widest = table.lines().map(|line| line.chars().count()).max();
                assert!(widest <= Some(width), "{width}:\n{table}");
            }
        }
        assert_snapshot!(listed("nightly", 80, Colour::Never).await, @"
            ID                       STARTED (UTC)  STATUS        SIZE   DOCUMENTS  NOTE
            20261124T030000Z-aaaaa0  Nov 24 03:00   running
            20261008T030000Z-aaaaa1  Oct  8 03:00   failed: cannot read shop.orders
            20260822T030000Z-aaaaa2  Aug 22 03:00   completed  7.6 GiB  18,412,904  warning
            20260706T030000Z-aaaaa3  Jul  6 03:00   interrupted
            20260520T030000Z-aaaaa4  May 20  2026   completed  7.6 GiB  18,412,902  pinned
        ");
        assert_snapshot!(listed("everything@db1.example.com:27017", 80, Colour::Never).await, @"
            ID                       STARTED (UTC)  JOB          STATUS        SIZE  NOTE
            20261124T030000Z-aaaaa0  Nov 24 03:00   nightly      running
            20261008T030000Z-aaaaa1  Oct  8 03:00   everything…  failed: cannot read shop.o…
            20260822T030000Z-aaaaa2  Aug 22 03:00   nightly      completed  7.6 GiB  warning
            20260706T030000Z-aaaaa3  Jul  6 03:00   everything…  interrupted
            20260520T030000Z-aaaaa4  May 20  2026   nightly      completed  7.6 GiB  pinned
        ");
        assert_snapshot!(listed("hourly", 120, Colour::Never).await, @"
            ID                       STARTED (UTC)  JOB      STATUS        SIZE   DOCUMENTS  NOTE
            20261124T030000Z-aaaaa0  Nov 24 03:00   nightly  running
            20261008T030000Z-aaaaa1  Oct  8 03:00   hourly   failed: cannot read shop.orders
            20260822T030000Z-aaaaa2  Aug 22 03:00   nightly  completed  7.6 GiB  18,412,904  collapsed
            20260706T030000Z-aaaaa3  Jul  6 03:00   hourly   interrupted
            20260520T030000Z-aaaaa4  May 20  2026   nightly  completed  7.6 GiB  18,412,902  pinned (before the migration)
        ");
        assert_snapshot!(listed("hourly", 200, Colour::Never).await, @"
            ID                       STARTED (UTC)        AGE  JOB      STATUS        SIZE   DOCUMENTS        TOOK    RAW SPEED  VERIFIED  CONSISTENCY  ENGINE  NOTE
            20261124T030000Z-aaaaa0  Nov 24 03:00   1 h 0 min  nightly  running
            20261008T030000Z-aaaaa1  Oct  8 03:00    47 d 1 h  hourly   failed: cannot read shop.orders: connection to db1.example.com:27017 was lost 5 times: timed out waiting for an answer
            20260822T030000Z-aaaaa2  Aug 22 03:00    94 d 1 h  nightly  completed  7.6 GiB  18,412,904  2 min 17 s  164.3 MiB/s  -         oplog        native  collapsed
            20260706T030000Z-aaaaa3  Jul  6 03:00   141 d 1 h  hourly   interrupted
            20260520T030000Z-aaaaa4  May 20  2026   188 d 1 h  nightly  completed  7.6 GiB  18,412,902  2 min 17 s  164.3 MiB/s  -         oplog        native  pinned (before the migration)
        ");
    }

    #[tokio::test]
    async fn only_the_status_is_coloured() {
        let table = listed("nightly", 80, Colour::Always).await;
        assert_snapshot!(table.replace('\u{1b}', "^"), @"
            ID                       STARTED (UTC)  STATUS        SIZE   DOCUMENTS  NOTE
            20261124T030000Z-aaaaa0  Nov 24 03:00   running
            20261008T030000Z-aaaaa1  Oct  8 03:00   ^[31mfailed^[0m: cannot read shop.orders
            20260822T030000Z-aaaaa2  Aug 22 03:00   ^[33mcompleted^[0m  7.6 GiB  18,412,904  warning
            20260706T030000Z-aaaaa3  Jul  6 03:00   ^[31minterrupted^[0m
            20260520T030000Z-aaaaa4  May 20  2026   ^[32mcompleted^[0m  7.6 GiB  18,412,902  pinned
        ");
    }

    #[test]
    fn a_reason_is_cut_between_clauses_if_possible() {
        let text = "cannot read shop.orders: connection lost: timed out";
        for (room, want) in [
            (80, text),
            (43, "cannot read shop.orders: connection lost"),
            (30, "cannot read shop.orders"),
            (10, "cannot re…"),
        ] {
            assert_eq!(fitting(text, room), want);
        }
    }
}
