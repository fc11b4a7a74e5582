//! The flags of `pin` and `unpin`.

use std::path::PathBuf;

use clap::Args;

use super::offered::offered;
use crate::catalog::choose::WhichBackup;

/// Flags of `pin`.
#[derive(Debug, Args)]
#[command(
    about = "Keep a backup from every cleanup",
    after_help = "Examples:\n  uzima-backup pin latest --reason 'before the migration'\n  \
uzima-backup pin 20261123T030000Z-7k3q9d\n\n\
Exit codes: 0 it stays · 1 there is no such backup, or it could not be pinned · 2 wrong usage or configuration"
)]
pub struct PinArgs {
    /// `latest`, or the id of a backup
    #[arg(value_name = "latest|ID", value_parser = offered::<WhichBackup>(["latest"]), hide_possible_values = true)]
    pub which: WhichBackup,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// The line of backups of which `latest` is
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// It is in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Flags of `unpin`.
#[derive(Debug, Args)]
#[command(
    about = "Let retention decide on a backup again",
    after_help = "Examples:\n  uzima-backup unpin 20261123T030000Z-7k3q9d\n\n\
Exit codes: 0 it goes when its time comes · 1 there is no such backup, or it could not be unpinned · 2 wrong usage or \
configuration"
)]
pub struct UnpinArgs {
    /// `latest`, or the id of a backup
    #[arg(value_name = "latest|ID", value_parser = offered::<WhichBackup>(["latest"]), hide_possible_values = true)]
    pub which: WhichBackup,
    /// The line of backups of which `latest` is
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// It is in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
