//! A plan and a report, as JSON and for people.

use serde_json::json;

use crate::cli::units;
use crate::ops::restore::{Oplog, Outcome, Plan, Planned, Problem, Replayed, Report};

/// What is said of plan and report alike.
pub fn facts(plan: &Plan) -> serde_json::Value {
    json!({
        "version": 1,
        "from": plan.from,
        "id": plan.id,
        "job": plan.job,
        "started_at": plan.started_at,
        "target": plan.target,
        "notes": plan.notes,
        "at": plan.at,
    })
}

/// The plan of a `--dry-run`.
pub fn plan_json(plan: &Plan) -> serde_json::Value {
    let row = |planned: &Planned| {
        json!({
            "from": planned.offer.name(),
            "to": planned.chosen.name(),
            "type": planned.offer.kind,
            "documents": planned.offer.documents,
            "raw_bytes": planned.offer.raw_bytes,
            "existing_documents": planned.existing.map(|existing| existing.documents),
        })
    };
    let mut json = facts(plan);
    json["drop"] = plan.drop.into();
    json["namespaces"] = plan.namespaces.iter().map(row).collect();
    json["extra"] = plan.extra.iter().map(|(db, name)| format!("{db}.{name}")).collect();
    json["users"] = json!(plan.people().map(|(users, _)| users));
    json["roles"] = json!(plan.people().map(|(_, roles)| roles));
    json["replay"] = match &plan.oplog {
        Oplog::Absent | Oplog::Left => serde_json::Value::Null,
        Oplog::Replayed(survey) => json!({
            "entries": survey.read.entries,
            "from": survey.read.first,
            "to": survey.read.last,
            "operations": survey.operations,
            "left_out": survey.read.left_out,
            "in_the_way": plan.in_the_way.iter().map(|(db, name)| format!("{db}.{name}")).collect::<Vec<_>>(),
        }),
    };
    json["refused"] = json!(plan.refused());
    json["warnings"] = json!(plan.warnings);
    json
}

/// What is restored, and of when it is.
pub fn from_text(plan: &Plan) -> String {
    let mut text = format!("{}\n", plan.from);
    if let (Some(job), Some(started)) = (&plan.job, plan.started_at) {
        text.push_str(&format!("  of the job {job}, begun {}\n", started.format("%Y-%m-%d %H:%M:%S UTC")));
    }
    text
}

/// The plan, a line for each namespace.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = from_text(plan);
    for planned in &plan.namespaces {
        let (from, to) = (planned.offer.name(), planned.chosen.name());
        let name = if from == to { to } else { format!("{from} as {to}") };
        let there = planned.existing.map_or_else(String::new, |existing| {
            let count = existing.documents.map_or_else(|| "an unknown number of".into(), units::count);
            let does = if plan.drop { "replaces" } else { "there with" };
            format!(" ({does} {count} documents)")
        });
        text.push_str(&format!("  {name}: {} documents{there}\n", units::count(planned.offer.documents)));
    }
    for (db, name) in &plan.extra {
        text.push_str(&format!("  {db}.{name}: dropped, the backup does not have it\n"));
    }
    if let Some((users, roles)) = plan.people() {
        text.push_str(&format!("  {users} users and {roles} roles\n"));
    }
    text.push_str(&oplog_text(plan));
    for warning in &plan.warnings {
        text.push_str(&format!("  needs a look: {warning}\n"));
    }
    for note in &plan.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    text.push_str(&format!(
        "would restore {} namespaces, {} documents, {} raw, of {} stored, into {}\n",
        plan.namespaces.len(),
        units::count(plan.total(|offer| offer.documents)),
        units::bytes(plan.total(|offer| offer.raw_bytes)),
        units::bytes(plan.total(|offer| offer.stored_bytes)),
        plan.target
    ));
    text
}

/// What is done with the oplog, and of what instant all then is.
fn oplog_text(plan: &Plan) -> String {
    let mut text = String::new();
    match &plan.oplog {
        Oplog::Absent => {}
        Oplog::Left => {
            text.push_str("  its oplog is not replayed: each collection is as it was when it was read\n");
        }
        Oplog::Replayed(survey) => {
            let (read, count) = (&survey.read, units::count);
            // Of a server that nobody wrote to meanwhile there is nothing to replay.
            let times = read.first.zip(read.last);
            let times = times.map(|(first, last)| format!(", from {first} to {last}")).unwrap_or_default();
            let (operations, entries) = (count(survey.operations), count(read.entries));
            text.push_str(&format!("  replays {operations} operations of {entries} oplog entries{times}\n"));
            for (db, name) in plan.in_the_way.iter().filter(|_| plan.drop) {
                text.push_str(&format!("  {db}.{name}: dropped, the oplog writes to it\n"));
            }
        }
    }
    if let Some(at) = plan.at {
        text.push_str(&format!("  all of it is then as of {at}\n"));
    }
    text
}

