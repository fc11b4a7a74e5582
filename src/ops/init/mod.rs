//! `init`: writes a configuration file for a machine that has none.
//!
//! The file is the annotated example ([`EXAMPLE`]), with the settings of this command's flags and environment switched on.
//! Secrets stay out of the file unless the caller asks for them. A connection string is written without its password, so
//! that a nightly run without the secret fails at the right server, and never backs up another one. [`schedule`] has what
//! cron or systemd needs to start the nightly runs, [`install`] installs it, and [`oplog`] looks at the server's oplog.

mod file;
pub mod install;
pub mod oplog;
pub mod schedule;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::escape::quoted;
use crate::base::files;
use crate::base::minisign;
use crate::base::secret::{self, ExposeSecret, Secret};
use crate::config::table::{COPY, SETTINGS, Setting, by_key};
use crate::config::{self, Config, Env, Origin, Raw};
use crate::source::mongodump;
use install::Installed;

/// The example that ships with the tool, with every setting and its explanation.
const EXAMPLE: &str = include_str!("../../../examples/config.toml");

#[derive(Debug)]
pub struct InitOptions {
    /// The absolute path of the configuration file.
    pub file: PathBuf,
    /// Replaces an existing file.
    pub force: bool,
    /// Writes secrets of the environment to the file.
    pub with_secrets: bool,
    /// Makes a signing key at `signing_key_file`, if there is none.
    pub signing: bool,
    /// An earlier installation. `None` if no schedule is to be installed: then an existing file is an error.
    pub installed: Option<Installed>,
}

impl InitOptions {
    /// Returns true if the schedule is to be installed for a file that somebody edited. The file then stays as it is.
    pub fn keeps_file(&self) -> bool {
        self.installed.is_some() && !self.force && file::is_edited(&self.file)
    }
}

/// The content of the configuration file, before it is written.
#[derive(Debug)]
pub struct Prepared {
    file: PathBuf,
    force: bool,
    with_secrets: bool,
    /// `None` if the file exists and stays as it is.
    text: Option<String>,
    values: BTreeMap<&'static str, Raw>,
    /// The settings of the copy, by their keys in its table.
    copy: BTreeMap<&'static str, Raw>,
    left_out: Vec<LeftOut>,
    found: Vec<String>,
    new_key: Option<NewKey>,
}

/// A signing key that is written beside the configuration file.
#[derive(Debug, JsonSchema, Serialize)]
pub struct NewKey {
    /// The file with the secret key.
    pub file: PathBuf,
    /// The public key, which other machines trust.
    pub trusted_key: String,
    #[serde(skip)]
    secret: Secret,
}

/// The file of a new signing key, beside the configuration file.
pub fn signing_key_file(file: &Path) -> PathBuf {
    file.with_file_name("signing.key")
}

fn new_key(options: &InitOptions) -> Result<Option<NewKey>> {
    let file = signing_key_file(&options.file);
    // The key of an earlier run that did not end stays.
    if !options.signing || file.exists() {
        return Ok(None);
    }
    let (secret, public) = minisign::generate()?;
    Ok(Some(NewKey { file, trusted_key: public.to_string(), secret }))
}

#[derive(Debug)]
pub struct InitReport {
    /// The permissions of the file.
    pub mode: u32,
    /// The copy of the replaced file.
    pub kept: Option<PathBuf>,
    /// The keys of the settings in the file.
    pub settings: Vec<&'static str>,
    /// The secrets that are set, but not in the file.
    pub left_out: Vec<LeftOut>,
    /// Facts about this machine, in lines.
    pub found: Vec<String>,
}

/// A secret that is set, but is not in the configuration file.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct LeftOut {
    #[serde(skip)]
    key: &'static str,
    /// The variable that names the secret's file, such as `MONGO_URI_FILE`.
    pub variable: String,
    /// The file that the variable names, or a new file beside the configuration file.
    pub file: PathBuf,
    /// True if the variable names the file already.
    pub there: bool,
}

impl LeftOut {
    /// Describes the content of the file. A password is never added to a connection string later, so the file needs the
    /// whole string.
    pub fn whole(&self) -> String {
        match self.key {
            "mongo_uri" | "restore_uri" | "drill_uri" | "records" => {
                "the whole connection string with its password".into()
            }
            _ => format!("the value of {}", self.variable.trim_end_matches("_FILE")),
        }
    }

