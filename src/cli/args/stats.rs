//! The flags of `stats`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `stats`.
#[derive(Debug, Args)]
#[command(
    about = "Tell what the runs of a job tell together",
    long_about = "Tell what the runs of a job tell together: how many made a backup, what they take, how size, documents \
and duration move, the last ten, and what a cleanup deletes next.\n\n\
The figures are of the bucket or directory; where runs are recorded in MongoDB, also of backups that are gone and of runs \
that were killed.",
    after_help = "Examples:\n  uzima-backup stats\n  uzima-backup stats --email --quiet\n  \
uzima-backup stats --html /var/www/html/backups.html --quiet\n  \
uzima-backup stats --json | jq .success\n\n\
Exit codes: 0 told · 1 the backups cannot be read, or the page not be written · 2 wrong usage or configuration · \
3 told, but not mailed"
)]
pub struct StatsArgs {
    /// Mail them as well
    #[arg(long)]
    pub email: bool,
    /// Write a page with charts, a forecast and the retention calendar to this file as well; it needs no network
    /// and no script, and is replaced whole
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// The line of backups; default: what is read, at which host
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Backups are in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
