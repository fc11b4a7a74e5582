//! Every setting there is: its name in the configuration file, its environment variable, and what it
//! is for. Everything else (the file's parser, the overlay, `config`) follows this table.

use std::fmt;
use std::path::PathBuf;

/// The unparsed value of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    Text(String),
    List(Vec<String>),
}

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Flag,
    /// An environment variable, by its name.
    Environment(String),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("flag"),
            Origin::Environment(name) => write!(f, "environment, {name}"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in the configuration file; `s3.bucket` is `bucket` in the table `[s3]`.
    pub key: &'static str,
    /// The environment variable.
    pub env: &'static str,
    /// Never printed, and also taken from the file that `<env>_FILE` names.
    pub secret: bool,
    /// A list: an array in the file, comma-separated in the environment.
    pub list: bool,
    /// The value if nobody sets it.
    pub default: Option<&'static str>,
    /// What it is for.
    pub help: &'static str,
    /// What a number of it counts, in the plural.
    pub unit: Option<&'static str>,
}

impl Setting {
    const fn of(self, unit: &'static str) -> Setting {
        Setting { unit: Some(unit), ..self }
    }

    /// A value of it with its unit.
    pub fn measured(&self, value: &str) -> String {
        match self.unit {
            Some(unit) if value == "1" => format!("1 {}", unit.trim_end_matches('s')),
            // What is no number is told as it is: it is wrong.
            Some(unit) if value.parse::<u64>().is_ok() => format!("{value} {unit}"),
            _ => value.into(),
        }
    }

    /// The flag that sets it, in those commands that have one.
    pub fn flag(&self) -> String {
        let name = match self.key {
            "compression_level" => "level",
            "databases" => "db",
            "restore_uri" | "drill_uri" => "to-uri",
            key => key,
        };
        format!("--{}", name.replace('_', "-"))
    }
}

const fn setting(
    key: &'static str,
    env: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, env, secret: false, list: false, default, help, unit: None }
}

const fn secret(
    key: &'static str,
    env: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, env, secret: true, list: false, default, help, unit: None }
}

const fn list(key: &'static str, env: &'static str, help: &'static str) -> Setting {
    Setting { key, env, secret: false, list: true, default: None, help, unit: None }
}

