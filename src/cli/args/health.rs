//! The flags of `health`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::ops::health;

/// Flags of `health`.
#[derive(Debug, Default, Args)]
#[command(
    about = "Check that tonight's backup will work, and that there is a good one",
    long_about = "Check that tonight's backup will work, and that there is a good one.\n\n\
One line a check: the settings, MongoDB and the right to read all of it, what reads, the bucket or directory \
(a small object is written, read and deleted), its room and its clock, the age of the newest good backup \
(BACKUP_MAX_AGE), the state directory. Nothing is changed. Exit code 5 if a check failed; it is then named on \
standard error, with --quiet as well.",
    after_help = "Examples:\n  \
uzima-backup health\n  \
uzima-backup health --skip freshness\n  \
uzima-backup health --only freshness --quiet\n  \
uzima-backup health --email --quiet\n  \
uzima-backup health --json | jq '.checks[] | select(.outcome == \"failed\")'\n\n\
Exit codes: 0 all is well · 2 wrong usage, or settings that cannot be read · 3 all is well, but it could not be mailed · \
5 a check failed"
)]
pub struct HealthArgs {
    /// Not these checks, with commas between (may be given several times): a new installation has no backup to be fresh
    #[arg(
        long,
        value_name = "CHECK",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(health::names()),
    )]
    pub skip: Vec<String>,
    /// Only these checks, with commas between (may be given several times)
    #[arg(
        long,
        value_name = "CHECK",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(health::names()),
    )]
    pub only: Vec<String>,
    /// A server without collections is not an error
    #[arg(long)]
    pub allow_empty: bool,
    /// Mail what was found as well
    #[arg(long)]
    pub email: bool,
    /// The line of backups; default: what is read, at which host
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Backups are in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
