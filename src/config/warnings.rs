//! Warnings about settings: variables that look like misspelt settings, and files with settings that other users can read or
//! change.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::layers::{Env, Layers};
use super::table::{COPY_SETTINGS, CopySetting, Origin, SETTINGS};
use crate::base::files::{self, Strictness, Writable};
use crate::base::suggest;

/// A variable whose name looks like a misspelt setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misspelt {
    pub name: String,
    /// The variable that was probably meant.
    pub near: String,
}

impl fmt::Display for Misspelt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the variable {} is set, which is not a setting: did you mean {}?", self.name, self.near)
    }
}

/// Names that other tools use for some settings.
const ELSEWHERE: &[(&str, &str)] = &[
    ("BACKUP_CONFIG", "UZIMA_BACKUP_CONFIG"),
    ("BACKUP_STATE_DIR", "UZIMA_BACKUP_STATE_DIR"),
    ("MONGODB_URI", "MONGO_URI"),
    ("MONGO_URL", "MONGO_URI"),
    ("S3_BUCKET", "S3_BACKUP_BUCKET"),
    ("S3_ENDPOINT", "S3_ENDPOINT_URL"),
    ("S3_PREFIX", "S3_BACKUP_PREFIX"),
];

/// Returns the misspelt settings among the `names` of all variables, sorted. If the setting itself is set as well, the
/// variable probably belongs to another program, and is skipped.
pub(super) fn misspelt(names: impl Iterator<Item = String>) -> Vec<Misspelt> {
    let (known, mut names) = (known(), names.collect::<Vec<String>>());
    names.sort();
    let plain = |name: &str| name.strip_suffix("_FILE").unwrap_or(name).to_string();
    let is_set = |ours: &str| names.iter().any(|name| plain(name) == plain(ours));
    let near = |name: &str| {
        let (family, rest) = name.split_at(name.find('_')? + 1);
        if let Some((_, ours)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
            return Some(ours.to_string());
        }
        // The AWS tools have many variables that are not in the table.
        if family == "AWS_" {
            return None;
        }
        // The common prefix of a family must not count as similarity.
        let others = known.iter().filter_map(|known| known.strip_prefix(family));
        suggest::meant(rest, others).map(|near| format!("{family}{near}"))
    };
    let strange = names.iter().filter(|name| !known.contains(name));
    let meant = |name: &String| Some((name.clone(), near(name).filter(|ours| !is_set(ours))?));
    strange.filter_map(meant).map(|(name, near)| Misspelt { name, near }).collect()
}

/// The names of all variables of this tool.
fn known() -> Vec<String> {
    let files = SETTINGS.iter().filter_map(|setting| setting.file_variable());
    let own = SETTINGS.iter().map(|setting| setting.env.to_string());
    let of_copy = COPY_SETTINGS.iter().filter_map(|setting| setting.env.map(str::to_string));
    let files = files.chain(COPY_SETTINGS.iter().filter_map(CopySetting::file_variable));
    own.chain(of_copy).chain(files).chain(["UZIMA_BACKUP_CONFIG".into()]).collect()
}

/// A file with settings that other users can read or change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposed {
    /// Every user can read the file that this variable names, which contains a secret.
    Secret { variable: String, path: PathBuf },
    /// Other users can change the configuration file, or a folder or link on its path.
    Configuration(Writable),
}

impl Exposed {
    /// The command that removes the access.
    pub fn remedy(&self) -> String {
        match self {
            Exposed::Secret { path, .. } => format!("chmod 640 {}", path.display()),
            Exposed::Configuration(found) => found.remedy(),
        }
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exposed::Secret { variable, path } => {
                write!(f, "every user can read {}, the secret that {variable} names", path.display())?;
            }
            Exposed::Configuration(found) => {
                write!(f, "the configuration file is not safe, because {found}")?;
            }
        }
        write!(f, ": {}", self.remedy())
    }
}

/// Returns the exposed files that settings come from: secrets in the order of the table, then the configuration file.
pub(super) fn exposed(layers: &Layers, env: Env<'_>) -> Vec<Exposed> {
    let named = SETTINGS.iter().filter(|setting| setting.secret).filter_map(|setting| {
        let Some(Origin::Environment(variable)) = layers.origin(setting.key) else { return None };
        // The setting's own variable contains the secret, and names no file.
        let path = PathBuf::from((variable != setting.env).then(|| env(variable)).flatten()?);
        is_open(&path).then(|| Exposed::Secret { variable: variable.clone(), path })
    });
    let of_copy = COPY_SETTINGS.iter().filter_map(CopySetting::file_variable).filter_map(|variable| {
        let path = PathBuf::from(env(&variable)?);
        is_open(&path).then_some(Exposed::Secret { variable, path })
    });
    // /dev/null cannot be changed.
    let file = layers.file.as_deref().filter(|file| file.is_file());
    let writable =
        file.and_then(|file| files::writable_by_others(file, Strictness::Configuration).ok().flatten());
    let signing = layers.text("signing_key_file").map(PathBuf::from).filter(|path| is_open(path));
    let signing = signing.map(|path| Exposed::Secret { variable: "BACKUP_SIGNING_KEY_FILE".into(), path });
    named.chain(of_copy).chain(signing).chain(writable.map(Exposed::Configuration)).collect()
}

