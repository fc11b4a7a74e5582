//! The merged settings, understood: what each command needs, or an error that names the setting.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::layers::{Layers, Origin};
use super::uri;
use crate::artifact::format::Format;
use crate::error::{Error, Result};
use crate::ops::backup::EngineChoice;
use crate::retention::Policy;
use crate::secret::{Redactor, Secret, hide_login};
use crate::source::pattern::Pattern;
use crate::source::selection::{RECORDS_DB, Selection};
use crate::store::dir::DirOptions;
use crate::store::s3::{ChecksumMode, S3Options, Sse};

/// Where backups are kept.
#[derive(Debug, Clone)]
pub enum Place {
    /// A bucket.
    S3(Box<S3Options>),
    /// A directory.
    Dir(DirOptions),
}

/// Everything a backup needs.
#[derive(Debug)]
pub struct Settings {
    /// The server.
    pub mongo_uri: Secret,
    /// What is read of it.
    pub selection: Selection,
    /// The job.
    pub job: String,
    /// What reads.
    pub engine: EngineChoice,
    /// Where mongodump is.
    pub mongodump_path: Option<PathBuf>,
    /// The artifact's format.
    pub format: Format,
    /// Whether blocks are decompressed again.
    pub check_compression: bool,
    /// When a silent source hangs.
    pub stall: Duration,
    /// How many parts are sent at once.
    pub uploads: usize,
    /// How long backups are kept.
    pub retention: Policy,
    /// The newest good backup is too old when it is older.
    pub max_age: Duration,
}

impl Settings {
    /// Understands the settings. `machine` is this machine's name, for the job of a local server.
    pub fn resolve(layers: &Layers, machine: &str) -> Result<Settings> {
        let uri_text = layers.text("mongo_uri").expect("it has a default");
        let facts = uri::check(uri_text)?;
        let selection = selection(layers, facts.database)?;
        let host = if uri::is_loopback(&facts.host) { machine } else { &facts.host };
        let job = match layers.text("job") {
            Some(job) => check_job(job).map_err(|why| layers.wrong("job", &why))?,
            None => format!("{}@{host}", selection.label()),
        };
        // Where it is looked for is not decided here, but a mistake in it is told like any other.
        absolute(layers, "state_dir")?;
        let stall = number::<u32>(layers, "stall_timeout", 1)?.expect("it has a default");
        Ok(Settings {
            mongo_uri: Secret::from(uri_text.to_string()),
            selection,
            job,
            engine: layers.parsed("engine", EngineChoice::from_str)?.expect("it has a default"),
            mongodump_path: absolute(layers, "mongodump_path")?,
            format: format(layers)?,
            check_compression: boolean(layers, "check_compression")?.expect("it has a default"),
            stall: Duration::from_secs(stall.into()),
            uploads: number(layers, "s3.upload_concurrency", 1)?.expect("it has a default"),
            retention: retention(layers)?,
            max_age: max_age(layers)?,
        })
    }
}

/// Where backups are kept, for every command that needs a store.
pub fn place(layers: &Layers) -> Result<Place> {
    let s3_set: Vec<&str> = [
        "s3.endpoint_url",
        "s3.prefix",
        "s3.force_path_style",
        "s3.storage_class",
        "s3.sse",
        "s3.sse_kms_key_id",
    ]
    .into_iter()
    .filter(|key| layers.is_set(key))
    .collect();
    let by_flag = layers.origin("dir") == Some(&Origin::Flag);
    match (layers.text("s3.bucket"), layers.text("dir")) {
        (Some(_), Some(_)) if !by_flag => Err(Error::usage(
            "both a bucket (S3_BACKUP_BUCKET) and a directory (BACKUP_DIR) are set",
        )
        .hint("Set one of them; a backup goes to one place")),
        (Some(bucket), None) => s3(layers, bucket).map(|options| Place::S3(Box::new(options))),
        (None, _) if !s3_set.is_empty() && !by_flag => Err(Error::usage(format!(
            "{} is set, but no bucket: S3_BACKUP_BUCKET is missing",
            s3_set.join(", ")
        ))
        .hint("Set S3_BACKUP_BUCKET (s3.bucket), or unset the other S3 settings")),
        (_, Some(dir)) => dir_place(layers, dir).map(Place::Dir),
        (None, None) => Err(Error::usage("there is nowhere to put backups: neither S3_BACKUP_BUCKET nor BACKUP_DIR is set")
            .hint("Set S3_BACKUP_BUCKET (s3.bucket) or BACKUP_DIR (dir); under cron, the shell's variables are not there")),
    }
}

