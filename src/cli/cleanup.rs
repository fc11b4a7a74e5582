//! `uzima-backup cleanup`.

use super::args::CleanupArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::units;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::notify::run::Run;
use crate::ops::cleanup::{
    CleanupOutcome, CleanupReport, CleanupRequest, Orphan, PlaceCleanup, SliceGroup, run_cleanup,
};
use chrono::{DateTime, Utc};

pub async fn run(args: &CleanupArgs, run: &Run<'_>, output: &Output, log: &Log) -> Result<Exit> {
    let request = CleanupRequest {
        accept: args.accept.clone(),
        force: args.force,
        orphans: args.orphans,
        dry_run: args.dry_run,
        wait: args.wait,
        place: args.target.place.clone(),
    };
    let report = on_heap(|| run_cleanup(run, &request)).await?;
    output.report(log, &report, report_text(&report, run.clock.now()));
    if output.quiet {
        // The exit code alone does not name the reason.
        for place in report.places() {
            let frozen = place.frozen.iter().map(|why| place.line(&format!("nothing is deleted: {why}")));
            frozen.chain(place.named_problems()).for_each(|problem| output::needs_look(&problem));
        }
    }
    Ok(report.exit())
}

/// The text of all places. With copies, each place begins with a line that names it.
fn report_text(report: &CleanupReport, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    for place in report.places() {
        if let Some(name) = &place.name {
            push_line(&mut text, &format!("{name}, {}", place.place));
        }
        text.push_str(&place_text(place, &report.job, now));
    }
    text
}

fn place_text(report: &PlaceCleanup, job: &str, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    for note in &report.notes {
        push_line(&mut text, note);
    }
    for id in &report.finished {
        let did = if report.dry_run { "would finish" } else { "finished" };
        push_line(&mut text, &format!("{did} the deletion of {id}, which an earlier run began"));
    }
    for id in &report.expired {
        let did = if report.dry_run { "would delete" } else { "deleted" };
        push_line(&mut text, &format!("{did} the report of the failed run {id}"));
    }
    for row in &report.backups {
        push_line(&mut text, &format!("{:8}  {}  {}", word(row.outcome), row.id, row.reason));
    }
    for group in &report.oplog {
        push_line(&mut text, &group_text(group));
    }
    for orphan in &report.orphans {
        push_line(&mut text, &orphan_text(orphan, now));
    }
    for problem in &report.problems {
        push_line(&mut text, &format!("needs a look: {problem}"));
    }
    for why in &report.frozen {
        push_line(&mut text, &format!("frozen, nothing is deleted: {why}"));
    }
    match &report.not_cleaned {
        Some(why) => push_line(&mut text, &format!("not cleaned: {why}")),
        None => push_line(&mut text, &summary(report, job)),
    }
    text
}

fn word(outcome: CleanupOutcome) -> &'static str {
    match outcome {
        CleanupOutcome::Kept => "keep",
        CleanupOutcome::Deleted => "deleted",
        CleanupOutcome::Locked => "locked",
        CleanupOutcome::Planned | CleanupOutcome::Frozen => "would go",
        CleanupOutcome::Failed => "failed",
    }
}

fn group_text(group: &SliceGroup) -> String {
    let to = group.to.map(|to| format!(" to {}", to.second())).unwrap_or_default();
    format!(
        "{:8}  {} from {}{to}, {}: {}",
        word(group.outcome),
        units::several(group.slices, "oplog slice"),
        group.from.second(),
        units::bytes(group.stored_bytes),
        group.reason
    )
}

fn orphan_text(orphan: &Orphan, now: DateTime<Utc>) -> String {
    let age = units::duration((now - orphan.modified_at).to_std().unwrap_or_default());
    let size = units::bytes(orphan.stored_bytes);
    let fate = match (&orphan.kept, orphan.deleted) {
        (_, true) => "deleted",
        (Some(why), _) => why,
        (None, _) => "`cleanup --orphans` deletes it",
    };
    format!("orphan    {}  {size}, {age} old, no manifest: {fate}", orphan.key)
}

fn summary(report: &PlaceCleanup, job: &str) -> String {
    let count = |outcome| report.backups.iter().filter(|row| row.outcome == outcome).count();
    let bytes = |outcome| {
        let rows = report.backups.iter().filter(|row| row.outcome == outcome);
        units::bytes(rows.map(|row| row.stored_bytes).fold(0, u64::saturating_add))
    };
    let slices = |outcome| {
        let groups = report.oplog.iter().filter(|group| group.outcome == outcome);
        let sums = groups.fold((0, 0_u64), |(slices, bytes), group| {
            (slices + group.slices, bytes.saturating_add(group.stored_bytes))
        });
        match sums {
            (0, _) => String::new(),
            (slices, bytes) => {
                format!("; {}, {}", units::several(slices, "oplog slice"), units::bytes(bytes))
            }
        }
    };
    let all = format!("{} of {}", units::several(report.backups.len() as u64, "backup"), job);
    let place = &report.place;
    if !report.frozen.is_empty() {
        return format!("frozen: {} of {all} in {place} would go", count(CleanupOutcome::Frozen));
    }
    if report.dry_run {
        let (planned, freed) = (count(CleanupOutcome::Planned), bytes(CleanupOutcome::Planned));
        let slices = slices(CleanupOutcome::Planned);
        return format!("would delete {planned} of {all} in {place}, {freed}{slices}");
    }
    let failed = match count(CleanupOutcome::Failed) {
        0 => String::new(),
        n => format!("; {n} failed"),
    };
    format!(
        "deleted {} of {all} in {place}, {}{}{failed}",
        count(CleanupOutcome::Deleted),
        bytes(CleanupOutcome::Deleted),
        slices(CleanupOutcome::Deleted)
    )
}