    /// A command that writes its standard input to the file. Neither `ps` nor the shell's history shows the secret.
    pub fn command(&self) -> String {
        format!("install -m 0600 /dev/stdin {}", quoted(&self.file.display().to_string()))
    }
}

/// Chooses the content of the file, and writes nothing. `config` has flags and environment. Unless the file is kept, it is
/// checked.
///
/// # Errors
/// Returns an error if the file exists and may not be replaced; or if it stays, and lacks settings of flags or environment.
pub async fn prepare(
    config: &Config,
    env: Env<'_>,
    options: &InitOptions,
    now: DateTime<Utc>,
) -> Result<Prepared> {
    if options.keeps_file() {
        return keep(config, env, options);
    }
    // An error here comes before the search for programs, which takes time.
    file::check_replaceable(&options.file, options.force)?;
    let (mut values, mut left_out) = chosen(config, env, options);
    let copy = chosen_of_copy(config, env, options, &mut left_out);
    let (found, mongodump_path) = look(config, env).await?;
    if let Some(path) = mongodump_path {
        values.insert("mongodump_path", Raw::Text(path.display().to_string()));
    }
    let text = file::render(
        EXAMPLE,
        &options.file,
        &Chosen { values: &values, copy: &copy },
        &left_out,
        &found,
        now,
    );
    if let Some(installed) = &options.installed {
        add_earlier(&values, &mut left_out, &installed.variables, &options.file);
        let needs_secret = copy.contains_key("bucket") && !copy.contains_key("secret_access_key");
        add_earlier_of_copy(needs_secret, &mut left_out, &installed.variables, &options.file);
    }
    // With --install, a file that differs only in its date is no change.
    let same = options.installed.is_some() && file::holds(&options.file, &text);
    let text = (!same).then_some(text);
    let InitOptions { file, force, with_secrets, .. } = options;
    Ok(Prepared {
        file: file.clone(),
        force: *force,
        with_secrets: *with_secrets,
        text,
        values,
        copy,
        left_out,
        found,
        new_key: new_key(options)?,
    })
}

/// The settings that are switched on in the file.
struct Chosen<'a> {
    values: &'a BTreeMap<&'static str, Raw>,
    /// The settings of the copy [`COPY`], by their keys in its table.
    copy: &'a BTreeMap<&'static str, Raw>,
}

impl Prepared {
    /// The secrets that are set, but not in the file.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The keys of the settings in the file.
    pub fn settings(&self) -> Vec<&'static str> {
        let copies = (!self.copy.is_empty()).then_some("copies");
        self.values.keys().copied().chain(copies).collect()
    }

    /// Facts about this machine, in lines.
    pub fn found(&self) -> &[String] {
        &self.found
    }

    /// The signing key that is written with the file.
    pub fn new_key(&self) -> Option<&NewKey> {
        self.new_key.as_ref()
    }

    /// Returns true if the file exists and stays as it is.
    pub fn is_kept(&self) -> bool {
        self.text.is_none()
    }

    /// The settings of the file as lines, without secrets.
    fn lines(&self) -> Vec<String> {
        let is_secret = |key: &str| by_key(key).is_some_and(|setting| setting.secret);
        let line = |(key, raw): (&&str, &Raw)| match self.with_secrets && is_secret(key) {
            true => format!("{key} = (not shown)"),
            false => format!("{key} = {}", file::toml(raw)),
        };
        let of_copy = |(key, raw): (&&str, &Raw)| match key.contains("secret") || key.contains("token") {
            true => format!("copies: {key} = (not shown)"),
            false => format!("copies: {key} = {}", file::toml(raw)),
        };
        self.values.iter().map(line).chain(self.copy.iter().map(of_copy)).collect()
    }

    /// Writes the file, unless it stays as it is, and before it the new signing key.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or if another process created it in the meantime.
    pub fn write(&self) -> Result<InitReport> {
        if let Some(key) = &self.new_key {
            let create = || {
                fs::create_dir_all(key.file.parent().unwrap_or(Path::new("/")))?;
                files::create(&key.file, key.secret.expose_secret().as_bytes(), 0o600)
            };
            create().map_err(|e| {
                Error::failed(format!("cannot write {}", key.file.display()))
                    .hint("Run it as root, or write another file: --config FILE")
                    .caused_by(e)
            })?;
        }
        let (mode, kept) = match &self.text {
            Some(text) => file::write(&self.file, text, self.force)?,
            None => (file::mode(&self.file)?, None),
        };
        Ok(InitReport {
            mode,
            kept,
            settings: self.settings(),
            left_out: self.left_out.clone(),
            found: self.found.clone(),
        })
    }
}

