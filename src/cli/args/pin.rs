//! The flags of `pin` and `unpin`.

use std::path::PathBuf;

use clap::Args;

use crate::catalog::id::BackupId;

/// Flags of `pin`.
#[derive(Debug, Args)]
#[command(
    about = "Keep a backup from every cleanup",
    after_help = "Examples:\n  uzima-backup pin 20261123T030000Z-7k3q9d --reason 'before the migration'\n\n\
Exit codes: 0 it stays · 1 there is no such backup, or it could not be pinned · 2 wrong usage or configuration"
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
#[command(
    about = "Let retention decide on a backup again",
    after_help = "Examples:\n  uzima-backup unpin 20261123T030000Z-7k3q9d\n\n\
Exit codes: 0 it goes when its time comes · 1 there is no such backup, or it could not be unpinned · 2 wrong usage or \
configuration"
)]
pub struct UnpinArgs {
    /// The backup
    pub id: BackupId,
    /// It is in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
