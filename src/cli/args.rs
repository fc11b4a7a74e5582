//! The command line.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::catalog::id::BackupId;
use crate::config::layers::Raw;

/// MongoDB backups that restore.
#[derive(Debug, Parser)]
#[command(
    name = "uzima-backup",
    version,
    about = "MongoDB backups that restore: one streamed, checked artifact to S3 or a directory",
    after_help = "Settings come from flags, then the environment, then /etc/uzima-backup/config.toml \
(or --config, or UZIMA_BACKUP_CONFIG). `uzima-backup config` shows them all and where each came from.\n\n\
Exit codes: 0 done · 1 failed, nothing new was stored · 2 wrong usage or configuration · 3 the backup \
(or cleanup) is good, but something needs a look · 4 stored data does not match its manifest · 128+n ended by signal n"
)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Common {
    /// Read this configuration file instead of /etc/uzima-backup/config.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the result as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more; twice, everything (RUST_LOG is finer)
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Dump a MongoDB server into one artifact in the bucket or directory
    Backup(BackupArgs),
    /// Bring a backup, or chosen namespaces of it, back into a server
    Restore(RestoreArgs),
    /// List the backups that exist, newest first
    List(ListArgs),
    /// Delete backups that are older than they need be, never the last good ones
    Cleanup(CleanupArgs),
    /// Keep a backup from every cleanup
    Pin(PinArgs),
    /// Let retention decide on a backup again
    Unpin(UnpinArgs),
    /// Show the merged settings, secrets hidden, and where each came from
    Config,
}

/// Flags of `backup`.
#[derive(Debug, Default, Args)]
#[command(
    long_about = "Dump a MongoDB server into one artifact in the bucket or directory.\n\n\
The server is MONGO_URI (default mongodb://localhost:27017), the place S3_BACKUP_BUCKET or BACKUP_DIR. \
The data is streamed: no temporary file, bounded memory. The backup exists only once everything was read, \
uploaded and checked; a run that fails or is killed leaves nothing that is listed.",
    after_help = "Examples:\n  \
BACKUP_DIR=/var/backups/mongodb uzima-backup backup\n  \
MONGO_URI=mongodb://db1 S3_BACKUP_BUCKET=my-backups uzima-backup backup --format tar.zst\n  \
uzima-backup backup --db shop --exclude 'shop.tmp*' --dir /mnt/usb --dry-run"
)]
pub struct BackupArgs {
    /// Only this database (may be given several times)
    #[arg(long = "db", value_name = "NAME")]
    pub db: Vec<String>,
    /// Only namespaces that match, e.g. 'shop.*' (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// No namespace that matches (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The line of backups this one belongs to; default: what is read, at which host
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// What reads: auto, native or mongodump
    #[arg(long)]
    pub engine: Option<String>,
    /// tar.gz, tar.zst, archive.gz or archive.zst
    #[arg(long)]
    pub format: Option<String>,
    /// Compression level: gzip 1 to 12, zstd 1 to 19
    #[arg(long)]
    pub level: Option<i32>,
    /// Decompress every block again and compare it before it counts
    #[arg(long)]
    pub check_compression: bool,
    /// Back up to this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A server without collections is not an error
    #[arg(long)]
    pub allow_empty: bool,
    /// Print what would be read, and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// Flags of `restore`.
#[derive(Debug, Default, Args)]
#[command(
    long_about = "Bring a backup, or chosen namespaces of it, back into a server.\n\n\
The server is RESTORE_URI (or --to-uri), else MONGO_URI; its user needs the built-in role \"restore\". Everything \
that is to be restored is read and checked before anything is dropped or written. A namespace that has documents \
is refused without --drop. Options are restored before the documents, indexes after them, validators do not apply. \
Users and roles are merged when no namespace is chosen.",
    after_help = "Patterns are matched against the whole of database.collection: * is anything, \\ takes the next sign \
as it is; --ns-from and --ns-to also know $names$. Of several pairs the last that fits counts.\n\n\
Exit codes: 0 everything is as it was in the backup · 1 it is not, or the restore failed · 2 wrong usage, a pattern \
that matches nothing · 3 restored, but something needs a look · 4 the backup is damaged, nothing was touched\n\n\
Examples:\n  uzima-backup restore latest --dry-run\n  \
RESTORE_URI=mongodb://db2 uzima-backup restore latest --yes\n  \
uzima-backup restore 20261123T030000Z-7k3q9d --ns-include shop.orders --ns-from 'shop.*' --ns-to 'rescue.*'\n  \
uzima-backup restore --from dump.archive.gz --yes"
)]
pub struct RestoreArgs {
    /// `latest`, or the id of a backup
    #[arg(value_name = "latest|ID", required_unless_present = "from")]
    pub which: Option<String>,
    /// Restore this archive, tar or folder, of mongodump or of this tool, instead of a backup in the store
    #[arg(long, value_name = "PATH", conflicts_with_all = ["which", "job", "dir"])]
    pub from: Option<PathBuf>,
    /// The line of backups of which `latest` is
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// The server to restore into, without a password: give that in RESTORE_URI
    #[arg(long, value_name = "URI")]
    pub to_uri: Option<String>,
    /// Only namespaces that match, e.g. 'shop.*' (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub ns_include: Vec<String>,
    /// No namespace that matches (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub ns_exclude: Vec<String>,
    /// Restore what matches under another name, see --ns-to (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub ns_from: Vec<String>,
    /// The other name, one for each --ns-from
    #[arg(long, value_name = "PATTERN")]
    pub ns_to: Vec<String>,
    /// Replace what is there under the names that are restored
    #[arg(long)]
    pub drop: bool,
    /// Also drop what the backup does not have: other collections of its databases, other users
    #[arg(long)]
    pub exact: bool,
    /// Build no indexes
    #[arg(long)]
    pub no_indexes: bool,
    /// Restore users and roles although namespaces are chosen
    #[arg(long, conflicts_with = "no_users")]
    pub users: bool,
    /// Restore no users and roles
    #[arg(long)]
    pub no_users: bool,
    /// The backup is in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Print the plan, check what would be restored, and stop
    #[arg(long)]
    pub dry_run: bool,
}

