//! The flags of `init`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `init`.
#[derive(Debug, Args)]
#[command(
    about = "Write a configuration file for this machine, and try it",
    long_about = "Write a configuration file for this machine, try it, and print what starts the backups every night.\n\n\
The file is the annotated example with everything switched on that flags and environment set: the server, the bucket or \
directory, mails, whatever else. It goes to --config, or UZIMA_BACKUP_CONFIG, or /etc/uzima-backup/config.toml. Secrets stay \
out of it without --with-secrets: the file that holds each is named in the lines for cron and systemd. Then `health` tries \
the file, but for the backups: there are none yet. Nothing else on this machine is changed.",
    after_help = "Examples:\n  uzima-backup init --dir /var/backups/mongodb\n  \
S3_BACKUP_BUCKET=my-backups AWS_REGION=eu-central-1 uzima-backup init --mongo-uri mongodb://db1\n  \
MONGO_URI_FILE=/etc/uzima-backup/mongo_uri uzima-backup init --dir /mnt/backups --config ./config.toml\n\n\
Exit codes: 0 written, and all is well · 1 the file could not be written · 2 wrong usage or settings, or there is a file \
already; nothing was written · 5 written, and a check of the health failed"
)]
pub struct InitArgs {
    /// The server; one with a password comes from MONGO_URI or MONGO_URI_FILE, which nobody else sees
    #[arg(long, value_name = "URI")]
    pub mongo_uri: Option<String>,
    /// Back up to this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Put the secrets of the environment into the file
    #[arg(long)]
    pub with_secrets: bool,
    /// Replace the configuration file that is there; a copy of it is kept (.bak), its owner and group stay
    #[arg(long)]
    pub force: bool,
}
