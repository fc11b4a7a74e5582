//! `uzima-backup pin` and `unpin`.

use super::args::{OneBackup, PinArgs, UnpinArgs};
use super::job_meant;
use super::output::{self, Output};
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::catalog::choose::{self, WhichBackup};
use crate::catalog::marks::{self, Mark};
use crate::model::id::BackupId;
use crate::notify::run::Run;
use crate::ops::pin::{self, PinReport};
use crate::store::{self, Store};

pub async fn pin(args: &PinArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let store = store::open_existing(run.config.place.as_ref()?).await?;
    let mark = Mark {
        format: marks::FORMAT,
        id: id(&args.backup, run, &*store).await?,
        at: run.clock.now(),
        host: run.config.machine.host.clone(),
        reason: args.reason.clone(),
    };
    Ok(print_report(&pin::pin(&*store, &mark).await?, output))
}

pub async fn unpin(args: &UnpinArgs, run: &Run<'_>, output: &Output) -> Result<Exit> {
    let store = store::open_existing(run.config.place.as_ref()?).await?;
    let id = id(&args.backup, run, &*store).await?;
    Ok(print_report(&pin::unpin(&*store, &id).await?, output))
}

/// The id of the chosen backup. A backup that is given by id may be damaged, so that its pin can be removed.
async fn id(backup: &OneBackup, run: &Run<'_>, store: &dyn Store) -> Result<BackupId> {
    let (which, job) = (&backup.which, backup.backups.job.as_deref());
    match (which, job) {
        (WhichBackup::Id(id), None) => return Ok(id.clone()),
        (WhichBackup::Prefix(prefix), None) => return choose::by_prefix(store, prefix, None).await,
        _ => {}
    }
    let job = job_meant(which, job, run.config);
    Ok(choose::choose_readable(store, which, job, &run.reading()?).await?.id)
}

fn print_report(report: &PinReport, output: &Output) -> Exit {
    output.result(report, || match report.pinned {
        true => format!("{} is pinned: no cleanup deletes it\n", report.id),
        false => format!("{} is not pinned: retention decides\n", report.id),
    });
    if report.doomed {
        output::needs_look(&format!(
            "a cleanup has begun to delete {}: run `uzima-backup list` to see whether it still exists",
            report.id
        ));
    }
    report.exit()
}
