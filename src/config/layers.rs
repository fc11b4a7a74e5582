//! The layers of settings. Flags take precedence over the environment, the environment over the file, and the
//! file over the defaults. Each value keeps its origin.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::file;
use super::table::{
    COPY, COPY_SETTINGS, CopySetting, Origin, Raw, SETTINGS, Setting, by_key, copy_setting_like,
};
use crate::base::beneath::read_named;
use crate::base::error::{Error, Result};
use crate::base::keys::Recipient;
use crate::base::minisign::PublicKey;
use crate::base::secret::hide_login;

/// The unparsed values of all settings that are set or have a default.
#[derive(Debug, Clone)]
pub struct Layers {
    values: BTreeMap<&'static str, (Raw, Origin)>,
    /// The values that flags replaced.
    beneath_flags: BTreeMap<&'static str, Raw>,
    /// The configuration file.
    pub(super) file: Option<PathBuf>,
    /// The copies, in their order.
    copies: Vec<CopyLayers>,
    /// The copy whose place these values have.
    copy: Option<String>,
    /// The variables of [`INHERITED`] that are set.
    pub(super) inherited: Vec<(&'static str, OsString)>,
}

/// The variables that hooks inherit. All others stay in this process, because they may be secret.
const INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// The values that are set for a copy, by the keys of the settings with the same meaning for the first place.
#[derive(Debug, Clone)]
struct CopyLayers {
    name: String,
    values: BTreeMap<&'static str, (Raw, Origin)>,
}

/// The configuration file if no other is named.
pub const DEFAULT_FILE: &str = "/etc/uzima-backup/config.toml";

/// Reads an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Layers {
    pub(super) fn load(
        flags: BTreeMap<&'static str, Raw>,
        env: Env<'_>,
        config: Option<&Path>,
    ) -> Result<Layers> {
        // An unreadable file counts as existing, because its error is better than silent defaults.
        let exists = |path: &PathBuf| path.try_exists().unwrap_or(true);
        let file = named_file(env, config)?.or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(exists));
        let (mut values, mut copies) = (BTreeMap::new(), Vec::new());
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                values.insert(setting.key, (Raw::Text(default.into()), Origin::Default));
            }
        }
        if let Some(path) = &file {
            let read = file::read(path)?;
            let of_file = |(key, raw)| (key, (raw, Origin::File(path.clone())));
            values.extend(read.values.into_iter().map(of_file));
            copies.extend(read.copies.into_iter().map(|copy| CopyLayers {
                name: copy.name,
                values: copy.values.into_iter().map(of_file).collect(),
            }));
        }
        for setting in SETTINGS {
            if let Some((text, name)) = variable(setting.env, setting.file_variable(), env)? {
                let raw = match setting.list {
                    true if name != setting.env => Raw::List(lines(&text)),
                    true => Raw::List(text.split(',').map(|item| item.trim().to_string()).collect()),
                    false => Raw::Text(text),
                };
                values.insert(setting.key, (raw, Origin::Environment(name)));
            }
        }
        let of_copy: BTreeMap<_, _> = copy_variables(env)?;
        if !of_copy.is_empty() {
            match copies.iter_mut().find(|copy| copy.name == COPY) {
                Some(copy) => copy.values.extend(of_copy),
                None => copies.push(CopyLayers { name: COPY.into(), values: of_copy }),
            }
        }
        let mut beneath_flags = BTreeMap::new();
        for (key, raw) in flags {
            let replaced = values.insert(key, (raw, Origin::Flag));
            beneath_flags.extend(replaced.map(|(raw, _)| (key, raw)));
        }
        let inherited = INHERITED.into_iter().filter_map(|name| Some((name, env(name)?))).collect();
        Ok(Layers { values, beneath_flags, file, copies, copy: None, inherited })
    }

    /// The same values, with one that a flag sets.
    pub(super) fn with_flag(&self, key: &'static str, raw: Raw) -> Layers {
        let mut layers = self.clone();
        layers.values.insert(key, (raw, Origin::Flag));
        layers
    }

    /// The same values, with some of the copy [`COPY`] that a flag or an answer sets.
    pub(super) fn with_copy(&self, values: BTreeMap<&'static str, Raw>) -> Layers {
        let mut layers = self.clone();
        let values = values.into_iter().map(|(key, raw)| (key, (raw, Origin::Flag)));
        match layers.copies.iter_mut().find(|copy| copy.name == COPY) {
            Some(copy) => copy.values.extend(values),
            None => layers.copies.push(CopyLayers { name: COPY.into(), values: values.collect() }),
        }
        layers
    }

    /// The settings that are set for a copy, with their values, secrets included.
    pub fn values_of_copy(&self, name: &str) -> Vec<(&'static CopySetting, &Raw, &Origin)> {
        let copy = self.copies.iter().find(|copy| copy.name == name);
        let row = |setting: &'static CopySetting| {
            let (raw, origin) = copy?.values.get(setting.like)?;
            Some((setting, raw, origin))
        };
        COPY_SETTINGS.iter().filter_map(row).collect()
    }

    /// The names of the copies, in their order.
    pub fn copy_names(&self) -> impl Iterator<Item = &str> {
        self.copies.iter().map(|copy| copy.name.as_str())
    }

    /// The copy whose place these values have; `None` for the first place.
    pub fn copy(&self) -> Option<&str> {
        self.copy.as_deref()
    }

    /// The same values, with the place of a copy instead of the first one, and without copies. A copy has the retention of the
    /// first place and, in a bucket of the same service, also its login, if it does not set its own. `None` if there is no copy
    /// with this name.
    pub(super) fn of_copy(&self, name: &str) -> Option<Layers> {
        let copy = self.copies.iter().find(|copy| copy.name == name)?;
        let mut layers = Layers { copies: Vec::new(), copy: Some(name.into()), ..self.clone() };
        let of =
            |values: &BTreeMap<&'static str, (Raw, Origin)>, key| values.get(key).map(|(raw, _)| raw.clone());
        let endpoint = "s3.endpoint_url";
        let same_service = of(&self.values, endpoint) == of(&copy.values, endpoint);
        let has_login = LOGIN.iter().any(|key| copy.values.contains_key(key));
        for setting in COPY_SETTINGS {
            let key = setting.like;
            let kept = match key {
                "s3.region" | "s3.ca_bundle" => same_service,
                _ if LOGIN.contains(&key) => same_service && !has_login,
                _ => key != "dir" && !key.starts_with("s3."),
            };
            if !kept {
                layers.values.remove(key);
                let default = setting.setting().default.map(|text| (Raw::Text(text.into()), Origin::Default));
                layers.values.extend(default.map(|value| (key, value)));
            }
        }
        layers.values.extend(copy.values.clone());
        Some(layers)
    }

    /// Removes the copies.
    pub(super) fn without_copies(&self) -> Layers {
        Layers { copies: Vec::new(), ..self.clone() }
    }

    /// The settings of a copy with their values (secrets hidden) and origins, as far as they are set for it.
    pub fn shown_of_copy(&self, name: &str) -> Vec<(&'static CopySetting, String, &Origin)> {
        let copy = self.copies.iter().find(|copy| copy.name == name);
        let row = |setting: &'static CopySetting| {
            let (raw, origin) = copy?.values.get(setting.like)?;
            Some((setting, shown(setting.setting(), raw), origin))
        };
        COPY_SETTINGS.iter().filter_map(row).collect()
    }

    /// The texts of a setting of all copies that set it, secrets included.
    pub(super) fn texts_of_copies(&self, key: &'static str) -> impl Iterator<Item = &str> {
        self.copies.iter().filter_map(move |copy| match &copy.values.get(key)?.0 {
            Raw::Text(text) => Some(text.as_str()),
            Raw::List(_) => None,
        })
    }

    /// The settings of these variables, without a file.
    #[cfg(test)]
    pub(crate) fn of(env: &[(&str, &str)]) -> Layers {
        let value = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        Layers::load(BTreeMap::new(), &value, Some(Path::new("/dev/null"))).expect("they can be read")
    }

    /// The text of a setting, secrets included; `None` if the setting is a list, or is not set and has no
    /// default.
    pub fn text(&self, key: &'static str) -> Option<&str> {
        match &self.values.get(key)?.0 {
            Raw::Text(text) => Some(text),
            Raw::List(_) => None,
        }
    }

    /// The items of a setting that is a list.
    pub fn list(&self, key: &'static str) -> &[String] {
        match self.values.get(key) {
            Some((Raw::List(items), _)) => items,
            _ => &[],
        }
    }

    /// The items of a list without flags.
    pub(super) fn configured_list(&self, key: &'static str) -> &[String] {
        match (self.origin(key), self.beneath_flags.get(key)) {
            (Some(Origin::Flag), Some(Raw::List(items))) => items,
            (Some(Origin::Flag), _) => &[],
            _ => self.list(key),
        }
    }

    pub fn origin(&self, key: &'static str) -> Option<&Origin> {
        self.values.get(key).map(|(_, origin)| origin)
    }

    /// Returns true if the setting is set by a flag, a variable or the file.
    pub fn is_set(&self, key: &'static str) -> bool {
        !matches!(self.origin(key), None | Some(Origin::Default))
    }

    /// The parsed value of a setting. The error names the setting, its value and its origin before the reason of `parse`.
    pub(super) fn parsed<T, E: Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>> {
        self.text(key).map(|text| parse(text).map_err(|e| self.wrong(key, &e.to_string()))).transpose()
    }

    /// The parsed value of a setting that has a default.
    pub(super) fn value<T, E: Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T> {
        Ok(self.parsed(key, parse)?.expect("the table has a default"))
    }

    /// The items of a list, parsed.
    pub(super) fn items<T: FromStr<Err = String>>(&self, key: &'static str) -> Result<Vec<T>> {
        self.list(key).iter().map(|item| item.parse().map_err(|e: String| self.wrong(key, &e))).collect()
    }

    /// The value as an absolute path.
    pub(super) fn absolute(&self, key: &'static str) -> Result<Option<PathBuf>> {
        self.parsed(key, |text| match PathBuf::from(text) {
            path if path.is_absolute() => Ok(path),
            _ => Err(NOT_ABSOLUTE),
        })
    }

    /// The value of a setting that has a default, as a length of time.
    pub(super) fn duration(&self, key: &'static str) -> Result<Duration> {
        self.value(key, duration_in(key))
    }

    /// An error about a setting's value. Its next step names the place where the value is set.
    pub(super) fn wrong(&self, key: &'static str, why: &str) -> Error {
        let setting = by_key(key).expect("the key is in the table");
        let of_copy = self.copy.as_ref().zip(copy_setting_like(key));
        let name = match &of_copy {
            Some((copy, setting)) => format!("copies: {} of '{copy}'", setting.key),
            None => key.to_string(),
        };
        let (origin, place) = match self.origin(key) {
            Some(Origin::Flag) => (format!(" (the flag {})", setting.flag()), setting.flag()),
            Some(origin @ Origin::Environment(name)) => (format!(" ({origin})"), name.clone()),
            Some(origin @ Origin::File(path)) => {
                (format!(" ({origin})"), format!("{name} in {}", path.display()))
            }
            Some(origin @ Origin::Default) => (format!(" ({origin})"), format!("{name} ({})", setting.env)),
            None if of_copy.is_some() => (String::new(), name.clone()),
            None => (String::new(), format!("{name} ({})", setting.env)),
        };
        let without = match setting.default {
            Some(default) => format!("; the default is {}", setting.measured(default)),
            None => ", or leave it out".into(),
        };
        let value = match self.values.get(key) {
            Some((Raw::Text(text), _)) if !setting.secret => format!(" = '{text}'"),
            // A secret key may be there by mistake.
            Some((Raw::List(_), _)) if PUBLIC_KEYS.contains(&key) => String::new(),
            Some((Raw::List(items), _)) => format!(" = {items:?}"),
            _ => String::new(),
        };
        Error::usage(format!("{name}{value}{origin}: {why}")).hint(format!("Correct {place}{without}"))
    }

    /// Checks that a flag does not set a connection string with a password.
    ///
    /// # Errors
    /// Returns an error if it does: other users can see the flags of a process.
    pub fn no_password_in_flag(&self, key: &'static str) -> Result<()> {
        let (uri, setting) =
            (self.text(key).unwrap_or_default(), by_key(key).expect("the key is in the table"));
        if self.origin(key) != Some(&Origin::Flag) || hide_login(uri) == uri {
            return Ok(());
        }
        let (flag, env) = (setting.flag(), setting.env);
        Err(Error::usage(format!("{flag} holds a password, which everybody on this machine can see"))
            .hint(format!("Give the connection string in the environment: {env}, or {env}_FILE for a file")))
    }

    /// All settings with their values (secrets hidden) and origins, in the order of the table.
    pub fn shown(&self) -> Vec<(&'static Setting, String, Option<&Origin>)> {
        let shown = |setting: &'static Setting| match self.values.get(setting.key) {
            Some((raw, origin)) => (setting, shown(setting, raw), Some(origin)),
            None => (setting, String::new(), None),
        };
        SETTINGS.iter().map(shown).collect()
    }
}

