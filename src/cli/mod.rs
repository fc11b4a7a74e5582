//! The command line: arguments in, text or JSON out, an exit code at the end. It uses no SDK.

mod args;
mod ask;
mod backup;
mod cleanup;
mod complete;
mod config;
mod copy;
mod diff;
mod get;
mod health;
mod identity;
mod init;
mod keygen;
mod list;
mod logging;
mod notify;
mod oplog;
mod output;
mod pin;
mod progress;
mod restorable;
mod restore;
mod schema;
mod stats;
mod styled;
mod timeline;
mod verify;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use futures_util::future::LocalBoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::args::{Cli, Command};
use self::logging::Log;
use self::output::Output;
pub use self::schema::schemas;
use self::styled::Colour;
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::base::units;
use crate::base::{crash, process};
use crate::catalog::choose::WhichBackup;
use crate::config::Env;
use crate::config::machine::Machine;
use crate::config::place::FIRST;
use crate::config::table::SETTINGS;
use crate::config::{Config, Origin, Raw};
use crate::model::id::BackupId;
use crate::notify::events::RunKind;
use crate::notify::run::{Run, RunNotices};
use crate::store::{self, Store};

/// Parses the command line, runs the command, and prints the result or the error.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some((_, words)) =
        args.get(1..).and_then(<[_]>::split_first).filter(|(first, _)| *first == complete::COMMAND)
    {
        output::print(&complete::offers(words, &|name| std::env::var_os(name)));
        return Exit::Done;
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(e) if is_help(&e) => {
            // A closed pipe is no error.
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage } else { Exit::Done };
        }
        Err(e) => {
            let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
            return output::print_error(&args::usage_error(&e, &args), &Log::default(), json);
        }
    };
    // `init` does not read the file that it is about to write.
    let file = match &cli.command {
        Command::Init(_) => Some(Path::new("/dev/null")),
        _ => cli.common.config.as_deref(),
    };
    let env: Env<'_> = &|name| std::env::var_os(name);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let machine = Machine::read(env);
    let loaded = Config::load(cli.settings(), env, names, file, &machine);
    let config = match loaded.and_then(|config| at_places(config, &cli.command)) {
        Ok(config) => Arc::new(config),
        Err(error) => return fail_without_settings(&cli, &machine, &error),
    };
    // `init` often runs as root. A log file that it created could not be written by the user of the nightly runs.
    let no_log_file =
        matches!(cli.command, Command::Init(_)) && config.layers.origin("log_file") != Some(&Origin::Flag);
    let started = config.log_file.clone().and_then(|file| {
        let file = file.filter(|_| !no_log_file);
        Log::start(cli.common.verbose, cli.common.quiet, file.as_deref(), config.redactor.clone())
    });
    let log = match started {
        Ok(log) => log,
        Err(error) => return fail_without_log(&cli, &config, &error, true),
    };
    output::report_panics(log.clone(), cli.common.json);
    let configured = RunNotices::new(&new_run(&config, &log, &Cancel::default()))
        .is_ok_and(|notices| notices.is_configured());
    if let Some(kind) = notified_kind(&cli.command).filter(|_| configured) {
        let (config, log) = (Arc::clone(&config), log.clone());
        if let Err(e) = crash::watch(move || report_crash(kind, &config, &log)) {
            log::warn!("a crash of this run could not be reported: {e}");
        }
    }
    config.misspelt.iter().for_each(|misspelt| log::warn!("{misspelt}"));
    config.exposed.iter().for_each(|file| log::warn!("{file}"));
    config.uri_warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let output = Output { json: cli.common.json, quiet: cli.common.quiet, colour: Colour::of_stdout() };
    let outcome = runtime().and_then(|runtime| {
        let cancel = Cancel::default();
        let exit = runtime.block_on(async {
            cancel_by_signal(cancel.clone())?;
            let run = new_run(&config, &log, &cancel);
            // All of them together would fill the stack of a thread.
            let command: LocalBoxFuture<'_, Result<Exit>> = match &cli.command {
                Command::Init(args) => {
                    on_heap(|| init::run(args, cli.common.config.as_deref(), &run, &output, &log))
                }
                Command::Backup(args) => on_heap(|| backup::run(args, &run, &output, &log)),
                Command::Oplog(args) => on_heap(|| oplog::run(args, &run, &output, &log)),
                Command::Restore(args) => {
                    on_heap(|| restore::run(args, &cli.common, &run, &output, &log.bars))
                }
                Command::Get(args) => on_heap(|| get::run(args, &run, &output)),
                Command::List(args) => on_heap(|| cancel.or(list::run(args, &run, &output))),
                Command::Cleanup(args) => on_heap(|| cleanup::run(args, &run, &output, &log)),
                Command::Copy(args) => on_heap(|| copy::run(args, &run, &output, &log)),
                Command::Pin(args) => on_heap(|| cancel.or(pin::pin(args, &run, &output))),
                Command::Unpin(args) => on_heap(|| cancel.or(pin::unpin(args, &run, &output))),
                Command::Verify(args) => on_heap(|| verify::run(args, &run, &output, &log)),
                Command::Diff(args) => on_heap(|| cancel.or(diff::run(args, &run, &output, &log.bars))),
                Command::Stats(args) => on_heap(|| cancel.or(stats::run(args, &run, &output, &log))),
                Command::Timeline(args) => on_heap(|| cancel.or(timeline::run(args, &run, &output))),
                Command::Health(args) => on_heap(|| health::run(args, &run, &output, &log)),
                Command::Notify(args) => on_heap(|| cancel.or(notify::run(args, &run, &output))),
                Command::Keygen(args) => on_heap(|| cancel.or(keygen::run(args, &run, &output))),
                Command::Config => on_heap(|| cancel.or(config::run(&config, &output))),
            };
            command.await
        });
        // Tasks that still wait for the network must not delay the end.
        runtime.shutdown_background();
        exit
    });
    match outcome {
        Ok(exit) => {
            if output.json {
                output::print_failed_exit(exit);
            }
            exit
        }
        Err(error) => output::print_error(&error, &log, output.json),
    }
}

