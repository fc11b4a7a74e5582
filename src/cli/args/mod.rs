//! The command line: its flags, the settings that they set, and the errors of wrong usage.

mod admin;
mod data;
mod time;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser, ValueHint};
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, Args, CommandFactory, Parser, Subcommand};

pub use self::admin::{
    CleanupArgs, HealthArgs, InitArgs, KeygenArgs, ListArgs, NotifyArgs, OneBackup, PinArgs, StatsArgs,
    TimelineArgs, UnpinArgs,
};
pub use self::data::{
    BackupArgs, CopyArgs, DiffArgs, DocumentFormat, GetArgs, OplogArgs, RestoreArgs, VerifyArgs,
};
use crate::base::error::Error;
use crate::base::exit::Exit;
use crate::config::Raw;
use crate::config::choices::AUTO_LEVEL;

/// The output of `--version`: the version, the build, and what the tool supports.
const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("UZIMA_BACKUP_BUILD"),
    ")\n\
     engines: native, mongodump\n\
     formats: tar.gz, tar.zst, archive.gz, archive.zst\n\
     stores: directory, S3"
);

/// MongoDB backups that restore.
#[derive(Debug, Parser)]
#[command(
    name = "uzima-backup",
    version,
    long_version = LONG_VERSION,
    about = "MongoDB backups that restore: one streamed, checked artifact to S3 or a directory",
    after_help = after_help()
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const GLOBAL: &str = "Global options";

/// The flags of every command.
#[derive(Debug, Default, Args)]
pub struct Common {
    /// Read this configuration file instead of /etc/uzima-backup/config.toml
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the result as JSON on standard output
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print only errors
    #[arg(long, short, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Also append the log and the result to this file; rotate it with logrotate's copytruncate
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Log more; given twice, log everything (RUST_LOG is more selective)
    #[arg(long, short, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The subcommands. A comment on a variant would replace the long help text of its arguments.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "a process has one value of it")]
pub enum Command {
    Init(InitArgs),
    Backup(BackupArgs),
    Oplog(OplogArgs),
    Restore(RestoreArgs),
    Get(GetArgs),
    List(ListArgs),
    Cleanup(CleanupArgs),
    Copy(CopyArgs),
    Pin(PinArgs),
    Unpin(UnpinArgs),
    Verify(VerifyArgs),
    Diff(DiffArgs),
    Stats(StatsArgs),
    Timeline(TimelineArgs),
    Health(HealthArgs),
    Notify(NotifyArgs),
    Keygen(KeygenArgs),
    /// Show the merged settings and where each came from, without secrets
    #[command(after_help = "Examples:\n  uzima-backup config\n  env -i $(which uzima-backup) config\n  \
uzima-backup config --json | jq '.settings[] | select(.origin)'\n\n\
Exit codes: 0 the settings are valid · 2 a setting is wrong")]
    Config,
}

/// The job and the directory, as settings.
#[derive(Debug, Default, Args)]
pub struct JobAndDir {
    /// The job; by default, it is named after the chosen data and the host of the server
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// The directory of the backups
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The place of the backups by its name: `first`, or the name of a copy
    #[arg(long, value_name = "NAME", conflicts_with = "dir")]
    pub place: Option<String>,
}

/// The job as a filter, and the directory as a setting.
#[derive(Debug, Default, Clone, PartialEq, Args)]
pub struct BackupsOf {
    /// Only backups of this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// The directory of the backups
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The place of the backups by its name: `first`, or the name of a copy
    #[arg(long, value_name = "NAME", conflicts_with = "dir")]
    pub place: Option<String>,
}

/// The sources of settings, and every exit code.
fn after_help() -> String {
    let codes: Vec<String> = Exit::all().map(|exit| format!("{} {}", exit.shown(), exit.meaning())).collect();
    format!(
        "Settings come from flags, then the environment, then /etc/uzima-backup/config.toml (or --config, or \
         UZIMA_BACKUP_CONFIG). `uzima-backup config` shows all of them and where each came from.\n\n\
         Examples:\n  uzima-backup init --dir /var/backups/mongodb\n  uzima-backup backup\n  uzima-backup list\n  \
         uzima-backup verify\n  uzima-backup restore latest --dry-run\n\n\
         Exit codes: {}",
        codes.join(" · ")
    )
}

impl Cli {
    /// The settings that the flags set.
    pub fn settings(&self) -> BTreeMap<&'static str, Raw> {
        let mut flags = self.command.settings();
        flags.extend(path(self.common.log_file.as_deref()).map(|file| ("log_file", Raw::Text(file))));
        flags
    }
}

