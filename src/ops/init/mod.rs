//! `init`: writes a configuration file for a machine that has none.
//!
//! The file is the annotated example ([`EXAMPLE`]), with the settings of this command's flags and environment switched
//! on. Secrets stay out of the file unless the caller asks for them. A connection string is written without its
//! password, so that a nightly run without the secret fails at the right server, and never backs up another one.
//! [`schedule`] makes the lines for cron and systemd, which a person adds.

mod file;
pub mod schedule;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::base::error::Result;
use crate::base::escape::quoted;
use crate::base::secret;
use crate::config::table::SETTINGS;
use crate::config::{Config, Env, Origin, Raw};
use crate::source::mongodump;

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
    /// Facts about this machine, one in each line.
    pub found: Vec<String>,
}

/// A secret that is set, but is not in the configuration file.
#[derive(Debug, Clone)]
pub struct LeftOut {
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
                "the whole connection string, including the password".into()
            }
            _ => format!("the value of {}", self.variable.trim_end_matches("_FILE")),
        }
    }

    /// A command that writes its standard input to the file. Neither `ps` nor the shell's history shows the secret.
    pub fn command(&self) -> String {
        format!("install -m 0600 /dev/stdin {}", quoted(&self.file.display().to_string()))
    }
}

/// Writes the file. `config` contains the flags and the environment, already checked.
///
/// # Errors
/// Returns an error if the file exists and may not be replaced, or if it cannot be written.
pub async fn init(
    config: &Config,
    env: Env<'_>,
    options: &InitOptions,
    now: DateTime<Utc>,
) -> Result<InitReport> {
    // An error here comes before the search for programs, which takes time.
    file::check_replaceable(&options.file, options.force)?;
    let (mut values, left_out) = chosen(config, env, options);
    let (found, mongodump_path) = look(config, env).await?;
    if let Some(path) = mongodump_path {
        values.insert("mongodump_path", Raw::Text(path.display().to_string()));
    }
    let text = file::render(EXAMPLE, &options.file, &values, &left_out, &found, now);
    let (mode, kept) = file::write(&options.file, &text, options.force)?;
    Ok(InitReport { mode, kept, settings: values.into_keys().collect(), left_out, found })
}

/// Chooses the settings for the file: all settings that are set and not for another place of backups, and
/// always the server.
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
        if passing || elsewhere || !(config.layers.is_set(key) || key == "mongo_uri") {
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
            let named = if in_file { env(&variable).map(PathBuf::from) } else { None };
            let file = named.unwrap_or_else(|| options.file.with_file_name(file_name(key)));
            left_outs.push(LeftOut { key, variable, file, there: in_file });
        } else {
            values.insert(key, Raw::Text(text.to_string()));
        }
    }
    (values, left_outs)
}

/// The name of a secret's file, as in crontab.example.
fn file_name(key: &str) -> &str {
    match key {
        "s3.secret_access_key" => "s3_secret",
        "s3.session_token" => "s3_session_token",
        "mail.resend_api_key" => "resend_key",
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
    if config.layers.is_set("s3.bucket") && config.layers.is_set("dir") {
        lines.push("S3_BACKUP_BUCKET is ignored: --dir is set, and backups go to one place".into());
    } else if config.layers.is_set("s3.bucket") {
        lines.push(format!("credentials for the bucket: {}", credentials(config, env)));
    }
    if !config.layers.is_set("mail.to") && !SENDMAIL.iter().any(|program| Path::new(program).exists()) {
        lines.push("no sendmail: cron cannot send mails to MAILTO".into());
    }
    Ok((lines, mongodump_path))
}

/// The first place where the AWS tools find a key.
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
        None => "no key is set; the role of the machine or the container is used, if it has one".into(),
    }
}
