//! The mongodump engine: runs the official tool as a child process and reads its archive from a pipe.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};
use crate::base::process::{self, Kills};
use crate::base::secret::{ExposeSecret, Redactor};
use crate::base::waits::{Waits, WaitsFor};
use crate::config::selection::Selection;
use crate::dumpformat::Sink;
use crate::dumpformat::demux::Demux;
use crate::model::namespace::Namespace;
use crate::mongo::commands::QUIET;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// An installed mongodump that this tool can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mongodump {
    pub path: PathBuf,
    /// `a.b.c`.
    pub version: String,
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
        let mut child = MongodumpChild::start(self, server, database, cancel, sink.waits())?;
        let demux =
            Demux::new(child.chunks.as_mut().expect("the output is there until the end")).listed(listed);
        let read = demux.run(&|n| selection.wants(&n.db, &n.collection), sink);
        child.finish(read.map(drop))
    }
}

/// The folders in which packages install mongodump.
const FOLDERS: [&str; 5] =
    ["/usr/bin", "/usr/local/bin", "/opt/mongodb-database-tools/bin", "/opt/homebrew/bin", "/snap/bin"];

/// The oldest version whose archives this tool reads.
const OLDEST: (u32, u32) = (100, 5);

/// Finds mongodump: the program `configured`, or else the first in `search_path` (the value of PATH) and the usual folders.
pub async fn find(configured: Option<&Path>, search_path: Option<&str>) -> Result<Mongodump, String> {
    let found = match configured {
        Some(path) => Some(path.to_path_buf()),
        None => process::locate("mongodump", search_path, &FOLDERS),
    };
    match found {
        Some(path) => probe(path).await,
        None => Err("mongodump is not installed (looked in PATH and the usual folders)".into()),
    }
}

async fn probe(path: PathBuf) -> Result<Mongodump, String> {
    let shown = path.display();
    process::trusted(&path).inspect_err(|why| log::warn!("{why}"))?;
    let (success, text) = process::version(&path).await.map_err(|e| format!("{shown} cannot be run: {e}"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("mongodump version:")).map(str::trim);
    let Some(version) = version.filter(|_| success) else {
        return Err(format!("{shown} does not answer --version as mongodump does"));
    };
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        let (major, minor) = OLDEST;
        return Err(format!("{shown} is version {version}; {major}.{minor} or later is needed"));
    }
    Ok(Mongodump { version: version.to_string(), path })
}

/// The number of lines of its standard error that are kept.
const LINES: usize = 20;
/// The longest line in bytes.
const LONGEST_LINE: u64 = 64 << 10;
/// The error of mongodump 100.18 for options or indexes that its Extended JSON would change.
const UNWRITABLE: &str = "error marshaling metadata json";
/// How long mongodump may take to exit after the end of its output.
const END: Duration = Duration::from_secs(60);

/// A running mongodump. It is killed when dropped.
struct MongodumpChild {
    child: Child,
    chunks: Option<Chunks>,
    lines: Arc<Mutex<VecDeque<String>>>,
    /// The lines may quote the connection string, and go into messages and the manifest.
    redactor: Redactor,
    /// The next step if the user may not read something.
    grant: String,
    kills: Kills,
}

