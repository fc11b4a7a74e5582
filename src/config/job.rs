//! The settings of a job, of restores and of drills.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::choices::{AUTO_LEVEL, ConsistencyChoice, EngineChoice, Format, Policy, ReadersChoice};
use super::layers::{Layers, at_least, boolean, duration_in};
use super::machine::Machine;
use super::selection::{RECORDS_DB, Selection};
use super::signing::Signing;
use super::table::{COPY_SETTINGS, Origin, Raw};
use super::uri::{self, MongoUri};
use crate::base::error::Result;
use crate::base::keys::Recipients;
use crate::base::retry::Patience;
use crate::base::secret::{ExposeSecret, Redactor, Secret, secret_parts};

/// The settings of a job: the source, the format, the record of runs, and the retention of backups.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// The connection string of the server.
    pub mongo_uri: Secret,
    /// The servers as the connection string names them, without the login.
    pub servers: String,
    /// The namespaces that are part of the backup.
    pub selection: Selection,
    pub job: String,
    /// True if flags leave out a part of the configured selection, although the job is configured, too: the backup is only a
    /// part of its job.
    pub partial: bool,
    pub engine: EngineChoice,
    /// The consistency that a backup must have.
    pub consistency: ConsistencyChoice,
    /// The number of readers of one collection, if the native engine reads.
    pub readers: ReadersChoice,
    /// `None` if mongodump is searched for in `search_path` and the usual folders.
    pub mongodump_path: Option<PathBuf>,
    /// The value of `PATH`.
    pub search_path: Option<String>,
    /// With the level at which compression begins.
    pub format: Format,
    /// True if the level of a backup's compression follows the line.
    pub auto_level: bool,
    /// True if each compressed block is decompressed and compared.
    pub check_compression: bool,
    /// The keys to which backups are encrypted; `None` if they are not encrypted.
    pub recipients: Option<Recipients>,
    pub signing: Signing,
    /// A read fails if no data arrives for this long.
    pub stall: Duration,
    /// How long to wait for MongoDB when it is down.
    pub patience: Patience,
    /// The number of parts that are uploaded at once.
    pub uploads: usize,
    /// The number of threads that compress.
    pub compressors: usize,
    /// The directory with locks, sent mails, and uploads under way.
    pub state_dir: Option<PathBuf>,
    pub host: String,
    pub retention: Policy,
    /// The age of the newest good backup at which `health` fails.
    pub max_age: Duration,
    /// The age of the newest drill at which `health` fails; `None` if no drills are expected.
    pub drill_max_age: Option<Duration>,
    /// The age of the newest verify with the key at which `health` warns.
    pub keyed_max_age: Duration,
    /// The number of days that the stored oplog must cover.
    pub oplog_days: u32,
    /// The age of the end of the stored oplog at which it is too old.
    pub oplog_max_age: Duration,
    /// How long after a run copies that fell behind are caught up.
    pub catch_up: Duration,
    /// The most memory in bytes for data that waits for a slower copy.
    pub copy_memory: u64,
    pub records: RecordsAt,
}

impl JobSettings {
    /// The settings of a job for callers without environment and configuration file. The other settings have their defaults.
    ///
    /// # Errors
    /// Returns an error if the connection string or the name of the job is not valid.
    pub fn with_defaults(mongo_uri: &str, job: &str, machine: &Machine) -> Result<JobSettings> {
        let flags = [("mongo_uri", mongo_uri), ("job", job)].map(|(key, text)| (key, Raw::Text(text.into())));
        let layers = Layers::load(flags.into(), &|_| None, Some(Path::new("/dev/null")))?;
        JobSettings::resolve(&layers, machine, false)
    }

