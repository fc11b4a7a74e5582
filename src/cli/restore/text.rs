//! Plans and reports of restores as text.

use super::super::units;
use crate::base::escape::push_line;
use crate::catalog::choose::SkippedBackup;
use crate::model::optime::OpTime;
use crate::ops::restore::{
    ChosenCounts, CountedNamespace, FilterCounts, NamespaceOutcome, OplogPlan, Problem, Replayed,
    RestoreFacts, RestorePlan, RestoreReport, Resumed, SwapReport,
};

/// The most renamed namespaces in a report.
const RENAMED: usize = 10;

fn source_text(facts: &RestoreFacts) -> String {
    let mut text = String::new();
    push_line(&mut text, &facts.from);
    if let (Some(job), Some(started)) = (&facts.job, facts.started_at) {
        push_line(
            &mut text,
            &format!("  of the job {job}, begun {}", started.format("%Y-%m-%d %H:%M:%S UTC")),
        );
    }
    if let Some(what) = &facts.partial {
        push_line(&mut text, &format!("  a partial backup: {what}"));
    }
    for SkippedBackup { id, reason } in &facts.skipped {
        push_line(&mut text, &format!("  skipped the newer backup {id}: {reason}"));
    }
    if let Some(point) = &facts.point {
        let line = format!(
            "  continued from {} by {}, {} raw, {} stored",
            point.base_at.second(),
            units::several(point.slices, "oplog slice"),
            units::bytes(point.raw_bytes),
            units::bytes(point.stored_bytes)
        );
        push_line(&mut text, &line);
    }
    text
}

pub(super) fn plan_text(plan: &RestorePlan) -> String {
    let mut text = source_text(&plan.facts);
    for planned in &plan.namespaces {
        let (from, to) = (planned.source.name(), planned.chosen.name());
        let name = match plan.facts.swap_id {
            // The new collection gets another name at first.
            Some(_) => from,
            None if from == to => to,
            None => format!("{from} as {to}"),
        };
        let there = planned.existing.map_or_else(String::new, |existing| {
            let count = existing
                .documents
                .map_or_else(|| "an unknown number of documents".into(), |n| units::several(n, "document"));
            let does = match &planned.resumed {
                Some(Resumed::Kept { .. }) => "kept: complete already, with",
                Some(Resumed::Again { .. }) => "replaces the interrupted restore's",
                None if plan.facts.merge => "merged into",
                None if plan.drop => "replaces",
                None => "there with",
            };
            format!(" ({does} {count})")
        });
        push_line(
            &mut text,
            &format!("  {name}: {}{there}", units::several(planned.source.documents, "document")),
        );
    }
    if let Some(filter) = &plan.facts.filter {
        push_line(&mut text, &format!("  only documents that match {filter}"));
    }
    if plan.facts.merge {
        push_line(&mut text, "  only documents whose _id is missing; what is there stays as it is");
    }
    if let Some(continued) = &plan.facts.continued {
        push_line(&mut text, &format!("  goes on with the interrupted restore {}", continued.id));
        for name in plan.dropped_beside() {
            push_line(&mut text, &format!("  {name}: dropped, the interrupted restore made it"));
        }
    }
    for (db, name) in &plan.extra {
        push_line(&mut text, &format!("  {db}.{name}: dropped, the backup does not have it"));
    }
    if let Some((users, roles)) = plan.user_counts() {
        push_line(&mut text, &format!("  {}", users_text(users, roles)));
    }
    text.push_str(&oplog_text(plan));
    for obstacle in &plan.obstacles {
        push_line(&mut text, &format!("  cannot be restored: {obstacle}"));
    }
    for what in &plan.unproved {
        push_line(&mut text, &format!("  unproved: {what}"));
    }
    for warning in &plan.warnings {
        push_line(&mut text, &format!("  needs a look: {warning}"));
    }
    for note in &plan.facts.notes {
        push_line(&mut text, &format!("  note: {note}"));
    }
    if let Some(id) = &plan.facts.swap_id {
        push_line(&mut text, &format!("  moved in when all is loaded; `restore --undo {id}` moves it back"));
    }
    push_line(
        &mut text,
        &format!(
            "would restore {}, {}, {} raw, of {} stored, into {}",
            units::several(plan.namespaces.iter().filter(|one| !one.is_kept()).count() as u64, "namespace"),
            units::several(plan.loaded(|source| source.documents), "document"),
            units::bytes(plan.loaded(|source| source.raw_bytes)),
            units::bytes(plan.loaded(|source| source.stored_bytes)),
            plan.facts.target_text()
        ),
    );
    text
}