impl Command {
    fn settings(&self) -> BTreeMap<&'static str, Raw> {
        let mut lists: Vec<(&str, &Vec<String>)> = Vec::new();
        let texts = match self {
            Command::Init(args) => {
                lists.push(("recipients", &args.recipients));
                // Nightly runs start in another directory.
                let absolute = |dir: &PathBuf| std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
                let dir = args.dir.as_ref().map(absolute);
                vec![("mongo_uri", args.mongo_uri.clone()), ("dir", path(dir.as_deref()))]
            }
            Command::Backup(args) => {
                lists.extend([
                    ("databases", &args.db),
                    ("include", &args.include),
                    ("exclude", &args.exclude),
                ]);
                vec![
                    ("job", args.job.clone()),
                    ("engine", args.engine.clone()),
                    ("consistency", args.consistency.clone()),
                    ("format", args.format.clone()),
                    ("compression_level", args.level.clone()),
                    ("check_compression", args.check_compression.then(|| "true".into())),
                    ("dir", path(args.dir.as_deref())),
                ]
            }
            Command::Oplog(args) => {
                lists.extend([
                    ("databases", &args.db),
                    ("include", &args.include),
                    ("exclude", &args.exclude),
                ]);
                vec![("job", args.job.clone()), ("dir", path(args.dir.as_deref()))]
            }
            Command::Restore(RestoreArgs { backups, to_uri, identity, .. }) => vec![
                ("dir", path(backups.dir.as_deref())),
                ("restore_uri", to_uri.clone()),
                ("identity_file", path(identity.as_deref())),
            ],
            Command::Verify(VerifyArgs { backups, to_uri, identity, .. }) => vec![
                ("dir", path(backups.dir.as_deref())),
                ("drill_uri", to_uri.clone()),
                ("identity_file", path(identity.as_deref())),
            ],
            Command::Timeline(TimelineArgs { target, identity, .. }) => vec![
                ("job", target.job.clone()),
                ("dir", path(target.dir.as_deref())),
                ("identity_file", path(identity.as_deref())),
            ],
            Command::List(ListArgs { backups, identity, .. })
            | Command::Get(GetArgs { backups, identity, .. })
            | Command::Diff(DiffArgs { backups, identity, .. }) => {
                vec![("dir", path(backups.dir.as_deref())), ("identity_file", path(identity.as_deref()))]
            }
            Command::Cleanup(CleanupArgs { target, .. })
            | Command::Stats(StatsArgs { target, .. })
            | Command::Health(HealthArgs { target, .. }) => {
                vec![("job", target.job.clone()), ("dir", path(target.dir.as_deref()))]
            }
            Command::Pin(PinArgs { backup: OneBackup { backups, .. }, .. })
            | Command::Unpin(UnpinArgs { backup: OneBackup { backups, .. } }) => {
                vec![("dir", path(backups.dir.as_deref()))]
            }
            Command::Copy(args) => vec![("job", args.job.clone())],
            Command::Notify(_) | Command::Keygen(_) | Command::Config => Vec::new(),
        };
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, Raw::Text(text?))));
        let lists = lists.into_iter().filter(|(_, items)| !items.is_empty());
        texts.chain(lists.map(|(key, items)| (key, Raw::List(items.clone())))).collect()
    }
}

