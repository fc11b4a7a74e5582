//! The settings of a job, of restores and of drills.

use super::RestoreUri;
use super::layers::Layers;
use super::machine::Machine;
use super::table::{Origin, Raw};
use super::uri::{self, MongoUri};
use crate::base::error::{Error, Result};
use crate::base::retry::Patience;
use crate::base::secret::{Redactor, Secret, hide_login, secret_parts};
use crate::config::choices::Policy;
use crate::config::choices::{ConsistencyChoice, EngineChoice, Format};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::config::selection::{Pattern, RECORDS_DB, Selection};

/// The settings of a job: what is backed up and how, where runs are recorded, and how long backups are kept.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// The connection string of the server.
    pub mongo_uri: Secret,
    /// The namespaces that are part of the backup.
    pub selection: Selection,
    /// The name of the job.
    pub job: String,
    /// The engine that reads the server.
    pub engine: EngineChoice,
    /// The consistency that a backup must have.
    pub consistency: ConsistencyChoice,
    /// The path of mongodump; `None`: it is looked for in `search_path` and the usual folders.
    pub mongodump_path: Option<PathBuf>,
    /// The value of `PATH`.
    pub search_path: Option<String>,
    /// The artifact's format and compression level.
    pub format: Format,
    /// Each compressed block is decompressed and compared.
    pub check_compression: bool,
    /// A read that brings nothing for this long has failed.
    pub stall: Duration,
    /// How long MongoDB is waited for when it is down.
    pub patience: Patience,
    /// How many parts are uploaded at once.
    pub uploads: usize,
    /// How many threads compress.
    pub compressors: usize,
    /// The directory that remembers uploads under way, locks and sent mails.
    pub state_dir: Option<PathBuf>,
    /// The name of this machine.
    pub host: String,
    /// How long backups are kept.
    pub retention: Policy,
    /// `health` fails if the newest good backup is older.
    pub max_age: Duration,
    /// `health` fails if the newest drill is older; `None`: drills are not expected.
    pub drill_max_age: Option<Duration>,
    /// The server where runs are recorded.
    pub records: RecordsAt,
}

impl JobSettings {
    /// The settings of a job for callers without environment and configuration file: every other setting has its default.
    ///
    /// # Errors
    /// Returns an error if the connection string or the name of the job is not valid.
    pub fn with_defaults(mongo_uri: &str, job: &str, machine: &Machine) -> Result<JobSettings> {
        let flags = [("mongo_uri", mongo_uri), ("job", job)].map(|(key, text)| (key, Raw::Text(text.into())));
        let layers = Layers::load(flags.into(), &|_| None, Some(Path::new("/dev/null")))?;
        JobSettings::resolve(&layers, machine, false)
    }

    /// Resolves the settings. `to_dir`: backups go to a directory.
    pub(super) fn resolve(layers: &Layers, machine: &Machine, to_dir: bool) -> Result<JobSettings> {
        let uri_text = layers.text("mongo_uri").expect("it has a default");
        let facts = uri::check(uri_text)?;
        let selection = selection(layers, facts.database)?;
        let host = if uri::is_loopback(&facts.host) { &machine.host } else { &facts.host };
        let job = match layers.text("job") {
            Some(job) => check_job(job).map_err(|why| layers.wrong("job", &why))?,
            None => format!("{}@{host}", selection.label()),
        };
        let state_dir = layers.absolute("state_dir")?;
        let stall = layers.number::<u32>("stall_timeout", 1)?.expect("it has a default");
        let uploads = layers.number("s3.upload_concurrency", 1)?.expect("it has a default");
        Ok(JobSettings {
            mongo_uri: Secret::from(uri_text.to_string()),
            selection,
            job,
            engine: layers.parsed("engine", EngineChoice::from_str)?.expect("it has a default"),
            consistency: layers.parsed("consistency", FromStr::from_str)?.expect("it has a default"),
            mongodump_path: layers.absolute("mongodump_path")?,
            search_path: machine.search_path.clone(),
            format: format(layers)?,
            check_compression: layers.boolean("check_compression")?.expect("it has a default"),
            stall: Duration::from_secs(stall.into()),
            patience: patience(layers)?,
            // A disk gains nothing from several writers, and each part under way takes memory.
            uploads: if to_dir { 1 } else { uploads },
            compressors: machine.cores,
            state_dir: state_dir.or_else(|| machine.state_dir.clone()),
            host: machine.host.clone(),
            retention: retention(layers)?,
            max_age: max_age(layers)?,
            drill_max_age: drill_max_age(layers)?,
            records: RecordsAt::resolve(layers)?,
        })
    }
}

