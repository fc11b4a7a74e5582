//! The flags of `cleanup`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::units;
use crate::model::id::BackupId;

/// Flags of `cleanup`.
#[derive(Debug, Default, Args)]
#[command(
    about = "Delete backups that are older than they need be, never the last good ones",
    long_about = "Delete the backups of a job that are older than they need be, by a plan with a reason for each.\n\n\
Kept are the newest BACKUP_RETENTION_DAYS, always the newest BACKUP_KEEP_MIN good ones, those of \
BACKUP_KEEP_LAST, _DAILY, _WEEKLY, _MONTHLY and _YEARLY, and what is pinned. Nothing is deleted (exit code 3) \
while the plan is frozen: the newest backup collapsed, the job reads another server, the clock is wrong, \
a manifest cannot be read, or more than three and a quarter of the good ones would go at once.",
    after_help = "Examples:\n  uzima-backup cleanup --dry-run\n  \
uzima-backup cleanup --accept 20261123T030000Z-7k3q9d\n  \
uzima-backup cleanup --json | jq '.backups[] | select(.outcome == \"deleted\")'\n\n\
Exit codes: 0 what was to go is gone · 1 it failed; what is left, the next one takes · 2 wrong usage or configuration · \
3 frozen, so that nothing was deleted, or something beside it needs a look · 75 another cleanup of the job is under way"
)]
pub struct CleanupArgs {
    /// Print the plan, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Delete although it would be more than three, and more than a quarter, of the good backups at once; whatever else
    /// freezes the plan still does
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
    /// Wait so long for another run of this job to end, e.g. 90s, 10m or 2h; without it, exit 75 at once
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    pub wait: Option<Duration>,
}
