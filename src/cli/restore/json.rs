//! A plan and a report, as JSON.

use serde_json::json;

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
pub fn plan(plan: &Plan) -> serde_json::Value {
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
    json["rest"] = json!(plan.rest.as_ref().map(|flags| &flags.add));
    json["unproved"] = json!(plan.unproved);
    json["warnings"] = json!(plan.warnings);
    json
}

/// The report, with what was said of the plan.
pub fn report(report: &Report, mut json: serde_json::Value) -> serde_json::Value {
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
    json["replayed"] = report.replayed.as_ref().map_or(serde_json::Value::Null, replayed);
    json["missing"] = json!(report.missing());
    json["problems"] = json!(texts(&report.problems));
    json["next_step"] = json!(report.next_step);
    json["warnings"] = json!(report.warnings);
    json
}

fn replayed(replayed: &Replayed) -> serde_json::Value {
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