impl MongodumpChild {
    /// Starts mongodump. It gets the connection string, which holds the password, on its standard input: every user of the
    /// machine can read its arguments, and the environment is visible, too.
    fn start(
        mongodump: &Mongodump,
        server: &Server,
        database: Option<&str>,
        cancel: &CancellationToken,
        waits: Waits,
    ) -> Result<MongodumpChild> {
        let uri = server.uri_for_mongodump()?;
        let mut command = Command::new(&mongodump.path);
        command.args(["--config", "/dev/stdin", "--archive", "--numParallelCollections=1"]);
        if let Some(database) = database {
            command.arg(format!("--db={database}"));
        }
        let kills = Kills::watch();
        // The kernel kills the child when this thread ends, which reads the output to its end.
        process::die_with_us(&mut command);
        let mut child = command
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Error::failed(format!("cannot run {}", mongodump.path.display())).caused_by(e))?;
        let quoted = uri.expose_secret().replace('\'', "''");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // mongodump may exit before it reads. Its exit code is checked later.
        let _ = stdin.write_all(format!("uri: '{quoted}'\n").as_bytes());
        drop(stdin);
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        keep_lines(BufReader::new(child.stderr.take().expect("stderr is piped")), lines.clone());
        let stdout = child.stdout.take().expect("stdout is piped");
        let chunks = Chunks::of(stdout, server, cancel, waits);
        let redactor = Redactor::new(&[uri.expose_secret()], &[]);
        Ok(MongodumpChild {
            child,
            chunks: Some(chunks),
            lines,
            redactor,
            grant: server.grant_backup(),
            kills,
        })
    }

    /// Waits for the exit code. Only a whole archive from a child that succeeded is valid.
    fn finish(mut self, read: Result<()>) -> Result<()> {
        let chunks = self.chunks.take().expect("the output is there until the end");
        if chunks.cancel.is_cancelled() {
            // A cancelled run waits for this function, so the child gets no time to exit by itself.
            return Err(Error::aftermath("the run was cancelled"));
        }
        let stalled = chunks.stalled;
        // This closes the pipe, so a child that still writes exits.
        drop(chunks);
        if stalled {
            return Err(Error::failed(format!(
                "mongodump hangs: it sent nothing for too long{}",
                self.said()
            ))
            .hint("If the server is that slow, raise stall_timeout (BACKUP_STALL_TIMEOUT)"));
        }
        // If it did not exit by itself, the closed pipe makes it exit soon.
        let patience = if read.is_ok() { END } else { Duration::from_secs(5) };
        match (self.wait(patience)?, read) {
            (Some(status), Ok(())) if status.success() => Ok(()),
            (Some(status), _) if !status.success() => Err(self.failed(status)),
            (_, Err(error)) => Err(error),
            (_, Ok(())) => {
                Err(Error::failed(format!("mongodump does not end after its last byte{}", self.said())))
            }
        }
    }

    fn failed(&self, status: ExitStatus) -> Error {
        match (status.signal(), status.code()) {
            (Some(signal), _) => match process::why_killed(signal, self.kills) {
                Some((why, hint)) => {
                    let what = format!("mongodump was killed by signal {signal}: {why}{}", self.said());
                    Error::failed(what)
                        .hint(format!("{hint}. The native engine (BACKUP_ENGINE=native) needs no mongodump"))
                }
                None => Error::failed(format!("mongodump was killed by signal {signal}{}", self.said())),
            },
            // The server's message for error 13, which another run would get again.
            (None, _) if self.has_said("(Unauthorized)") || self.has_said("not authorized on ") => {
                Error::failed(format!("mongodump may not read everything{}", self.said())).hint(&self.grant)
            }
            (None, code) => {
                let text = format!("mongodump failed with exit code {}{}", code.unwrap_or(-1), self.said());
                if text.contains(UNWRITABLE) {
                    return Error::failed(text).hint(
                        "The options or indexes of that collection hold constants that look like Extended JSON, which \
                         mongodump does not write: use the native engine (BACKUP_ENGINE=native)",
                    );
                }
                // With QueryPlanKilled the server ends a cursor on a collection that is dropped or renamed, and mongodump
                // fails (seen with 100.18.0). Otherwise mongodump may have lost its connection, which it never opens
                // again, so the backup starts once more.
                let kind = if text.contains("(QueryPlanKilled)") { Kind::Moved } else { Kind::Restart };
                Error::new(kind, text)
            }
        }
    }

    fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + patience;
        loop {
            let status =
                self.child.try_wait().map_err(|e| Error::failed("cannot wait for mongodump").caused_by(e))?;
            if status.is_some() || Instant::now() >= until {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns true if one of the last lines contains `words`.
    fn has_said(&self, words: &str) -> bool {
        self.last_lines().iter().any(|line| line.contains(words))
    }

    fn last_lines(&self) -> Vec<String> {
        // The thread that collects the lines may be a moment behind.
        thread::sleep(Duration::from_millis(50));
        self.lines.lock().expect("no holder panics").iter().cloned().collect()
    }

    /// The last lines, as the end of a message.
    fn said(&self) -> String {
        match self.last_lines().join(" | ").as_str() {
            "" => "; it printed nothing".into(),
            lines => format!("; its last lines: {}", self.redactor.clean(lines)),
        }
    }
}

impl Drop for MongodumpChild {
    fn drop(&mut self) {
        self.chunks = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep_lines(mut pipe: impl BufRead + Send + 'static, lines: Arc<Mutex<VecDeque<String>>>) {
    thread::spawn(move || {
        let mut line = Vec::new();
        // A longer line is split.
        while pipe.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
            let line = String::from_utf8_lossy(&std::mem::take(&mut line)).trim_end().to_string();
            log::debug!("mongodump: {line}");
            let mut lines = lines.lock().expect("no holder panics");
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    });
}

/// The number of bytes that are read from the pipe at once.
const CHUNK: usize = 1 << 20;
/// The number of chunks that may wait.
const AHEAD: usize = 4;

/// The child's standard output. A thread reads it ahead, so that silence of the child can be distinguished from a slow
/// consumer.
struct Chunks {
    receiver: Receiver<io::Result<Chunk>>,
    /// Returns buffers to the reading thread.
    spent: SyncSender<Vec<u8>>,
    current: Chunk,
    at: usize,
    /// mongodump counts as stuck if it sends nothing for this time.
    stall: Duration,
    /// The server that mongodump reads, for messages.
    service: String,
    cancel: CancellationToken,
    waits: Waits,
    stalled: bool,
}

/// A piece of the output: the first `len` bytes of a buffer.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    len: usize,
}

impl Chunks {
    fn of(pipe: ChildStdout, server: &Server, cancel: &CancellationToken, waits: Waits) -> Chunks {
        let (sender, receiver) = sync_channel(AHEAD);
        let (spent, spare) = sync_channel(AHEAD);
        read_chunks(pipe, sender, spare);
        let (stall, service, cancel) = (server.stall, server.service(), cancel.clone());
        let (current, at, stalled) = (Chunk::default(), 0, false);
        Chunks { receiver, spent, current, at, stall, service, cancel, waits, stalled }
    }

    fn next(&mut self) -> io::Result<Option<Chunk>> {
        let _waiting = self.waits.begin(WaitsFor::Mongodb);
        let (began, mut logged) = (Instant::now(), false);
        loop {
            // Checked also while chunks arrive: on a busy machine, reading the rest takes longer than a cancelled run may take.
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("the run was cancelled"));
            }
            match self.receiver.recv_timeout(Duration::from_millis(200)) {
                Ok(chunk) => return chunk.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if began.elapsed() >= self.stall => {
                    self.stalled = true;
                    return Err(io::Error::other("mongodump sends nothing"));
                }
                Err(RecvTimeoutError::Timeout) if !logged && began.elapsed() >= QUIET => {
                    logged = true;
                    let (quiet, limit) = (QUIET.as_secs(), self.stall.as_secs());
                    let service = &self.service;
                    log::warn!(
                        "mongodump has sent nothing of {service} for {quiet} s; waiting for up to {limit} s"
                    );
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(out)?;
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len
            && let Some(chunk) = self.next()?
        {
            let spent = std::mem::replace(&mut self.current, chunk);
            self.at = 0;
            // If enough buffers wait, this one is freed.
            let _ = self.spent.try_send(spent.bytes);
        }
        Ok(&self.current.bytes[self.at..self.current.len])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

fn read_chunks(mut pipe: ChildStdout, chunks: SyncSender<io::Result<Chunk>>, spare: Receiver<Vec<u8>>) {
    // With a pipe's default size of 64 KiB, the two sides wait for each other more often. A failure is ignored.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, CHUNK);
    thread::spawn(move || {
        loop {
            let mut bytes = spare.try_recv().unwrap_or_default();
            bytes.resize(CHUNK, 0);
            let message = match pipe.read(&mut bytes) {
                Ok(0) => return,
                Ok(len) => Ok(Chunk { bytes, len }),
                Err(e) => Err(e),
            };
            let last = message.is_err();
            if chunks.send(message).is_err() || last {
                return;
            }
        }
    });
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