/// Reads a file that stays as it is.
///
/// # Errors
/// Returns an error if it cannot be read, or lacks settings of flags or environment.
fn keep(config: &Config, env: Env<'_>, options: &InitOptions) -> Result<Prepared> {
    let config::file::FileValues { values, copies } = config::file::read(&options.file)?;
    let (chosen, mut left_out) = chosen(config, env, options);
    let copy = chosen_of_copy(config, env, options, &mut left_out);
    let stored = copies.iter().find(|stored| stored.name == COPY);
    let lacking_of_copy = config.layers.values_of_copy(COPY).into_iter().filter(|(setting, _, _)| {
        let there = stored.and_then(|stored| stored.values.get(setting.like));
        copy.get(setting.key).is_some_and(|raw| there != Some(raw))
    });
    let lacking_of_copy = lacking_of_copy.map(|(setting, _, origin)| match origin {
        Origin::Environment(variable) => format!("{} of a copy ({variable})", setting.key),
        _ => format!("{} of a copy", setting.key),
    });
    let is_elsewhere = |key: &str| values.contains_key("dir") && key.starts_with("s3.");
    let full = |key: &'static str| config.layers.text(key).map(|text| Raw::Text(text.to_string()));
    let lacking: Vec<String> = chosen
        .iter()
        .filter(|(key, _)| config.layers.is_set(key) && !is_elsewhere(key))
        .filter(|(key, raw)| {
            let stored = values.get(*key);
            stored != Some(*raw) && (stored.is_none() || stored != full(key).as_ref())
        })
        .map(|(key, _)| match config.layers.origin(key) {
            Some(Origin::Environment(variable)) => format!("{key} ({variable})"),
            _ => format!("{key} ({})", by_key(key).map(Setting::flag).unwrap_or_default()),
        })
        .chain(lacking_of_copy)
        .collect();
    if !lacking.is_empty() {
        return Err(Error::usage(format!(
            "{} stays as it is, and these settings differ there: {}",
            options.file.display(),
            lacking.join(", ")
        ))
        .hint(
            "Change them in the file; or leave them out, to install the schedule for the file as it is; or write the file \
             anew (--force), which keeps a copy",
        ));
    }
    left_out.retain(|secret| {
        secret.key == COPY_SECRET
            || !is_elsewhere(secret.key) && values.get(secret.key) != full(secret.key).as_ref()
    });
    let installed = options.installed.as_ref().map(|installed| installed.variables.as_slice());
    add_earlier(&values, &mut left_out, installed.unwrap_or_default(), &options.file);
    let needs_secret = stored.is_some_and(|copy| {
        copy.values.contains_key("s3.bucket") && !copy.values.contains_key("s3.secret_access_key")
    });
    add_earlier_of_copy(needs_secret, &mut left_out, installed.unwrap_or_default(), &options.file);
    let InitOptions { file, force, with_secrets, .. } = options;
    Ok(Prepared {
        file: file.clone(),
        force: *force,
        with_secrets: *with_secrets,
        text: None,
        values,
        copy: BTreeMap::new(),
        left_out,
        found: Vec::new(),
        new_key: None,
    })
}

