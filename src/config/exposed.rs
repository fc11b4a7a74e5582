//! Files of settings that are open to other users: secrets that everybody may read, and a configuration file that others
//! can change. The file of another program may have to be readable, so none is an error, but a person wants to know.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::env::Env;
use super::layers::{Layers, Origin};
use super::table::SETTINGS;
use crate::base::files;
use crate::base::files::{Strictness, Writable};

/// A file of settings that is open to other users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exposed {
    /// Everybody may read a secret.
    Secret {
        /// The variable that names the file.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// Others can change the configuration file, or a folder or link on its path.
    Configuration(Writable),
}

impl Exposed {
    /// The command that closes it.
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
                write!(f, "every user may read {}, the secret that {variable} names", path.display())?;
            }
            Exposed::Configuration(found) => {
                write!(f, "the configuration file is not safe, because {found}")?
            }
        }
        write!(f, ": {}", self.remedy())
    }
}

/// Those among the files that settings came from: secrets in the order of the table, then the configuration `file`.
pub fn files(layers: &Layers, env: Env<'_>, file: Option<&Path>) -> Vec<Exposed> {
    let named = SETTINGS.iter().filter(|setting| setting.secret).filter_map(|setting| {
        let Some(Origin::Environment(variable)) = layers.origin(setting.key) else { return None };
        // The other variable of a setting holds the secret itself.
        let path = PathBuf::from((variable != setting.env).then(|| env(variable)).flatten()?);
        is_open(&path).then(|| Exposed::Secret { variable: variable.clone(), path })
    });
    // Nobody can change the content of /dev/null.
    let file = file.filter(|file| file.is_file());
    let writable =
        file.and_then(|file| files::writable_by_others(file, Strictness::Configuration).ok().flatten());
    named.chain(writable.map(Exposed::Configuration)).collect()
}

/// Whether everybody may read a file, and may go through the folders to it.
fn is_open(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let may = |path: &Path, bit| path.metadata().is_ok_and(|meta| meta.permissions().mode() & bit != 0);
    path.is_file() && may(&path, 0o004) && path.ancestors().skip(1).all(|folder| may(folder, 0o001))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    #[test]
    fn a_file_is_told_when_everybody_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("uri");
        fs::write(&path, "mongodb://u:p@h\n").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let variable = |name: &str| (name == "MONGO_URI_FILE").then(|| path.clone().into_os_string());
        let layers = Layers::load(BTreeMap::new(), &variable, Some(Path::new("/dev/null"))).unwrap();
        for (folder, file, told) in [
            (0o755, 0o644, true),
            (0o755, 0o444, true),
            (0o755, 0o640, false),
            (0o755, 0o400, false),
            (0o700, 0o644, false),
        ] {
            mode(dir.path(), folder);
            mode(&path, file);
            let found = files(&layers, &variable, None);
            assert_eq!(!found.is_empty(), told, "{folder:o} {file:o}");
            if let Some(exposed) = found.first() {
                let name = path.display();
                let words = format!(
                    "every user may read {name}, the secret that MONGO_URI_FILE names: chmod 640 {name}"
                );
                assert_eq!(exposed.to_string(), words);
            }
        }
        let direct = |name: &str| (name == "MONGO_URI").then(|| "mongodb://u:p@h".into());
        let layers = Layers::load(BTreeMap::new(), &direct, Some(Path::new("/dev/null"))).unwrap();
        assert_eq!(files(&layers, &direct, None), []);
    }

    #[test]
    fn a_configuration_file_is_named_when_others_can_change_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "").unwrap();
        let layers = Layers::of(&[]);
        for (mode, words) in [(0o644, None), (0o664, Some("0664")), (0o646, Some("0646"))] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = files(&layers, &|_| None, Some(&path));
            assert_eq!(found.len(), usize::from(words.is_some()), "{mode:o}");
            if let Some(words) = words {
                let (text, path) = (found[0].to_string(), path.display());
                assert!(text.contains(&format!("others can change {path} (mode {words}, user ")), "{text}");
                assert!(text.ends_with(&format!(": chmod go-w {path}")), "{text}");
            }
        }
        assert_eq!(files(&layers, &|_| None, Some(Path::new("/dev/null"))), []);
    }
}