/// The server that is restored into.
pub fn target(layers: &Layers) -> Result<Secret> {
    let own = layers.text("restore_uri");
    let uri = own.or(layers.text("mongo_uri")).expect("it has a default");
    if layers.origin("restore_uri") == Some(&Origin::Flag) && hide_login(uri) != uri {
        return Err(Error::usage("--to-uri holds a password, which everybody on this machine can see").hint(
            "Give the connection string in the environment: RESTORE_URI, or RESTORE_URI_FILE for a file",
        ));
    }
    uri::check_named(if own.is_some() { "restore_uri" } else { "mongo_uri" }, uri)?;
    Ok(Secret::from(uri.to_string()))
}

/// Knows the secrets among the settings.
pub fn redactor(layers: &Layers) -> Redactor {
    let set = |keys: &[&'static str]| keys.iter().filter_map(|key| layers.text(key)).collect::<Vec<_>>();
    let uris = set(&["mongo_uri", "restore_uri", "records"]);
    Redactor::new(&uris, &set(&["s3.secret_access_key", "mail.resend_api_key"]))
}

fn selection(layers: &Layers, in_uri: Option<String>) -> Result<Selection> {
    let patterns = |key: &'static str| -> Result<Vec<Pattern>> {
        layers.list(key).iter().map(|p| p.parse().map_err(|e: String| layers.wrong(key, &e))).collect()
    };
    let mut databases = layers.list("databases").to_vec();
    if databases.is_empty() {
        databases.extend(in_uri);
    }
    for db in &databases {
        if db.is_empty() || db.contains(['/', '\\', '.', '"', ' ', '$', '\0']) {
            return Err(layers.wrong("databases", &format!("'{db}' cannot be a database's name")));
        }
        if db == RECORDS_DB || db == "local" {
            return Err(layers.wrong("databases", &format!("the database '{db}' is never part of a backup")));
        }
    }
    Ok(Selection { databases, include: patterns("include")?, exclude: patterns("exclude")? })
}

fn check_job(job: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    if job.is_empty() || job.len() > 128 || !job.chars().all(fits) {
        return Err("a job's name has 1 to 128 of the characters A-Z a-z 0-9 . _ @ + -".into());
    }
    Ok(job.to_string())
}

fn retention(layers: &Layers) -> Result<Policy> {
    let keep = |key| number(layers, key, 1).map(Option::unwrap_or_default);
    Ok(Policy {
        days: number(layers, "retention_days", 1)?.expect("it has a default"),
        min: keep("keep_min")?,
        last: keep("keep_last")?,
        daily: keep("keep_daily")?,
        weekly: keep("keep_weekly")?,
        monthly: keep("keep_monthly")?,
        yearly: keep("keep_yearly")?,
    })
}

/// When the newest good backup is too old.
pub fn max_age(layers: &Layers) -> Result<Duration> {
    let hours: u32 = number(layers, "max_age", 1)?.expect("it has a default");
    Ok(Duration::from_secs(u64::from(hours) * 3600))
}

fn format(layers: &Layers) -> Result<Format> {
    let format = layers.parsed("format", Format::from_str)?.expect("it has a default");
    let Some(level) = layers.parsed("compression_level", i32::from_str)? else { return Ok(format) };
    format.at_level(level).ok_or_else(|| {
        let levels = format.codec.levels();
        layers.wrong(
            "compression_level",
            &format!("{format} has the levels {} to {}", levels.start(), levels.end()),
        )
    })
}

