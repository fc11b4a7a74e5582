//! A plan and a report, as JSON and for people.

use serde_json::json;

use crate::cli::units;
use crate::ops::restore::{Outcome, Plan, Planned, Report};

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
    json["refused"] = json!(plan.refused());
    json["warnings"] = json!(plan.warnings);
    json
}

/// The plan, a line for each namespace.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = format!("{}\n", plan.from);
    if let (Some(job), Some(started)) = (&plan.job, plan.started_at) {
        text.push_str(&format!("  of the job {job}, begun {}\n", started.format("%Y-%m-%d %H:%M:%S UTC")));
    }
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
            "problems": outcome.problems,
            "notes": outcome.notes,
        })
    };
    json["namespaces"] = report.outcomes.iter().map(row).collect();
    json["dropped"] = json!(report.dropped);
    json["users"] = json!(report.people.map(|(users, _)| users));
    json["roles"] = json!(report.people.map(|(_, roles)| roles));
    json["warnings"] = json!(report.warnings);
    json
}

/// What is not as it was, and what else a person should know.
pub fn looks(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in &report.outcomes {
        lines.extend(outcome.problems.iter().map(|problem| format!("{}: {problem}", outcome.to)));
        lines.extend(outcome.notes.iter().map(|note| format!("{}: {note}", outcome.to)));
    }
    lines.extend(report.warnings.iter().cloned());
    lines
}

/// The report: what was done, and what needs a look.
pub fn report_text(report: &Report, target: &str) -> String {
    let sum = |figure: fn(&Outcome) -> u64| report.outcomes.iter().map(figure).sum::<u64>();
    let mut text = format!(
        "restored {} namespaces, {} documents, {} raw, {} indexes, into {target}\n",
        report.outcomes.len(),
        units::count(sum(|o| o.documents - o.superseded - o.refused)),
        units::bytes(sum(|o| o.raw_bytes)),
        units::count(sum(|o| o.indexes)),
    );
    if let Some((users, roles)) = report.people {
        text.push_str(&format!("  merged {users} users and {roles} roles\n"));
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
