//! Flags over environment over file over default, for every setting alike, remembering where each
//! value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::env::{Env, named_file, variable};
use super::exposed::{self, Exposed};
use super::file;
use super::misspelt::{self, Misspelt};
use super::table::{SETTINGS, Setting, by_key};
use crate::base::error::{Error, Result};

/// A value before it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// One text.
    Text(String),
    /// Several.
    List(Vec<String>),
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line.
    Flag,
    /// An environment variable.
    Environment(String),
    /// The configuration file.
    File(PathBuf),
    /// Nobody set it.
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

/// All values that somebody set, and the defaults.
#[derive(Debug)]
pub struct Layers {
    values: BTreeMap<&'static str, (Raw, Origin)>,
    misspelt: Vec<Misspelt>,
    exposed: Vec<Exposed>,
    file: Option<PathBuf>,
}

/// The file that is read if it exists and none is named.
pub const DEFAULT_FILE: &str = "/etc/uzima-backup/config.toml";

impl Layers {
    /// Lays flags over the environment over the file `config` (else `UZIMA_BACKUP_CONFIG`, else
    /// [`DEFAULT_FILE`] if it exists).
    pub fn load(flags: BTreeMap<&'static str, Raw>, env: Env<'_>, config: Option<&Path>) -> Result<Layers> {
        // One that may not be looked at is read all the same: the error says so, where defaults would not.
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
        Ok(Layers { values, misspelt: Vec::new(), exposed: Vec::new(), file: path })
    }

    /// Looks for what is no error, but for a person to know: among the `names` of all variables for those that
    /// were meant to be settings, and for files of settings that are open to other users.
    pub fn looked_over(self, names: impl Iterator<Item = String>, env: Env<'_>) -> Layers {
        let exposed = exposed::files(&self, env, self.file.as_deref());
        Layers { misspelt: misspelt::among(names), exposed, ..self }
    }

    /// Variables that were meant to be settings, if they were [looked over](Layers::looked_over).
    pub fn misspelt(&self) -> &[Misspelt] {
        &self.misspelt
    }

    /// Files of settings that are open to other users, if they were [looked over](Layers::looked_over).
    pub fn exposed(&self) -> &[Exposed] {
        &self.exposed
    }

    /// Those of an environment, with no file.
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

    /// Where a setting's value came from.
    pub fn origin(&self, key: &'static str) -> Option<&Origin> {
        self.values.get(key).map(|(_, origin)| origin)
    }

    /// Whether somebody set it.
    pub fn is_set(&self, key: &'static str) -> bool {
        !matches!(self.origin(key), None | Some(Origin::Default))
    }

    /// The setting understood by `parse`; the error names it, its value and where that came from.
    pub fn parsed<T, E: fmt::Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> std::result::Result<T, E>,
    ) -> Result<Option<T>> {
        self.text(key).map(|text| parse(text).map_err(|e| self.wrong(key, &e.to_string()))).transpose()
    }

    /// An error about a setting's value; its next step is to correct it where it came from.
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

/// Whether it is clear what of a value of `records` is a password.
fn shows_no_more(text: &str) -> bool {
    text == "off" || text.starts_with("mongodb://") || text.starts_with("mongodb+srv://")
}

#[cfg(test)]
mod tests;
