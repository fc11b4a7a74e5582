//! The flags of the commands that set up, watch and clean up: all but `backup`, `restore` and `verify`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{BackupsOf, JobAndDir, completed, positive, time};
use crate::catalog::choose::WhichBackup;
use crate::catalog::fault::ShownStatus;
use crate::cli::units;
use crate::config::notify::{EVENTS, Event};
use crate::config::selection::Pattern;
use crate::model::id::BackupId;
use crate::ops::health;

#[derive(Debug, Args)]
#[command(
    about = "Write a configuration file for this machine, try it, and install the schedule",
    long_about = "Write a configuration file for this machine, and try it. With --install, also install the schedule that starts the \
backups every night.\n\n\
The file is the annotated example with the settings of flags and environment filled in: the server, the bucket or directory, \
mails, and all others. It goes to --config, or UZIMA_BACKUP_CONFIG, or /etc/uzima-backup/config.toml. Secrets are written \
into it only with --with-secrets; otherwise, each has a file of its own. Then `health` tries the file, without the checks of \
backups, because there are none yet.\n\n\
--install shows a plan with each file and command, asks, and carries it out: with the timers of systemd if it is run as root on a \
machine that systemd started, else with the crontab of the user, of which all other lines stay as they are. It also writes the \
files of secrets that the environment has. A configuration file that exists stays as it is. A second run changes nothing. \
The first installation asks on a terminal for the public keys to which backups are encrypted, and says where the secret keys must be \
kept; whether the backups are signed; and for a second place, to which every backup is copied. If the server is a replica set, it also asks whether a job stores its \
oplog, and says what that costs. \
Without --install, nothing but the configuration file is written.",
    after_help = "Examples:\n  uzima-backup init --dir /var/backups/mongodb --install\n  uzima-backup init --install --dry-run\n  uzima-backup init --install --oplog\n  \
uzima-backup init --dir /var/backups/mongodb --install --recipients age1…,age1…\n  \
uzima-backup init --dir /var/backups/mongodb --copy-dir /mnt/nas/mongodb --install\n  \
S3_BACKUP_BUCKET=my-backups AWS_REGION=eu-central-1 uzima-backup init --mongo-uri mongodb://db1\n  \
MONGO_URI_FILE=/etc/uzima-backup/mongo_uri uzima-backup init --dir /mnt/backups --config ./config.toml\n\n\
Exit codes: 0 the file is written, the schedule is installed if requested, and all is well · 1 a file could not be written, a step of \
the installation failed, or it was not confirmed · 2 wrong usage or settings, the file exists already, or there is no terminal to ask, \
or --oplog is given and the server has no oplog that can be stored; nothing was changed · 5 the file is written, and a check of the health failed"
)]
pub struct InitArgs {
    /// The server; set MONGO_URI or MONGO_URI_FILE for a URI with a password, so that other users cannot see it
    #[arg(long, value_name = "URI")]
    pub mongo_uri: Option<String>,
    /// Back up to this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Also keep a copy of every backup in this directory. COPY_S3_BUCKET names a bucket instead, with a key in COPY_AWS_…
    #[arg(long, value_name = "DIR")]
    pub copy_dir: Option<PathBuf>,
    /// Do not ask about a copy
    #[arg(long, conflicts_with = "copy_dir")]
    pub no_copy: bool,
    /// Write the secrets of the environment into the file
    #[arg(long)]
    pub with_secrets: bool,
    /// Replace an existing configuration file; a copy of it is kept (.bak), and owner and group stay
    #[arg(long)]
    pub force: bool,
    /// Install the schedule: show a plan, ask, and carry it out. With `systemd` or `cron`, by its timers or by the user's
    /// crontab; else by what fits this machine
    #[arg(
        long,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto",
        value_parser = PossibleValuesParser::new(["auto", "systemd", "cron"]),
        hide_possible_values = true,
    )]
    pub install: Option<String>,
    /// Encrypt the backups to these public keys, age1… or ssh-ed25519, separated by commas (may be given several times). Their
    /// secret keys must not be on this machine. Without this flag, the first --install asks on a terminal
    #[arg(long, value_name = "KEY", value_delimiter = ',', conflicts_with = "no_encryption")]
    pub recipients: Vec<String>,
    /// Do not ask about encryption
    #[arg(long)]
    pub no_encryption: bool,
    /// Make a signing key beside the configuration file, and sign the backups with it
    #[arg(long, conflicts_with = "no_signing")]
    pub signing: bool,
    /// Do not ask about signatures
    #[arg(long)]
    pub no_signing: bool,
    /// Also store the oplog every 10 minutes, so that `restore --at` reaches any second of the last days; for a replica set.
    /// Without this flag, --install asks on a terminal, and keeps what an earlier installation has
    #[arg(long, conflicts_with = "no_oplog")]
    pub oplog: bool,
    /// Do not store the oplog, and remove the job of an earlier installation
    #[arg(long)]
    pub no_oplog: bool,
    /// Do not ask for confirmation of --install
    #[arg(long, requires = "install")]
    pub yes: bool,
    /// Print the plan of --install, and stop
    #[arg(long, requires = "install")]
    pub dry_run: bool,
}