/// The value of a setting without secrets.
fn shown(setting: &Setting, raw: &Raw) -> String {
    match raw {
        Raw::List(items) if PUBLIC_KEYS.contains(&setting.key) => {
            let shown = |item: &String| public_key(item).unwrap_or_else(|| "(hidden)".into());
            items.iter().map(shown).collect::<Vec<_>>().join(", ")
        }
        Raw::List(items) => items.join(", "),
        Raw::Text(text) if !setting.secret => text.clone(),
        Raw::Text(text) if setting.key.ends_with("_uri") || is_off_or_uri(setting, text) => hide_login(text),
        Raw::Text(_) => "(hidden)".into(),
    }
}

/// The settings of a login at an S3 service.
const LOGIN: [&str; 3] = ["s3.access_key_id", "s3.secret_access_key", "s3.session_token"];

/// The settings with public keys, among which a secret key may be by mistake.
const PUBLIC_KEYS: [&str; 2] = ["recipients", "trusted_keys"];

/// A public key in its canonical form; `None` for any other text.
fn public_key(text: &str) -> Option<String> {
    let signs = || text.parse::<PublicKey>().map(|key| key.to_string());
    text.parse::<Recipient>().map(|key| key.to_string()).or_else(|_| signs()).ok()
}

/// The items of a file with an item in each line. Empty lines, lines that begin with `#`, and the comments of minisign's files
/// do not count.
fn lines(text: &str) -> Vec<String> {
    let comment = |line: &str| line.starts_with('#') || line.starts_with("untrusted comment:");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !comment(line));
    lines.map(str::to_string).collect()
}

