//! Flags over environment over file over default, for every setting alike, with the origin of each value.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::file;
use super::table::{Origin, Raw, SETTINGS, Setting, by_key};
use crate::base::beneath::read_named;
use crate::base::error::{Error, Result};

/// The unparsed values of all settings that are set or have a default.
#[derive(Debug)]
pub struct Layers {
    values: BTreeMap<&'static str, (Raw, Origin)>,
    /// The configuration file that was read.
    pub(super) file: Option<PathBuf>,
}

/// The file that is read if it exists and none is named.
pub const DEFAULT_FILE: &str = "/etc/uzima-backup/config.toml";

impl Layers {
    /// Lays flags over the environment over the file `config` (else `UZIMA_BACKUP_CONFIG`, else
    /// [`DEFAULT_FILE`] if it exists).
    pub fn load(flags: BTreeMap<&'static str, Raw>, env: Env<'_>, config: Option<&Path>) -> Result<Layers> {
        // A file that may not be looked at is read, too, because its error is better than silent defaults.
        let there = |path: &PathBuf| path.try_exists().unwrap_or(true);
        let named = named_file(env, config)?;
        let path = named.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(there));
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                values.insert(setting.key, (Raw::Text(default.into()), Origin::Default));
            }
        }
        if let Some(path) = &path {
            for (key, raw) in file::read(path)? {
                values.insert(key, (raw, Origin::File(path.clone())));
            }
        }
        for setting in SETTINGS {
            if let Some((text, name)) = variable(setting, env)? {
                let raw = match setting.list {
                    true => Raw::List(text.split(',').map(|item| item.trim().to_string()).collect()),
                    false => Raw::Text(text),
                };
                values.insert(setting.key, (raw, Origin::Environment(name)));
            }
        }
        values.extend(flags.into_iter().map(|(key, raw)| (key, (raw, Origin::Flag))));
        Ok(Layers { values, file: path })
    }

    /// The settings of these variables, without a file.
    #[cfg(test)]
    pub fn of(env: &[(&str, &str)]) -> Layers {
        let value = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        Layers::load(BTreeMap::new(), &value, Some(Path::new("/dev/null"))).expect("they can be read")
    }

    /// The text of a setting.
    pub fn text(&self, key: &'static str) -> Option<&str> {
        match &self.values.get(key)?.0 {
            Raw::Text(text) => Some(text),
            Raw::List(_) => None,
        }
    }

    /// The items of a list.
    pub fn list(&self, key: &'static str) -> &[String] {
        match self.values.get(key) {
            Some((Raw::List(items), _)) => items,
            _ => &[],
        }
    }

    /// The origin of a setting's value.
    pub fn origin(&self, key: &'static str) -> Option<&Origin> {
        self.values.get(key).map(|(_, origin)| origin)
    }

    /// Returns true if a flag, a variable or the file sets it.
    pub fn is_set(&self, key: &'static str) -> bool {
        !matches!(self.origin(key), None | Some(Origin::Default))
    }

    /// The parsed value of a setting. The error of `parse` is extended by the setting, its value and its origin.
    pub fn parsed<T, E: fmt::Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> std::result::Result<T, E>,
    ) -> Result<Option<T>> {
        self.text(key).map(|text| parse(text).map_err(|e| self.wrong(key, &e.to_string()))).transpose()
    }

    /// An error about a setting's value. Its next step names the place where the value is set.
    pub fn wrong(&self, key: &'static str, why: &str) -> Error {
        let setting = by_key(key).expect("only settings are asked for");
        let place = match self.origin(key) {
            Some(Origin::Flag) => setting.flag(),
            Some(Origin::Environment(name)) => name.clone(),
            Some(Origin::File(path)) => format!("{key} in {}", path.display()),
            Some(Origin::Default) | None => format!("{key} ({})", setting.env),
        };
        let without = match setting.default {
            Some(default) => format!("; without it, it is {}", setting.measured(default)),
            None => ", or leave it out".into(),
        };
        let value = match self.values.get(key) {
            Some((Raw::Text(text), _)) if !setting.secret => format!(" = '{text}'"),
            Some((Raw::List(items), _)) => format!(" = {items:?}"),
            _ => String::new(),
        };
        let origin = match self.origin(key) {
            Some(Origin::Flag) => format!(" (the flag {})", setting.flag()),
            Some(origin) => format!(" ({origin})"),
            None => String::new(),
        };
        Error::usage(format!("{key}{value}{origin}: {why}")).hint(format!("Correct {place}{without}"))
    }

    /// The value as an absolute path: cron starts in another directory than a shell.
    pub fn absolute(&self, key: &'static str) -> Result<Option<PathBuf>> {
        self.parsed(key, |text| match PathBuf::from(text) {
            path if path.is_absolute() => Ok(path),
            _ => Err("it must be an absolute path: cron starts in another directory"),
        })
    }

    /// The value as a boolean.
    pub fn boolean(&self, key: &'static str) -> Result<Option<bool>> {
        self.parsed(key, |text| match text {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("it is true or false"),
        })
    }

    /// The value as a whole number of at least `least`.
    pub fn number<T: FromStr + PartialOrd + fmt::Display>(
        &self,
        key: &'static str,
        least: T,
    ) -> Result<Option<T>> {
        self.parsed(key, |text| match text.parse::<T>() {
            Ok(number) if number >= least => Ok(number),
            _ => Err(format!("it is a whole number, at least {least}")),
        })
    }

    /// All values with their origins, secrets hidden, in the order of the table.
    pub fn shown(&self) -> Vec<(&'static Setting, String, Option<&Origin>)> {
        let shown = |setting: &'static Setting| {
            let (value, origin) = match self.values.get(setting.key) {
                None => (String::new(), None),
                Some((Raw::List(items), origin)) => (items.join(", "), Some(origin)),
                Some((Raw::Text(text), origin)) if setting.key.ends_with("_uri") => {
                    (crate::base::secret::hide_login(text), Some(origin))
                }
                Some((Raw::Text(text), origin)) if setting.key == "records" && shows_no_more(text) => {
                    (crate::base::secret::hide_login(text), Some(origin))
                }
                Some((Raw::Text(_), origin)) if setting.secret => ("(hidden)".into(), Some(origin)),
                Some((Raw::Text(text), origin)) => (text.clone(), Some(origin)),
            };
            (setting, value, origin)
        };
        SETTINGS.iter().map(shown).collect()
    }
}