impl InitArgs {
    /// The directory of the copy. Nightly runs start in another directory, so it is absolute.
    pub fn copy_dir(&self) -> Option<String> {
        let dir = self.copy_dir.as_ref()?;
        Some(std::path::absolute(dir).unwrap_or_else(|_| dir.clone()).display().to_string())
    }
}

#[derive(Debug, Args)]
#[command(
    about = "List the backups that exist, and the runs that made none, or show everything about one of them",
    long_about = "List the backups that exist, and the runs that made none, newest first.\n\n\
The list shows the content of the bucket or directory. If runs are recorded in MongoDB and the records can be read, it also \
shows runs that are running or were killed and, with --status deleted, deleted backups. The table fits into 80 columns; on a \
wider terminal it has more. On a terminal the status is coloured, unless NO_COLOR is set.\n\n\
With an id, or `latest`, it shows one run and its backup: times, server, engine, consistency, selection, namespaces with their \
sizes and indexes, results of verify, warnings and notes, and why the run failed.\n\nWith copies, it shows the places where each backup \
is whole, and those where it has a fault.",
    after_help = "Examples:\n  uzima-backup list --limit 5\n  uzima-backup list latest\n  uzima-backup list --status failed,interrupted\n  uzima-backup list --json | jq '.backups[0].id'\n\n\
Exit codes: 0 listed · 1 no bucket or directory can be read · 2 wrong usage or configuration · 3 listed, but one of several \
places cannot be read · 4 listed, and a listed backup is damaged or incomplete in a place · 6 no identity decrypts the backup"
)]
pub struct ListArgs {
    /// Show everything about one run and its backup: `latest`, an id or its beginning, or a date or time in UTC: the newest
    /// good backup that was complete by then
    #[arg(
        value_name = "latest|ID",
        value_parser = completed::<WhichBackup>(["latest"]),
        hide_possible_values = true,
        conflicts_with_all = ["status", "limit"],
    )]
    pub which: Option<WhichBackup>,
    /// Only these statuses: completed, running, failed, interrupted, deleted, damaged, artifact_missing,
    /// index_missing, manifest_missing, unreadable_manifest or archived, separated by commas (may be given several
    /// times); default: all but deleted
    #[arg(
        long,
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = completed::<ShownStatus>(ShownStatus::all().map(ShownStatus::code)),
        hide_possible_values = true,
    )]
    pub status: Vec<ShownStatus>,
    /// At most this many rows
    #[arg(long, value_name = "N", value_parser = positive, allow_hyphen_values = true)]
    pub limit: Option<NonZeroUsize>,
    /// With an id: the file with the secret key of an encrypted backup, whose namespaces are shown only with it
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    #[command(flatten)]
    pub backups: BackupsOf,
}

#[derive(Debug, Default, Args)]
#[command(
    about = "Delete backups that are older than necessary, never the last good ones",
    long_about = "Delete the backups of a job that are older than necessary, by a plan with a reason for each.\n\n\
The plan keeps the backups of the last BACKUP_RETENTION_DAYS, always the newest BACKUP_KEEP_MIN good ones, those that \
BACKUP_KEEP_LAST, _DAILY, _WEEKLY, _MONTHLY and _YEARLY select, and all pinned ones. Nothing is deleted (exit code 3) \
while the plan is frozen: the newest backup collapsed, the job reads another server, the clock is wrong, \
a manifest cannot be read, or more than three and more than a quarter of the good backups would go at once. With copies, every \
place has a plan of its own, and a place that is frozen or cannot be used does not stop the others.",
    after_help = "Examples:\n  uzima-backup cleanup --dry-run\n  \
uzima-backup cleanup --accept 20261123T030000Z-7k3q9d\n  \
uzima-backup cleanup --json | jq '.backups[] | select(.outcome == \"deleted\")'\n\n\
Exit codes: 0 everything that was to be deleted is deleted · 1 it failed; the next cleanup deletes the rest · 2 wrong usage or \
configuration · 3 the plan is frozen, so that nothing was deleted, or something else needs a look · 75 another cleanup of the \
job is running"
)]
pub struct CleanupArgs {
    /// Print the plan, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Delete even more than three and more than a quarter of the good backups at once; other reasons still freeze the plan
    #[arg(long)]
    pub force: bool,
    /// This backup is right although it collapsed or is of another server (may be given several times)
    #[arg(long, value_name = "ID")]
    pub accept: Vec<BackupId>,
    /// Also delete artifacts without a manifest that are older than 2 days, of all jobs
    #[arg(long)]
    pub orphans: bool,
    #[command(flatten)]
    pub target: JobAndDir,
    /// Wait this long for another run of the job to end, e.g. 90s, 10m or 2h; without --wait, exit 75 at once
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration, allow_hyphen_values = true)]
    pub wait: Option<Duration>,
}

