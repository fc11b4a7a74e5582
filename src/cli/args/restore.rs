//! The flags of `restore`.

use std::path::PathBuf;

use clap::Args;

use super::offered::offered;
use crate::catalog::choose::WhichBackup;

/// Flags of `restore`.
#[derive(Debug, Default, Args)]
#[command(
    about = "Bring a backup, or chosen namespaces of it, back into a server",
    long_about = "Bring a backup, or chosen namespaces of it, back into a server.\n\n\
The server is RESTORE_URI (or --to-uri), else MONGO_URI; its user needs the built-in role \"restore\". Everything \
that is to be restored is read and checked before anything is dropped or written, and the server is asked whether it \
accepts all of it: it creates empty collections for that, which are dropped again, also with --dry-run. A namespace that has documents \
is refused without --drop. Options are restored before the documents, indexes after them, validators do not apply. \
Users and roles are merged when no namespace is chosen. What the server wrote while the backup ran is replayed, so \
that all is as it was at one instant; that takes the role \"readWriteAnyDatabase\" as well.",
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
    #[arg(
        value_name = "latest|ID",
        required_unless_present = "from",
        value_parser = offered::<WhichBackup>(["latest"]),
        hide_possible_values = true,
    )]
    pub which: Option<WhichBackup>,
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
    /// Convert indexes that servers since 3.4 refuse: a key value such as true or "" becomes 1
    #[arg(long)]
    pub convert_legacy_indexes: bool,
    /// Do not build this index, 'database.collection.index' (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub no_index: Vec<String>,
    /// Do not replay the oplog slice: each collection is as it was when it was read
    #[arg(long)]
    pub no_replay: bool,
    /// Restore only if all is then as of this instant: a time (RFC 3339) or seconds:ordinal
    #[arg(long, value_name = "TIME", conflicts_with = "no_replay")]
    pub at: Option<String>,
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
    /// Print the plan, check what would be restored and whether the server accepts it, and stop
    #[arg(long)]
    pub dry_run: bool,
}