/// The settings with the places that flags name.
fn at_places(config: Config, command: &Command) -> Result<Config> {
    if let Command::Init(args) = command {
        return Ok(match args.copy_dir() {
            Some(dir) => config.with_copy([("dir", Raw::Text(dir))].into()),
            None => config,
        });
    }
    match command.place() {
        Some(name) => config.at(name),
        // The flag names one directory, which has no copies.
        None if config.layers.origin("dir") == Some(&Origin::Flag) => config.at(FIRST),
        None => Ok(config),
    }
}

/// Returns true if clap's error is the help or the version, requested or because there were no arguments.
fn is_help(error: &clap::Error) -> bool {
    !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
}

/// Ends a run whose settings cannot be read. The failure is still reported by the notices whose own settings can be read: if
/// a variable is wrong, the notices that the file sets; if the file is wrong, the notices that the environment sets.
fn fail_without_settings(cli: &Cli, machine: &Machine, error: &Error) -> Exit {
    let is_for_notices = |name: &str| {
        let name = name.strip_suffix("_FILE").unwrap_or(name);
        let others =
            ["notify", "ping_url", "oplog_ping_url", "metrics_file", "webhook_url", "job", "state_dir"];
        let matches = |key: &str| key.starts_with("mail.") || others.contains(&key);
        name == "UZIMA_BACKUP_CONFIG" || SETTINGS.iter().any(|s| s.env == name && matches(s.key))
    };
    let env = |name: &str| if is_for_notices(name) { std::env::var_os(name) } else { None };
    let load = |file| Config::load(cli.settings(), &env, std::iter::empty(), file, machine);
    let config = load(cli.common.config.as_deref()).or_else(|_| load(Some(Path::new("/dev/null"))));
    match config {
        Ok(config) => fail_without_log(cli, &config, error, false),
        Err(_) => output::print_error(error, &Log::default(), cli.common.json),
    }
}

/// Ends a run that failed before its log started. `complete`: the configuration has all settings.
fn fail_without_log(cli: &Cli, config: &Config, error: &Error, complete: bool) -> Exit {
    let log = Log::silent(config.redactor.clone());
    if let Some(kind) = notified_kind(&cli.command) {
        send_failure(kind, config, &log, error, complete);
    }
    output::print_error(error, &log, cli.common.json)
}