/// Returns true if the password in a value of `records` can be told apart, so that the rest can be shown.
fn shows_no_more(text: &str) -> bool {
    text == "off" || text.starts_with("mongodb://") || text.starts_with("mongodb+srv://")
}

/// The largest file of a secret in bytes.
const LARGEST: u64 = 64 << 10;

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<std::ffi::OsString>;

/// The configuration file that a flag or `UZIMA_BACKUP_CONFIG` names.
///
/// # Errors
/// Returns an error if the variable is set, but empty.
pub fn named_file(env: Env<'_>, flag: Option<&Path>) -> Result<Option<PathBuf>> {
    let variable = env("UZIMA_BACKUP_CONFIG").map(PathBuf::from);
    match (flag, variable) {
        (Some(flag), _) => Ok(Some(flag.to_path_buf())),
        (None, Some(path)) if path.as_os_str().is_empty() => Err(empty("UZIMA_BACKUP_CONFIG")),
        (None, variable) => Ok(variable),
    }
}

fn empty(name: &str) -> Error {
    Error::usage(format!("the environment variable {name} is set, but empty"))
        .hint(format!("Give {name} a value, or unset it"))
}

/// The value of a setting's variable, or of the file that its `_FILE` variable names.
pub fn variable(setting: &Setting, env: Env<'_>) -> Result<Option<(String, String)>> {
    let read = |name: &str| -> Result<Option<String>> {
        let Some(value) = env(name) else { return Ok(None) };
        let text = value.into_string().map_err(|_| {
            Error::usage(format!("the environment variable {name} is not UTF-8"))
                .hint(format!("Correct {name}, or unset it"))
        })?;
        if !text.is_empty() {
            return Ok(Some(text));
        }
        // Other programs use the AWS variables, too. An empty variable of this tool is a mistake.
        if name.starts_with("AWS_") {
            return Ok(None);
        }
        Err(empty(name))
    };
    let direct = read(setting.env)?;
    if !setting.secret {
        return Ok(direct.map(|text| (text, setting.env.to_string())));
    }
    let name = format!("{}_FILE", setting.env);
    match (direct, read(&name)?) {
        (Some(_), Some(_)) => {
            Err(Error::usage(format!("both {} and {name} are set", setting.env)).hint("Set only one of them"))
        }
        (None, Some(path)) => {
            let holds = format!("it holds what {} would, and nothing else", setting.env);
            let read = read_named(Path::new(&path), LARGEST).and_then(|(bytes, _)| {
                String::from_utf8(bytes)
                    .map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
            });
            let text = read.map_err(|e| {
                let step = match e.kind() {
                    ErrorKind::NotFound => format!("Create that file, or correct {name}; {holds}"),
                    ErrorKind::PermissionDenied => format!("Let this user read that file, or correct {name}"),
                    _ => format!("Correct {name}, or the file; {holds}"),
                };
                Error::usage(format!("cannot read {path}, which {name} names")).hint(step).caused_by(e)
            })?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                let what = format!("{path}, which {name} names, is empty");
                return Err(Error::usage(what).hint(format!("Fill that file: {holds}")));
            }
            Ok(Some((text.to_string(), name)))
        }
        (direct, None) => Ok(direct.map(|text| (text, setting.env.to_string()))),
    }
}

#[cfg(test)]
mod tests;
