//! The flags of the commands that read or write the data of backups, such as `backup`, `restore`, `get` and `diff`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::{BackupsOf, completed, level, percent, positive};
use crate::catalog::choose::WhichBackup;
use crate::cli::units;
use crate::config::choices::{ConsistencyChoice, EngineChoice, NAMES};
use crate::model::id::BackupId;

#[derive(Debug, Default, Args)]
#[command(
    about = "Dump a MongoDB server into one artifact in the bucket or directory",
    long_about = "Dump a MongoDB server into one artifact in the bucket or directory.\n\n\
The server is MONGO_URI (default mongodb://localhost:27017), the place S3_BACKUP_BUCKET or BACKUP_DIR. \
The data is streamed: no temporary file, bounded memory. The backup exists only once all data has been read, \
uploaded and checked. A run that fails or is killed leaves no backup.",
    after_help = "Examples:\n  \
BACKUP_DIR=/var/backups/mongodb uzima-backup backup\n  \
MONGO_URI=mongodb://db1 S3_BACKUP_BUCKET=my-backups uzima-backup backup --format tar.zst\n  \
uzima-backup backup --db shop --exclude 'shop.tmp*' --dir /mnt/usb --dry-run\n\n\
Exit codes: 0 the backup exists · 1 there is no new backup; standard error says why · 2 wrong usage or \
configuration; nothing was attempted · 3 the backup is good, but something needs a look: the data of the server, the \
record of the run, or a mail · 75 another backup of the job is running (--wait waits for it)"
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
    /// The job of this backup; by default, it is named after the chosen data and the host of the server
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// The engine that reads the data: auto, native or mongodump
    #[arg(long, value_parser = completed::<String>(EngineChoice::NAMES), hide_possible_values = true)]
    pub engine: Option<String>,
    /// How all data gets to one instant: auto, oplog, snapshot or none
    #[arg(long, value_parser = completed::<String>(ConsistencyChoice::NAMES), hide_possible_values = true)]
    pub consistency: Option<String>,
    /// tar.gz, tar.zst, archive.gz or archive.zst
    #[arg(long, value_parser = completed::<String>(NAMES), hide_possible_values = true)]
    pub format: Option<String>,
    /// Compression level: gzip 1 to 12, zstd 1 to 19, or auto, which follows the line
    #[arg(long, value_parser = level(), hide_possible_values = true, allow_hyphen_values = true)]
    pub level: Option<String>,
    /// Decompress each block again and compare it with the original
    #[arg(long)]
    pub check_compression: bool,
    /// Back up to this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Accept a server without collections
    #[arg(long)]
    pub allow_empty: bool,
    /// The place is new: continue although known backups are missing there
    #[arg(long)]
    pub new_place: bool,
    /// Print the namespaces that would be read, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    pub wait: Option<Duration>,
}

#[derive(Debug, Default, Args)]
#[command(
    about = "Store what the server wrote since the last run, in slices of its oplog",
    long_about = "Store what the server wrote since the last run, in slices of its oplog.\n\n\
The server must be a replica set (of one member, at least), and the user needs the built-in role \"backup\". Run it every few \
minutes, beside a nightly `backup` of the same job. A slice begins with the last entry of the slice before it. If the oplog no \
longer has this entry on any member, a new chain of slices begins, and the gap is reported. Only entries that a majority of the \
set has are stored.",
    after_help = "Examples:\n  \
BACKUP_DIR=/var/backups/mongodb uzima-backup oplog\n  \
uzima-backup oplog --dry-run\n\n\
Exit codes: 0 the oplog is stored, or there is nothing new · 1 the run failed; slices that it stored before stay · 2 wrong usage \
or configuration; nothing was attempted · 3 the oplog is stored, but something needs a look: a gap, a change that no restore can \
repeat, or a mail · 75 another run of `oplog` for this job is under way (--wait waits for it)"
)]
pub struct OplogArgs {
    /// Only this database (may be given several times)
    #[arg(long = "db", value_name = "NAME")]
    pub db: Vec<String>,
    /// Only namespaces that match, e.g. 'shop.*' (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// No namespace that matches (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The job whose backups the slices belong to; by default, it is named after the chosen data and the host of the server
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// The directory of the backups
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Read and compress the oplog, print how much would be stored, and store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    pub wait: Option<Duration>,
}

