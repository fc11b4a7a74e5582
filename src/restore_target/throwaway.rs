//! A throw-away `mongod` for a drill. It ends, and its data is removed, when the drill is over.
//!
//! It is a standalone server: a restore needs no replica set, and without an oplog nothing is written twice.
//! It listens only on a socket in a folder that only this user may enter, because every client could read the
//! restored data. TTL indexes delete nothing.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::base::beneath::Folder;
use crate::base::error::{Error, Result};
use crate::base::process;
use crate::base::process::Kills;
use crate::base::secret::Secret;

/// The folders in which packages install mongod.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/opt/mongodb/bin", "/opt/homebrew/bin"];
/// The prefix of the server's folder.
const PREFIX: &str = "uzima-backup-drill-";
/// A file that the running process keeps locked.
const OWNER: &str = "owner.lock";
const SOCKET: &str = "mongod.sock";
/// The longest path of a socket, in bytes (unix(7)).
const LONGEST: usize = 107;
/// The characters of the socket's path that a connection string encodes. The driver recognises a socket by
/// the unencoded end of the path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');
/// The longest wait for the server's start.
const PATIENCE: Duration = Duration::from_secs(120);
/// The most log lines in a message.
const LINES: usize = 5;
/// How much of the end of the log is searched for errors, in bytes.
const END: u64 = 1 << 20;

/// Finds mongod: the program `configured`, or else the first in `search_path` (the value of PATH) and the usual
/// folders. Returns the reason if there is none.
pub(crate) async fn find(configured: Option<&Path>, search_path: Option<&str>) -> Result<PathBuf, String> {
    let found = match configured {
        Some(path) => path.to_path_buf(),
        None => process::locate("mongod", search_path, &FOLDERS)
            .ok_or_else(|| format!("mongod is not installed (looked in PATH and {})", FOLDERS.join(", ")))?,
    };
    process::trusted(&found)?;
    match process::version(&found).await {
        Ok((true, text)) if text.starts_with("db version v") => Ok(found),
        Ok(_) => Err(format!("{} does not answer --version as mongod does", found.display())),
        Err(e) => Err(format!("{} cannot be run: {e}", found.display())),
    }
}

/// A running mongod. It is killed and its folder removed when the value is dropped.
#[derive(Debug)]
pub struct Throwaway {
    child: Child,
    program: PathBuf,
    kills: Kills,
    folder: PathBuf,
    _owner: File,
    /// Its drop ends the thread that started the child.
    _keeper: mpsc::Sender<()>,
}

impl Throwaway {
    /// Starts a mongod in a new folder in `within`, and waits until it answers. `name` is random.
    pub(crate) async fn start(program: &Path, within: &Path, name: &str) -> Result<Throwaway> {
        let folder = within.join(format!("{PREFIX}{name}"));
        let cannot = |e: io::Error| {
            Error::failed(format!("cannot create the folder {} for a throw-away mongod", folder.display()))
                .hint("Set TMPDIR to a folder that this user may write")
                .caused_by(e)
        };
        // The socket that the server creates by default has the longest name.
        if folder.as_os_str().as_bytes().len() + "/mongodb-27017.sock".len() > LONGEST {
            return Err(Error::failed(format!("the path {} is too long for a socket", folder.display()))
                .hint("Set TMPDIR to a shorter path"));
        }
        DirBuilder::new().mode(0o700).create(&folder).map_err(cannot)?;
        let kills = Kills::watch();
        let made = lock_folder(&folder).and_then(|owner| Ok((owner, spawn(program, &folder)?)));
        let (owner, (child, keeper)) = made.map_err(|e| {
            let _ = fs::remove_dir_all(&folder);
            Error::failed(format!("cannot start {}", program.display())).caused_by(e)
        })?;
        let program = program.to_path_buf();
        let mut started = Throwaway { child, program, kills, folder, _owner: owner, _keeper: keeper };
        started.ready().await?;
        Ok(started)
    }

