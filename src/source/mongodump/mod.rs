//! The mongodump engine: runs the official tool as a child process and reads its archive from a pipe.

mod child;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::child::Watch;
use crate::base::error::Result;
use crate::base::process;
use crate::config::selection::Selection;
use crate::dumpformat::Sink;
use crate::dumpformat::demux::Demux;
use crate::model::namespace::Namespace;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// The mongodump engine.
#[derive(Debug, Clone)]
pub struct Mongodump {
    pub found: FoundMongodump,
    /// How long mongodump may send nothing before it counts as stuck.
    pub stall: Duration,
}

impl Mongodump {
    /// Reads the selected namespaces of the member into `sink`. `listed` are the namespaces as the server listed them before.
    /// Blocks, so it needs its own thread.
    ///
    /// # Errors
    /// Returns an error with the last lines of mongodump's standard error if mongodump fails or stops sending. The documents
    /// that it sent must then be discarded.
    pub fn read(
        &self,
        server: &Server,
        selection: &Selection,
        listed: Vec<Namespace>,
        notes: &Notes,
        cancel: &CancellationToken,
        sink: &mut dyn Sink,
    ) -> Result<()> {
        let database = match selection.databases.as_slice() {
            [one] => Some(one.as_str()),
            [] => None,
            several => {
                notes.add(format!(
                    "mongodump can read one database or all of them, so it reads all; only {} is kept",
                    several.join(", ")
                ));
                None
            }
        };
        let uri = server.uri_for_mongodump()?;
        let watch = Watch { stall: self.stall, server: server.hello.address.clone() };
        let mut child = child::start(&self.found, &uri, database, watch, server.grant_backup(), cancel)?;
        let demux = Demux::new(child.output()).listed(listed);
        let read = demux.run(&|n| selection.wants(&n.db, &n.collection), sink);
        child.finish(read.map(|_| ()))
    }
}

/// An installed mongodump that this tool can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMongodump {
    pub path: PathBuf,
    /// `a.b.c`.
    pub version: String,
}

/// Why no mongodump can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoMongodump(String);

impl fmt::Display for NoMongodump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folders in which packages install mongodump.
const FOLDERS: [&str; 5] =
    ["/usr/bin", "/usr/local/bin", "/opt/mongodb-database-tools/bin", "/opt/homebrew/bin", "/snap/bin"];

/// The oldest version whose archives this tool reads.
const OLDEST: (u32, u32) = (100, 5);

/// Finds mongodump: the program `configured`, or else the first in `search_path` (the value of PATH) and the usual folders.
///
/// # Errors
/// Returns the reason if mongodump is not installed or cannot be used.
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
    async fn a_mongodump_of_a_known_version_is_found() {
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
    async fn the_error_names_the_configured_path() {
        let error = find(Some(Path::new("/nonexistent/mongodump")), None).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/mongodump"), "{error}");
    }
}
