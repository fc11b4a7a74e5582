//! The command line: arguments in, text or JSON out, an exit code at the end. Knows no SDK.

mod args;
mod backup;
mod cleanup;
mod columns;
mod config;
mod drill;
mod health;
mod init;
mod list;
pub mod logging;
mod notify;
mod output;
mod pin;
mod progress;
mod restore;
mod signals;
mod stats;
mod usage;
mod verify;
mod version;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use futures_util::future::LocalBoxFuture;

use self::args::{Cli, Command};
use self::logging::Log;
use self::output::Output;
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::crash;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::units;
use crate::catalog::CatalogOptions;
use crate::catalog::choose::WhichBackup;
use crate::config::Env;
use crate::config::machine::Machine;
use crate::config::table::SETTINGS;
use crate::config::{Config, Origin};
use crate::model::id::BackupId;
use crate::notify::events::RunKind;
use crate::notify::run::{Run, RunNotices};
use crate::store::{self, Store};

/// Parses the command line, runs the command, prints what there is to say.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) if helps(&e) => {
            // A closed pipe is no error either.
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Done };
        }
        Err(e) => return output::complain(&usage::explain(&e, &args), &Log::default()),
    };
    // What `init` is about to write is not there to be read.
    let file = match &cli.command {
        Command::Init(_) => Some(Path::new("/dev/null")),
        _ => cli.common.config.as_deref(),
    };
    let env: Env<'_> = &|name| std::env::var_os(name);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let machine = Machine::read(env);
    let config = match Config::load(cli.settings(), env, names, file, &machine) {
        Ok(config) => Arc::new(config),
        Err(error) => return unread(&cli, &machine, error),
    };
    // `init` often runs as root. A log file that it created could not be written by the user of the nightly runs.
    let no_log_file =
        matches!(cli.command, Command::Init(_)) && config.origin("log_file") != Some(&Origin::Flag);
    let started = config
        .log_file()
        .map(|file| file.filter(|_| !no_log_file))
        .and_then(|file| Log::start(cli.common.verbose, cli.common.quiet, file, config.redactor.clone()));
    let log = match started {
        Ok(log) => log,
        Err(error) => return early(&cli, &config, &error, true),
    };
    output::tell_panics(log.clone());
    let configured = RunNotices::new(&new_run(&config, &log, &Cancel::default()))
        .is_ok_and(|notices| notices.is_configured());
    if let Some(operation) = notified_kind(&cli.command).filter(|_| configured) {
        let (config, log) = (Arc::clone(&config), log.clone());
        if let Err(e) = crash::watch(move || broken_off(operation, &config, &log)) {
            log::warn!("a run that is broken off could not be reported: {e}");
        }
    }
    config.misspelt().iter().for_each(|misspelt| log::warn!("{misspelt}"));
    config.exposed().iter().for_each(|file| log::warn!("{file}"));
    config.uri_warnings().iter().for_each(|warning| log::warn!("{warning}"));
    let output = Output::new(cli.common.json, cli.common.quiet);
    let outcome = runtime().and_then(|runtime| {
        let cancel = Cancel::default();
        let exit = runtime.block_on(async {
            signals::watch(cancel.clone())?;
            let run = new_run(&config, &log, &cancel);
            // Each command has a future of its own on the heap: together they would fill the stack of a thread.
            let command: LocalBoxFuture<'_, Result<Exit>> = match &cli.command {
                Command::Init(args) => {
                    Box::pin(init::run(args, cli.common.config.as_deref(), &run, &output, &log))
                }
                Command::Backup(args) => Box::pin(backup::run(args, &run, &output, &log)),
                Command::Restore(args) => {
                    Box::pin(restore::run(args, &config, &output, &log.bars, cancel.clone()))
                }
                Command::List(args) => Box::pin(cancel.or(list::run(args, &config, &output))),
                Command::Cleanup(args) => Box::pin(cleanup::run(args, &run, &output, &log)),
                Command::Pin(args) => Box::pin(cancel.or(pin::pin(args, &config, &output))),
                Command::Unpin(args) => Box::pin(cancel.or(pin::unpin(args, &config, &output))),
                Command::Verify(args) => Box::pin(verify::run(args, &config, &output, &log, &cancel)),
                Command::Stats(args) => Box::pin(cancel.or(stats::run(args, &run, &output, &log))),
                Command::Health(args) => Box::pin(health::run(args, &run, &output, &log)),
                Command::Notify(args) => Box::pin(cancel.or(notify::run(args, &config, &output))),
                Command::Config => Box::pin(cancel.or(config::run(&config, &output))),
            };
            command.await
        });
        // Whatever still waits for a network must not hold the end up.
        runtime.shutdown_background();
        exit
    });
    outcome.unwrap_or_else(|error| output::complain(&error, &log))
}