/// The report, with what was said of the plan.
pub fn report_json(report: &Report, mut json: serde_json::Value) -> serde_json::Value {
    let row = |outcome: &Outcome| {
        json!({
            "from": outcome.from,
            "to": outcome.to,
            "documents": outcome.documents,
            "raw_bytes": outcome.raw_bytes,
            "superseded": outcome.superseded,
            "refused": outcome.refused,
            "indexes": outcome.indexes,
            "problems": texts(&outcome.problems),
            "notes": outcome.notes,
        })
    };
    json["namespaces"] = report.outcomes.iter().map(row).collect();
    json["dropped"] = json!(report.dropped);
    json["users"] = json!(report.people.map(|(users, _)| users));
    json["roles"] = json!(report.people.map(|(_, roles)| roles));
    json["replayed"] = report.replayed.as_ref().map_or(serde_json::Value::Null, replayed_json);
    json["warnings"] = json!(report.warnings);
    json
}

fn replayed_json(replayed: &Replayed) -> serde_json::Value {
    json!({
        "entries": replayed.read.entries,
        "operations": replayed.operations,
        "left_out": replayed.read.left_out,
        "open_transactions": replayed.read.open_transactions,
        "gone": replayed.gone,
        "came": replayed.came,
        "indexes": replayed.indexes,
        "problems": texts(&replayed.problems),
    })
}

fn texts(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.text.as_str()).collect()
}

/// What is not as it was, and what else a person should know.
pub fn looks(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in &report.outcomes {
        lines.extend(outcome.problems.iter().map(|problem| format!("{}: {problem}", outcome.to)));
        lines.extend(outcome.notes.iter().map(|note| format!("{}: {note}", outcome.to)));
    }
    lines
        .extend(report.replayed.iter().flat_map(|replayed| replayed.problems.iter().map(Problem::to_string)));
    lines.extend(report.warnings.iter().cloned());
    lines
}

/// The report: what was done, and what needs a look. `from` is the plan's [`from_text`].
pub fn report_text(report: &Report, from: &str, target: &str) -> String {
    let sum = |figure: fn(&Outcome) -> u64| report.outcomes.iter().map(figure).sum::<u64>();
    let mut text = format!(
        "{from}restored {} namespaces, {} documents, {} raw, {} indexes, into {target}\n",
        report.outcomes.len(),
        units::count(sum(|o| o.documents - o.superseded - o.refused)),
        units::bytes(sum(|o| o.raw_bytes)),
        units::count(sum(|o| o.indexes) + report.replayed.as_ref().map_or(0, |replayed| replayed.indexes)),
    );
    if let Some((users, roles)) = report.people {
        text.push_str(&format!("  merged {users} users and {roles} roles\n"));
    }
    if let Some(replayed) = &report.replayed {
        text.push_str(&replayed_text(replayed));
    }
    for name in &report.dropped {
        text.push_str(&format!("  dropped {name}\n"));
    }
    for outcome in report.outcomes.iter().filter(|outcome| outcome.superseded > 0) {
        let (to, n) = (&outcome.to, outcome.superseded);
        text.push_str(&format!("  {to}: {n} documents were superseded by later ones with the same _id\n"));
    }
    for line in looks(report) {
        text.push_str(&format!("  needs a look: {line}\n"));
    }
    text
}

fn replayed_text(replayed: &Replayed) -> String {
    let read = &replayed.read;
    let mut text = format!(
        "  replayed {} operations of {} oplog entries; {} concern nothing that was restored\n",
        units::count(replayed.operations),
        units::count(read.entries),
        units::count(read.left_out)
    );
    if read.open_transactions > 0 {
        text.push_str(&format!("  {} transactions were not committed by then\n", read.open_transactions));
    }
    for (names, what) in [(&replayed.gone, "was dropped"), (&replayed.came, "was made")] {
        names.iter().for_each(|name| text.push_str(&format!("  {name} {what} while the backup ran\n")));
    }
    text
}
