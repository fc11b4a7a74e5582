//! Finding mongodump.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::process;

/// A mongodump that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMongodump {
    /// The program.
    pub path: PathBuf,
    /// Its version, `a.b.c`.
    pub version: String,
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoMongodump(String);

impl fmt::Display for NoMongodump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where packages put it.
const FOLDERS: [&str; 5] =
    ["/usr/bin", "/usr/local/bin", "/opt/mongodb-database-tools/bin", "/opt/homebrew/bin", "/snap/bin"];

/// The oldest version whose archive this tool relies on.
const OLDEST: (u32, u32) = (100, 5);

/// Looks at `configured` alone if it is given, else in `search_path` (the value of PATH) and the usual
/// folders.
pub async fn find(
    configured: Option<&Path>,
    search_path: Option<&str>,
) -> Result<FoundMongodump, NoMongodump> {
    if let Some(path) = configured {
        return probe(path).await;
    }
    match process::locate("mongodump", search_path, &FOLDERS) {
        Some(path) => probe(&path).await,
        None => Err(NoMongodump("mongodump is not installed (looked in PATH and the usual folders)".into())),
    }
}

async fn probe(path: &Path) -> Result<FoundMongodump, NoMongodump> {
    if let Err(why) = process::trusted(path) {
        log::warn!("{why}");
        return Err(NoMongodump(why));
    }
    let (success, text) = process::version(path)
        .await
        .map_err(|e| NoMongodump(format!("{} cannot be run: {e}", path.display())))?;
    let version = text.lines().find_map(|line| line.strip_prefix("mongodump version:")).map(str::trim);
    let Some(version) = version.filter(|_| success) else {
        return Err(NoMongodump(format!("{} does not answer --version as mongodump does", path.display())));
    };
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        let (major, minor) = OLDEST;
        return Err(NoMongodump(format!(
            "{} is version {version}; {major}.{minor} or later is needed",
            path.display()
        )));
    }
    Ok(FoundMongodump { path: path.into(), version: version.to_string() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn program(dir: &Path, name: &str, script: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn the_version_decides() {
        for (answer, ok) in [
            ("echo 'mongodump version: 100.18.0'; echo 'git version: x'", true),
            ("echo 'mongodump version: 100.4.1'", false),
            ("echo 'mongodump version: built-without-version'", false),
            ("echo hello", false),
            ("echo 'mongodump version: 100.18.0'; exit 1", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = program(dir.path(), "mongodump", answer);
            let found = find(None, dir.path().to_str()).await;
            assert_eq!(found.is_ok(), ok, "{answer}: {found:?}");
            assert_eq!(found.is_ok(), find(Some(&path), None).await.is_ok());
            if let Ok(found) = found {
                assert_eq!((found.version.as_str(), found.path), ("100.18.0", path));
            }
        }
    }

    #[tokio::test]
    async fn a_missing_one_says_where_it_was_looked_for() {
        let error = find(Some(Path::new("/nonexistent/mongodump")), None).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/mongodump"), "{error}");
    }
}