/// One backup of the store, chosen by id or as the latest.
#[derive(Debug, Args)]
pub struct OneBackup {
    /// `latest`, an id or its beginning, or a date or time in UTC: the newest good backup that was complete by then
    #[arg(value_name = "latest|ID", value_parser = completed::<WhichBackup>(["latest"]), hide_possible_values = true)]
    pub which: WhichBackup,
    #[command(flatten)]
    pub backups: BackupsOf,
}

#[derive(Debug, Args)]
#[command(
    about = "Protect a backup from every cleanup",
    after_help = "Examples:\n  uzima-backup pin latest --reason 'before the migration'\n  \
uzima-backup pin 20261123T030000Z-7k3q9d\n\n\
Exit codes: 0 the backup is pinned in every place that has it · 1 there is no such backup, or it could not be pinned · 2 wrong usage \
or configuration · 3 a cleanup may still delete it, or it could not be pinned in one of several places"
)]
pub struct PinArgs {
    #[command(flatten)]
    pub backup: OneBackup,
    /// Why the backup is pinned, for people
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    about = "Let retention decide on a backup again",
    after_help = "Examples:\n  uzima-backup unpin 20261123T030000Z-7k3q9d\n\n\
Exit codes: 0 the backup is no longer pinned in any place · 1 there is no such backup, or it could not be unpinned · 2 wrong usage or \
configuration · 3 it could not be unpinned in one of several places"
)]
pub struct UnpinArgs {
    #[command(flatten)]
    pub backup: OneBackup,
}

#[derive(Debug, Args)]
#[command(
    about = "Show the statistics of a job",
    long_about = "Show the statistics of a job: how many runs made a backup, their duration, the growth of size, documents \
and duration, the last ten runs, and the next backup that a cleanup deletes.\n\n\
The figures come from the bucket or directory. If runs are recorded in MongoDB, they include deleted backups and runs \
that were killed.",
    after_help = "Examples:\n  uzima-backup stats\n  uzima-backup stats --email --quiet\n  \
uzima-backup stats --html /var/www/html/backups.html --quiet\n  \
uzima-backup stats --json | jq .success\n\n\
Exit codes: 0 shown · 1 the backups cannot be read, or the page cannot be written · 2 wrong usage or configuration · \
3 shown, but not mailed"
)]
pub struct StatsArgs {
    /// Also mail the statistics
    #[arg(long)]
    pub email: bool,
    /// Also write a page with charts, a forecast and the retention calendar to this file. The page uses no network and no
    /// script. An existing file is replaced
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub target: JobAndDir,
}

#[derive(Debug, Args)]
#[command(
    about = "Show which points in time can be restored, and what happened when",
    long_about = "Show which points in time can be restored, and what happened when: from the oplog slices of `uzima-backup oplog`, \
without reading data.\n\n\
First come the times whose every point can be restored, each with its first backup and its chain of slices, and the gaps between \
them, each with its reason and what closes it. Then come the inserts, updates and deletes of each period and namespace, and each drop, \
rename and change of indexes, with the argument of `uzima-backup restore` that leads to the moment before it. A longer time has longer \
periods: --from and --to show a shorter time minute by minute. Drops, and deletes of far more documents than usual, stand out. \
Times are in UTC.\n\n\
The events of encrypted slices are decrypted with --identity or BACKUP_IDENTITY_FILE.",
    after_help = "Examples:\n  uzima-backup timeline\n  uzima-backup timeline --ns 'shop.*' --from 2026-11-23\n  \
uzima-backup timeline --from 2026-11-23T13:00Z --to 2026-11-23T15:00Z\n  \
uzima-backup timeline --json | jq '.changes[] | select(.command == \"dropDatabase\") | .before'\n\n\
Exit codes: 0 shown · 1 no bucket or directory can be read · 2 wrong usage or configuration · 3 shown, but some events, or one of \
several places, could not be read · 4 shown, but encrypted events are damaged · 6 no identity decrypts the events"
)]
pub struct TimelineArgs {
    /// Only namespaces that match, db.collection with * (may be given several times)
    #[arg(long, value_name = "PATTERN")]
    pub ns: Vec<Pattern>,
    /// Only events from this time on: a date, or a time in UTC such as 2026-11-23T14:00Z
    #[arg(long, value_name = "TIME", value_parser = time::from)]
    pub from: Option<DateTime<Utc>>,
    /// Only events up to this time, a date with its last second
    #[arg(long, value_name = "TIME", value_parser = time::to)]
    pub to: Option<DateTime<Utc>>,
    /// At most this many rows of writes, the largest and the unusual ones, and this many changes
    #[arg(long, value_name = "N", value_parser = positive, allow_hyphen_values = true, default_value = "60")]
    pub limit: NonZeroUsize,
    /// The file with the secret key of encrypted slices
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    #[command(flatten)]
    pub target: JobAndDir,
}

