//! `uzima-backup pin` and `unpin`.

use super::args::{OneBackup, PinArgs, UnpinArgs};
use super::job_meant;
use super::output::{self, Output};
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::catalog::choose::WhichBackup;
use crate::catalog::marks::{self, Mark};
use crate::model::id::BackupId;
use crate::notify::run::Run;
use crate::ops::pin::{self, PinReport};
use crate::ops::places::{Places, Purpose};

pub async fn pin(args: &PinArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let mark = |id| Mark {
        format: marks::FORMAT,
        id,
        at: run.clock.now(),
        host: run.config.machine.host.clone(),
        reason: args.reason.clone(),
    };
    let places = Places::open_known(run.config, &run.reading()?).await?;
    let mark = mark(id(&args.backup, run, &places).await?);
    let report = pin::pin_everywhere(&places, &mark, run.config.state_dir.as_deref()).await?;
    Ok(print_report(&report, output))
}

pub async fn unpin(args: &UnpinArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let places = Places::open_known(run.config, &run.reading()?).await?;
    let id = id(&args.backup, run, &places).await?;
    let report = pin::unpin_everywhere(&places, &id, run.config.state_dir.as_deref()).await?;
    Ok(print_report(&report, output))
}

/// The id of the chosen backup. A backup that is given by id may be damaged, so that its pin can be removed.
async fn id(backup: &OneBackup, run: &Run<'_>, places: &Places) -> Result<BackupId> {
    let (which, job) = (&backup.which, backup.backups.job.as_deref());
    match (which, job) {
        (WhichBackup::Id(id), None) => return Ok(id.clone()),
        (WhichBackup::Prefix(prefix), None) => return places.by_prefix(prefix, None).await,
        _ => {}
    }
    let job = job_meant(which, job, run.config);
    Ok(places.choose_backup(which, job, &run.reading()?, Purpose::Verify).await?.manifest.id)
}

fn print_report(report: &PinReport, output: &Output) -> Exit {
    let places = report.places.as_ref().map(|names| format!(" in {}", names.join(", "))).unwrap_or_default();
    output.result(report, || match report.pinned {
        true => format!("{} is pinned{places}: no cleanup deletes it\n", report.id),
        false => format!("{} is not pinned{places}: retention decides\n", report.id),
    });
    if report.doomed {
        output::needs_look(&format!(
            "a cleanup has begun to delete {}: run `uzima-backup list` to see whether it still exists",
            report.id
        ));
    }
    report.problems.iter().for_each(|problem| output::needs_look(problem));
    report.exit()
}
