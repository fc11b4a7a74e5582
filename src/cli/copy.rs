//! `uzima-backup copy`.

use super::args::CopyArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::units;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::notify::run::Run;
use crate::ops::copy::{Copies, CopyReport, CopyRequest, run_copy};

pub async fn run(args: &CopyArgs, run: &Run<'_>, output: &Output, log: &Log) -> Result<Exit> {
    let request = CopyRequest {
        copies: if args.missing { Copies::Missing } else { Copies::Backups(args.ids.clone()) },
        to: args.to.clone(),
        from: args.from.clone(),
        new_place: args.new_place,
        dry_run: args.dry_run,
        wait: args.wait,
    };
    let report = run_copy(run, &request).await?;
    output.report(log, &report, report_text(&report));
    if output.quiet {
        // The exit code alone does not name the reason.
        report.problems.iter().for_each(|problem| output::needs_look(problem));
    }
    Ok(report.exit())
}

fn report_text(report: &CopyReport) -> String {
    let mut text = String::new();
    let did = if report.dry_run { "would copy" } else { "copied" };
    for place in &report.places {
        for backup in &place.backups {
            let line = match backup.already {
                true => format!("{} has {} already", place.name, backup.id),
                false => format!("{did} {} from {} to {}", backup.id, backup.from, place.name),
            };
            push_line(&mut text, &line);
        }
        let new = place.backups.iter().filter(|backup| !backup.already);
        let bytes = new.clone().map(|backup| backup.sent_bytes).fold(place.slice_bytes, u64::saturating_add);
        let sent = if report.dry_run { String::new() } else { format!(", {}", units::bytes(bytes)) };
        push_line(
            &mut text,
            &format!(
                "{did} {} and {} to {}{sent}",
                units::several(new.count() as u64, "backup"),
                units::several(place.slices, "oplog slice"),
                place.place
            ),
        );
        for (n, what) in [(place.pins, "pin"), (place.acceptances, "acceptance")] {
            if n > 0 {
                push_line(&mut text, &format!("{did} {} to {}", units::several(n, what), place.place));
            }
        }
    }
    for problem in &report.problems {
        push_line(&mut text, &format!("needs a look: {problem}"));
    }
    text
}