/// Resolves the server that a restore writes into: `restore_uri`, else the server that is backed up.
pub(super) fn target(layers: &Layers) -> Result<RestoreUri> {
    let own = uri_of(layers, "restore_uri", "RESTORE_URI")?;
    match own {
        Some(uri) => Ok(RestoreUri { uri, is_source: false }),
        None => {
            let uri = layers.text("mongo_uri").expect("it has a default");
            uri::check(uri)?;
            Ok(RestoreUri { uri: Secret::from(uri.to_string()), is_source: true })
        }
    }
}

/// Resolves the server that a drill may restore into. No other setting takes its place.
pub(super) fn drill_uri(layers: &Layers) -> Result<Option<Secret>> {
    uri_of(layers, "drill_uri", "DRILL_URI")
}

/// Warnings about ignored options of connection strings, each with its setting. An invalid connection string has no
/// warnings; it is an error where it is used.
pub(super) fn uri_warnings(layers: &Layers) -> Vec<String> {
    let mut seen = Vec::new();
    let mut warnings = Vec::new();
    for key in ["mongo_uri", "restore_uri", "drill_uri", "records"] {
        let Some(uri) = layers.text(key).filter(|uri| !seen.contains(uri)) else { continue };
        seen.push(uri);
        let found = MongoUri::read(uri).map(|uri| uri.warnings()).unwrap_or_default();
        warnings.extend(found.into_iter().map(|warning| format!("{key}: {warning}")));
    }
    warnings
}

/// Resolves a connection string that `--to-uri` may set, but then without a password.
fn uri_of(layers: &Layers, key: &'static str, env: &str) -> Result<Option<Secret>> {
    let Some(uri) = layers.text(key) else { return Ok(None) };
    unseen(layers, key, "--to-uri", env)?;
    uri::check_named(key, uri)?;
    Ok(Some(Secret::from(uri.to_string())))
}

/// Checks that a connection string with a password does not come from a flag.
///
/// # Errors
/// Returns an error if it does.
pub(super) fn unseen(layers: &Layers, key: &'static str, flag: &str, variable: &str) -> Result<()> {
    let uri = layers.text(key).unwrap_or_default();
    if layers.origin(key) == Some(&Origin::Flag) && hide_login(uri) != uri {
        return Err(Error::usage(format!(
            "{flag} holds a password, which everybody on this machine can see"
        ))
        .hint(format!(
            "Give the connection string in the environment: {variable}, or {variable}_FILE for a file"
        )));
    }
    Ok(())
}

