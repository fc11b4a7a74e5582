//! `uzima-backup restore`.

mod text;

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use indicatif::MultiProgress;

use super::args::RestoreArgs;
use super::output::{self, Output};
use super::progress::Display;
use super::{job_meant, reading, stored};
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::progress::Meter;
use crate::catalog::choose::{self, WhichBackup};
use crate::config::Config;
use crate::ops::restore::{
    self, Dump, Restore, RestoreFilter, RestoreOptions, RestoreOrigin, RestorePlan, StoredBackup, Users,
};
use crate::restore_target::RestoreTarget;

pub async fn run(
    args: &RestoreArgs,
    config: &Config,
    output: &Output,
    bars: &MultiProgress,
    cancel: Cancel,
) -> Result<Exit> {
    let options = options(args)?;
    let asks = !args.yes && !args.dry_run;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Error::usage(
            "a restore writes to a server, and there is no terminal to ask for confirmation",
        )
        .hint("Check the plan with --dry-run, then add --yes"));
    }
    let server = config.restore_target()?;
    let options = RestoreOptions { onto_source: server.is_source, ..options };
    let origin = cancel.or(origin(args, config)).await?;
    let target = cancel.or(RestoreTarget::connect(&server.uri, config.patience()?)).await?;
    let restore = Restore::plan(origin, target, options, &cancel).await?;
    let meter = Arc::new(Meter::default());
    if args.dry_run {
        return dry_run(&restore, &meter, output, bars).await;
    }
    if let Some(error) = restore.plan.refusal() {
        return Err(error);
    }
    if asks && !confirmed(&restore.plan) {
        return Err(Error::failed("not restored, because it was not confirmed; nothing was changed"));
    }
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let outcome = restore.apply(&meter).await;
    drop(display);
    let report = outcome?;
    output.result(&report, || text::report_text(&report));
    if output.quiet {
        // The exit code alone does not name the reason.
        text::differences(&report).iter().for_each(|line| output::needs_look(line));
    }
    report.conclude()
}

fn options(args: &RestoreArgs) -> Result<RestoreOptions> {
    let patterns = |texts: &[String]| -> Result<Vec<_>> {
        texts.iter().map(|text| text.parse().map_err(|why: String| Error::usage(why))).collect()
    };
    let rename = restore::pairs(&args.ns_from, &args.ns_to).map_err(Error::usage)?;
    let users = match (args.users, args.no_users) {
        (true, _) => Users::Always,
        (_, true) => Users::Never,
        _ => Users::Unfiltered,
    };
    Ok(RestoreOptions {
        filter: RestoreFilter {
            include: patterns(&args.ns_include)?,
            exclude: patterns(&args.ns_exclude)?,
            rename,
            no_index: patterns(&args.no_index)?,
        },
        drop: args.drop,
        exact: args.exact,
        no_indexes: args.no_indexes,
        convert_legacy_indexes: args.convert_legacy_indexes,
        users,
        no_replay: args.no_replay,
        at: args.at.as_deref().map(str::parse).transpose().map_err(|why: String| Error::usage(why))?,
        onto_source: false,
        token: format!("{:08x}", rand::random::<u32>()),
        // Measured with a replica set on one machine: with two workers, small collections take 1.7 times as long,
        // because each insert waits for a majority. For large collections the server is the limit.
        workers: 4,
    })
}

/// Opens the backup or dump to be restored.
async fn origin(args: &RestoreArgs, config: &Config) -> Result<RestoreOrigin> {
    if let Some(path) = args.from.clone() {
        let read = tokio::task::spawn_blocking(move || Dump::open(&path)).await;
        let dump = read.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
        return Ok(RestoreOrigin::Dump(Arc::new(dump)));
    }
    let store = stored(config).await?;
    let which = args.which.as_ref().unwrap_or(&WhichBackup::Latest);
    let manifest = {
        let job = job_meant(which, args.job.as_deref(), config);
        choose::choose_readable(&*store, which, job, &reading(config)).await?
    };
    Ok(RestoreOrigin::Stored(Arc::new(StoredBackup::open(store, manifest).await?)))
}

async fn dry_run(
    restore: &Restore,
    meter: &Arc<Meter>,
    output: &Output,
    bars: &MultiProgress,
) -> Result<Exit> {
    if !output.json {
        // Printed before the check, which reads the whole backup.
        output.result(&(), || text::plan_text(&restore.plan));
    }
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let checked = restore.check(meter).await;
    drop(display);
    checked?;
    if output.json {
        output.result(&restore.plan, String::new);
    } else {
        output.result(&(), || "all data was read and is intact\n".into());
    }
    restore.plan.objection().map_or(Ok(Exit::Done), Err)
}

/// Asks for confirmation on the terminal.
fn confirmed(plan: &RestorePlan) -> bool {
    let mut out = std::io::stderr();
    let _ = write!(out, "{}Restore this? [y/N] ", escape::lines(&text::plan_text(plan)));
    let _ = out.flush();
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}