fn s3(layers: &Layers, bucket: &str) -> Result<S3Options> {
    let prefix = layers.text("s3.prefix").expect("it has a default");
    if prefix.trim_matches('/').is_empty() {
        return Err(
            layers.wrong("s3.prefix", "the prefix must not be empty: the bucket may hold other things")
        );
    }
    let mut options = S3Options::new(bucket, prefix.trim_start_matches('/'));
    let text = |key| layers.text(key).map(str::to_string);
    options.region = text("s3.region");
    options.endpoint_url = layers.parsed("s3.endpoint_url", |url| {
        if url.starts_with("http://") || url.starts_with("https://") {
            Ok(url.to_string())
        } else {
            Err("an endpoint begins with https:// or http://")
        }
    })?;
    options.force_path_style = boolean(layers, "s3.force_path_style")?;
    options.storage_class = text("s3.storage_class");
    options.sse = match (text("s3.sse").as_deref(), text("s3.sse_kms_key_id")) {
        (None, None) => None,
        (Some("AES256"), None) => Some(Sse::Aes256),
        (Some("aws:kms") | None, Some(key)) => Some(Sse::Kms(key)),
        (Some("aws:kms"), None) => return Err(layers.wrong("s3.sse", "S3_SSE_KMS_KEY_ID is missing")),
        (Some("AES256"), Some(_)) => {
            return Err(layers.wrong("s3.sse_kms_key_id", "it goes with S3_SSE = aws:kms"));
        }
        (Some(_), _) => return Err(layers.wrong("s3.sse", "it is AES256 or aws:kms")),
    };
    options.checksum = layers
        .parsed("s3.checksum", |mode| match mode {
            "crc64nvme" => Ok(ChecksumMode::Crc64Nvme),
            "crc32c" => Ok(ChecksumMode::Crc32c),
            "none" => Ok(ChecksumMode::None),
            _ => Err("it is crc64nvme, crc32c or none"),
        })?
        .expect("it has a default");
    options.credentials = match (text("s3.access_key_id"), text("s3.secret_access_key")) {
        (Some(id), Some(secret)) => {
            // From the environment alone they are left to the SDK, which knows session tokens too.
            let plain = Origin::Environment("AWS_SECRET_ACCESS_KEY".into());
            (layers.origin("s3.secret_access_key") != Some(&plain)).then(|| (id, Secret::from(secret)))
        }
        (None, None) => None,
        (Some(_), None) => return Err(layers.wrong("s3.access_key_id", "AWS_SECRET_ACCESS_KEY is missing")),
        (None, Some(_)) => return Err(layers.wrong("s3.secret_access_key", "AWS_ACCESS_KEY_ID is missing")),
    };
    Ok(options)
}

fn dir_place(layers: &Layers, dir: &str) -> Result<DirOptions> {
    let mut options = DirOptions::new(dir);
    if !options.root.is_absolute() && layers.origin("dir") != Some(&Origin::Flag) {
        return Err(layers.wrong("dir", "it must be an absolute path: cron starts in another directory"));
    }
    let percent = number::<u8>(layers, "min_free", 0)?.expect("it has a default");
    if percent > 99 {
        return Err(layers.wrong("min_free", "it is a percentage from 0 to 99"));
    }
    options.min_free = f64::from(percent) / 100.0;
    Ok(options)
}

/// A path that means the same wherever cron starts.
fn absolute(layers: &Layers, key: &'static str) -> Result<Option<PathBuf>> {
    layers.parsed(key, |text| match PathBuf::from(text) {
        path if path.is_absolute() => Ok(path),
        _ => Err("it must be an absolute path: cron starts in another directory"),
    })
}

fn boolean(layers: &Layers, key: &'static str) -> Result<Option<bool>> {
    layers.parsed(key, |text| match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("it is true or false"),
    })
}

