//! The flags of `verify`.

use std::path::PathBuf;

use clap::Args;

use super::offered::offered;
use crate::catalog::choose::WhichBackup;

/// Flags of `verify`.
#[derive(Debug, Args)]
#[command(
    about = "Read a backup again, and hold every byte of it against its manifest",
    long_about = "Read a backup again, and hold every byte of it against its manifest.\n\n\
Every block is decompressed, every document counted and hashed, the tar or archive read as stock tools would. The result is \
kept beside the backup: `list` shows it, and a backup that is damaged counts as a good one no more. Exit code 4 if anything \
is wrong; what, in which namespace and where is then said.\n\n\
With --drill the backup is then restored whole, and every namespace's documents, options and indexes compared with the \
manifest: into a throw-away mongod (MONGOD_PATH, else that in PATH; its data lies in TMPDIR), or, with --to-uri or DRILL_URI, \
into databases of random names on that server. Never into any other. How long it took is the measured recovery time, which \
`stats` and `health` show. What the drill made is removed.",
    after_help = "Examples:\n  uzima-backup verify\n  uzima-backup verify 20261123T030000Z-7k3q9d\n  \
uzima-backup verify --all --sample 10%\n  uzima-backup verify latest --drill\n\n\
Exit codes: 0 every byte is right · 1 there is no such backup, or it cannot be read or restored now · 2 wrong usage or \
configuration · 3 every byte is right, but the result could not be kept, or the drill needs a look · 4 a backup is damaged, or \
came back differently"
)]
pub struct VerifyArgs {
    /// The backup: an id, or latest
    #[arg(
        default_value = "latest",
        conflicts_with = "all",
        value_name = "latest|ID",
        value_parser = offered::<WhichBackup>(["latest"]),
        hide_possible_values = true,
    )]
    pub which: WhichBackup,
    /// Every backup
    #[arg(long)]
    pub all: bool,
    /// With --all: so many percent of them, chosen by chance
    #[arg(long, value_name = "N%", value_parser = percent, allow_hyphen_values = true, requires = "all")]
    pub sample: Option<u8>,
    /// Then restore it into a scratch server, compare everything with the manifest, and remove it again
    #[arg(long, conflicts_with = "all")]
    pub drill: bool,
    /// Drill on this server, without a password: give that in DRILL_URI
    #[arg(long, value_name = "URI", requires = "drill")]
    pub to_uri: Option<String>,
    /// Only backups of this job
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// Backups are in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number.filter(|n| (1..=100).contains(n)).ok_or_else(|| "it is a percentage from 1% to 100%".into())
}
