//! All settings: their keys in the configuration file, environment variables, defaults and purposes. The parser of the file,
//! the layers and `config` follow this table.

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
    /// True if the value is never printed. The file that `<env>_FILE` names can contain it.
    pub secret: bool,
    /// True if the file that `<env>_FILE` names can contain the value, although it is no secret: the items of a list in a line each.
    pub lines: bool,
    /// True for an array in the file, and comma-separated items in the environment.
    pub list: bool,
    pub default: Option<&'static str>,
    pub help: &'static str,
    /// The unit of a number, in the plural.
    pub unit: Option<&'static str>,
}

impl Setting {
    /// A value with its unit.
    pub fn measured(&self, value: &str) -> String {
        match self.unit {
            Some(unit) if value == "1" => format!("1 {}", unit.trim_end_matches('s')),
            // An invalid value may not be a number, so it gets no unit.
            Some(unit) if value.parse::<u64>().is_ok() => format!("{value} {unit}"),
            _ => value.into(),
        }
    }

    /// The variable that names a file with the value; `None` if the setting has none.
    pub fn file_variable(&self) -> Option<String> {
        (self.secret || self.lines).then(|| format!("{}_FILE", self.env))
    }

    /// The flag for the setting, in commands that have it.
    pub fn flag(&self) -> String {
        let name = match self.key {
            "compression_level" => "level",
            "databases" => "db",
            "restore_uri" | "drill_uri" => "to-uri",
            "identity_file" => "identity",
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
    Setting { key, env, secret: false, lines: false, list: false, default, help, unit: None }
}

const fn secret(key: &'static str, env: &'static str, help: &'static str) -> Setting {
    Setting { secret: true, ..setting(key, env, None, help) }
}

const fn list(key: &'static str, env: &'static str, help: &'static str) -> Setting {
    Setting { list: true, ..setting(key, env, None, help) }
}

const fn number(
    key: &'static str,
    env: &'static str,
    default: Option<&'static str>,
    unit: &'static str,
    help: &'static str,
) -> Setting {
    Setting { unit: Some(unit), ..setting(key, env, default, help) }
}

const MONGO_URI: Setting = secret("mongo_uri", "MONGO_URI", "the server, in the form of mongodump's --uri");

const RECIPIENTS: Setting =
    list("recipients", "BACKUP_RECIPIENTS", "encrypt backups to these public keys of age or SSH");

const TRUSTED_KEYS: Setting =
    list("trusted_keys", "BACKUP_TRUSTED_KEYS", "only backups signed by these public keys of minisign count");

const SMTP_USER: Setting =
    setting("mail.smtp_user", "SMTP_USER", None, "the login at the mail server; else none");

/// All settings, in the order in which `config` prints them.
pub const SETTINGS: &[Setting] = &[
    Setting { default: Some("mongodb://localhost:27017"), ..MONGO_URI },
    secret("restore_uri", "RESTORE_URI", "the server that `restore` writes into; else mongo_uri"),
    secret("drill_uri", "DRILL_URI", "the server for `verify --drill`; else a throw-away mongod"),
    list("databases", "BACKUP_DATABASES", "only these databases"),
    list("include", "BACKUP_INCLUDE", "only namespaces that match one of these patterns"),
    list("exclude", "BACKUP_EXCLUDE", "no namespace that matches one of these patterns"),
    setting("job", "BACKUP_JOB", None, "the name of the job, whose backups share a retention policy"),
    setting("engine", "BACKUP_ENGINE", Some("auto"), "auto, native or mongodump"),
    setting("readers", "BACKUP_READERS", Some("auto"), "cursors that read one collection: auto, or 1 to 16"),
    setting("mongodump_path", "MONGODUMP_PATH", None, "the mongodump to use"),
    setting("mongod_path", "MONGOD_PATH", None, "the mongod that `verify --drill` starts"),
    setting("consistency", "BACKUP_CONSISTENCY", Some("auto"), "auto, oplog, snapshot or none"),
    setting("format", "BACKUP_FORMAT", Some("tar.gz"), "tar.gz, tar.zst, archive.gz or archive.zst"),
    setting(
        "compression_level",
        "BACKUP_COMPRESSION_LEVEL",
        None,
        "gzip 1 to 12, zstd 1 to 19, or auto: follows the line",
    ),
    setting("check_compression", "BACKUP_CHECK_COMPRESSION", Some("false"), "decompress each block again"),
    Setting { lines: true, ..RECIPIENTS },
    setting("identity_file", "BACKUP_IDENTITY_FILE", None, "the secret key that decrypts backups"),
    setting("signing_key_file", "BACKUP_SIGNING_KEY_FILE", None, "the secret key that signs backups"),
    Setting { lines: true, ..TRUSTED_KEYS },
    setting(
        "trusted_before",
        "BACKUP_TRUSTED_BEFORE",
        None,
        "unsigned backups from before this date count, too",
    ),
    number(
        "stall_timeout",
        "BACKUP_STALL_TIMEOUT",
        Some("600"),
        "seconds",
        "seconds without an answer after which MongoDB or mongodump counts as hung",
    ),
    number(
        "patience",
        "BACKUP_PATIENCE",
        Some("600"),
        "seconds",
        "seconds to wait for MongoDB and the store when they are down",
    ),
    setting("dir", "BACKUP_DIR", None, "back up to this directory"),
    number("min_free", "BACKUP_MIN_FREE", Some("10"), "%", "percent of the file system to keep free"),
    number("retention_days", "BACKUP_RETENTION_DAYS", Some("30"), "days", "days that backups are kept"),
    number("keep_min", "BACKUP_KEEP_MIN", Some("3"), "backups", "newest good backups that stay at any age"),
    number("keep_last", "BACKUP_KEEP_LAST", None, "backups", "newest good backups that stay"),
    number("keep_daily", "BACKUP_KEEP_DAILY", None, "days", "days whose newest good backup stays"),
    number("keep_weekly", "BACKUP_KEEP_WEEKLY", None, "weeks", "weeks whose newest good backup stays"),
    number("keep_monthly", "BACKUP_KEEP_MONTHLY", None, "months", "months whose newest good backup stays"),
    number("keep_yearly", "BACKUP_KEEP_YEARLY", None, "years", "years whose newest good backup stays"),
    number("max_age", "BACKUP_MAX_AGE", Some("30"), "hours", "hours after which a good backup is too old"),
    number("drill_max_age", "BACKUP_DRILL_MAX_AGE", None, "days", "days after which a drill is too old"),
    number(
        "keyed_max_age",
        "BACKUP_KEYED_MAX_AGE",
        Some("30"),
        "days",
        "days after which a verify of encrypted backups with the key is too old",
    ),
    number("oplog_days", "BACKUP_OPLOG_DAYS", Some("7"), "days", "days that the stored oplog must cover"),
    number(
        "oplog_max_age",
        "BACKUP_OPLOG_MAX_AGE",
        Some("60"),
        "minutes",
        "minutes after which the end of the stored oplog is too old",
    ),
    number(
        "catch_up",
        "BACKUP_CATCH_UP",
        Some("120"),
        "minutes",
        "minutes after a run in which copies that fell behind are caught up",
    ),
    number(
        "copy_memory",
        "BACKUP_COPY_MEMORY",
        Some("256"),
        "MiB",
        "MiB of memory for data that waits for a slower copy",
    ),
    secret("records", "BACKUP_RECORDS", "the server that records runs, or off; else mongo_uri"),
    setting("state_dir", "UZIMA_BACKUP_STATE_DIR", None, "the folder for locks, mails, unfinished uploads"),
    setting("log_file", "BACKUP_LOG_FILE", None, "the log goes to this file as well"),
    list("notify", "BACKUP_NOTIFY", "the events to mail and to send to the webhook; else all"),
    secret("ping_url", "PING_URL", "a monitor, such as healthchecks.io, that every backup pings"),
    secret("oplog_ping_url", "OPLOG_PING_URL", "a monitor that every run of `oplog` pings when it ends"),
    setting("metrics_file", "METRICS_FILE", None, "metrics for node_exporter's textfile collector"),
    secret("webhook_url", "WEBHOOK_URL", "receives a JSON message about every run"),
    setting("webhook_format", "WEBHOOK_FORMAT", Some("json"), "json, or for a chat: slack, discord or teams"),
    list(
        "hooks.before_backup",
        "BACKUP_BEFORE_HOOK",
        "a program that runs before a backup, and its arguments",
    ),
    list("hooks.after_backup", "BACKUP_AFTER_HOOK", "a program that runs after a backup, and its arguments"),
    number("hooks.timeout", "BACKUP_HOOK_TIMEOUT", Some("600"), "seconds", "seconds that a hook may run"),
    setting(
        "hooks.shell",
        "BACKUP_HOOK_SHELL",
        Some("false"),
        "run the hooks, one text each, with /bin/sh -c",
    ),
    setting("mail.by", "MAIL_BY", None, "resend, smtp or sendmail; else the one that has settings"),
    secret("mail.resend_api_key", "RESEND_API_KEY", "the key of resend.com, which sends the mails"),
    list("mail.to", "ADMIN_EMAILS", "the recipients of mails"),
    setting("mail.from", "EMAIL_FROM", None, "the sender; else uzima-backup@ the first recipient's domain"),
    setting(
        "mail.dead_man",
        "MAIL_DEAD_MAN",
        Some("false"),
        "Resend keeps a mail and sends it if backups stop",
    ),
    setting("mail.base_url", "RESEND_BASE_URL", Some("https://api.resend.com"), "the service of Resend"),
    setting("mail.smtp_host", "SMTP_HOST", None, "the mail server"),
    setting("mail.smtp_port", "SMTP_PORT", None, "its port; else 587 (starttls), 465 (tls) or 25 (none)"),
    setting(
        "mail.smtp_security",
        "SMTP_SECURITY",
        None,
        "starttls, tls or none; else tls on port 465, or starttls",
    ),
    Setting { lines: true, ..SMTP_USER },
    secret("mail.smtp_password", "SMTP_PASSWORD", "the password at the mail server"),
    setting(
        "mail.smtp_ca_file",
        "SMTP_CA_FILE",
        None,
        "the mail server's CA certificates; else this machine's",
    ),
    setting(
        "mail.sendmail_path",
        "SENDMAIL_PATH",
        Some("/usr/sbin/sendmail"),
        "the program that takes the mails",
    ),
    setting("s3.bucket", "S3_BACKUP_BUCKET", None, "back up to this bucket"),
    setting("s3.prefix", "S3_BACKUP_PREFIX", Some("daily-backups/"), "the prefix of all keys in the bucket"),
    setting("s3.region", "AWS_REGION", None, "the bucket's region"),
    setting("s3.endpoint_url", "S3_ENDPOINT_URL", None, "an S3-compatible service"),
    setting("s3.force_path_style", "S3_FORCE_PATH_STYLE", None, "bucket in the path; on with an endpoint"),
    setting("s3.access_key_id", "AWS_ACCESS_KEY_ID", None, "else the AWS default chain"),
    secret("s3.secret_access_key", "AWS_SECRET_ACCESS_KEY", "else the AWS default chain"),
    secret("s3.session_token", "AWS_SESSION_TOKEN", "the token of temporary keys"),
    setting("s3.ca_bundle", "AWS_CA_BUNDLE", None, "CA certificates; else SSL_CERT_FILE or the machine's"),
    setting("s3.storage_class", "S3_STORAGE_CLASS", None, "the artifacts' storage class, e.g. STANDARD_IA"),
    setting("s3.sse", "S3_SSE", None, "server-side encryption: AES256 or aws:kms"),
    setting("s3.sse_kms_key_id", "S3_SSE_KMS_KEY_ID", None, "the KMS key; else the account's default key"),
    setting("s3.versioned", "S3_VERSIONED", Some("false"), "old versions of deleted objects are expected"),
    number("s3.object_lock_days", "S3_OBJECT_LOCK_DAYS", None, "days", "days for which backups are locked"),
    setting("s3.checksum", "S3_CHECKSUM", Some("crc64nvme"), "crc64nvme, crc32c or none"),
    number("s3.upload_concurrency", "S3_UPLOAD_CONCURRENCY", Some("4"), "parts", "parts sent at once"),
    setting("s3.bandwidth", "S3_BANDWIDTH", None, "the most bytes sent per second: 500000, 2 MB or 4 MiB"),
];

/// A setting of a table `[[copies]]`, a further place for the same backups. The copy with the name [`COPY`] can also be set by
/// variables.
#[derive(Debug)]
pub struct CopySetting {
    /// The key in the table.
    pub key: &'static str,
    /// The key of the setting with the same meaning for the first place.
    pub like: &'static str,
    /// The variable of the copy [`COPY`], if there is one.
    pub env: Option<&'static str>,
}

/// The name of the first place, which no copy may have.
pub const FIRST: &str = "first";

/// The name of the copy that variables set.
pub const COPY: &str = "copy";

const fn of_copy(key: &'static str, like: &'static str) -> CopySetting {
    CopySetting { key, like, env: None }
}

const fn env_of_copy(key: &'static str, like: &'static str, env: &'static str) -> CopySetting {
    CopySetting { key, like, env: Some(env) }
}

/// All settings of a copy but its name, in the order in which `config` prints them.
pub const COPY_SETTINGS: &[CopySetting] = &[
    env_of_copy("dir", "dir", "COPY_DIR"),
    of_copy("min_free", "min_free"),
    env_of_copy("bucket", "s3.bucket", "COPY_S3_BUCKET"),
    env_of_copy("prefix", "s3.prefix", "COPY_S3_PREFIX"),
    env_of_copy("region", "s3.region", "COPY_AWS_REGION"),
    env_of_copy("endpoint_url", "s3.endpoint_url", "COPY_S3_ENDPOINT_URL"),
    of_copy("force_path_style", "s3.force_path_style"),
    env_of_copy("access_key_id", "s3.access_key_id", "COPY_AWS_ACCESS_KEY_ID"),
    env_of_copy("secret_access_key", "s3.secret_access_key", "COPY_AWS_SECRET_ACCESS_KEY"),
    of_copy("session_token", "s3.session_token"),
    of_copy("ca_bundle", "s3.ca_bundle"),
    of_copy("storage_class", "s3.storage_class"),
    of_copy("sse", "s3.sse"),
    of_copy("sse_kms_key_id", "s3.sse_kms_key_id"),
    of_copy("versioned", "s3.versioned"),
    of_copy("object_lock_days", "s3.object_lock_days"),
    of_copy("checksum", "s3.checksum"),
    of_copy("upload_concurrency", "s3.upload_concurrency"),
    of_copy("bandwidth", "s3.bandwidth"),
    env_of_copy("retention_days", "retention_days", "COPY_RETENTION_DAYS"),
    of_copy("keep_min", "keep_min"),
    of_copy("keep_last", "keep_last"),
    of_copy("keep_daily", "keep_daily"),
    of_copy("keep_weekly", "keep_weekly"),
    of_copy("keep_monthly", "keep_monthly"),
    of_copy("keep_yearly", "keep_yearly"),
    of_copy("oplog_days", "oplog_days"),
    of_copy("max_age", "max_age"),
    of_copy("catch_up", "catch_up"),
];

impl CopySetting {
    /// The setting with the same meaning for the first place.
    ///
    /// # Panics
    /// Panics if the tables do not fit together, which a test shows.
    pub fn setting(&self) -> &'static Setting {
        by_key(self.like).expect("each setting of a copy has one of the first place")
    }

    /// The variable that names a file with the value; `None` if there is none.
    pub fn file_variable(&self) -> Option<String> {
        self.env.filter(|_| self.setting().secret).map(|env| format!("{env}_FILE"))
    }
}

/// The setting of a copy with the meaning of `key` for the first place.
pub fn copy_setting_like(key: &str) -> Option<&'static CopySetting> {
    COPY_SETTINGS.iter().find(|setting| setting.like == key)
}

pub fn by_key(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_a_copy_has_one_of_the_first_place() {
        for setting in COPY_SETTINGS {
            assert!(!setting.setting().list, "{}", setting.key);
        }
    }

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
