//! `uzima-backup list`.

use std::num::NonZeroUsize;

use chrono::{DateTime, Utc};

use super::args::ListArgs;
use super::output::{COLUMN_GAP, Output, columns, wrapped};
use super::{open_place, units};
use crate::base::error::Result;
use crate::base::escape;
use crate::base::exit::Exit;
use crate::catalog::fault::BackupFault;
use crate::catalog::marks::Pin;
use crate::catalog::records;
use crate::catalog::run::Verified;
use crate::notify::run::Run;
use crate::ops::list::{self, ListOptions, ListReport, ListRow, ListedContent, ListedRun};

pub async fn run(args: &ListArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let records = run.config.records.as_ref()?;
    let store = open_place(run.config).await?;
    let limit = args.limit.map(NonZeroUsize::get);
    let options = ListOptions { job: args.backups.job.clone(), limit, statuses: args.status.clone() };
    let known = records::known_runs(records, options.job.as_deref()).await;
    let reading = run.reading();
    let report = list::list(&*store, &known, &options, &reading).await?;
    output.result(&report, || text(&report, args.backups.job.as_deref(), reading.now, output.width()));
    Ok(report.exit())
}

const HEADER: [&str; 10] =
    ["ID", "JOB", "AGE", "TOOK", "STORED", "DOCUMENTS", "ENGINE", "CONSISTENCY", "VERIFIED", "STATUS"];

fn text(report: &ListReport, job: Option<&str>, now: DateTime<Utc>, width: Option<usize>) -> String {
    if report.rows.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return format!("{}\n", escape::line(&format!("no backups{of_job} in {}", report.place)));
    }
    let mut cells: Vec<Vec<String>> = report.rows.iter().map(|row| cells(row, now).into()).collect();
    let below = add_remarks(&report.rows, &mut cells, width);
    let table = columns(&HEADER, &cells, &[2, 3, 4, 5]);
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, below) in lines.zip(below) {
        text.push_str(&format!("{line}\n{below}"));
    }
    text
}

/// Appends the remark of each row to its last cell. On a terminal of this `width`, a remark that does not fit is returned
/// instead, wrapped into lines for below the row. Remarks are never cut, because they end in the next step.
fn add_remarks(rows: &[ListRow], cells: &mut [Vec<String>], width: Option<usize>) -> Vec<String> {
    let last = HEADER.len() - 1;
    let widest = |column: usize| {
        let lengths = cells.iter().map(|row| row[column].chars().count());
        lengths.chain([HEADER[column].len()]).max().unwrap_or_default()
    };
    let before: usize = (0..last).map(|column| widest(column) + COLUMN_GAP).sum();
    let add = cells.iter_mut().zip(rows).map(|(cells, row)| {
        let Some((separator, remark)) = remark(row) else { return String::new() };
        let whole = format!("{}{separator}{remark}", cells[last]);
        match width {
            Some(width) if before + whole.chars().count() > width => wrapped(&remark, width),
            _ => {
                cells[last] = whole;
                String::new()
            }
        }
    });
    add.collect()
}

/// Returns the error or the warnings of a row in one line, after the separator that goes before it.
fn remark(row: &ListRow) -> Option<(&'static str, String)> {
    let (error, warnings) = match &row.content {
        ListedContent::Run(run) => (run.error.as_ref(), run.warnings.join("; ")),
        ListedContent::Unreadable { error, .. } => (Some(error), String::new()),
    };
    let fault = row.fault.as_ref().map(BackupFault::detail);
    match fault.or(error.map(String::as_str)) {
        Some(error) => Some((": ", one_line(error))),
        None if warnings.is_empty() => None,
        None => Some((", look: ", one_line(&warnings))),
    }
}

/// Joins the lines of a text and escapes control characters, so that its length is its width on the terminal.
fn one_line(text: &str) -> String {
    escape::line(&units::one_line(text)).into_owned()
}

fn cells(row: &ListRow, now: DateTime<Utc>) -> [String; 10] {
    let pin = row.pinned.then(|| format!(", {}", Pin { reason: row.pin_reason.clone() }));
    let status = one_line(&format!("{}{}", row.status, pin.unwrap_or_default()));
    let ListedContent::Run(run) = &row.content else {
        let mut cells: [String; 10] = Default::default();
        (cells[0], cells[9]) = (row.id.to_string(), status);
        return cells;
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let name = |text: &Option<String>| or_dash(text.as_ref().map(|text| escape::line(text).into_owned()));
    let took = run.finished_at.and_then(|end| (end - run.started_at).to_std().ok());
    [
        row.id.to_string(),
        escape::line(&run.job).into_owned(),
        units::duration((now - run.started_at).to_std().unwrap_or_default()),
        or_dash(took.map(units::duration)),
        or_dash(run.stored_bytes.map(units::bytes)),
        or_dash(run.documents.map(units::count)),
        name(&run.engine),
        name(&run.consistency),
        verified(run, now),
        status,
    ]
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
    use crate::catalog::CatalogOptions;
    use crate::catalog::run::BackupRun;
    use crate::config::store::DirOptions;
    use crate::ops::list::{ListOptions, list};
    use crate::store::dir::DirStore;

    use super::*;

    /// Lists a run that is recorded with this error.
    async fn listed(error: &str, width: Option<usize>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(DirOptions::new(folder.path().join("store"))).unwrap();
        let now = "2026-11-24T04:00:00Z".parse().unwrap();
        let id = "20261124T030000Z-aaaaaa".parse().unwrap();
        let started = "2026-11-24T03:00:00Z".parse().unwrap();
        let mut run = BackupRun::begun(id, "all@db1", "db1", &crate::store::Store::place(&store), started);
        run.error = Some(error.into());
        let report = list(&store, &[run], &ListOptions::default(), &CatalogOptions::remembering(None, now))
            .await
            .unwrap();
        text(&report, None, now, width)
    }

    #[tokio::test]
    async fn an_error_is_never_cut() {
        let reason = format!("cannot read 'shop': {}(next step: grant the role)", "x y z ".repeat(100));
        let error = reason.replacen(' ', "\n  ", 1);
        // Without a terminal, a row is one line, so that scripts can grep it.
        let text = listed(&error, None).await;
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with(&format!("  running: {reason}\n")), "{text}");
        for width in [200, 80, 20] {
            let text = listed(&error, Some(width)).await;
            let mut lines = text.lines().skip(1);
            assert!(lines.next().unwrap().ends_with("  running"), "{text}");
            let below: Vec<&str> = lines.collect();
            assert!(
                below.iter().all(|line| line.starts_with("    ") && line.chars().count() <= width),
                "{text}"
            );
            assert_eq!(below.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "), reason);
        }
        // A short error stays in its row.
        assert!(listed("it broke", Some(200)).await.ends_with("  running: it broke\n"));
    }
}
