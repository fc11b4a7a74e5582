//! The flags of `list`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

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
