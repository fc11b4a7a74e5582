//! A throw-away `mongod`: started for a drill, and gone with everything in it when the drill is over.
//!
//! It is a standalone: a restore needs no replica set, and nothing is written a second time, to an oplog. It
//! listens on a socket in a folder that only this user may enter, and on no port: whoever reaches it may read
//! everything that was restored. Nothing in it expires.

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

/// Where packages put it.
const FOLDERS: [&str; 4] = ["/usr/bin", "/usr/local/bin", "/opt/mongodb/bin", "/opt/homebrew/bin"];
/// How the folder of one is called, before its name.
const PREFIX: &str = "uzima-backup-drill-";
/// Who has this file locked is alive.
const OWNER: &str = "owner.lock";
/// The socket's file.
const SOCKET: &str = "mongod.sock";
/// How long the path of a socket may be, in bytes (unix(7)).
const LONGEST: usize = 107;
/// What of a path is written otherwise in a connection string; by its end, as it is, the driver knows a socket.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_');
/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(120);
/// So many of its last lines are told.
const LINES: usize = 5;
/// How much of the end of its log is searched for them, in bytes.
const END: u64 = 1 << 20;

/// A mongod that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
}

impl Program {
    /// Looks at `configured` alone if it is given, else in `search_path` (the value of PATH) and the usual
    /// folders. Without a program, where it was looked for.
    pub async fn find(configured: Option<&Path>, search_path: Option<&str>) -> Result<Program, String> {
        let found = match configured {
            Some(path) => path.to_path_buf(),
            None => process::locate("mongod", search_path, &FOLDERS).ok_or_else(|| {
                format!("mongod is not installed (looked in PATH and {})", FOLDERS.join(", "))
            })?,
        };
        process::trusted(&found)?;
        match process::version(&found).await {
            Ok((true, text)) if text.starts_with("db version v") => Ok(Program { path: found }),
            Ok(_) => Err(format!("{} does not answer --version as mongod does", found.display())),
            Err(e) => Err(format!("{} cannot be run: {e}", found.display())),
        }
    }
}

/// A mongod that runs; ended and removed when dropped.
#[derive(Debug)]
pub struct Throwaway {
    child: Child,
    program: PathBuf,
    kills: Kills,
    folder: PathBuf,
    _owner: File,
    /// Dropping it lets the thread end that started the child.
    _keeper: mpsc::Sender<()>,
}

impl Throwaway {
    /// Starts one in a new folder in `within`, and waits until it answers. `name` is a random one.
    pub async fn start(program: &Program, within: &Path, name: &str) -> Result<Throwaway> {
        let folder = within.join(format!("{PREFIX}{name}"));
        let cannot = |e: io::Error| {
            Error::failed(format!("cannot make the folder {} for a throw-away mongod", folder.display()))
                .hint("Set TMPDIR to a folder that this user may write")
                .caused_by(e)
        };
        // The one that the server makes of its own accord is the longest.
        if folder.as_os_str().as_bytes().len() + "/mongodb-27017.sock".len() > LONGEST {
            return Err(Error::failed(format!("the path {} is too long for a socket", folder.display()))
                .hint("Set TMPDIR to a shorter one"));
        }
        DirBuilder::new().mode(0o700).create(&folder).map_err(cannot)?;
        let kills = Kills::watch();
        let made = own(&folder).and_then(|owner| Ok((owner, spawn(program, &folder)?)));
        let (owner, (child, keeper)) = made.map_err(|e| {
            let _ = fs::remove_dir_all(&folder);
            Error::failed(format!("cannot start {}", program.path.display())).caused_by(e)
        })?;
        let program = program.path.clone();
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
                let what = format!("{} does not answer{}", self.program.display(), self.said());
                return Err(Error::failed(what));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// How to reach it.
    pub fn uri(&self) -> Secret {
        let socket = self.folder.join(SOCKET).display().to_string();
        Secret::from(format!("mongodb://{}/", utf8_percent_encode(&socket, ENCODED)))
    }

    /// The error of a server that has ended by itself; `None` while it runs.
    pub fn ended(&mut self) -> Option<Error> {
        let status = self.child.try_wait().ok().flatten()?;
        let killed = status.signal().and_then(|signal| process::why_killed(signal, self.kills));
        let why = killed.map(|(why, _)| format!(": {why}")).unwrap_or_default();
        let what =
            format!("the throw-away mongod ({}) ended, {status}{why}{}", self.program.display(), self.said());
        let error = Error::failed(what);
        Some(match killed {
            Some((_, hint)) => error.hint(hint),
            None => error,
        })
    }

    /// Its last words, as the end of a message.
    pub fn said(&self) -> String {
        let text = end_of(&self.folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let bad = |line: &&str| line.contains(r#""s":"E""#) || line.contains(r#""s":"F""#);
        let mut lines: Vec<&str> = text.lines().filter(bad).collect();
        if lines.is_empty() {
            lines = text.lines().collect();
        }
        let last = lines.split_off(lines.len().saturating_sub(LINES));
        if last.is_empty() {
            "; it said nothing".into()
        } else {
            format!("; its words: {}", last.join(" | "))
        }
    }
}

/// The end of a file, at most [`END`] bytes of it.
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
        // Nothing in it is worth an orderly end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Err(e) = fs::remove_dir_all(&self.folder) {
            log::warn!("the folder of the drill stays: {}: {e}", self.folder.display());
        }
    }
}