    /// Resolves the settings. `to_dir` means that backups go to a directory.
    pub(super) fn resolve(layers: &Layers, machine: &Machine, to_dir: bool) -> Result<JobSettings> {
        let uri_text = layers.text("mongo_uri").unwrap_or_default();
        let facts = uri::check("mongo_uri", uri_text)?;
        let selection = selection(layers, facts.database.clone())?;
        let partial = is_partial(layers, &selection, facts.database);
        let host = if uri::is_loopback(&facts.host) { &machine.host } else { &facts.host };
        let job = layers.parsed("job", check_job)?.unwrap_or_else(|| format!("{}@{host}", selection.label()));
        let state_dir = layers.absolute("state_dir")?;
        let (format, auto_level) = format(layers)?;
        let uploads = layers.value("s3.upload_concurrency", at_least(1))?;
        Ok(JobSettings {
            mongo_uri: Secret::from(uri_text.to_string()),
            servers: facts.servers,
            selection,
            job,
            partial,
            engine: layers.value("engine", EngineChoice::from_str)?,
            consistency: layers.value("consistency", ConsistencyChoice::from_str)?,
            readers: layers.value("readers", ReadersChoice::from_str)?,
            mongodump_path: layers.absolute("mongodump_path")?,
            search_path: machine.search_path.clone(),
            format,
            auto_level,
            check_compression: layers.value("check_compression", boolean)?,
            recipients: Recipients::parse(layers.list("recipients"))
                .map_err(|why| layers.wrong("recipients", &why))?,
            signing: Signing::resolve(layers)?,
            stall: layers.duration("stall_timeout")?,
            patience: Patience::new(layers.duration("patience")?),
            // Several writers are not faster on a disk, and each part under way takes memory.
            uploads: if to_dir { 1 } else { uploads },
            compressors: machine.cores,
            state_dir: state_dir.or_else(|| machine.state_dir.clone()),
            host: machine.host.clone(),
            retention: retention(layers)?,
            max_age: layers.duration("max_age")?,
            drill_max_age: layers.parsed("drill_max_age", duration_in("drill_max_age"))?,
            keyed_max_age: layers.duration("keyed_max_age")?,
            oplog_days: layers.value("oplog_days", at_least(1))?,
            oplog_max_age: layers.duration("oplog_max_age")?,
            catch_up: layers.duration("catch_up")?,
            copy_memory: layers.value("copy_memory", at_least(1_u32)).map(|mib| u64::from(mib) << 20)?,
            records: RecordsAt::resolve(layers)?,
        })
    }
}

/// The server that a restore writes into.
#[derive(Debug, Clone)]
pub struct RestoreUri {
    pub uri: Secret,
    /// The servers as the connection string names them.
    pub servers: String,
    /// True if a restore writes into the server that is backed up: no target is set, or `mongo_uri` names one of its servers.
    pub is_source: bool,
}

impl RestoreUri {
    pub(super) fn resolve(layers: &Layers) -> Result<RestoreUri> {
        let Some(uri) = uri_of(layers, "restore_uri")? else { return RestoreUri::source(layers) };
        let servers = uri::check("restore_uri", uri.expose_secret())?.servers;
        // The default of `mongo_uri` names no server that anybody backs up.
        let source = RestoreUri::source(layers).ok().filter(|_| layers.is_set("mongo_uri"));
        // The members of a replica set can be named in part, and in any order.
        let is_source = source.is_some_and(|source| {
            source.servers.split(',').any(|one| servers.split(',').any(|other| one == other))
        });
        Ok(RestoreUri { uri, servers, is_source })
    }

    /// The server that is backed up.
    fn source(layers: &Layers) -> Result<RestoreUri> {
        let uri = layers.text("mongo_uri").unwrap_or_default();
        let servers = uri::check("mongo_uri", uri)?.servers;
        Ok(RestoreUri { uri: Secret::from(uri.to_string()), servers, is_source: true })
    }
}

/// Resolves a connection string. If `--to-uri` sets it, it must not contain a password.
pub(super) fn uri_of(layers: &Layers, key: &'static str) -> Result<Option<Secret>> {
    let Some(uri) = layers.text(key) else { return Ok(None) };
    layers.no_password_in_flag(key)?;
    uri::check(key, uri)?;
    Ok(Some(Secret::from(uri.to_string())))
}

/// The settings with connection strings.
const URIS: [&str; 4] = ["mongo_uri", "restore_uri", "drill_uri", "records"];

/// Warnings about ignored options of connection strings. An invalid connection string has no warnings, because its use
/// is an error.
pub(super) fn uri_warnings(layers: &Layers) -> Vec<String> {
    let mut seen = Vec::new();
    let mut warnings = Vec::new();
    for key in URIS {
        let Some(uri) = layers.text(key).filter(|uri| !seen.contains(uri)) else { continue };
        seen.push(uri);
        let found = MongoUri::read(uri).map(|uri| uri.warnings()).unwrap_or_default();
        warnings.extend(found.into_iter().map(|warning| format!("{key}: {warning}")));
    }
    warnings
}