/// Adds the secrets that neither the file nor this environment has: those that an earlier installation names, and those
/// in files beside the configuration file. Without them, a second installation from another shell would take the secrets
/// from the nightly runs.
fn add_earlier(
    values: &BTreeMap<&'static str, Raw>,
    left_out: &mut Vec<LeftOut>,
    installed: &[(String, String)],
    file: &Path,
) {
    for setting in SETTINGS.iter().filter(|setting| setting.secret) {
        let (key, variable) = (setting.key, format!("{}_FILE", setting.env));
        let stored = match values.get(key) {
            Some(Raw::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let is_uri = |text: &str| text.starts_with("mongodb://") || text.starts_with("mongodb+srv://");
        let is_complete =
            stored.is_some_and(|text| !is_uri(text) || secret::without_password(text).is_some());
        let elsewhere = values.contains_key("dir") && key.starts_with("s3.");
        if is_complete || elsewhere || left_out.iter().any(|secret| secret.key == key) {
            continue;
        }
        let named = installed.iter().find(|(name, _)| *name == variable).map(|(_, file)| PathBuf::from(file));
        let beside = file.with_file_name(file_name(key));
        let fits = |path: &PathBuf| {
            let Some(text) = file::secret(path) else { return false };
            match is_uri(&text) {
                // A file for another server is none of this installation.
                true => stored.is_some() && secret::without_password(&text).as_deref() == stored,
                false => stored.is_none(),
            }
        };
        let found = named.filter(|path| path.is_file()).or_else(|| Some(beside).filter(fits));
        left_out.extend(found.map(|file| LeftOut { key, variable, file, there: true }));
    }
}

/// As [`add_earlier`], for the secret of the copy.
fn add_earlier_of_copy(
    needs_secret: bool,
    left_out: &mut Vec<LeftOut>,
    installed: &[(String, String)],
    file: &Path,
) {
    if !needs_secret || left_out.iter().any(|secret| secret.key == COPY_SECRET) {
        return;
    }
    let variable = "COPY_AWS_SECRET_ACCESS_KEY_FILE".to_string();
    let named = installed.iter().find(|(name, _)| *name == variable).map(|(_, file)| PathBuf::from(file));
    let beside = Some(file.with_file_name(file_name(COPY_SECRET)));
    let found = named.or(beside).filter(|path| path.is_file());
    left_out.extend(found.map(|file| LeftOut { key: COPY_SECRET, variable, file, there: true }));
}

/// Chooses the settings for the file: all that are set and belong to the place of the backups, and the server in any case.
fn chosen(
    config: &Config,
    env: Env<'_>,
    options: &InitOptions,
) -> (BTreeMap<&'static str, Raw>, Vec<LeftOut>) {
    let (mut values, mut left_outs) = (BTreeMap::new(), Vec::new());
    for setting in SETTINGS {
        let key = setting.key;
        let from = |origin: Origin| config.layers.origin(key) == Some(&origin);
        // The log file of this command and a token that expires in hours are useless to nightly runs.
        let passing = key == "log_file" && from(Origin::Flag)
            || key == "s3.session_token" && from(Origin::Environment("AWS_SESSION_TOKEN".into()));
        let elsewhere = config.layers.is_set("dir") && key.starts_with("s3.");
        // Variables of another program's mails ask for no mails here.
        let foreign = key.starts_with("mail.smtp_") && matches!(config.mail, Ok(None));
        if passing || elsewhere || foreign || !(config.layers.is_set(key) || key == "mongo_uri") {
            continue;
        }
        let Some(text) = config.layers.text(key) else {
            values.insert(key, Raw::List(config.layers.list(key).to_vec()));
            continue;
        };
        let variable = format!("{}_FILE", setting.env);
        let in_file = from(Origin::Environment(variable.clone()));
        // Only the password of a connection string is secret.
        let uri = text.starts_with("mongodb://") || text.starts_with("mongodb+srv://");
        let without = if uri { secret::without_password(text) } else { None };
        let is_secret = setting.secret && if uri { without.is_some() } else { text != "off" };
        if is_secret && (in_file || !options.with_secrets) {
            values.extend(without.map(|uri| (key, Raw::Text(uri))));
            // Nightly runs start in another directory.
            let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
            let named = if in_file { env(&variable).map(PathBuf::from).map(absolute) } else { None };
            let file = named.unwrap_or_else(|| options.file.with_file_name(file_name(key)));
            left_outs.push(LeftOut { key, variable, file, there: in_file });
        } else {
            values.insert(key, Raw::Text(text.to_string()));
        }
    }
    (values, left_outs)
}

/// The key of the copy's secret that has a variable.
const COPY_SECRET: &str = "copies.secret_access_key";

/// Chooses the settings of the copy [`COPY`] for the file, by their keys in its table. Its secret stays out of the file like those
/// of the first place.
fn chosen_of_copy(
    config: &Config,
    env: Env<'_>,
    options: &InitOptions,
    left_outs: &mut Vec<LeftOut>,
) -> BTreeMap<&'static str, Raw> {
    let mut values = BTreeMap::new();
    for (setting, raw, origin) in config.layers.values_of_copy(COPY) {
        let Some(variable) = setting.file_variable() else {
            values.insert(setting.key, raw.clone());
            continue;
        };
        let in_file = *origin == Origin::Environment(variable.clone());
        if options.with_secrets && !in_file {
            values.insert(setting.key, raw.clone());
            continue;
        }
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let named = if in_file { env(&variable).map(PathBuf::from).map(absolute) } else { None };
        let file = named.unwrap_or_else(|| options.file.with_file_name(file_name(COPY_SECRET)));
        left_outs.push(LeftOut { key: COPY_SECRET, variable, file, there: in_file });
    }
    values
}

/// The value of a secret that is not in the file.
fn secret_value<'a>(config: &'a Config, left_out: &LeftOut) -> Option<&'a str> {
    if left_out.key != COPY_SECRET {
        return config.layers.text(left_out.key);
    }
    config.layers.values_of_copy(COPY).into_iter().find_map(|(setting, raw, _)| match raw {
        Raw::Text(text) if setting.file_variable().is_some() => Some(text.as_str()),
        _ => None,
    })
}

