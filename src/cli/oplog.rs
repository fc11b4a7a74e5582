//! `uzima-backup oplog`.

use super::args::OplogArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::units;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::notify::run::Run;
use crate::ops::oplog::{OplogReport, OplogRequest, run_oplog};

pub async fn run(args: &OplogArgs, run: &Run<'_>, output: &Output, log: &Log) -> Result<Exit> {
    let request = OplogRequest { dry_run: args.dry_run, wait: args.wait };
    let report = on_heap(|| run_oplog(run, &request)).await?;
    output.report(log, &report, report_text(&report));
    if output.quiet {
        // The exit code alone does not name the reason.
        report.problems.iter().for_each(|problem| output::needs_look(problem));
    }
    Ok(report.exit())
}

fn report_text(report: &OplogReport) -> String {
    let mut text = String::new();
    let size =
        format!("{} raw, {} stored", units::bytes(report.raw_bytes), units::bytes(report.stored_bytes));
    let amount = format!(
        "{} in {}, {size}",
        units::several(report.entries, "entry"),
        units::several(report.slices.len() as u64, "slice")
    );
    let line = match (report.slices.is_empty(), report.dry_run) {
        (true, _) => format!("oplog of {}: nothing new", report.job),
        (false, true) => format!("oplog of {}: would store {amount}", report.job),
        (false, false) => format!("oplog of {}: stored {amount}", report.job),
    };
    push_line(&mut text, &line);
    if let Some(end) = report.end {
        push_line(&mut text, &format!("  read from {}, up to {end}", report.member));
    }
    push_line(&mut text, &format!("  {}", report.place));
    for note in &report.notes {
        push_line(&mut text, &format!("  note: {note}"));
    }
    for problem in &report.problems {
        push_line(&mut text, &format!("  needs a look: {problem}"));
    }
    text
}