/// Returns true for a value of `records` in which the password, if any, can be recognised. Only then can the
/// rest be shown.
fn is_off_or_uri(setting: &Setting, text: &str) -> bool {
    let schemes = ["mongodb://", "mongodb+srv://"];
    setting.key == "records" && (text == "off" || schemes.iter().any(|scheme| text.starts_with(scheme)))
}

pub(super) const NOT_ABSOLUTE: &str = "it must be an absolute path: cron starts in another directory";

/// A parser for `true` and `false`.
pub(super) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("it must be true or false"),
    }
}

/// A parser for whole numbers from `least`.
pub(super) fn at_least<T: FromStr + PartialOrd + Display>(least: T) -> impl Fn(&str) -> Result<T, String> {
    move |text| match text.parse::<T>() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("it must be a whole number, at least {least}")),
    }
}

/// A parser for whole numbers within a range.
pub(super) fn within<T: FromStr + PartialOrd + Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> {
    move |text| match text.parse::<T>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("it must be a whole number from {} to {}", range.start(), range.end())),
    }
}

/// A parser for a time, at least 1, in the unit of the setting.
pub(super) fn duration_in(key: &'static str) -> impl Fn(&str) -> Result<Duration, String> {
    let seconds = match by_key(key).and_then(|setting| setting.unit) {
        Some("days") => 86_400,
        Some("hours") => 3600,
        Some("minutes") => 60,
        _ => 1,
    };
    move |text| at_least(1_u32)(text).map(|number| Duration::from_secs(u64::from(number) * seconds))
}

