//! The merged settings, understood: what each command needs, or an error that names the setting.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::layers::{Layers, Origin};
use super::records::RecordsAt;
use super::uri;
use super::values::{absolute, boolean, number};
use crate::artifact::format::Format;
use crate::error::{Error, Result};
use crate::ops::backup::{ConsistencyChoice, EngineChoice};
use crate::retention::Policy;
use crate::secret::{Redactor, Secret, hide_login, secret_parts};
use crate::source::pattern::Pattern;
use crate::source::selection::{RECORDS_DB, Selection};

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
    /// To what instant it shall belong.
    pub consistency: ConsistencyChoice,
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
    /// The newest drill is too old when it is older.
    pub drill_max_age: Option<Duration>,
    /// Where runs are recorded.
    pub records: RecordsAt,
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
            consistency: layers.parsed("consistency", FromStr::from_str)?.expect("it has a default"),
            mongodump_path: absolute(layers, "mongodump_path")?,
            format: format(layers)?,
            check_compression: boolean(layers, "check_compression")?.expect("it has a default"),
            stall: Duration::from_secs(stall.into()),
            uploads: number(layers, "s3.upload_concurrency", 1)?.expect("it has a default"),
            retention: retention(layers)?,
            max_age: max_age(layers)?,
            drill_max_age: drill_max_age(layers)?,
            records: RecordsAt::resolve(layers)?,
        })
    }
}

/// The server that is restored into.
pub fn target(layers: &Layers) -> Result<Secret> {
    let own = uri_of(layers, "restore_uri", "RESTORE_URI")?;
    match own {
        Some(uri) => Ok(uri),
        None => {
            let uri = layers.text("mongo_uri").expect("it has a default");
            uri::check(uri)?;
            Ok(Secret::from(uri.to_string()))
        }
    }
}

/// The server that a drill restores into, under names of its own. Never another setting's.
pub fn drill_uri(layers: &Layers) -> Result<Option<Secret>> {
    uri_of(layers, "drill_uri", "DRILL_URI")
}

/// The connection string of a setting that `--to-uri` sets as well: there without a password.
fn uri_of(layers: &Layers, key: &'static str, env: &str) -> Result<Option<Secret>> {
    let Some(uri) = layers.text(key) else { return Ok(None) };
    if layers.origin(key) == Some(&Origin::Flag) && hide_login(uri) != uri {
        return Err(Error::usage("--to-uri holds a password, which everybody on this machine can see").hint(
            format!("Give the connection string in the environment: {env}, or {env}_FILE for a file"),
        ));
    }
    uri::check_named(key, uri)?;
    Ok(Some(Secret::from(uri.to_string())))
}

/// Knows the secrets among the settings.
pub fn redactor(layers: &Layers) -> Redactor {
    let set = |keys: &[&'static str]| keys.iter().filter_map(|key| layers.text(key)).collect::<Vec<_>>();
    let addresses = set(&["ping_url", "webhook_url"]);
    let uris = [set(&["mongo_uri", "restore_uri", "drill_uri", "records"]), addresses.clone()].concat();
    let mut words = set(&["s3.secret_access_key", "mail.resend_api_key"]);
    words.extend(addresses.into_iter().flat_map(secret_parts));
    Redactor::new(&uris, &words)
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

/// The file that the log goes to as well.
pub fn log_file(layers: &Layers) -> Result<Option<PathBuf>> {
    match layers.origin("log_file") {
        Some(Origin::Flag) => Ok(layers.text("log_file").map(PathBuf::from)),
        _ => absolute(layers, "log_file"),
    }
}

/// When the newest good backup is too old.
pub fn max_age(layers: &Layers) -> Result<Duration> {
    let hours: u32 = number(layers, "max_age", 1)?.expect("it has a default");
    Ok(Duration::from_secs(u64::from(hours) * 3600))
}

/// When the newest drill is too old; `None`: never.
pub fn drill_max_age(layers: &Layers) -> Result<Option<Duration>> {
    let days: Option<u32> = number(layers, "drill_max_age", 1)?;
    Ok(days.map(|days| Duration::from_secs(u64::from(days) * 86_400)))
}

/// The mongod that a drill starts.
pub fn mongod_path(layers: &Layers) -> Result<Option<PathBuf>> {
    absolute(layers, "mongod_path")
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

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
            ("BACKUP_CONSISTENCY", "yes", "snapshot"),
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
}
