//! `uzima-backup backup`.

use std::sync::Arc;

use super::args::BackupArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::progress::Display;
use super::units;
use crate::base::error::Result;
use crate::base::escape::{push_line, quoted};
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::base::progress::Meter;
use crate::notify::run::Run;
use crate::ops::backup::{BackupPlan, BackupReport, BackupRequest, PlannedHook, plan_backup, run_backup};

pub async fn run(args: &BackupArgs, run: &Run<'_>, output: &Output, log: &Log) -> Result<Exit> {
    if args.dry_run {
        let hooks = run.config.hooks.clone()?;
        hooks.check()?;
        let mut plan = {
            let job = run.config.job.as_ref()?;
            run.cancel.or(on_heap(|| plan_backup(job, args.allow_empty))).await?
        };
        plan.hooks = PlannedHook::all(&hooks, &run.config.redactor);
        output.result(&plan, || plan_text(&plan));
        return Ok(Exit::Done);
    }
    let request = BackupRequest { allow_empty: args.allow_empty, new_place: args.new_place, wait: args.wait };
    let meter = Arc::new(Meter::default());
    let display = Display::start(meter.clone(), output.interactive(), &log.bars);
    let report = on_heap(|| run_backup(run, &request, &meter)).await;
    drop(display);
    let report = report?;
    output.report(log, &report, report_text(&report));
    if output.quiet {
        // The exit code alone does not name the reason.
        report.manifest.warnings.iter().chain(&report.problems).for_each(|line| output::needs_look(line));
    }
    Ok(report.exit())
}

fn report_text(report: &BackupReport) -> String {
    let m = &report.manifest;
    let took = (m.finished_at - m.started_at).to_std().unwrap_or_default();
    let mut text = String::new();
    push_line(&mut text, &format!("backup {} of {}", m.id, m.job));
    let figures = format!(
        "  {}, {}, {} raw, {} stored, in {}",
        units::several(m.totals.namespaces, "namespace"),
        units::several(m.totals.documents, "document"),
        units::bytes(m.totals.raw_bytes),
        units::bytes(m.artifact.size),
        units::duration(took),
    );
    push_line(&mut text, &figures);
    push_line(&mut text, &format!("  engine {}, consistency {}", m.engine.name, m.consistency.achieved));
    push_line(&mut text, &format!("  {}", report.facts.place));
    if let Some(what) = m.part() {
        push_line(&mut text, &format!("  partial: {what}; `latest` and retention do not count it"));
    }
    for line in m.warnings.iter().chain(&report.problems) {
        push_line(&mut text, &format!("  needs a look: {line}"));
    }
    text
}

fn plan_text(plan: &BackupPlan) -> String {
    let mut text = String::new();
    for namespace in &plan.namespaces {
        push_line(&mut text, namespace);
    }
    // The built-in role `backup` has no right to read the raw size.
    let raw = plan.raw_bytes.map(|bytes| format!(", {} raw", units::bytes(bytes)));
    let on_disk = || Some(format!(", {} on the server's disk", units::bytes(plan.disk_bytes?)));
    let fcv = plan.feature_compatibility_version.map(|fcv| format!(", feature compatibility version {fcv}"));
    push_line(
        &mut text,
        &format!(
            "would read {}{}, of {} (MongoDB {}{}) with {}",
            units::several(plan.namespaces.len() as u64, "namespace"),
            raw.or_else(on_disk).unwrap_or_default(),
            plan.member,
            plan.server_version,
            fcv.unwrap_or_default(),
            plan.engine
        ),
    );
    for hook in &plan.hooks {
        let command: Vec<String> = hook.command.iter().map(|word| quoted(word)).collect();
        push_line(&mut text, &format!("would run the hook {}: {}", hook.name, command.join(" ")));
    }
    if let Some(what) = &plan.partial {
        push_line(&mut text, &format!("the backup would be partial: {what}"));
    }
    for line in &plan.warnings {
        push_line(&mut text, &format!("needs a look: {line}"));
    }
    if let Some(why) = &plan.shortfall {
        push_line(&mut text, &format!("each collection would be read at its own time: {why}"));
    }
    text
}
