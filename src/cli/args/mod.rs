//! The command line.

mod backup;
mod cleanup;
mod health;
mod init;
mod list;
mod notify;
mod offered;
mod pin;
mod restore;
mod stats;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::backup::BackupArgs;
pub use self::cleanup::CleanupArgs;
pub use self::health::HealthArgs;
pub use self::init::InitArgs;
pub use self::list::ListArgs;
pub use self::notify::NotifyArgs;
pub use self::offered::hinted;
pub use self::pin::{PinArgs, UnpinArgs};
pub use self::restore::RestoreArgs;
pub use self::stats::StatsArgs;
pub use self::verify::VerifyArgs;
use crate::base::exit::Exit;
use crate::config::Raw;

/// MongoDB backups that restore.
#[derive(Debug, Parser)]
#[command(
    name = "uzima-backup",
    version,
    long_version = crate::cli::version::LONG,
    about = "MongoDB backups that restore: one streamed, checked artifact to S3 or a directory",
    after_help = after_help()
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// What the help calls the flags of every command.
const GLOBAL: &str = "Global options";

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Read this configuration file instead of /etc/uzima-backup/config.toml
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the result as JSON on standard output
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(long, short, global = true, help_heading = GLOBAL, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Append the log to this file as well, with the result; rotate it with logrotate's copytruncate
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Log more; twice, everything (RUST_LOG is finer)
    #[arg(long, short, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do. What each is for stands at its flags: a comment here would hide the long text there.
#[derive(Debug, Subcommand)]
pub enum Command {
    Init(InitArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    List(ListArgs),
    Cleanup(CleanupArgs),
    Pin(PinArgs),
    Unpin(UnpinArgs),
    Verify(VerifyArgs),
    Stats(StatsArgs),
    Health(HealthArgs),
    Notify(NotifyArgs),
    /// Show the merged settings, secrets hidden, and where each came from
    #[command(after_help = "Examples:\n  uzima-backup config\n  env -i $(which uzima-backup) config\n  \
uzima-backup config --json | jq '.settings[] | select(.origin)'\n\n\
Exit codes: 0 they can be used · 2 one of them is wrong")]
    Config,
}

/// Where settings come from, and every exit code.
fn after_help() -> String {
    let codes: Vec<String> = Exit::all().map(|exit| format!("{} {}", exit.shown(), exit.meaning())).collect();
    format!(
        "Settings come from flags, then the environment, then /etc/uzima-backup/config.toml (or --config, or \
         UZIMA_BACKUP_CONFIG). `uzima-backup config` shows them all and where each came from.\n\n\
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
        if let Some(file) = &self.common.log_file {
            flags.insert("log_file", Raw::Text(file.display().to_string()));
        }
        flags
    }
}

impl Command {
    /// The settings that the flags set.
    fn settings(&self) -> BTreeMap<&'static str, Raw> {
        let mut flags = BTreeMap::new();
        let mut text = |key, value: Option<String>| {
            if let Some(value) = value {
                flags.insert(key, Raw::Text(value));
            }
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        match self {
            Command::Init(args) => {
                text("mongo_uri", args.mongo_uri.clone());
                // It is written down, for runs that start elsewhere.
                let dir =
                    args.dir.as_ref().map(|dir| std::path::absolute(dir).unwrap_or_else(|_| dir.clone()));
                text("dir", path(&dir));
            }
            Command::Backup(args) => {
                text("job", args.job.clone());
                text("engine", args.engine.clone());
                text("consistency", args.consistency.clone());
                text("format", args.format.clone());
                text("compression_level", args.level.map(|level| level.to_string()));
                text("check_compression", args.check_compression.then(|| "true".into()));
                text("dir", path(&args.dir));
                for (key, items) in
                    [("databases", &args.db), ("include", &args.include), ("exclude", &args.exclude)]
                {
                    if !items.is_empty() {
                        flags.insert(key, Raw::List(items.clone()));
                    }
                }
            }
            Command::Restore(args) => {
                text("dir", path(&args.dir));
                text("restore_uri", args.to_uri.clone());
            }
            Command::List(args) => text("dir", path(&args.dir)),
            Command::Cleanup(args) => {
                text("job", args.job.clone());
                text("dir", path(&args.dir));
            }
            Command::Stats(args) => {
                text("job", args.job.clone());
                text("dir", path(&args.dir));
            }
            Command::Health(args) => {
                text("job", args.job.clone());
                text("dir", path(&args.dir));
            }
            Command::Verify(args) => {
                text("dir", path(&args.dir));
                text("drill_uri", args.to_uri.clone());
            }
            Command::Pin(args) => text("dir", path(&args.dir)),
            Command::Unpin(args) => text("dir", path(&args.dir)),
            Command::Notify(_) | Command::Config => {}
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn checks_are_given_one_by_one_or_with_commas() {
        let cli = Cli::parse_from(["uzima-backup", "health", "--skip", "clock,mail", "--skip", "state"]);
        let Command::Health(args) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.skip, ["clock", "mail", "state"]);
    }

    #[test]
    fn flags_become_settings() {
        let cli = Cli::parse_from([
            "uzima-backup",
            "backup",
            "--db",
            "a",
            "--db",
            "b",
            "--level",
            "3",
            "--dir",
            "/x",
        ]);
        let flags = cli.settings();
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
}