/// The configuration file that a flag or `UZIMA_BACKUP_CONFIG` names.
///
/// # Errors
/// Returns an error if the variable is set, but empty.
pub fn named_file(env: Env<'_>, flag: Option<&Path>) -> Result<Option<PathBuf>> {
    match (flag, env("UZIMA_BACKUP_CONFIG")) {
        (Some(flag), _) => Ok(Some(flag.to_path_buf())),
        (None, Some(path)) if path.is_empty() => Err(empty("UZIMA_BACKUP_CONFIG")),
        (None, path) => Ok(path.map(PathBuf::from)),
    }
}

fn empty(name: &str) -> Error {
    Error::usage(format!("the environment variable {name} is set, but empty"))
        .hint(format!("Give {name} a value, or unset it"))
}

/// The values that variables set for the copy [`COPY`].
fn copy_variables(env: Env<'_>) -> Result<BTreeMap<&'static str, (Raw, Origin)>> {
    let mut values = BTreeMap::new();
    for setting in COPY_SETTINGS {
        let Some(name) = setting.env else { continue };
        if let Some((text, name)) = variable(name, setting.file_variable(), env)? {
            values.insert(setting.like, (Raw::Text(text), Origin::Environment(name)));
        }
    }
    Ok(values)
}

/// The value of a variable, or of the file that its `_FILE` variable names, with the variable's name.
fn variable(own: &str, in_file: Option<String>, env: Env<'_>) -> Result<Option<(String, String)>> {
    let read = |name: &str| -> Result<Option<String>> {
        let Some(value) = env(name) else { return Ok(None) };
        let text = value.into_string().map_err(|_| {
            Error::usage(format!("the environment variable {name} is not UTF-8"))
                .hint(format!("Correct {name}, or unset it"))
        })?;
        match text.is_empty() {
            false => Ok(Some(text)),
            // Other programs use the AWS variables, too. An empty variable of this tool is a mistake.
            true if name.starts_with("AWS_") => Ok(None),
            true => Err(empty(name)),
        }
    };
    let direct = read(own)?;
    let Some(name) = in_file else {
        return Ok(direct.map(|text| (text, own.to_string())));
    };
    match (direct, read(&name)?) {
        (Some(_), Some(_)) => {
            Err(Error::usage(format!("both {own} and {name} are set")).hint("Set only one of them"))
        }
        (None, Some(path)) => Ok(Some((named_value(own, &name, &path)?, name))),
        (direct, None) => Ok(direct.map(|text| (text, own.to_string()))),
    }
}

/// Reads the value of the variable `own` in the file that the variable `name` names.
fn named_value(own: &str, name: &str, path: &str) -> Result<String> {
    let holds = format!("it must contain only the value of {own}");
    let text = read_named(Path::new(path), 64 << 10)
        .and_then(|(bytes, _)| String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8")))
        .map_err(|e| {
            let step = match e.kind() {
                ErrorKind::NotFound => format!("Create that file, or correct {name}; {holds}"),
                ErrorKind::PermissionDenied => format!("Let this user read that file, or correct {name}"),
                _ => format!("Correct {name}, or the file; {holds}"),
            };
            Error::usage(format!("cannot read {path}, which {name} names")).hint(step).caused_by(e)
        })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Error::usage(format!("{path}, which {name} names, is empty"))
            .hint(format!("Fill that file: {holds}"))),
        text => Ok(text.to_string()),
    }
}

#[cfg(test)]
mod tests;