/// Flags of `list`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  uzima-backup list --limit 5\n  uzima-backup list --json | jq '.backups[0].id'"
)]
pub struct ListArgs {
    /// Only backups of this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub limit: Option<NonZeroUsize>,
    /// List this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Flags of `cleanup`.
#[derive(Debug, Default, Args)]
#[command(
    long_about = "Delete the backups of a job that are older than they need be, by a plan with a reason for each.\n\n\
Kept are the newest BACKUP_RETENTION_DAYS, always the newest BACKUP_KEEP_MIN good ones, those of \
BACKUP_KEEP_LAST, _DAILY, _WEEKLY, _MONTHLY and _YEARLY, and what is pinned. Nothing is deleted (exit code 3) \
while the plan is frozen: the newest backup collapsed, the job reads another server, the clock is wrong, \
a manifest cannot be read, or more than three and a quarter of the good ones would go at once.",
    after_help = "Examples:\n  uzima-backup cleanup --dry-run\n  \
uzima-backup cleanup --accept 20261123T030000Z-7k3q9d\n  \
uzima-backup cleanup --json | jq '.backups[] | select(.outcome == \"deleted\")'"
)]
pub struct CleanupArgs {
    /// Print the plan, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// More than three and a quarter of the good backups may go at once
    #[arg(long)]
    pub force: bool,
    /// This backup is right although it collapsed or is of another server (may be given several times)
    #[arg(long, value_name = "ID")]
    pub accept: Vec<BackupId>,
    /// Delete artifacts without a manifest that are older than 2 days as well, of all jobs
    #[arg(long)]
    pub orphans: bool,
    /// The line of backups; default: what is read, at which host
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Clean up this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Flags of `pin`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  uzima-backup pin 20261123T030000Z-7k3q9d --reason 'before the migration'"
)]
pub struct PinArgs {
    /// The backup
    pub id: BackupId,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// It is in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Flags of `unpin`.
#[derive(Debug, Args)]
pub struct UnpinArgs {
    /// The backup
    pub id: BackupId,
    /// It is in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl Command {
    /// The settings that the flags set.
    pub fn settings(&self) -> BTreeMap<&'static str, Raw> {
        let mut flags = BTreeMap::new();
        let mut text = |key, value: Option<String>| {
            if let Some(value) = value {
                flags.insert(key, Raw::Text(value));
            }
        };
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        match self {
            Command::Backup(args) => {
                text("job", args.job.clone());
                text("engine", args.engine.clone());
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
            Command::Pin(args) => text("dir", path(&args.dir)),
            Command::Unpin(args) => text("dir", path(&args.dir)),
            Command::Config => {}
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
        let flags = cli.command.settings();
        assert_eq!(flags["databases"], Raw::List(vec!["a".into(), "b".into()]));
        assert_eq!(flags["compression_level"], Raw::Text("3".into()));
        assert_eq!(flags["dir"], Raw::Text("/x".into()));
    }
}