/// The flags of `restore` that have no meaning where nothing is restored.
const NO_RESTORE: [&str; 19] = [
    "which",
    "from",
    "at",
    "before",
    "allow_unsigned",
    "ns_include",
    "ns_exclude",
    "ns_from",
    "ns_to",
    "drop",
    "exact",
    "swap",
    "filter",
    "merge",
    "continues",
    "no_indexes",
    "no_index",
    "no_replay",
    "dry_run",
];

#[derive(Debug, Default, Clone, PartialEq, Args)]
#[command(
    about = "Restore a backup, or chosen namespaces of it, into a server",
    long_about = "Restore a backup, or chosen namespaces of it, into a server.\n\n\
The server is RESTORE_URI (or --to-uri), else MONGO_URI; its user needs the built-in role \"restore\". All data is read and \
checked before anything is dropped or written. The restore also tests whether the server accepts the collections: it \
creates empty ones and drops them again, also with --dry-run. A namespace that has documents is refused without --drop. \
With --swap, the live collections stay as they are until the restored ones are complete; then both exchange their names at once, \
and --undo exchanges them again. \
With --filter, only documents that match are restored. With --merge, only documents whose _id is missing are inserted, and the report \
counts the documents that are there with the same bytes, or with others (exit 3). Both choose documents as of the instant of the backup \
or the point in time, and restore no users and roles. \
A restore that was interrupted prints the command that goes on with it: the same one with --continue. \
Options are restored before the documents, indexes after them, and validators do not apply. Users and roles are merged if \
no namespace is chosen. Writes that happened during the backup are replayed, so that all data is as of one instant; the \
replay needs the role \"readWriteAnyDatabase\", too.\n\n\
Without an id and on a terminal, it asks: which backup or point in time, which namespaces, into which server, under which names, and \
what happens to existing data. Before the confirmation it shows the plan and the command line that does the same.\n\n\
With --at and --before, the data becomes as of any point in time that the backups and the slices of `uzima-backup oplog` reach: \
the newest good backup before the point is restored, and the slices up to the point are replayed. All slices are read and \
checked before anything is dropped or written. With an id, that backup is the beginning.",
    after_help = "Patterns are compared with the whole of database.collection: * matches any text, \\ takes the next character \
literally; --ns-from and --ns-to also know $names$. If several pairs match, the last one applies.\n\n\
Exit codes: 0 everything is as it was in the backup · 1 something differs, or the restore failed · 2 wrong usage, or a pattern \
that matches nothing · 3 restored, but something needs a look · 4 the backup is damaged, nothing was changed · \
6 no identity decrypts the backup, nothing was changed\n\n\
Examples:\n  uzima-backup restore\n  uzima-backup restore latest --dry-run\n  \
uzima-backup restore --at 2026-11-24T14:00:00Z --dry-run\n  \
RESTORE_URI=mongodb://db2 uzima-backup restore latest --yes\n  \
uzima-backup restore 20261123T030000Z-7k3q9d --ns-include shop.orders --ns-from 'shop.*' --ns-to 'rescue.*'\n  \
uzima-backup restore latest --ns-include shop.orders --swap\n  \
uzima-backup restore latest --ns-include shop.orders --merge\n  \
uzima-backup restore latest --ns-include shop.orders --filter '{\"status\": \"open\"}' --ns-from 'shop.*' --ns-to 'rescue.*'\n  \
uzima-backup restore --undo 20261123T030000Z-7k3q9d\n  \
uzima-backup restore 20261123T030000Z-7k3q9d --continue\n  \
uzima-backup restore --from dump.archive.gz --yes"
)]
pub struct RestoreArgs {
    /// `latest`, an id or its beginning, or a date or time in UTC: the newest good backup that was complete by then
    #[arg(
        value_name = "latest|ID",
        value_parser = completed::<WhichBackup>(["latest"]),
        hide_possible_values = true,
    )]
    pub which: Option<WhichBackup>,
    /// Restore this archive, tar or folder, made by mongodump or this tool, instead of a backup in the store
    #[arg(long, value_name = "PATH", conflicts_with_all = ["which", "job", "dir"])]
    pub from: Option<PathBuf>,
    #[command(flatten)]
    pub backups: BackupsOf,
    /// The file with the secret keys of an encrypted backup and of encrypted oplog slices
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub identity: Option<PathBuf>,
    /// Restore this backup although its signature is missing or wrong
    #[arg(long, value_name = "ID", conflicts_with = "from")]
    pub allow_unsigned: Option<BackupId>,
    /// The server to restore into, without a password: set RESTORE_URI for a URI with one
    #[arg(long, value_name = "URI")]
    pub to_uri: Option<String>,
    /// Only namespaces that match, e.g. 'shop.*' (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub ns_include: Vec<String>,
    /// No namespace that matches (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub ns_exclude: Vec<String>,
    /// Rename the namespaces that match, see --ns-to (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub ns_from: Vec<String>,
    /// The new name, once for each --ns-from
    #[arg(long, value_name = "PATTERN")]
    pub ns_to: Vec<String>,
    /// Replace existing namespaces that have the restored names
    #[arg(long)]
    pub drop: bool,
    /// Fill new collections beside the live ones, and move them in when all is loaded; what was there is kept
    #[arg(long, conflicts_with_all = ["drop", "exact", "ns_from", "ns_to", "users"])]
    pub swap: bool,
    /// Only documents that match this filter in Extended JSON, as of the instant of the backup or the point in time; the filter
    /// language is that of `get`
    #[arg(long, value_name = "EJSON", conflicts_with_all = ["swap", "exact", "users"])]
    pub filter: Option<String>,
    /// Insert only documents whose _id is missing at the target; documents and collections that are there stay as they are
    #[arg(long, conflicts_with_all = ["drop", "exact", "swap", "users"])]
    pub merge: bool,
    /// Go on with the interrupted restore that is the same as this one: complete namespaces stay, the others that it made are replaced
    #[arg(long = "continue", conflicts_with_all = ["swap", "exact", "filter", "merge"])]
    pub continues: bool,
    /// Move back what the restore with this id moved in: the kept collections become live, and the live ones are kept
    #[arg(long, value_name = "ID", group = "aside", conflicts_with_all = NO_RESTORE)]
    pub undo: Option<BackupId>,
    /// Drop the collections that the restore with this id keeps or, if it was interrupted, those that it made
    #[arg(long, value_name = "ID", group = "aside", conflicts_with_all = NO_RESTORE)]
    pub discard: Option<BackupId>,
    /// List the restores with --swap whose collections are kept, and the interrupted restores
    #[arg(long, group = "aside", conflicts_with_all = NO_RESTORE)]
    pub kept: bool,
    /// Also drop everything that the backup does not have: other collections of its databases, other users
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
    /// Restore the data as of this point in time, with a backup and the oplog slices after it: a time (RFC 3339), up to the end
    /// of that second; an entry of the oplog, seconds:ordinal; or newest
    #[arg(long, value_name = "TIME|T:I|newest", conflicts_with = "no_replay")]
    pub at: Option<String>,
    /// Restore the data as it was before this entry of the oplog, seconds:ordinal
    #[arg(long, value_name = "T:I", conflicts_with_all = ["no_replay", "at", "from"])]
    pub before: Option<String>,
    /// Restore users and roles although namespaces are chosen
    #[arg(long, conflicts_with = "no_users")]
    pub users: bool,
    /// Restore no users and roles
    #[arg(long)]
    pub no_users: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    /// Print the plan, check the data and whether the server accepts it, and stop
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
#[command(
    about = "Print documents of one collection of a backup",
    long_about = "Print documents of one collection of a backup on standard output, without a server.\n\n\
Only the manifest, the index and the data of this collection are read, and the reading stops at the last wanted document. The \
documents are printed in the order of the backup. Everything else goes to standard error.\n\n\
A filter is a part of MongoDB's query language, in Extended JSON: {field: value} with a value of any type, $eq, $ne, $gt, $gte, $lt, \
$lte, $in, $nin, $exists, $not, $and, $or, $nor, and paths with dots. It finds the same documents as `find` on a server without a \
collation: an array matches if one of its elements or the array itself matches, only values of the same type are compared, all \
types of numbers are one type, and null matches a missing field. Everything else, such as $regex, is refused.\n\n\
Each document is as it was when the backup read it. The backup's oplog slice has the writes of that time. It is read at the end, and \
the exit code is 3 if it changes a printed document, or writes to documents that were not printed and may match afterwards.",
    after_help = "Examples:\n  uzima-backup get latest shop.orders --limit 3\n  \
uzima-backup get latest shop.orders --id '{\"$oid\": \"507f1f77bcf86cd799439011\"}'\n  \
uzima-backup get 20261123T030000Z-7k3q9d shop.orders --filter '{\"status\": \"open\", \"total\": {\"$gte\": 100}}' --format bson > \
orders.bson\n\n\
Exit codes: 0 the documents are printed; no document may match · 1 the backup cannot be read now · 2 wrong usage: a filter that is not \
supported, or a collection that the backup does not have · 3 the documents are printed, but something needs a look, such as writes \
during the backup · 4 the backup is damaged; the documents before the damage are printed · 6 no identity decrypts the backup"
)]
pub struct GetArgs {
    /// `latest`, an id or its beginning, or a date or time in UTC: the newest good backup that was complete by then
    #[arg(
        value_name = "latest|ID",
        value_parser = completed::<WhichBackup>(["latest"]),
        hide_possible_values = true,
    )]
    pub which: WhichBackup,
    /// The collection: database.collection
    #[arg(value_name = "NAMESPACE")]
    pub namespace: String,
    /// Only the document with this _id, in Extended JSON, e.g. 5, '"text"' or '{"$oid": "507f1f77bcf86cd799439011"}'
    #[arg(long, value_name = "EJSON", allow_hyphen_values = true, conflicts_with = "filter")]
    pub id: Option<String>,
    /// Only documents that match, e.g. '{"status": "open"}'
    #[arg(long, value_name = "EJSON")]
    pub filter: Option<String>,
    /// The most documents
    #[arg(long, value_name = "N", value_parser = positive, allow_hyphen_values = true)]
    pub limit: Option<NonZeroUsize>,
    /// json: canonical Extended JSON, which keeps all types, one document a line; relaxed: Extended JSON with plain numbers and
    /// times; bson: as in the files of mongodump
    #[arg(
        long,
        default_value = "json",
        value_parser = completed::<DocumentFormat>(DocumentFormat::NAMES),
        hide_possible_values = true
    )]
    pub format: DocumentFormat,
    #[command(flatten)]
    pub backups: BackupsOf,
    /// The file with the secret keys of an encrypted backup
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Read this backup although its signature is missing or wrong
    #[arg(long, value_name = "ID")]
    pub allow_unsigned: Option<BackupId>,
}