impl Command {
    /// The name of the only place that the command uses, if a flag sets it.
    pub fn place(&self) -> Option<&str> {
        match self {
            Command::Restore(RestoreArgs { backups, .. })
            | Command::Get(GetArgs { backups, .. })
            | Command::Verify(VerifyArgs { backups, .. })
            | Command::List(ListArgs { backups, .. })
            | Command::Diff(DiffArgs { backups, .. })
            | Command::Pin(PinArgs { backup: OneBackup { backups, .. }, .. })
            | Command::Unpin(UnpinArgs { backup: OneBackup { backups, .. } }) => backups.place.as_deref(),
            Command::Stats(StatsArgs { target, .. })
            | Command::Timeline(TimelineArgs { target, .. })
            | Command::Health(HealthArgs { target, .. }) => target.place.as_deref(),
            // `cleanup` also has to know the places that it does not clean.
            Command::Cleanup(_)
            | Command::Init(_)
            | Command::Backup(_)
            | Command::Oplog(_)
            | Command::Copy(_)
            | Command::Notify(_)
            | Command::Keygen(_)
            | Command::Config => None,
        }
    }
}

fn path(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

/// Parses as `T` does, with the error messages of `T`, and offers these values for completion in shells.
fn completed<T>(values: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>> + 'static> + Clone + Send + Sync + 'static,
{
    let parse: fn(&str) -> Result<T, T::Err> = str::parse;
    Completed { parse, values: values.into_iter().collect() }
}

#[derive(Clone)]
struct Completed<P> {
    parse: P,
    values: Vec<&'static str>,
}

impl<P: TypedValueParser> TypedValueParser for Completed<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        text: &OsStr,
    ) -> Result<P::Value, clap::Error> {
        self.parse.parse_ref(command, arg, text)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().map(PossibleValue::new)))
    }
}

/// Makes shells complete values with file names, but only for flags whose value is a path.
pub fn with_value_hints(command: clap::Command) -> clap::Command {
    let hint = |arg: Arg| {
        if !arg.get_action().takes_values() {
            return arg;
        }
        let hint = match arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str()) {
            Some("DIR") => ValueHint::DirPath,
            Some("FILE") => ValueHint::FilePath,
            Some("PATH") => ValueHint::AnyPath,
            _ => ValueHint::Other,
        };
        arg.value_hint(hint)
    };
    command.mut_args(hint).mut_subcommands(|command| command.mut_args(hint))
}

fn positive(text: &str) -> Result<std::num::NonZeroUsize, String> {
    text.parse().map_err(|_| "it must be a whole number, at least 1".into())
}

fn level() -> impl TypedValueParser<Value = String> {
    let parse: fn(&str) -> Result<String, String> = |text| {
        let known = text == AUTO_LEVEL || text.parse::<i32>().is_ok();
        known.then(|| text.into()).ok_or_else(|| format!("it must be a whole number or {AUTO_LEVEL}"))
    };
    Completed { parse, values: vec![AUTO_LEVEL] }
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number.filter(|n| (1..=100).contains(n)).ok_or_else(|| "it is a percentage from 1% to 100%".into())
}

/// Turns an error of clap into an error with a next step. `args` is the command line with the name of the program.
pub fn usage_error(error: &clap::Error, args: &[OsString]) -> Error {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::ValueValidation => {
            let flag = context(ContextKind::InvalidArg);
            // Clap names the flag as in the help, for example `--limit <N>`.
            let flag = flag.split(" <").next().unwrap_or_default().to_string();
            let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
            format!("{flag} = '{}': {why}", context(ContextKind::InvalidValue))
        }
        _ => essence(&error.to_string()),
    };
    // Clap's errors contain the subcommand only in some cases.
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(args).ok();
    let command = matches.as_ref().and_then(|matches| matches.subcommand_name());
    let command = command.map(|name| format!(" {name}")).unwrap_or_default();
    Error::usage(message).hint(format!("`uzima-backup{command} --help` shows the usage"))
}