/// Returns true if everybody may read a file and pass the folders on its path.
fn is_open(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let may = |path: &Path, bit| path.metadata().is_ok_and(|meta| meta.permissions().mode() & bit != 0);
    path.is_file() && may(&path, 0o004) && path.ancestors().skip(1).all(|folder| may(folder, 0o001))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str]) -> Vec<(String, String)> {
        misspelt(names.iter().map(ToString::to_string)).into_iter().map(|m| (m.name, m.near)).collect()
    }

    #[test]
    fn a_misspelt_variable_is_reported_with_the_one_that_was_meant() {
        for (name, near) in [
            ("BACKUP_FORMT", "BACKUP_FORMAT"),
            ("S3_BACKUP_BUKET", "S3_BACKUP_BUCKET"),
            ("MONGO_URL", "MONGO_URI"),
            ("MONGO_URI_FLE", "MONGO_URI_FILE"),
            ("BACKUP_RETENTION_DAY", "BACKUP_RETENTION_DAYS"),
            ("RESTORE_URL", "RESTORE_URI"),
            ("ADMIN_EMAIL", "ADMIN_EMAILS"),
            ("UZIMA_BACKUP_CONFG", "UZIMA_BACKUP_CONFIG"),
        ] {
            assert_eq!(found(&[name]), [(name.to_string(), near.to_string())]);
        }
        assert_eq!(found(&["MONGO_URL", "BACKUP_FORMT"]).len(), 2);
        assert_eq!(found(&["S3_BUCKET"]), [("S3_BUCKET".to_string(), "S3_BACKUP_BUCKET".to_string())]);
        assert_eq!(found(&["MONGODB_URI", "MONGO_URI_FILE"]), [], "another program uses it");
        assert_eq!(found(&["MONGO_URL", "MONGO_URI"]), [], "Meteor's");
        assert_eq!(found(&["ADMIN_EMAIL", "ADMIN_EMAILS"]), []);
    }

    #[test]
    fn variables_of_other_programs_are_not_reported() {
        let known = known();
        assert_eq!(found(&known.iter().map(String::as_str).collect::<Vec<_>>()), []);
        let others = [
            "AWS_REGIO",
            "AWS_ACCESS_KEY",
            "BACKUP_SCRIPTS",
            "MONGO_INITDB_ROOT_USERNAME",
            "S3_HOME",
            "PATH",
            "HOME",
        ];
        assert_eq!(found(&others), []);
    }
}

#[cfg(test)]
mod exposed_tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    #[test]
    fn a_secret_that_everybody_may_read_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uri");
        fs::write(&path, "mongodb://u:p@h\n").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let variable = |name: &str| (name == "MONGO_URI_FILE").then(|| path.clone().into_os_string());
        let layers = Layers::load(BTreeMap::new(), &variable, Some(Path::new("/dev/null"))).unwrap();
        for (folder, file, reported) in [
            (0o755, 0o644, true),
            (0o755, 0o444, true),
            (0o755, 0o640, false),
            (0o755, 0o400, false),
            (0o700, 0o644, false),
        ] {
            mode(dir.path(), folder);
            mode(&path, file);
            let found = exposed(&layers, &variable);
            assert_eq!(!found.is_empty(), reported, "{folder:o} {file:o}");
            if let Some(exposed) = found.first() {
                let name = path.display();
                let words = format!(
                    "every user can read {name}, the secret that MONGO_URI_FILE names: chmod 640 {name}"
                );
                assert_eq!(exposed.to_string(), words);
            }
        }
        mode(dir.path(), 0o755);
        mode(&path, 0o644);
        let signing = Layers::of(&[("BACKUP_SIGNING_KEY_FILE", path.to_str().unwrap())]);
        assert!(exposed(&signing, &|_| None)[0].to_string().contains("that BACKUP_SIGNING_KEY_FILE names"));
        let direct = |name: &str| (name == "MONGO_URI").then(|| "mongodb://u:p@h".into());
        let layers = Layers::load(BTreeMap::new(), &direct, Some(Path::new("/dev/null"))).unwrap();
        assert_eq!(exposed(&layers, &direct), []);
    }

    #[test]
    fn a_configuration_file_that_others_can_change_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "").unwrap();
        let mut layers = Layers::of(&[]);
        layers.file = Some(path.clone());
        for (mode, words) in [(0o644, None), (0o664, Some("0664")), (0o646, Some("0646"))] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = exposed(&layers, &|_| None);
            assert_eq!(found.len(), usize::from(words.is_some()), "{mode:o}");
            if let Some(words) = words {
                let (text, path) = (found[0].to_string(), path.display());
                assert!(
                    text.contains(&format!("other users can change {path} (mode {words}, user ")),
                    "{text}"
                );
                assert!(text.ends_with(&format!(": chmod go-w {path}")), "{text}");
            }
        }
        assert_eq!(exposed(&Layers::of(&[]), &|_| None), [], "/dev/null");
    }
}