/// The format of printed documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentFormat {
    /// Canonical Extended JSON, one document a line.
    Json,
    /// Relaxed Extended JSON, one document a line.
    Relaxed,
    /// BSON, one document after the other.
    Bson,
}

impl DocumentFormat {
    const NAMES: [&str; 3] = ["json", "relaxed", "bson"];
}

impl FromStr for DocumentFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<DocumentFormat, String> {
        match text {
            "json" => Ok(DocumentFormat::Json),
            "relaxed" => Ok(DocumentFormat::Relaxed),
            "bson" => Ok(DocumentFormat::Bson),
            _ => Err(format!("it is one of {}", DocumentFormat::NAMES.join(", "))),
        }
    }
}

#[derive(Debug, Args)]
#[command(
    about = "Read a backup again, and compare every byte with its manifest",
    long_about = "Read a backup again, and compare every byte with its manifest.\n\n\
All blocks are decompressed, all documents counted and hashed, and the tar or archive is read as stock tools would read it. The \
result is kept beside the backup: `list` shows it, and a damaged backup no longer counts as good. If anything is wrong, the \
exit code is 4, and the output names the fault, the namespace and the position.\n\n\
An encrypted backup is decrypted with --identity or BACKUP_IDENTITY_FILE. Without an identity, only its stored bytes are compared \
with their checksums, and the result says so. With --all, backups and slices that no identity decrypts are named, and the others \
are verified.\n\n\
With --oplog, and with --all, the oplog slices are read: their hashes, the number and order of their entries, their events, and that \
each slice continues the one before it.\n\n\
With --drill the whole backup is then restored, and the documents, options and indexes of every namespace are compared with \
the manifest. The target is a throw-away mongod (MONGOD_PATH, else from PATH; its data lies in TMPDIR) or, with --to-uri or \
DRILL_URI, databases with random names on that server, and never any other server. The duration is the measured recovery \
time, which `stats` and `health` show. The drill removes everything that it created.\n\n\
With --at, the drill restores a point in time as `restore --at` does: a backup, and the oplog slices after it. The base is \
compared with its manifest, and the replay must find every document that it changes. The result says which point was drilled.",
    after_help = "Examples:\n  uzima-backup verify\n  uzima-backup verify 20261123T030000Z-7k3q9d\n  \
uzima-backup verify --all --sample 10%\n  uzima-backup verify --oplog\n  uzima-backup verify latest --drill\n  \
uzima-backup verify --drill --at newest\n\n\
Exit codes: 0 every byte is right · 1 there is no such backup, or it cannot be read or restored now · 2 wrong usage or \
configuration · 3 every byte is right, but the result could not be kept, one of several places could not be read, or the drill \
needs a look · 4 a backup or an \
oplog slice is damaged, or the restored data differs · 6 the identity file cannot be used, or does not decrypt a backup or an oplog slice"
)]
pub struct VerifyArgs {
    /// `latest`, an id or its beginning, or a date or time in UTC: the newest good backup that was complete by then
    #[arg(
        default_value = "latest",
        conflicts_with = "all",
        value_name = "latest|ID",
        value_parser = completed::<WhichBackup>(["latest"]),
        hide_possible_values = true,
    )]
    pub which: WhichBackup,
    /// Every backup
    #[arg(long)]
    pub all: bool,
    /// Only the oplog slices of the job: all entries, and the continuity of their chains; --all includes them, unless it is a
    /// sample
    #[arg(long, conflicts_with_all = ["which", "drill"])]
    pub oplog: bool,
    /// With --all: only a random sample of this size
    #[arg(long, value_name = "N%", value_parser = percent, allow_hyphen_values = true, requires = "all")]
    pub sample: Option<u8>,
    /// Then restore the backup into a scratch server, compare all data with the manifest, and remove the data again
    #[arg(long, conflicts_with = "all")]
    pub drill: bool,
    /// With --drill: restore this point in time, with a backup and the oplog slices after it: a time (RFC 3339), up to the end of
    /// that second; an entry of the oplog, seconds:ordinal; or newest
    #[arg(long, value_name = "TIME|T:I|newest", requires = "drill")]
    pub at: Option<String>,
    /// The file with the secret keys of encrypted backups and slices; without it, only their stored bytes are checked
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Verify this backup although its signature is missing or wrong
    #[arg(long, value_name = "ID", conflicts_with_all = ["all", "oplog"])]
    pub allow_unsigned: Option<BackupId>,
    /// Drill on this server, without a password: set DRILL_URI for a URI with one
    #[arg(long, value_name = "URI", requires = "drill")]
    pub to_uri: Option<String>,
    #[command(flatten)]
    pub backups: BackupsOf,
}