/// The name of a secret's file, as in crontab.example.
fn file_name(key: &str) -> &str {
    match key {
        "s3.secret_access_key" => "s3_secret",
        COPY_SECRET => "copy_s3_secret",
        "s3.session_token" => "s3_session_token",
        "mail.resend_api_key" => "resend_key",
        "mail.smtp_password" => "smtp_password",
        other => other.rsplit('.').next().unwrap_or(other),
    }
}

/// Programs with which cron can send mail, on Debian and elsewhere.
const SENDMAIL: [&str; 2] = ["/usr/sbin/sendmail", "/usr/lib/sendmail"];

/// Looks for mongodump, credentials and a mail program. Returns lines for people, and the path of a mongodump that cron and
/// systemd would not find. The checks of `health` cover the server, the store and the mail service.
async fn look(config: &Config, env: Env<'_>) -> Result<(Vec<String>, Option<PathBuf>)> {
    let mut lines = Vec::new();
    let settings = config.job.as_ref()?;
    let find = |search_path| mongodump::find(settings.mongodump_path.as_deref(), search_path);
    let by_path = find(settings.search_path.as_deref()).await;
    let by_folders = find(None).await;
    lines.push(match &by_path {
        Ok(found) => format!("mongodump {}, {}", found.version, found.path.display()),
        Err(missing) => format!("{missing}: the native engine reads the server"),
    });
    let mongodump_path = by_path.ok().filter(|_| by_folders.is_err()).map(|found| found.path);
    if !config.layers.is_set("format") {
        lines.push(
            "tar.zst is smaller than tar.gz, the default, and takes less CPU time (format, BACKUP_FORMAT): recommended, if \
             the program zstd is where you restore by hand"
                .into(),
        );
    }
    if config.layers.is_set("s3.bucket") && config.layers.is_set("dir") {
        lines.push(
            "S3_BACKUP_BUCKET is ignored, because --dir is set: the first place is a bucket or a directory"
                .into(),
        );
    } else if config.layers.is_set("s3.bucket") {
        lines.push(format!("credentials for the bucket: {}", credentials(config, env)));
    }
    if !config.layers.is_set("mail.to") && !SENDMAIL.iter().any(|program| Path::new(program).exists()) {
        lines.push("no sendmail: cron's mails to MAILTO reach nobody".into());
    }
    Ok((lines, mongodump_path))
}

/// The place where the AWS tools find a key first.
fn credentials(config: &Config, env: Env<'_>) -> String {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if config.layers.is_set("s3.access_key_id") {
        return "AWS_ACCESS_KEY_ID".into();
    }
    if let Some(profile) = set("AWS_PROFILE") {
        return format!("the profile {}", profile.display());
    }
    let own = set("HOME").map(|home| PathBuf::from(home).join(".aws/credentials"));
    let file = set("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from).or(own);
    match file.filter(|file| file.is_file()) {
        Some(file) => file.display().to_string(),
        None => "no key; the role of the machine or the container, if it has one".into(),
    }
}