/// Clap's message without `error: `, the usage and the advice to read the help, in one line.
fn essence(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let end = ["\n\nUsage:", "\n\nFor more"].iter().filter_map(|end| text.find(end)).min();
    let lines = text[..end.unwrap_or(text.len())].lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" · ").replace(": · ", ": ").replace("tip: ", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::choices::{EngineChoice, NAMES};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_long_version_names_every_format_and_engine() {
        assert!(LONG_VERSION.contains(&format!("formats: {}\n", NAMES.join(", "))), "{LONG_VERSION}");
        let (_, rest) = LONG_VERSION.split_once("engines: ").expect("engines");
        for engine in rest.lines().next().expect("a line").split(", ") {
            engine.parse::<EngineChoice>().expect("an engine");
        }
    }

    #[test]
    fn checks_are_given_one_by_one_or_with_commas() {
        let cli = Cli::parse_from(["uzima-backup", "health", "--skip", "clock,mail", "--skip", "state"]);
        let Command::Health(args) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.skip, ["clock", "mail", "state"]);
    }

    #[test]
    fn flags_become_settings() {
        let args = "uzima-backup backup --db a --db b --level 3 --dir /x";
        let flags = Cli::parse_from(args.split(' ')).settings();
        assert_eq!(flags["databases"], Raw::List(vec!["a".into(), "b".into()]));
        assert_eq!(flags["compression_level"], Raw::Text("3".into()));
        assert_eq!(flags["dir"], Raw::Text("/x".into()));
        let command = Cli::command();
        let backup = command.find_subcommand("backup").unwrap();
        for key in flags.keys() {
            let flag = crate::config::table::by_key(key).unwrap().flag();
            let is_there = backup.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"));
            assert!(is_there, "{flag}");
        }
    }

    #[test]
    fn usage_errors_are_one_line_without_the_usage() {
        for (args, words) in [
            (&["list", "--limit", "0"][..], "--limit = '0': it must be a whole number, at least 1"),
            (&["list", "--limit", "-1"], "--limit = '-1': it must be a whole number, at least 1"),
            (
                &["backup", "--wait", "-1m"],
                "--wait = '-1m': it must be a whole number with a unit, e.g. 90s, 10m or 2h",
            ),
            (&["backup", "--level", "-x"], "--level = '-x': it must be a whole number or auto"),
            (&["verify", "--all", "--sample", "-5"], "--sample = '-5': it is a percentage from 1% to 100%"),
            (&["list", "--frob"], "unexpected argument '--frob' found"),
            (&["pin"], "the following required arguments were not provided: <latest|ID>"),
            (&["health", "--only", "x"], "invalid value 'x' for '--only <CHECK>'"),
        ] {
            let error = refused(args);
            let text = error.to_string();
            assert!(
                text.starts_with(words) && !text.contains("Usage") && !text.contains('\n'),
                "{args:?}: {text}"
            );
            assert_eq!(error.exit(), Exit::Usage);
        }
    }

    #[test]
    fn the_next_step_is_the_help_of_the_subcommand() {
        for (args, command) in [
            (&["pin", "newest"][..], " pin"),
            (&["pin"], " pin"),
            (&["list", "--status", "bad"], " list"),
            (&["list", "--frob"], " list"),
            (&["health", "--only", "mail,mongo"], " health"),
            (&["--config", "list", "backup", "--level", "-x"], " backup"),
            (&["backup", "--wait", "-1m"], " backup"),
            (&["verify", "latest", "--sample", "-5"], " verify"),
            (&["bakcup"], ""),
            (&["--frob"], ""),
        ] {
            let want = format!("`uzima-backup{command} --help` shows the usage");
            assert_eq!(refused(args).next_step(), Some(want.as_str()), "{args:?}");
        }
    }

    fn refused(args: &[&str]) -> Error {
        let args: Vec<OsString> = ["uzima-backup"].iter().chain(args).map(Into::into).collect();
        usage_error(&Cli::try_parse_from(&args).unwrap_err(), &args)
    }
}