/// Collects the secrets of the settings.
pub(super) fn redactor(layers: &Layers) -> Redactor {
    let set = |keys: &[&'static str]| keys.iter().filter_map(|key| layers.text(key)).collect::<Vec<_>>();
    let addresses = set(&["ping_url", "webhook_url"]);
    let uris = [set(&["mongo_uri", "restore_uri", "drill_uri", "records"]), addresses.clone()].concat();
    let mut words = set(&["s3.secret_access_key", "s3.session_token", "mail.resend_api_key"]);
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
    let keep = |key| layers.number(key, 1).map(Option::unwrap_or_default);
    Ok(Policy {
        days: layers
            .number("retention_days", 1)
            .map_err(|e| {
                let step = e.next_step().unwrap_or_default().to_string();
                e.hint(format!("{step}. To keep every backup, start no `cleanup`"))
            })?
            .expect("it has a default"),
        min: keep("keep_min")?,
        last: keep("keep_last")?,
        daily: keep("keep_daily")?,
        weekly: keep("keep_weekly")?,
        monthly: keep("keep_monthly")?,
        yearly: keep("keep_yearly")?,
    })
}

/// Resolves the log file.
pub(super) fn log_file(layers: &Layers) -> Result<Option<PathBuf>> {
    match layers.origin("log_file") {
        Some(Origin::Flag) => Ok(layers.text("log_file").map(PathBuf::from)),
        _ => layers.absolute("log_file"),
    }
}

/// Resolves the time for which MongoDB and the store are waited for when they are down.
pub(super) fn patience(layers: &Layers) -> Result<Patience> {
    let seconds: u32 = layers.number("patience", 1)?.expect("it has a default");
    Ok(Patience::new(Duration::from_secs(seconds.into())))
}

/// Resolves the age at which the newest good backup is too old.
pub(super) fn max_age(layers: &Layers) -> Result<Duration> {
    let hours: u32 = layers.number("max_age", 1)?.expect("it has a default");
    Ok(Duration::from_secs(u64::from(hours) * 3600))
}

/// Resolves the age at which the newest drill is too old; `None`: drills are not expected.
fn drill_max_age(layers: &Layers) -> Result<Option<Duration>> {
    let days: Option<u32> = layers.number("drill_max_age", 1)?;
    Ok(days.map(|days| Duration::from_secs(u64::from(days) * 86_400)))
}

/// Resolves the path of the mongod that a drill starts.
pub(super) fn mongod_path(layers: &Layers) -> Result<Option<PathBuf>> {
    layers.absolute("mongod_path")
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

/// The place where runs are recorded.
#[derive(Debug, Clone)]
pub enum RecordsAt {
    /// Runs are not recorded.
    Off,
    /// The server with this connection string.
    Server(Secret),
}

impl RecordsAt {
    /// Resolves the setting `records`. Its default is the server that is backed up.
    pub(super) fn resolve(layers: &Layers) -> Result<RecordsAt> {
        match layers.text("records").map(str::trim) {
            Some("off") => Ok(RecordsAt::Off),
            Some(text) => {
                // The errors of this check name options, but never values.
                uri::read_named("records (BACKUP_RECORDS)", text)?;
                uri::check(text).map_err(|_| {
                    // The driver's error may quote the value, which may contain a password.
                    let why = "neither off nor a valid connection string; BACKUP_RECORDS looks like \
                               mongodb://user:password@host:27017/, and the characters @ : / % $ of a password \
                               are percent-encoded";
                    layers.wrong("records", why)
                })?;
                Ok(RecordsAt::Server(Secret::from(text.to_string())))
            }
            None => {
                let text = layers.text("mongo_uri").expect("it has a default");
                uri::check(text)?;
                Ok(RecordsAt::Server(Secret::from(text.to_string())))
            }
        }
    }
}

#[cfg(test)]
mod records_tests {
    use super::*;
    use crate::base::exit::Exit;
    use crate::base::secret::ExposeSecret;

    fn resolve(env: &[(&str, &str)]) -> Result<RecordsAt> {
        let env = |name: &str| match name {
            "UZIMA_BACKUP_CONFIG" => Some("/dev/null".into()),
            _ => env.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()),
        };
        RecordsAt::resolve(&Layers::load(Default::default(), &env, None).unwrap())
    }

    fn server(recorded: Result<RecordsAt>) -> String {
        match recorded.unwrap() {
            RecordsAt::Off => "off".into(),
            RecordsAt::Server(uri) => uri.expose_secret().to_string(),
        }
    }

    #[test]
    fn by_default_the_server_that_is_backed_up() {
        assert_eq!(server(resolve(&[])), "mongodb://localhost:27017");
        assert_eq!(server(resolve(&[("MONGO_URI", "mongodb://db1")])), "mongodb://db1");
        let both = [("MONGO_URI", "mongodb://db1"), ("BACKUP_RECORDS", "mongodb://db2")];
        assert_eq!(server(resolve(&both)), "mongodb://db2");
        assert_eq!(server(resolve(&[("MONGO_URI", "nonsense"), ("BACKUP_RECORDS", "off")])), "off");
    }

    #[test]
    fn a_wrong_value_is_named_and_not_shown() {
        for value in ["no", "Off", "mongodb://", "mongodb://u:hunt@er2@h", "http://u:hunter2@h", "db1:27017"]
        {
            let error = resolve(&[("BACKUP_RECORDS", value)]).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            let text = error.chain();
            assert!(text.contains("BACKUP_RECORDS") && !text.contains("hunt"), "{text}");
        }
        assert_eq!(resolve(&[("MONGO_URI", "nonsense")]).unwrap_err().exit(), Exit::Usage);
    }
}

#[cfg(test)]
mod tests;
