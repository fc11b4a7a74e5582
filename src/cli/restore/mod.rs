//! `uzima-backup restore`.

mod json;
mod tell;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::MultiProgress;

use super::args::RestoreArgs;
use super::output::{self, Output};
use super::progress::Display;
use super::{job_meant, reading, stored};
use crate::base::cancel::{Cancel, Step};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::progress::Meter;
use crate::catalog::choose::{self, WhichBackup};
use crate::config::Config;
use crate::ops::restore::{self, Dump, Filter, Options, Origin, Plan, Restore, Stored, Users};
use crate::restore_target::Target;

/// How long a plan that failed may take to drop its empty collections.
const DROPPING: Duration = Duration::from_secs(5);

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
        return Err(Error::usage("a restore writes to a server, and nobody is here to be asked")
            .hint("Look at the plan with --dry-run, then give --yes"));
    }
    let server = config.restore_target()?;
    let options = Options { onto_source: server.is_source, ..options };
    let origin = cancel.or(origin(args, config)).await?;
    let target = cancel.or(Target::connect(&server.uri, config.patience()?)).await?;
    let planned = cancel.or(Restore::plan(origin, target.clone(), options)).await;
    if planned.is_err() {
        let dropping = tokio::time::timeout(DROPPING, target.end_trials());
        let _ = cancel.deadline().within(Step::Work, dropping).await;
    }
    let restore = planned?;
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
    let (facts, standing) = (json::facts(&restore.plan), restore.standing());
    let (from, into) = (tell::from_text(&restore.plan), restore.plan.target_text());
    let outcome = cancel.or(restore.apply(&meter)).await;
    drop(display);
    let report = match outcome {
        // It says that nothing was stored, which is true of a backup.
        Err(error) if matches!(error.kind(), Kind::Signal(_)) => {
            let signal = error.to_string().split(';').next().unwrap_or_default().to_string();
            let left = cancel.deadline().left(Step::Work);
            return Err(standing.stopped(Error::new(error.kind(), signal), left).await);
        }
        outcome => outcome?,
    };
    output.result(&json::report(&report, facts), || tell::report_text(&report, &from, &into));
    if output.quiet {
        // An exit code alone would not say what needs a look.
        tell::looks(&report).iter().for_each(|line| output::needs_look(line));
    }
    report.failure().map_or(Ok(report.exit()), Err)
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
        filter: Filter {
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
        // As many connections. Of a replica set on this machine two take 1.7 times as long for small
        // collections, where each waits for a majority; and for large ones the server is the slower one.
        workers: 4,
    })
}

/// What is restored.
async fn origin(args: &RestoreArgs, config: &Config) -> Result<Origin> {
    if let Some(path) = args.from.clone() {
        let read = tokio::task::spawn_blocking(move || Dump::open(&path)).await;
        let dump = read.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
        return Ok(Origin::Dump(Arc::new(dump)));
    }
    let store = stored(config).await?;
    let which = args.which.as_ref().unwrap_or(&WhichBackup::Latest);
    let manifest = {
        let job = job_meant(which, args.job.as_deref(), config);
        choose::choose_readable(&*store, which, job, &reading(config)).await?
    };
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
        output.result(&(), || tell::plan_text(&restore.plan));
    }
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let checked = restore.check(meter).await;
    drop(display);
    checked?;
    if output.json {
        output.result(&json::plan(&restore.plan), String::new);
    } else {
        output.result(&(), || "all of it was read, and is as it should be\n".into());
    }
    restore.plan.objection().map_or(Ok(Exit::Done), Err)
}

/// Asks at the terminal.
fn confirmed(plan: &Plan) -> bool {
    let mut out = std::io::stderr();
    let _ = write!(out, "{}Restore this? [y/N] ", escape::lines(&tell::plan_text(plan)));
    let _ = out.flush();
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}