#[derive(Debug, Default, Args)]
#[command(
    about = "Check that tonight's backup will work, and that there is a good one",
    long_about = "Check that tonight's backup will work, and that there is a good one.\n\n\
Each check is one line: the settings, MongoDB and the right to read all of it, the engine, the bucket or directory \
(a small object is written, read and deleted), its free space and its clock, the age of the newest good backup \
(BACKUP_MAX_AGE), the keys of encrypted backups, and the state directory. Nothing else is changed. If a check failed, the exit code is 5, and standard error \
names the check, also with --quiet.",
    after_help = "Examples:\n  \
uzima-backup health\n  \
uzima-backup health --skip freshness\n  \
uzima-backup health --only freshness --quiet\n  \
uzima-backup health --email --quiet\n  \
uzima-backup health --json | jq '.checks[] | select(.outcome == \"failed\")'\n\n\
Exit codes: 0 all is well · 2 wrong usage, or settings that cannot be read · 3 all is well, but the mail could not be sent · \
5 a check failed"
)]
pub struct HealthArgs {
    /// Skip these checks, separated by commas (may be given several times): a new installation fails `freshness`
    #[arg(
        long,
        value_name = "CHECK",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(health::names()),
    )]
    pub skip: Vec<String>,
    /// Only these checks, separated by commas (may be given several times)
    #[arg(
        long,
        value_name = "CHECK",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(health::names()),
    )]
    pub only: Vec<String>,
    /// Accept a server without collections
    #[arg(long)]
    pub allow_empty: bool,
    /// Also mail the results
    #[arg(long)]
    pub email: bool,
    #[command(flatten)]
    pub target: JobAndDir,
}

#[derive(Debug, Args)]
#[command(
    about = "Send a sample of each mail and signal, or write the mails to files",
    long_about = "Send a sample of each mail to ADMIN_EMAILS by Resend, SMTP or sendmail, or write the samples to files.\n\n\
Configured signals are tried, too: PING_URL gets a log line, which completes no run; METRICS_FILE is \
written as it is; WEBHOOK_URL gets a document, or the chat behind it a message, about each event.\n\n\
The samples are marked as a test. The exit code is 1 if a sample could not be sent, and standard error has the reason; it is \
2 if neither mails nor signals are configured.",
    after_help = "Examples:\n  uzima-backup notify --test\n  uzima-backup notify --test --event failure\n  \
uzima-backup notify --render /tmp/mails\n\n\
Exit codes: 0 sent or written · 1 a mail could not be sent, or a file could not be written · 2 wrong usage, or mails are not \
configured"
)]
pub struct NotifyArgs {
    /// Send a sample of each mail in BACKUP_NOTIFY (of all mails if it is not set) and of each signal
    #[arg(long, required_unless_present = "render", conflicts_with = "render")]
    pub test: bool,
    /// Write the samples to this directory, as HTML and as text, and send nothing
    #[arg(long, value_name = "DIR")]
    pub render: Option<PathBuf>,
    /// Only the mail and the webhook document of this event: success, failure, recovered, cleanup, frozen, stats or health
    /// (may be given several times)
    #[arg(
        long,
        value_name = "NAME",
        value_parser = completed::<Event>(EVENTS.map(Event::word)),
        hide_possible_values = true,
    )]
    pub event: Vec<Event>,
}

#[derive(Debug, Args)]
#[command(
    about = "Make a key for encrypted or signed backups",
    long_about = "Make a key for encrypted backups, an X25519 identity of age, or with --signing a key that signs backups, an Ed25519 key \
of minisign without a passphrase.\n\n\
The secret key is written to a new file that only its owner can read. The recipient or the public key is printed on the first line of \
standard output. Stock `age` and `minisign` read both.",
    after_help = "Examples:\n  uzima-backup keygen --out /media/usb/backup.key\n  \
uzima-backup keygen --out ./backup.key --json | jq -r .recipient\n  \
uzima-backup keygen --signing --out /etc/uzima-backup/signing.key\n\n\
Exit codes: 0 the key is written · 1 the file could not be written · 2 wrong usage, or the file exists already"
)]
pub struct KeygenArgs {
    /// Make a key that signs backups
    #[arg(long)]
    pub signing: bool,
    /// Write the secret key to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