/// Marks the folder as that of a process that is alive.
fn own(folder: &Path) -> io::Result<File> {
    let owner = File::create(folder.join(OWNER))?;
    owner.lock()?;
    fs::create_dir(folder.join("data"))?;
    Ok(owner)
}

/// The kernel kills the child when the thread ends that started it: that one lasts as long as the handle.
fn spawn(program: &Program, folder: &Path) -> io::Result<(Child, mpsc::Sender<()>)> {
    let log = File::create(folder.join("log"))?;
    let mut command = Command::new(&program.path);
    command.arg("--dbpath").arg(folder.join("data"));
    command.arg("--bind_ip").arg(folder.join(SOCKET)).arg("--unixSocketPrefix").arg(folder);
    // By default it takes half of the memory, and the machine is rarely its own.
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

/// Removes what killed runs left behind in `within`; what was done, a line each.
pub fn sweep(within: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if !name.as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        // A file that can be locked belongs to a process that is gone. Anybody can put a folder of this name, with a
        // link or a FIFO in it, where everybody may write.
        let name = Path::new(&name).join(OWNER);
        let Ok(owner) = Folder::open(within).and_then(|within| within.read(&name)) else { continue };
        if owner.try_lock().is_ok() && fs::remove_dir_all(&path).is_ok() {
            lines.push(format!("removed {}, which a drill left behind when it was killed", path.display()));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_owns_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (dead, alive, other) = (
            folder.path().join(format!("{PREFIX}dead")),
            folder.path().join(format!("{PREFIX}alive")),
            folder.path().join("other"),
        );
        for path in [&dead, &alive, &other] {
            fs::create_dir(path).unwrap();
        }
        drop(own(&dead).unwrap());
        let owner = own(&alive).unwrap();
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
        let why = Program::find(Some(&path), None).await.unwrap_err();
        assert!(why.contains("is not run") && why.contains("mode 0757"), "{why}");
        assert!(!ran.exists());
    }

    /// A FIFO as lock file would be waited for, and a link in its place lead anywhere.
    #[test]
    fn what_others_planted_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let planted = folder.path().join(format!("{PREFIX}planted"));
        fs::create_dir(&planted).unwrap();
        let made = Command::new("mkfifo").arg(planted.join(OWNER)).status().unwrap();
        assert!(made.success());
        assert_eq!(sweep(folder.path()), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_is_no_mongod_is_named() {
        for (path, word) in [("/nonexistent/mongod", "cannot be run"), ("/bin/true", "does not answer")] {
            let why = Program::find(Some(Path::new(path)), None).await.unwrap_err();
            assert!(why.contains(path) && why.contains(word), "{why}");
        }
    }
}