fn number<T: FromStr + PartialOrd + std::fmt::Display>(
    layers: &Layers,
    key: &'static str,
    least: T,
) -> Result<Option<T>> {
    layers.parsed(key, |text| match text.parse::<T>() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("it is a whole number, at least {least}")),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::config::layers::Raw;

    fn layers(env: &[(&str, &str)]) -> Layers {
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Layers::load(BTreeMap::new(), &|name| env.get(name).map(|v| v.into()), Some(Path::new("/dev/null")))
            .unwrap()
    }

    fn settings(env: &[(&str, &str)]) -> Result<Settings> {
        Settings::resolve(&layers(env), "machine")
    }

    #[test]
    fn jobs_are_named_after_what_and_where() {
        for (env, want) in [
            (vec![], "all@machine"),
            (vec![("MONGO_URI", "mongodb://u:p@db1/admin")], "all@db1"),
            (vec![("MONGO_URI", "mongodb://u:p@db1/shop")], "shop@db1"),
            (vec![("MONGO_URI", "mongodb://db1/shop"), ("BACKUP_DATABASES", "a, b")], "a+b@db1"),
            (vec![("BACKUP_JOB", "nightly")], "nightly"),
        ] {
            assert_eq!(settings(&env).unwrap().job, want);
        }
    }

    #[test]
    fn a_wrong_value_is_named_with_its_origin() {
        for (name, value, word) in [
            ("BACKUP_FORMAT", "zip", "archive.zst"),
            ("BACKUP_ENGINE", "mongo", "native"),
            ("BACKUP_COMPRESSION_LEVEL", "13", "1 to 12"),
            ("BACKUP_COMPRESSION_LEVEL", "x", "compression_level"),
            ("BACKUP_RETENTION_DAYS", "0", "at least 1"),
            ("BACKUP_RETENTION_DAYS", "-1", "at least 1"),
            ("BACKUP_KEEP_MIN", "0", "at least 1"),
            ("BACKUP_KEEP_DAILY", "0", "at least 1"),
            ("BACKUP_JOB", "a/b", "characters"),
            ("BACKUP_DATABASES", "a.b", "a.b"),
            ("BACKUP_DATABASES", "local", "never part"),
            ("BACKUP_INCLUDE", "a.$b", "'$'"),
            ("BACKUP_CHECK_COMPRESSION", "maybe", "true or false"),
            ("BACKUP_STALL_TIMEOUT", "0", "at least 1"),
        ] {
            let error = settings(&[(name, value)]).unwrap_err();
            assert!(error.to_string().contains(word), "{name}={value}: {error}");
            assert!(error.to_string().contains(name), "{name}={value}: {error}");
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
        }
    }

    #[test]
    fn there_is_one_place() {
        for (env, word) in [
            (vec![], "S3_BACKUP_BUCKET"),
            (vec![("S3_ENDPOINT_URL", "http://x")], "S3_BACKUP_BUCKET"),
            (vec![("BACKUP_DIR", "/b"), ("S3_ENDPOINT_URL", "http://x")], "S3_BACKUP_BUCKET"),
            (vec![("BACKUP_DIR", "/b"), ("S3_BACKUP_BUCKET", "b")], "one place"),
            (vec![("BACKUP_DIR", "b")], "absolute"),
            (vec![("BACKUP_DIR", "/b"), ("BACKUP_MIN_FREE", "100")], "0 to 99"),
            (vec![("S3_BACKUP_BUCKET", "b"), ("S3_BACKUP_PREFIX", "/")], "empty"),
            (vec![("S3_BACKUP_BUCKET", "b"), ("S3_ENDPOINT_URL", "host:9000")], "https://"),
            (vec![("S3_BACKUP_BUCKET", "b"), ("S3_SSE", "kms")], "AES256"),
            (vec![("S3_BACKUP_BUCKET", "b"), ("S3_SSE", "aws:kms")], "S3_SSE_KMS_KEY_ID"),
            (vec![("S3_BACKUP_BUCKET", "b"), ("S3_CHECKSUM", "md5")], "crc32c"),
            (vec![("S3_BACKUP_BUCKET", "b"), ("AWS_ACCESS_KEY_ID", "x")], "AWS_SECRET_ACCESS_KEY"),
        ] {
            let error = place(&layers(&env)).unwrap_err();
            let words = format!("{error} {}", error.next_step().unwrap_or_default());
            assert!(words.contains(word), "{env:?}: {words}");
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
        }
        assert!(matches!(place(&layers(&[("BACKUP_DIR", "/b")])).unwrap(), Place::Dir(_)));
        assert!(matches!(place(&layers(&[("S3_BACKUP_BUCKET", "b")])).unwrap(), Place::S3(_)));
    }

    #[test]
    fn a_flag_for_the_directory_beats_a_bucket() {
        let flags = [("dir", Raw::Text("here".into()))].into_iter().collect();
        let env = |name: &str| (name == "S3_BACKUP_BUCKET").then(|| "b".into());
        let layers = Layers::load(flags, &env, Some(Path::new("/dev/null"))).unwrap();
        assert!(matches!(place(&layers).unwrap(), Place::Dir(_)));
    }
}
