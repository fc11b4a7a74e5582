//! The environment: the variable of each setting, or the file that its `_FILE` variable names, and
//! `UZIMA_BACKUP_CONFIG`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::table::Setting;
use crate::base::beneath::read_named;
use crate::base::error::{Error, Result};

/// The largest file of a secret in bytes.
const LARGEST: u64 = 64 << 10;

/// The environment, as far as settings are concerned.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<std::ffi::OsString>;

/// The configuration file that a flag names, else `UZIMA_BACKUP_CONFIG`.
///
/// # Errors
/// When the variable is empty: it was meant to be set.
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
        // The AWS variables are not ours alone; one of ours that is empty was meant to be set.
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
