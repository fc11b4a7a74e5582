//! The hand-written parts of the man pages.

/// An entry of the section FILES.
pub struct File {
    pub path: &'static str,
    pub what: &'static str,
    /// The commands whose pages name the file; empty for all commands.
    pub of: &'static [&'static str],
}

pub const FILES: &[File] = &[
    File {
        path: "/etc/uzima-backup/config.toml",
        what: "the settings; --config and UZIMA_BACKUP_CONFIG name another file. One that holds a secret must not be \
               readable by everyone.",
        of: &[],
    },
    File {
        path: "/var/lib/uzima-backup",
        what: "the state directory of root; of others ~/.local/state/uzima-backup, in a service of systemd its own. \
               Losing it costs a mail too many, and leaves what a killed run was uploading to the bucket's lifecycle.",
        of: &["uzima-backup", "backup", "cleanup", "health", "stats"],
    },
    File {
        path: "/var/lib/uzima-backup/locks/",
        what: "a lock for each job and operation. The kernel frees it when a run ends; the files stay.",
        of: &["uzima-backup", "backup", "cleanup"],
    },
    File {
        path: "/usr/share/doc/uzima-backup/",
        what: "where the Debian package has the documents, the annotated configuration and a crontab",
        of: &["uzima-backup", "init"],
    },
];

/// Variables that are not settings.
pub const VARIABLES: &[(&str, &str)] = &[
    ("UZIMA_BACKUP_CONFIG", "the configuration file; --config beats it"),
    (
        "AWS_PROFILE, and the others of the AWS tools",
        "where no key is set: profiles, single sign-on, the role of the machine or the container",
    ),
    ("RUST_LOG", "what is logged, as in warn,uzima_backup=debug"),
    ("STATE_DIRECTORY", "the state directory where no setting names one; systemd sets it"),
];

/// The settings that a command's page lists, because they decide what the command does.
pub fn settings_of(command: &str) -> &'static [&'static str] {
    match command {
        "backup" => &[
            "mongo_uri",
            "s3.bucket",
            "dir",
            "databases",
            "include",
            "exclude",
            "job",
            "engine",
            "format",
            "consistency",
            "recipients",
            "signing_key_file",
            "trusted_keys",
            "min_free",
            "records",
        ],
        "oplog" => &[
            "mongo_uri",
            "databases",
            "include",
            "exclude",
            "s3.bucket",
            "dir",
            "job",
            "oplog_max_age",
            "oplog_ping_url",
            "state_dir",
        ],
        "restore" => &["restore_uri", "mongo_uri", "s3.bucket", "dir", "identity_file", "trusted_keys"],
        "get" => &["s3.bucket", "dir", "identity_file", "trusted_keys"],
        "verify" => {
            &["s3.bucket", "dir", "identity_file", "trusted_keys", "drill_uri", "mongod_path", "records"]
        }
        "diff" => &["s3.bucket", "dir", "identity_file", "trusted_keys"],
        "list" | "pin" | "unpin" => &["s3.bucket", "dir", "records"],
        "cleanup" => &[
            "s3.bucket",
            "dir",
            "job",
            "retention_days",
            "keep_min",
            "keep_last",
            "keep_daily",
            "keep_weekly",
            "keep_monthly",
            "keep_yearly",
        ],
        "copy" => &["s3.bucket", "dir", "job", "retention_days", "keep_min", "oplog_days"],
        "stats" => &["s3.bucket", "dir", "job", "records", "retention_days", "max_age"],
        "timeline" => &["s3.bucket", "dir", "job"],
        "health" => &["mongo_uri", "s3.bucket", "dir", "job", "max_age"],
        "notify" => &[
            "mail.by",
            "mail.resend_api_key",
            "mail.smtp_host",
            "mail.smtp_port",
            "mail.smtp_security",
            "mail.smtp_user",
            "mail.smtp_password",
            "mail.smtp_ca_file",
            "mail.sendmail_path",
            "mail.dead_man",
            "mail.to",
            "mail.from",
            "notify",
            "ping_url",
            "oplog_ping_url",
            "metrics_file",
            "webhook_url",
            "webhook_format",
        ],
        "init" => &["mongo_uri", "s3.bucket", "dir", "mail.resend_api_key", "mail.smtp_host", "mail.to"],
        "keygen" | "config" => &[],
        other => panic!("nobody wrote what the page of {other} says"),
    }
}