/// Sends the notices of a run that crashed. Standard error already has the cause.
fn report_crash(kind: RunKind, config: &Config, log: &Log) {
    let error = Error::failed(
        "the run crashed: its stack overflowed, or there was not enough memory (standard error says which)",
    )
    .hint(
        "Free memory if it is short. If the run crashes again, look for a server or a file whose data is nested too deeply",
    );
    log.append(log::Level::Error, &escape::line(&error.chain()));
    send_failure(kind, config, log, &error, true);
}

fn send_failure(kind: RunKind, config: &Config, log: &Log, error: &Error, complete: bool) {
    let (cancel, runtime) = (Cancel::default(), runtime());
    let run = new_run(config, log, &cancel);
    if let (Ok(runtime), Ok(notices)) = (runtime, RunNotices::new(&run)) {
        runtime.block_on(async {
            match complete {
                true => notices.failed(kind, error).await,
                false => notices.unread(kind, error).await,
            }
        });
        runtime.shutdown_background();
    }
}

/// Starts the clock of a run. All commands take their times from it.
fn new_run<'a>(config: &'a Config, log: &Log, cancel: &'a Cancel) -> Run<'a> {
    let new_id = |now| BackupId::new(now, &mut rand::rng());
    Run { config, cancel, log: Arc::new(log.clone()), clock: Clock::start(), new_id: Arc::new(new_id) }
}

/// The kind of a command whose failure sends notices.
fn notified_kind(command: &Command) -> Option<RunKind> {
    match command {
        Command::Backup(args) if !args.dry_run => Some(RunKind::Backup),
        Command::Cleanup(args) if !args.dry_run => Some(RunKind::Cleanup),
        Command::Oplog(args) if !args.dry_run => Some(RunKind::Oplog),
        _ => None,
    }
}

/// The command line's definition, for man pages and completions.
pub fn command() -> clap::Command {
    args::with_value_hints(Cli::command())
}

/// The keys of the settings that a command line sets, for docs/configuration.md.
///
/// # Errors
/// Returns an error if the command line is invalid.
pub fn set_by<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<Vec<&'static str>, clap::Error> {
    Ok(Cli::try_parse_from(args)?.settings().into_keys().collect())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    // Reading and compressing have their own threads. Two are enough for the network.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Error::failed("cannot start the runtime").caused_by(e))
}

/// Makes SIGHUP, SIGINT and SIGTERM end the run cleanly, and any second one end the process at once. A signal that was ignored
/// at the start stays ignored: `nohup` and `trap '' HUP` ask for a run that outlives its terminal.
fn cancel_by_signal(cancel: Cancel) -> Result<()> {
    let stream = |kind: SignalKind| match process::ignores(kind.as_raw_value()) {
        true => Ok(None),
        false => signal(kind).map(Some).map_err(|e| Error::failed("cannot watch for signals").caused_by(e)),
    };
    let mut streams =
        [stream(SignalKind::hangup())?, stream(SignalKind::interrupt())?, stream(SignalKind::terminate())?];
    tokio::spawn(async move {
        cancel.by_signal(next_signal(&mut streams).await);
        let second = next_signal(&mut streams).await;
        std::process::exit(Exit::Signal(second).code().into());
    });
    Ok(())
}

async fn next_signal([hangup, interrupt, terminate]: &mut [Option<Signal>; 3]) -> u8 {
    tokio::select! {
        () = received(hangup) => 1,
        () = received(interrupt) => 2,
        () = received(terminate) => 15,
    }
}

/// Waits for the signal; forever if it is ignored.
async fn received(stream: &mut Option<Signal>) {
    match stream {
        Some(stream) => drop(stream.recv().await),
        None => std::future::pending().await,
    }
}

/// The job of the chosen backup: the flag's or, without an id, the configured one.
fn job_meant<'a>(which: &WhichBackup, flag: Option<&'a str>, config: &'a Config) -> Option<&'a str> {
    flag.or_else(|| config.layers.text("job").filter(|_| which.is_of_job()))
}

/// Opens the configured place for a command that only reads it.
///
/// # Errors
/// Returns an error if the place is a directory that does not exist, or cannot be listed.
async fn open_place(config: &Config) -> Result<Arc<dyn Store>> {
    let store = store::open_existing(config.place.as_ref()?).await?;
    store.check().await?;
    Ok(store)
}