/// Collects the secrets of the settings.
pub(super) fn redactor(layers: &Layers) -> Redactor {
    let set = |keys: &[&'static str]| keys.iter().filter_map(|key| layers.text(key)).collect::<Vec<_>>();
    let addresses = set(&["ping_url", "oplog_ping_url", "webhook_url"]);
    let uris = [set(&URIS), addresses.clone()].concat();
    let mut words =
        set(&["s3.secret_access_key", "s3.session_token", "mail.resend_api_key", "mail.smtp_password"]);
    words.extend(
        COPY_SETTINGS
            .iter()
            .filter(|setting| setting.setting().secret)
            .flat_map(|setting| layers.texts_of_copies(setting.like)),
    );
    words.extend(addresses.into_iter().flat_map(secret_parts));
    Redactor::new(&uris, &words)
}

fn selection(layers: &Layers, in_uri: Option<String>) -> Result<Selection> {
    let mut databases = layers.list("databases").to_vec();
    if databases.is_empty() {
        databases.extend(in_uri);
    }
    for db in &databases {
        if db.is_empty() || db.contains(['/', '\\', '.', '"', ' ', '$', '\0']) {
            return Err(layers.wrong("databases", &format!("'{db}' is not a valid database name")));
        }
        if db == RECORDS_DB || db == "local" {
            return Err(layers.wrong("databases", &format!("the database '{db}' is never part of a backup")));
        }
    }
    Ok(Selection { databases, include: layers.items("include")?, exclude: layers.items("exclude")? })
}

/// Returns true if the flags of this run leave out namespaces of the configured job. If the flags name the job, or the job is
/// named after the selection, they define the job.
fn is_partial(layers: &Layers, selection: &Selection, in_uri: Option<String>) -> bool {
    let configured = matches!(layers.origin("job"), Some(Origin::Environment(_) | Origin::File(_)));
    let flags = ["databases", "include", "exclude"];
    if !configured || !flags.iter().any(|key| layers.origin(key) == Some(&Origin::Flag)) {
        return false;
    }
    let mut databases = layers.configured_list("databases").to_vec();
    if databases.is_empty() {
        databases.extend(in_uri);
    }
    let patterns = |key| layers.configured_list(key).iter().map(|text| text.parse()).collect();
    let (include, exclude): (Result<Vec<_>, String>, Result<Vec<_>, String>) =
        (patterns("include"), patterns("exclude"));
    match (include, exclude) {
        (Ok(include), Ok(exclude)) => !selection.covers(&Selection { databases, include, exclude }),
        // Nobody knows what an invalid pattern would select.
        _ => true,
    }
}

/// Returns the name of a job. Its characters need no quotes in a shell.
pub fn check_job(job: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    match !job.is_empty() && job.len() <= 128 && job.chars().all(fits) {
        true => Ok(job.to_string()),
        false => Err("a job's name has 1 to 128 of the characters A-Z a-z 0-9 . _ @ + -"),
    }
}

fn retention(layers: &Layers) -> Result<Policy> {
    let keep = |key| layers.parsed(key, at_least(1)).map(Option::unwrap_or_default);
    let days = layers.value("retention_days", at_least(1)).map_err(|e| {
        let step = e.next_step().unwrap_or_default().to_string();
        e.hint(format!("{step}. To keep every backup, do not run `cleanup`"))
    })?;
    Ok(Policy {
        days,
        min: keep("keep_min")?,
        last: keep("keep_last")?,
        daily: keep("keep_daily")?,
        weekly: keep("keep_weekly")?,
        monthly: keep("keep_monthly")?,
        yearly: keep("keep_yearly")?,
    })
}

/// Resolves the path of a file. A flag may name a relative path.
pub(super) fn file(layers: &Layers, key: &'static str) -> Result<Option<PathBuf>> {
    match layers.origin(key) {
        Some(Origin::Flag) => Ok(layers.text(key).map(PathBuf::from)),
        _ => layers.absolute(key),
    }
}

/// Resolves the format with its level, and whether the level follows the line.
fn format(layers: &Layers) -> Result<(Format, bool)> {
    let format = layers.value("format", Format::from_str)?;
    let levels = format.codec.levels();
    let (least, most) = (levels.start(), levels.end());
    let level = layers.parsed("compression_level", |text| {
        if text == AUTO_LEVEL {
            return Ok::<_, String>((format, true));
        }
        let fixed = text.parse().ok().and_then(|level| format.at_level(level));
        let wrong = || format!("{format} has the levels {least} to {most}, and {AUTO_LEVEL}");
        fixed.map(|fixed| (fixed, false)).ok_or_else(wrong)
    })?;
    Ok(level.unwrap_or((format, false)))
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
                uri::read_named("records (BACKUP_RECORDS)", text)?;
                uri::check("records", text).map_err(|_| {
                    // The driver's error may quote the value, which may contain a password.
                    let why = "neither off nor a valid connection string; BACKUP_RECORDS looks like \
                               mongodb://user:password@host:27017/, with the characters @ : / % $ \
                               of the password percent-encoded";
                    layers.wrong("records", why)
                })?;
                Ok(RecordsAt::Server(Secret::from(text.to_string())))
            }
            None => RestoreUri::source(layers).map(|source| RecordsAt::Server(source.uri)),
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
    fn runs_are_recorded_on_the_server_that_is_backed_up_by_default() {
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