fn oplog_text(plan: &RestorePlan) -> String {
    let mut text = String::new();
    match &plan.oplog {
        OplogPlan::Absent => {}
        OplogPlan::Left => {
            text.push_str(
                "  its oplog is not replayed: each collection is as it was when the backup read it\n",
            );
        }
        // Without writes during the backup, nothing is replayed.
        OplogPlan::Replayed(survey) if survey.read.entries == 0 => {}
        OplogPlan::Replayed(survey) => {
            let read = &survey.read;
            let times = read.first.zip(read.last).map(times_text).unwrap_or_default();
            let operations = units::several(survey.operations, "operation");
            let entries = units::several(read.entries, "oplog entry");
            push_line(&mut text, &format!("  replays {operations} of {entries}{times}"));
            for (db, name) in plan.in_the_way.iter().filter(|_| plan.drop) {
                push_line(&mut text, &format!("  {db}.{name}: dropped, the oplog writes to it"));
            }
        }
    }
    if let Some(at) = plan.facts.at {
        push_line(&mut text, &format!("  all restored data is as of {}", at.second()));
    }
    text
}

/// The times of a slice in seconds. --json also has the position in the second.
fn times_text((first, last): (OpTime, OpTime)) -> String {
    match (first.second(), last.second()) {
        (first, last) if first == last => format!(", of {last}"),
        (first, last) => format!(", from {first} to {last}"),
    }
}

/// The differences and notes that need a look.
pub(super) fn differences(report: &RestoreReport) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in &report.outcomes {
        lines.extend(outcome.problems.iter().map(|problem| format!("{}: {problem}", outcome.to)));
        lines.extend(outcome.notes.iter().map(|note| format!("{}: {note}", outcome.to)));
    }
    lines
        .extend(report.replayed.iter().flat_map(|replayed| replayed.problems.iter().map(Problem::to_string)));
    lines.extend(report.problems.iter().map(Problem::to_string));
    lines.extend(report.warnings.iter().cloned());
    lines
}

pub(super) fn report_text(report: &RestoreReport) -> String {
    let sum = |figure: fn(&NamespaceOutcome) -> u64| report.outcomes.iter().map(figure).sum::<u64>();
    let mut text = source_text(&report.facts);
    let restored = format!(
        "restored {}, {}, {} raw, {}, into {}",
        units::several((report.outcomes.len() - report.missing.len()) as u64, "namespace"),
        units::several(sum(|o| o.documents - o.superseded - o.refused), "document"),
        units::bytes(sum(|o| o.raw_bytes)),
        units::several(
            sum(|o| o.indexes) + report.replayed.as_ref().map_or(0, |replayed| replayed.indexes),
            "index"
        ),
        report.facts.target_text()
    );
    push_line(&mut text, &restored);
    match &report.swap {
        Some(swap) => text.push_str(&swap_text(swap)),
        None => text.push_str(&renamed_text(&report.outcomes)),
    }
    if let Some(filter) = &report.facts.filter {
        push_line(&mut text, &format!("  only documents that match {filter}"));
    }
    for outcome in &report.outcomes {
        chosen_line(&mut text, &outcome.to, &outcome.chosen, false);
    }
    if let Some(continued) = &report.facts.continued {
        let kept = units::several(continued.kept.len() as u64, "namespace");
        let line =
            format!("  went on with the interrupted restore {}: {kept} kept, complete already", continued.id);
        push_line(&mut text, &line);
    }
    if let Some((users, roles)) = report.users.zip(report.roles) {
        push_line(&mut text, &format!("  merged {}", users_text(users, roles)));
    }
    if let Some(replayed) = &report.replayed {
        text.push_str(&replayed_text(replayed));
    }
    for name in &report.dropped {
        push_line(&mut text, &format!("  dropped {name}"));
    }
    for outcome in report.outcomes.iter().filter(|outcome| outcome.superseded > 0) {
        let (to, documents) = (&outcome.to, units::several(outcome.superseded, "document"));
        push_line(
            &mut text,
            &format!("  {to}: left out {documents} because the backup has a later version of them"),
        );
    }
    for line in differences(report) {
        push_line(&mut text, &format!("  needs a look: {line}"));
    }
    for note in &report.facts.notes {
        push_line(&mut text, &format!("  note: {note}"));
    }
    text
}

/// The documents that a filter and a merge chose of a namespace. `would` is true for a `--dry-run`.
fn chosen_line(text: &mut String, name: &str, chosen: &ChosenCounts, would: bool) {
    let mut parts = Vec::new();
    if let Some(FilterCounts { examined, matched }) = chosen.filtered {
        let matches = if matched == 1 { "matches" } else { "match" };
        parts.push(format!(
            "{} of {} {matches}",
            units::count(matched),
            units::several(examined, "document")
        ));
    }
    if let Some(merged) = &chosen.merged {
        let inserted = if would { "would be inserted" } else { "inserted" };
        parts.push(format!(
            "{} {inserted}, {} there and equal, {} there and different",
            units::count(merged.inserted),
            units::count(merged.equal),
            units::count(merged.different)
        ));
    }
    if !parts.is_empty() {
        push_line(text, &format!("  {name}: {}", parts.join("; ")));
    }
}

