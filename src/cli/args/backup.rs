//! The flags of `backup`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::offered::offered;
use crate::cli::{units, usage};
use crate::config::choices;
use crate::config::choices::{ConsistencyChoice, EngineChoice};

/// Flags of `backup`.
#[derive(Debug, Default, Args)]
#[command(
    about = "Dump a MongoDB server into one artifact in the bucket or directory",
    long_about = "Dump a MongoDB server into one artifact in the bucket or directory.\n\n\
The server is MONGO_URI (default mongodb://localhost:27017), the place S3_BACKUP_BUCKET or BACKUP_DIR. \
The data is streamed: no temporary file, bounded memory. The backup exists only once everything was read, \
uploaded and checked; a run that fails or is killed leaves nothing that is listed.",
    after_help = "Examples:\n  \
BACKUP_DIR=/var/backups/mongodb uzima-backup backup\n  \
MONGO_URI=mongodb://db1 S3_BACKUP_BUCKET=my-backups uzima-backup backup --format tar.zst\n  \
uzima-backup backup --db shop --exclude 'shop.tmp*' --dir /mnt/usb --dry-run\n\n\
Exit codes: 0 the backup is there · 1 there is no new backup; standard error says why · 2 wrong usage or \
configuration; nothing was attempted · 3 the backup is good, but something needs a look: what the source held, its \
record, or a mail · 75 another backup of the job is under way (--wait waits for it)"
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
    #[arg(long, value_parser = offered::<String>(EngineChoice::NAMES), hide_possible_values = true)]
    pub engine: Option<String>,
    /// That the data is of one instant: auto, oplog, snapshot or none
    #[arg(long, value_parser = offered::<String>(ConsistencyChoice::NAMES), hide_possible_values = true)]
    pub consistency: Option<String>,
    /// tar.gz, tar.zst, archive.gz or archive.zst
    #[arg(long, value_parser = offered::<String>(choices::NAMES), hide_possible_values = true)]
    pub format: Option<String>,
    /// Compression level: gzip 1 to 12, zstd 1 to 19
    #[arg(long, value_parser = usage::whole, allow_hyphen_values = true)]
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
    /// The place is new: go on although backups that are known of it are not there
    #[arg(long)]
    pub new_place: bool,
    /// Print what would be read, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Wait so long for another run of this job to end, e.g. 90s, 10m or 2h; without it, exit 75 at once
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    pub wait: Option<Duration>,
}