/// Whether it is help or the version, asked for or because nothing else was.
fn helps(error: &clap::Error) -> bool {
    !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// The settings cannot be read. Whoever is named in what can be of them hears of it all the same: one
/// variable that is wrong leaves the file, and a file that is wrong the environment.
fn unread(cli: &Cli, machine: &Machine, error: Error) -> Exit {
    let mails = |name: &str| {
        let name = name.strip_suffix("_FILE").unwrap_or(name);
        let others = ["notify", "ping_url", "metrics_file", "webhook_url", "job", "state_dir"];
        let tells = |key: &str| key.starts_with("mail.") || others.contains(&key);
        name == "UZIMA_BACKUP_CONFIG" || SETTINGS.iter().any(|s| s.env == name && tells(s.key))
    };
    let env = |name: &str| if mails(name) { std::env::var_os(name) } else { None };
    let load = |file| Config::load(cli.settings(), &env, std::iter::empty(), file, machine);
    let config = load(cli.common.config.as_deref()).or_else(|_| load(Some(Path::new("/dev/null"))));
    match config {
        Ok(config) => early(cli, &config, &error, false),
        Err(_) => output::complain(&error, &Log::default()),
    }
}

/// Ends a run that failed before it had a log; of one of the night, mails tell. `whole`: the layers are all
/// that was set.
fn early(cli: &Cli, config: &Config, error: &Error, whole: bool) -> Exit {
    let log = Log::silent(config.redactor.clone());
    let Some(operation) = notified_kind(&cli.command) else { return output::complain(error, &log) };
    let (cancel, runtime) = (Cancel::default(), runtime());
    let run = new_run(config, &log, &cancel);
    if let (Ok(runtime), Ok(notices)) = (runtime, RunNotices::new(&run)) {
        runtime.block_on(async {
            match whole {
                true => notices.failed(operation, error).await,
                false => notices.unread(operation, error).await,
            }
        });
        runtime.shutdown_background();
    }
    output::complain(error, &log)
}

/// A run that starts now.
fn new_run<'a>(config: &'a Config, log: &Log, cancel: &'a Cancel) -> Run<'a> {
    let new_id = |now| BackupId::new(now, &mut rand::rng());
    Run { config, cancel, log: Arc::new(log.clone()), clock: Clock::start(), new_id: Arc::new(new_id) }
}

/// The operation of a command whose failure is sent to people and monitors.
fn notified_kind(command: &Command) -> Option<RunKind> {
    match command {
        Command::Backup(args) if !args.dry_run => Some(RunKind::Backup),
        Command::Cleanup(args) if !args.dry_run => Some(RunKind::Cleanup),
        _ => None,
    }
}

/// Sends the notices of a run that cannot go on. Standard error has the cause already.
fn broken_off(operation: RunKind, config: &Config, log: &Log) {
    let error = Error::failed(
        "the run was broken off: the stack is full, or memory is not there (standard error says which)",
    )
    .hint(
        "If memory is short, free some. If this comes again, a server or a file has data that is nested too deeply: find \
         out which",
    );
    log.tell(log::Level::Error, &escape::line(&error.chain()));
    let (cancel, runtime) = (Cancel::default(), runtime());
    let run = new_run(config, log, &cancel);
    if let (Ok(runtime), Ok(notices)) = (runtime, RunNotices::new(&run)) {
        runtime.block_on(notices.failed(operation, &error));
    }
}

/// The command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    args::hinted(Cli::command())
}

/// The keys of the settings that a command line sets, for the page that lists them.
///
/// # Errors
/// When it is none.
pub fn set_by<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<Vec<&'static str>, clap::Error> {
    Ok(Cli::try_parse_from(args)?.settings().into_keys().collect())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    // The data path has threads of its own; two are enough for the network.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::failed("cannot start the runtime").caused_by(e))
}

/// The job whose backup is meant: the flag's; of `latest` else that of the settings.
fn job_meant<'a>(which: &WhichBackup, flag: Option<&'a str>, config: &'a Config) -> Option<&'a str> {
    flag.or_else(|| config.named_job().filter(|_| *which == WhichBackup::Latest))
}

/// Opens the place of the settings for a command that only reads it.
///
/// # Errors
/// Returns an error if the place is a directory that does not exist, or cannot be listed.
async fn stored(config: &Config) -> Result<Arc<dyn Store>> {
    let store = store::open_existing(config.place()?).await?;
    store.check().await?;
    Ok(store)
}

/// Reads the backups of the settings' place at the present time.
fn reading(config: &Config) -> CatalogOptions {
    CatalogOptions::remembering(config.state_dir.clone(), Utc::now())
}