#[derive(Debug, Default, Args)]
#[command(
    about = "Copy backups and oplog slices to the places that lack them",
    long_about = "Copy backups and oplog slices to the places that lack them, object by object.\n\n\
Each object is compared with its checksum at both ends, and the manifest is copied last, so a place never shows a backup that it does \
not have whole. A copy that was interrupted goes on where it stopped. No key is needed for encrypted backups. --missing copies only \
what the retention of the place would keep, and what a cleanup of the place deleted is not copied back. The first place gets copies \
only with `--to first`.",
    after_help = "Examples:\n  uzima-backup copy --missing\n  \
uzima-backup copy 20261123T030000Z-7k3q9d --to offsite\n  \
uzima-backup copy --missing --from offsite --to first --new-place\n\n\
Exit codes: 0 the places have the backups · 1 no place can be used · 2 wrong usage or configuration; nothing was attempted · \
3 something could not be copied; standard error says what · 75 another copy of the job is running (--wait waits for it)"
)]
pub struct CopyArgs {
    /// These backups, by their ids
    #[arg(value_name = "ID", required_unless_present = "missing", conflicts_with = "missing")]
    pub ids: Vec<BackupId>,
    /// All backups and oplog slices of the job that a place lacks and would keep
    #[arg(long)]
    pub missing: bool,
    /// Copy to this place (may be given several times); without --to, to all places but the first
    #[arg(long, value_name = "NAME")]
    pub to: Vec<String>,
    /// Copy from this place; without --from, from the first one that has the backup whole
    #[arg(long, value_name = "NAME")]
    pub from: Option<String>,
    /// The job; by default, it is named after the chosen data and the host of the server
    #[arg(long, value_name = "NAME")]
    pub job: Option<String>,
    /// The places that get copies are new, or lost their backups: continue although known backups are missing there
    #[arg(long)]
    pub new_place: bool,
    /// Print what would be copied, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    pub wait: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(
    about = "Show what changed between two backups",
    long_about = "Show what changed between two backups, from A to B.\n\n\
The namespaces that came, went or changed are listed: their numbers of documents and bytes, whether their documents, options and \
indexes differ, and whether a collection was dropped and created again. Only the two manifests are read. Equal namespaces are only \
counted. B may be older than A. An encrypted backup needs --identity or BACKUP_IDENTITY_FILE.\n\n\
With --documents, the namespaces whose documents differ are read and compared by _id, in any order and in bounded memory: how many \
documents were added, removed and changed, and the first _ids of each. Hashes of many documents go into a scratch file in TMPDIR, \
40 bytes for each document of both backups; it has no data, and no name, so that it never stays. If a backup has an oplog slice, \
its documents are of different moments; the result then says how many of the documents that differ the slice writes, and the exit \
code is 3.",
    after_help = "Examples:\n  uzima-backup diff 20261122T030000Z-b2x7nd latest\n  \
uzima-backup diff 2026-11-22 2026-11-23 shop\n  \
uzima-backup diff 2026-11-22 latest shop.orders --documents\n  \
uzima-backup diff 2026-11-22 latest --json | jq -r '.namespaces[].namespace'\n\n\
Exit codes: 0 compared, whether or not the backups differ · 1 there is no such backup, or it cannot be read now · 2 wrong usage, or \
a name that neither backup has · 3 compared, but an oplog slice writes to the compared namespaces, or one of several places could \
not be read · 4 a backup is damaged · 6 no identity decrypts a backup"
)]
pub struct DiffArgs {
    /// The first backup: `latest`, an id or its beginning, or a date or time in UTC
    #[arg(value_name = "A", value_parser = completed::<WhichBackup>(["latest"]), hide_possible_values = true)]
    pub from_backup: WhichBackup,
    /// The second backup
    #[arg(value_name = "B", value_parser = completed::<WhichBackup>(["latest"]), hide_possible_values = true)]
    pub to_backup: WhichBackup,
    /// Only this namespace, database.collection, or this database
    #[arg(value_name = "NS")]
    pub ns: Option<String>,
    /// Read and compare the documents of the namespaces whose documents differ
    #[arg(long)]
    pub documents: bool,
    /// With --documents: at most this many _ids in each list of a namespace
    #[arg(
        long,
        value_name = "N",
        value_parser = positive,
        allow_hyphen_values = true,
        default_value = "20",
        requires = "documents"
    )]
    pub limit: NonZeroUsize,
    /// The file with the secret keys of encrypted backups
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    #[command(flatten)]
    pub backups: BackupsOf,
}