/// The documents that a `--dry-run` counted.
pub(super) fn counted_text(counted: &[CountedNamespace]) -> String {
    let mut text = String::new();
    for one in counted {
        chosen_line(&mut text, &one.to, &one.chosen, true);
        if one.without_oplog {
            push_line(
                &mut text,
                &format!(
                    "  {}: documents that the oplog writes are not counted, because that needs its replay",
                    one.to
                ),
            );
        }
    }
    text
}

/// The first [`RENAMED`] renamed namespaces.
fn renamed_text(outcomes: &[NamespaceOutcome]) -> String {
    let renamed: Vec<&NamespaceOutcome> =
        outcomes.iter().filter(|outcome| outcome.from != outcome.to).collect();
    let mut text = String::new();
    for outcome in renamed.iter().take(RENAMED) {
        push_line(&mut text, &format!("  {} as {}", outcome.from, outcome.to));
    }
    if let Some(more @ 1..) = renamed.len().checked_sub(RENAMED) {
        push_line(&mut text, &format!("  and {more} more renamed namespaces"));
    }
    text
}

/// The collections that a swap keeps, and how to move them back.
fn swap_text(swap: &SwapReport) -> String {
    let mut text = String::new();
    for one in &swap.collections {
        let line = match &one.kept {
            Some(kept) => format!("  moved in {}; what was there is kept as {kept}", one.namespace),
            None => format!("  moved in {}; nothing was there", one.namespace),
        };
        push_line(&mut text, &line);
    }
    let id = &swap.id;
    push_line(
        &mut text,
        &format!("  back: `uzima-backup restore --undo {id}`; to drop what is kept: --discard {id}"),
    );
    text
}

fn users_text(users: usize, roles: usize) -> String {
    format!("{} and {}", units::several(users as u64, "user"), units::several(roles as u64, "role"))
}

/// The lines about the replay; empty without writes during the backup.
fn replayed_text(replayed: &Replayed) -> String {
    if replayed.entries == 0 {
        return String::new();
    }
    let left_out = match replayed.left_out {
        0 => String::new(),
        n => format!("; left out {} on other namespaces or without data", units::several(n, "operation")),
    };
    let mut text = format!(
        "  replayed {} of {}{left_out}\n",
        units::several(replayed.operations, "operation"),
        units::several(replayed.entries, "oplog entry"),
    );
    if replayed.open_transactions > 0 {
        push_line(
            &mut text,
            &format!(
                "  left out {}, not committed by then",
                units::several(replayed.open_transactions, "transaction")
            ),
        );
    }
    for (names, what) in [(&replayed.gone, "was dropped"), (&replayed.came, "was created")] {
        names.iter().for_each(|name| push_line(&mut text, &format!("  {name} {what} by the oplog")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_described_without_empty_parts() {
        assert_eq!(replayed_text(&Replayed::default()), "");
        let mut replayed = Replayed { operations: 2_000, ..Replayed::default() };
        replayed.entries = 1_200;
        assert_eq!(replayed_text(&replayed), "  replayed 2,000 operations of 1,200 oplog entries\n");
        (replayed.left_out, replayed.open_transactions) = (1, 2);
        assert_eq!(
            replayed_text(&replayed),
            "  replayed 2,000 operations of 1,200 oplog entries; left out 1 operation on other namespaces or without data\n  \
             left out 2 transactions, not committed by then\n"
        );
    }

    #[test]
    fn the_times_of_a_slice_are_seconds() {
        let time = |t, i| OpTime { t, i };
        let (first, last) = (time(1_795_489_212, 4), time(1_795_489_215, 1));
        assert_eq!(times_text((first, last)), ", from 2026-11-24T03:00:12Z to 2026-11-24T03:00:15Z");
        assert_eq!(times_text((first, time(1_795_489_212, 5))), ", of 2026-11-24T03:00:12Z");
    }

    #[test]
    fn only_the_first_new_names_are_listed() {
        let outcome = |from: &str, to: String| NamespaceOutcome {
            from: from.into(),
            to,
            ..NamespaceOutcome::default()
        };
        let stays = outcome("shop.carts", "shop.carts".into());
        let moved = |n: usize| (0..n).map(|n| outcome("shop.orders", format!("rescue.orders{n}")));
        let text = |n| renamed_text(&std::iter::once(stays.clone()).chain(moved(n)).collect::<Vec<_>>());
        assert_eq!(text(0), "");
        assert_eq!(text(1), "  shop.orders as rescue.orders0\n");
        assert_eq!(text(10).lines().count(), 10);
        assert!(text(12).ends_with("rescue.orders9\n  and 2 more renamed namespaces\n"), "{}", text(12));
    }
}
