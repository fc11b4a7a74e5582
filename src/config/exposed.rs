//! Files with a secret that everybody on the machine may read. The file of another program may have to be, so
//! one is no error, but a person wants to hear of it.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::env::Env;
use super::layers::{Layers, Origin};
use super::table::SETTINGS;

/// A secret's file that everybody may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The variable that names it.
    pub variable: String,
    /// The file.
    pub path: PathBuf,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "every user may read {path}, the secret that {} names: chmod 640 {path}", self.variable)
    }
}

/// Those among the files that settings came from, in the order of the table.
pub fn files(layers: &Layers, env: Env<'_>) -> Vec<Exposed> {
    let named = SETTINGS.iter().filter(|setting| setting.secret).filter_map(|setting| {
        let Some(Origin::Environment(variable)) = layers.origin(setting.key) else { return None };
        // The other variable of a setting holds the secret itself.
        let path = (variable != setting.env).then(|| env(variable)).flatten()?;
        Some(Exposed { variable: variable.clone(), path: path.into() })
    });
    named.filter(|exposed| is_open(&exposed.path)).collect()
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
            let found = files(&layers, &variable);
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
        assert_eq!(files(&layers, &direct), []);
    }
}
