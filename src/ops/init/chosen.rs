//! Which of the settings that are set go into the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Options;
use crate::base::escape::quoted;
use crate::base::secret;
use crate::config::Env;
use crate::config::table::SETTINGS;
use crate::config::{Config, Origin, Raw};

/// A secret that is set, but not in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The setting.
    pub key: &'static str,
    /// The variable that names a file with it, as in `MONGO_URI_FILE`.
    pub variable: String,
    /// That file: the one that the variable names already, or one beside the configuration file.
    pub file: PathBuf,
    /// Whether the file is there, because the variable names it.
    pub there: bool,
}

impl LeftOut {
    /// What the file holds, in words: all of a connection string, for no part of it is added later.
    pub fn whole(&self) -> String {
        match self.key {
            "mongo_uri" | "restore_uri" | "drill_uri" | "records" => {
                "the whole connection string, password and all".into()
            }
            _ => format!("the value of {}", self.variable.trim_end_matches("_FILE")),
        }
    }

    /// A command that puts into the file what is typed, which neither `ps` nor the shell's history shows.
    pub fn command(&self) -> String {
        format!("install -m 0600 /dev/stdin {}", quoted(&self.file.display().to_string()))
    }
}

/// What goes into the file.
#[derive(Debug)]
pub struct Chosen {
    /// The settings.
    pub values: BTreeMap<&'static str, Raw>,
    /// What does not.
    pub left_out: Vec<LeftOut>,
}

impl Chosen {
    /// Adds a setting that was found.
    pub fn add_path(&mut self, key: &'static str, path: &Path) {
        self.values.insert(key, Raw::Text(path.display().to_string()));
    }
}

/// Everything that somebody set, for the place where backups are kept, and the server in any case.
pub fn chosen(config: &Config, env: Env<'_>, options: &Options) -> Chosen {
    let to_dir = config.is_set("dir");
    let mut chosen = Chosen { values: BTreeMap::new(), left_out: Vec::new() };
    for setting in SETTINGS {
        let key = setting.key;
        // Where the log of this one run goes is not a setting of the nights.
        // Neither is a token that expires in hours.
        let passing = key == "log_file" && config.origin(key) == Some(&Origin::Flag)
            || key == "s3.session_token"
                && config.origin(key) == Some(&Origin::Environment("AWS_SESSION_TOKEN".into()));
        let elsewhere = to_dir && key.starts_with("s3.");
        if passing || elsewhere || !(config.is_set(key) || key == "mongo_uri") {
            continue;
        }
        let Some(text) = config.text(key) else {
            chosen.values.insert(key, Raw::List(config.list(key).to_vec()));
            continue;
        };
        let variable = format!("{}_FILE", setting.env);
        let in_file = config.origin(key) == Some(&Origin::Environment(variable.clone()));
        // Of a connection string only the password is a secret.
        let uri = text.starts_with("mongodb://") || text.starts_with("mongodb+srv://");
        let without = if uri { secret::without_password(text) } else { None };
        let is_secret = setting.secret && if uri { without.is_some() } else { text != "off" };
        if is_secret && (in_file || !options.with_secrets) {
            chosen.values.extend(without.map(|uri| (key, Raw::Text(uri))));
            let named = if in_file { env(&variable).map(PathBuf::from) } else { None };
            let file = named.unwrap_or_else(|| options.file.with_file_name(file_name(key)));
            chosen.left_out.push(LeftOut { key, variable, file, there: in_file });
        } else {
            chosen.values.insert(key, Raw::Text(text.to_string()));
        }
    }
    chosen
}

/// The names of crontab.example, and those of the settings.
fn file_name(key: &str) -> &str {
    match key {
        "s3.secret_access_key" => "s3_secret",
        "s3.session_token" => "s3_session_token",
        "mail.resend_api_key" => "resend_key",
        other => other.rsplit('.').next().unwrap_or(other),
    }
}
