//! `uzima-backup pin` and `unpin`.

use chrono::Utc;
use serde_json::json;

use super::args::{PinArgs, UnpinArgs};
use super::output::{self, Output};
use super::{job_meant, reading};
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::catalog::choose::{self, WhichBackup};
use crate::catalog::marks::{self, Mark};
use crate::config::Config;
use crate::model::id::BackupId;
use crate::ops::pin::{self, PinReport};
use crate::store::{self, Store};

pub async fn pin(args: &PinArgs, config: &Config, output: &Output) -> Result<Exit> {
    let store = store::open_existing(config.place()?).await?;
    let mark = Mark {
        format: marks::FORMAT,
        id: id(&args.which, args.job.as_deref(), config, &*store).await?,
        at: Utc::now(),
        host: config.machine.host.clone(),
        reason: args.reason.clone(),
    };
    let report = pin::pin(&*store, &mark).await?;
    print_report(&report, output);
    Ok(report.exit())
}

pub async fn unpin(args: &UnpinArgs, config: &Config, output: &Output) -> Result<Exit> {
    let store = store::open_existing(config.place()?).await?;
    let id = id(&args.which, args.job.as_deref(), config, &*store).await?;
    let report = pin::unpin(&*store, &id).await?;
    print_report(&report, output);
    Ok(report.exit())
}

/// The backup that is meant. One with an id need not be sound: its pin comes off all the same.
async fn id(which: &WhichBackup, job: Option<&str>, config: &Config, store: &dyn Store) -> Result<BackupId> {
    match (which, job) {
        (WhichBackup::Id(id), None) => Ok(id.clone()),
        _ => Ok(choose::choose_readable(store, which, job_meant(which, job, config), &reading(config))
            .await?
            .id),
    }
}

fn print_report(report: &PinReport, output: &Output) {
    let json = json!({"version": 1, "id": report.id, "pinned": report.pinned, "doomed": report.doomed});
    output.result(&json, || match report.pinned {
        true => format!("{} is pinned: no clean-up deletes it\n", report.id),
        false => format!("{} is not pinned: retention decides\n", report.id),
    });
    if report.doomed {
        output::needs_look(&format!(
            "a clean-up has begun to delete {}: run `uzima-backup list` to see whether it is still there",
            report.id
        ));
    }
}