    async fn ready(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while UnixStream::connect(self.folder.join(SOCKET)).is_err() {
            if let Some(error) = self.ended() {
                return Err(error);
            }
            if Instant::now() > until {
                let what = format!("{} does not answer{}", self.program.display(), self.last_log_lines());
                return Err(Error::failed(what));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The connection string.
    pub(crate) fn uri(&self) -> Secret {
        let socket = self.folder.join(SOCKET).display().to_string();
        Secret::from(format!("mongodb://{}/", utf8_percent_encode(&socket, ENCODED)))
    }

    /// The error for a server that has ended; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<Error> {
        let status = self.child.try_wait().ok().flatten()?;
        let (program, log) = (self.program.display(), self.last_log_lines());
        let what = format!("the throw-away mongod ({program}) ended, {status}");
        Some(match status.signal().and_then(|signal| process::why_killed(signal, self.kills)) {
            Some((why, hint)) => Error::failed(format!("{what}: {why}{log}")).hint(hint),
            None => Error::failed(format!("{what}{log}")),
        })
    }

    /// The last lines of the log, as the end of a message.
    fn last_log_lines(&self) -> String {
        let text = end_of(&self.folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let bad = |line: &&str| line.contains(r#""s":"E""#) || line.contains(r#""s":"F""#);
        let mut lines: Vec<&str> = text.lines().filter(bad).collect();
        if lines.is_empty() {
            lines = text.lines().collect();
        }
        match lines.split_off(lines.len().saturating_sub(LINES)).join(" | ").as_str() {
            "" => "; its log is empty".into(),
            last => format!("; the end of its log: {last}"),
        }
    }
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
    let mut text = Vec::new();
    file.take(END).read_to_end(&mut text)?;
    Ok(text)
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // The data is removed, so the server need not shut down in an orderly way.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Err(e) = fs::remove_dir_all(&self.folder) {
            log::warn!("cannot remove the drill's folder {}: {e}", self.folder.display());
        }
    }
}

/// Creates the folder's content, and a lock file that shows that the process is alive.
fn lock_folder(folder: &Path) -> io::Result<File> {
    let owner = File::create(folder.join(OWNER))?;
    owner.lock()?;
    fs::create_dir(folder.join("data"))?;
    Ok(owner)
}

/// Starts the server. The kernel kills the child when the thread that started it ends, so a thread of its own
/// lives as long as the handle.
fn spawn(program: &Path, folder: &Path) -> io::Result<(Child, mpsc::Sender<()>)> {
    let log = File::create(folder.join("log"))?;
    let mut command = Command::new(program);
    command.arg("--dbpath").arg(folder.join("data"));
    command.arg("--bind_ip").arg(folder.join(SOCKET)).arg("--unixSocketPrefix").arg(folder);
    // By default the cache takes half of the memory, and other programs need it.
    command.args(["--filePermissions", "0600", "--wiredTigerCacheSizeGB", "1"]);
    command.args(["--setParameter", "ttlMonitorEnabled=false"]);
    command.args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
    command.env_clear().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    process::die_with_us(&mut command);
    let (keeper, dropped) = mpsc::channel::<()>();
    let (answer, started) = mpsc::channel();
    std::thread::Builder::new().name("mongod".into()).spawn(move || {
        let _ = answer.send(command.spawn());
        let _ = dropped.recv();
    })?;
    let child = started.recv().map_err(io::Error::other)??;
    Ok((child, keeper))
}

/// Removes the folders of killed runs in `within`. Returns a line for each.
pub(crate) fn sweep(within: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if !name.as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        // The process is gone if its file can be locked. Anybody can put a folder of this name, with a link
        // or a FIFO in it, into a folder that everybody may write to.
        let name = Path::new(&name).join(OWNER);
        let Ok(owner) = Folder::open(within).and_then(|within| within.read(&name)) else { continue };
        if owner.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok() {
            lines.push(format!("removed {}, which a killed drill left behind", path.display()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dead_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (dead, alive, other) = (
            folder.path().join(format!("{PREFIX}dead")),
            folder.path().join(format!("{PREFIX}alive")),
            folder.path().join("other"),
        );
        for path in [&dead, &alive, &other] {
            fs::create_dir(path).unwrap();
        }
        drop(lock_folder(&dead).unwrap());
        let owner = lock_folder(&alive).unwrap();
        assert_eq!(sweep(folder.path()).len(), 1);
        assert!(!dead.exists() && alive.exists() && other.exists());
        drop(owner);
    }

    #[tokio::test]
    async fn a_mongod_that_others_can_change_is_not_run() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, ran) = (folder.path().join("mongod"), folder.path().join("ran"));
        fs::write(&path, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
        let why = find(Some(&path), None).await.unwrap_err();
        assert!(why.contains("is not run") && why.contains("mode 0757"), "{why}");
        assert!(!ran.exists());
    }

    /// Opening a FIFO as lock file would block, and a link could lead to any file.
    #[test]
    fn a_planted_fifo_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let planted = folder.path().join(format!("{PREFIX}planted"));
        fs::create_dir(&planted).unwrap();
        let made = Command::new("mkfifo").arg(planted.join(OWNER)).status().unwrap();
        assert!(made.success());
        assert_eq!(sweep(folder.path()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_program_that_is_not_mongod_is_refused() {
        for (path, word) in [("/nonexistent/mongod", "cannot be run"), ("/bin/true", "does not answer")] {
            let why = find(Some(Path::new(path)), None).await.unwrap_err();
            assert!(why.contains(path) && why.contains(word), "{why}");
        }
    }
}