/// All settings, in the order in which `config` prints them.
pub const SETTINGS: &[Setting] = &[
    secret("mongo_uri", "MONGO_URI", Some("mongodb://localhost:27017"), "the server, as mongodump's --uri"),
    secret("restore_uri", "RESTORE_URI", None, "the server that `restore` writes into; else mongo_uri"),
    secret("drill_uri", "DRILL_URI", None, "the server for `verify --drill`; else a throw-away mongod"),
    list("databases", "BACKUP_DATABASES", "only these databases"),
    list("include", "BACKUP_INCLUDE", "only namespaces that match one of these patterns"),
    list("exclude", "BACKUP_EXCLUDE", "no namespace that matches one of these patterns"),
    setting("job", "BACKUP_JOB", None, "the line of backups that share retention"),
    setting("engine", "BACKUP_ENGINE", Some("auto"), "auto, native or mongodump"),
    setting("mongodump_path", "MONGODUMP_PATH", None, "the mongodump to use"),
    setting("mongod_path", "MONGOD_PATH", None, "the mongod that `verify --drill` starts"),
    setting("consistency", "BACKUP_CONSISTENCY", Some("auto"), "auto, oplog, snapshot or none"),
    setting("format", "BACKUP_FORMAT", Some("tar.gz"), "tar.gz, tar.zst, archive.gz or archive.zst"),
    setting("compression_level", "BACKUP_COMPRESSION_LEVEL", None, "gzip 1 to 12, zstd 1 to 19"),
    setting("check_compression", "BACKUP_CHECK_COMPRESSION", Some("false"), "decompress each block again"),
    setting(
        "stall_timeout",
        "BACKUP_STALL_TIMEOUT",
        Some("600"),
        "seconds without an answer after which MongoDB or mongodump hangs",
    )
    .of("seconds"),
    setting(
        "patience",
        "BACKUP_PATIENCE",
        Some("600"),
        "seconds for which MongoDB and the store are waited for when they are down",
    )
    .of("seconds"),
    setting("dir", "BACKUP_DIR", None, "back up to this directory"),
    setting("min_free", "BACKUP_MIN_FREE", Some("10"), "percent of the directory's file system kept free")
        .of("%"),
    setting("retention_days", "BACKUP_RETENTION_DAYS", Some("30"), "days that backups are kept").of("days"),
    setting("keep_min", "BACKUP_KEEP_MIN", Some("3"), "the newest good backups that stay however old")
        .of("backups"),
    setting("keep_last", "BACKUP_KEEP_LAST", None, "the newest so many good backups stay").of("backups"),
    setting("keep_daily", "BACKUP_KEEP_DAILY", None, "the newest good backup of so many days stays")
        .of("days"),
    setting("keep_weekly", "BACKUP_KEEP_WEEKLY", None, "the newest good backup of so many weeks stays")
        .of("weeks"),
    setting("keep_monthly", "BACKUP_KEEP_MONTHLY", None, "the newest good backup of so many months stays")
        .of("months"),
    setting("keep_yearly", "BACKUP_KEEP_YEARLY", None, "the newest good backup of so many years stays")
        .of("years"),
    setting("max_age", "BACKUP_MAX_AGE", Some("26"), "hours after which the newest good backup is too old")
        .of("hours"),
    setting("drill_max_age", "BACKUP_DRILL_MAX_AGE", None, "days after which the newest drill is too old")
        .of("days"),
    secret(
        "records",
        "BACKUP_RECORDS",
        None,
        "where runs are recorded: off, or another server than mongo_uri",
    ),
    setting(
        "state_dir",
        "UZIMA_BACKUP_STATE_DIR",
        None,
        "remembers uploads under way, locks, and what was mailed",
    ),
    setting("log_file", "BACKUP_LOG_FILE", None, "the log goes to this file as well"),
    list("notify", "BACKUP_NOTIFY", "the events that are mailed and told to a webhook; without it, all"),
    secret("ping_url", "PING_URL", None, "a monitor that every backup pings, as healthchecks.io has it"),
    setting("metrics_file", "METRICS_FILE", None, "figures for node_exporter's textfile collector"),
    secret("webhook_url", "WEBHOOK_URL", None, "is told of every run, as JSON"),
    secret("mail.resend_api_key", "RESEND_API_KEY", None, "the key of resend.com, which sends the mails"),
    list("mail.to", "ADMIN_EMAILS", "who gets the mails"),
    setting("mail.from", "EMAIL_FROM", None, "who they come from; else uzima-backup@ the first one's domain"),
    setting("mail.base_url", "RESEND_BASE_URL", Some("https://api.resend.com"), "the mail service"),
    setting("s3.bucket", "S3_BACKUP_BUCKET", None, "back up to this bucket"),
    setting(
        "s3.prefix",
        "S3_BACKUP_PREFIX",
        Some("daily-backups/"),
        "what every key in the bucket begins with",
    ),
    setting("s3.region", "AWS_REGION", None, "the bucket's region"),
    setting("s3.endpoint_url", "S3_ENDPOINT_URL", None, "an S3-compatible service"),
    setting("s3.force_path_style", "S3_FORCE_PATH_STYLE", None, "bucket in the path; on with an endpoint"),
    setting("s3.access_key_id", "AWS_ACCESS_KEY_ID", None, "else the AWS default chain"),
    secret("s3.secret_access_key", "AWS_SECRET_ACCESS_KEY", None, "else the AWS default chain"),
    secret("s3.session_token", "AWS_SESSION_TOKEN", None, "the token of temporary keys"),
    setting(
        "s3.ca_bundle",
        "AWS_CA_BUNDLE",
        None,
        "the CA certificates to trust; else SSL_CERT_FILE, the machine's",
    ),
    setting("s3.storage_class", "S3_STORAGE_CLASS", None, "the artifacts' storage class, e.g. STANDARD_IA"),
    setting("s3.sse", "S3_SSE", None, "server-side encryption: AES256 or aws:kms"),
    setting("s3.sse_kms_key_id", "S3_SSE_KMS_KEY_ID", None, "the KMS key; else the account's default key"),
    setting("s3.versioned", "S3_VERSIONED", Some("false"), "old versions of deleted objects are expected"),
    setting("s3.object_lock_days", "S3_OBJECT_LOCK_DAYS", None, "days for which a backup cannot be deleted")
        .of("days"),
    setting("s3.checksum", "S3_CHECKSUM", Some("crc64nvme"), "crc64nvme, crc32c or none"),
    setting("s3.upload_concurrency", "S3_UPLOAD_CONCURRENCY", Some("4"), "parts sent at once").of("parts"),
    setting("s3.bandwidth", "S3_BANDWIDTH", None, "the most that is sent per second: 500000, 2 MB or 4 MiB"),
];

/// The setting with this key.
pub fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        let measured = |key, value| by_key(key).unwrap().measured(value);
        assert_eq!(measured("retention_days", "30"), "30 days");
        assert_eq!(measured("retention_days", "1"), "1 day");
        assert_eq!(measured("min_free", "10"), "10 %");
        assert_eq!(measured("keep_weekly", ""), "");
        assert_eq!(measured("format", "tar.gz"), "tar.gz");
        assert_eq!(measured("retention_days", "30d"), "30d");
    }
}
