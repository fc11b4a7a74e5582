//! `uzima-backup restore`.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use indicatif::MultiProgress;
use serde_json::json;

use super::args::RestoreArgs;
use super::output::{self, Output};
use super::progress::Display;
use super::{store, units};
use crate::cancel::Cancel;
use crate::config::layers::Layers;
use crate::config::settings::{self, Place};
use crate::error::{Error, Kind, Result};
use crate::exit::Exit;
use crate::ops::restore::{
    self, Filter, Options, Origin, Outcome, Plan, Planned, Report, Restore, Stored, Users,
};
use crate::progress::Meter;
use crate::target::Target;

pub async fn run(
    args: &RestoreArgs,
    layers: &Layers,
    output: &Output,
    bars: &MultiProgress,
    cancel: Cancel,
) -> Result<Exit> {
    let options = options(args)?;
    let asks = !args.yes && !args.dry_run;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Error::usage("a restore writes to a server, and nobody is here to be asked")
            .hint("Look at the plan with --dry-run, then give --yes"));
    }
    let uri = settings::target(layers)?;
    let origin = cancel.or(origin(args, layers)).await?;
    let planned = async { Restore::plan(origin, Target::connect(&uri).await?, options).await };
    let restore = cancel.or(planned).await?;
    let meter = Arc::new(Meter::default());
    if args.dry_run {
        return cancel.or(dry_run(&restore, &meter, output, bars)).await;
    }
    if let Some(error) = restore.plan.refusal() {
        return Err(error);
    }
    if asks && !confirmed(&restore.plan) {
        return Err(Error::failed("not restored, as you wish; nothing was touched"));
    }
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let (target, plan) = (restore.plan.target.clone(), facts(&restore.plan));
    let outcome = cancel.or(restore.apply(&meter)).await;
    drop(display);
    let report = outcome.map_err(|error| match error.kind() {
        Kind::Signal(n) => Error::new(Kind::Signal(n), format!("ended by signal {n}"))
            .hint(format!("{target} may hold a part of the backup: restore again with --drop")),
        _ => error,
    })?;
    output.result(&report_json(&report, plan), || report_text(&report, &target));
    if output.quiet {
        // An exit code alone would not say what needs a look.
        looks(&report).iter().for_each(|line| output::needs_look(line));
    }
    Ok(report.exit())
}

fn options(args: &RestoreArgs) -> Result<Options> {
    let patterns = |texts: &[String]| -> Result<Vec<_>> {
        texts.iter().map(|text| text.parse().map_err(|why: String| Error::usage(why))).collect()
    };
    let rename = restore::pairs(&args.ns_from, &args.ns_to).map_err(Error::usage)?;
    let users = match (args.users, args.no_users) {
        (true, _) => Users::Always,
        (_, true) => Users::Never,
        _ => Users::Unfiltered,
    };
    Ok(Options {
        filter: Filter { include: patterns(&args.ns_include)?, exclude: patterns(&args.ns_exclude)?, rename },
        drop: args.drop,
        exact: args.exact,
        no_indexes: args.no_indexes,
        users,
        // Each has a segment in hand: more of them than this take memory, and the server is the slower one.
        workers: std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4),
    })
}

/// What is restored.
async fn origin(args: &RestoreArgs, layers: &Layers) -> Result<Origin> {
    if let Place::Dir(dir) = settings::place(layers)?
        && !dir.root.try_exists().unwrap_or(true)
    {
        return Err(Error::failed(format!("there is no backup directory {}", dir.root.display()))
            .hint("Mount the disk, or correct --dir or BACKUP_DIR"));
    }
    let store = store(layers).await?;
    store.check().await?;
    let which = args.which.parse().map_err(|why: String| Error::usage(why))?;
    let manifest = restore::choose(&*store, &which, args.job.as_deref()).await?;
    Ok(Origin::Stored(Arc::new(Stored::open(store, manifest).await?)))
}

async fn dry_run(
    restore: &Restore,
    meter: &Arc<Meter>,
    output: &Output,
    bars: &MultiProgress,
) -> Result<Exit> {
    if !output.json {
        // Before it is checked: that takes as long as reading all of it.
        output.result(&(), || plan_text(&restore.plan));
    }
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let checked = restore.check(meter).await;
    drop(display);
    checked?;
    if output.json {
        output.result(&plan_json(&restore.plan), String::new);
    } else {
        output.result(&(), || "all of it was read, and is as it should be\n".into());
    }
    let refused = restore.plan.refusal();
    refused.map_or(Ok(Exit::Done), Err)
}

/// Asks at the terminal.
fn confirmed(plan: &Plan) -> bool {
    let mut out = std::io::stderr();
    let _ = write!(out, "{}Restore this? [y/N] ", plan_text(plan));
    let _ = out.flush();
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// What is said of plan and report alike.
fn facts(plan: &Plan) -> serde_json::Value {
    json!({
        "version": 1,
        "from": plan.from,
        "id": plan.id,
        "job": plan.job,
        "started_at": plan.started_at,
        "target": plan.target,
    })
}

fn plan_json(plan: &Plan) -> serde_json::Value {
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
    json["users"] = json!(plan.people.as_ref().map(|people| people.users.len()));
    json["roles"] = json!(plan.people.as_ref().map(|people| people.roles.len()));
    json["refused"] = json!(plan.refused());
    json["warnings"] = json!(plan.warnings);
    json
}

fn plan_text(plan: &Plan) -> String {
    let mut text = format!("{}\n", plan.from);
    if let (Some(job), Some(started)) = (&plan.job, plan.started_at) {
        text.push_str(&format!("  of the job {job}, begun {}\n", started.format("%Y-%m-%d %H:%M:%S UTC")));
    }
    for planned in &plan.namespaces {
        let (from, to) = (planned.offer.name(), planned.chosen.name());
        let name = if from == to { to } else { format!("{from} as {to}") };
        let there = match planned.existing {
            None => String::new(),
            Some(e) if plan.drop => format!(" (replaces {} documents)", units::count(e.documents)),
            Some(e) => format!(" (there with {} documents)", units::count(e.documents)),
        };
        text.push_str(&format!("  {name}: {} documents{there}\n", units::count(planned.offer.documents)));
    }
    for (db, name) in &plan.extra {
        text.push_str(&format!("  {db}.{name}: dropped, the backup does not have it\n"));
    }
    if let Some(people) = &plan.people {
        let (users, roles) = (people.users.len(), people.roles.len());
        text.push_str(&format!("  {users} users and {roles} roles\n"));
    }
    for warning in &plan.warnings {
        text.push_str(&format!("  needs a look: {warning}\n"));
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

fn report_json(report: &Report, mut json: serde_json::Value) -> serde_json::Value {
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
fn looks(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in &report.outcomes {
        lines.extend(outcome.problems.iter().map(|problem| format!("{}: {problem}", outcome.to)));
        lines.extend(outcome.notes.iter().map(|note| format!("{}: {note}", outcome.to)));
    }
    lines.extend(report.warnings.iter().cloned());
    lines
}

fn report_text(report: &Report, target: &str) -> String {
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
