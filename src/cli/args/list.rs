//! The flags of `list`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use super::offered::offered;
use crate::catalog::fault::ShownStatus;
use crate::cli::usage;

/// Flags of `list`.
#[derive(Debug, Args)]
#[command(
    about = "List the backups that exist, and the runs that made none, newest first",
    long_about = "List the backups that exist, and the runs that made none, newest first.\n\n\
The list is of the bucket or directory. Where runs are recorded in MongoDB and the records can be read, it \
also tells of runs that are under way or were killed, and with --status deleted of backups that are gone.",
    after_help = "Examples:\n  uzima-backup list --limit 5\n  uzima-backup list --status failed,interrupted\n  uzima-backup list --json | jq '.backups[0].id'\n\n\
Exit codes: 0 listed · 1 the bucket or directory cannot be read · 2 wrong usage or configuration · 4 listed, and a \
backup among them is damaged, or not all of it is there"
)]
pub struct ListArgs {
    /// Only what is completed, running, failed, interrupted, deleted, damaged, artifact_missing,
    /// index_missing, manifest_missing, unreadable_manifest or archived, with commas between (may be given several
    /// times); default: all but deleted
    #[arg(
        long,
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = offered::<ShownStatus>(ShownStatus::all().map(ShownStatus::code)),
        hide_possible_values = true,
    )]
    pub status: Vec<ShownStatus>,
    /// Only backups of this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = usage::positive, allow_hyphen_values = true)]
    pub limit: Option<NonZeroUsize>,
    /// List this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
