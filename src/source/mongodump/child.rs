//! The child process: how it is started, read, watched and judged.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::FoundMongodump;
use super::chunks::{Chunks, Watch};
use crate::base::error::{Error, Kind, Result};
use crate::base::process;
use crate::base::process::Kills;
use crate::base::secret::{ExposeSecret, Redactor, Secret};

/// How many of its last lines are kept.
const LINES: usize = 20;
/// The longest of its lines in bytes.
const LONGEST_LINE: u64 = 64 << 10;
/// The error of mongodump 100.18 for options or indexes that its Extended JSON would change.
const UNWRITABLE: &str = "error marshaling metadata json";
/// How long its end is waited for once its output ended.
const END: Duration = Duration::from_secs(60);

/// A mongodump that runs; ended when dropped.
pub struct Running {
    child: Child,
    chunks: Option<Chunks>,
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Its words may quote the connection string, and go into messages and the manifest.
    redactor: Redactor,
    /// The next step if the user may not read something.
    grant: String,
    kills: Kills,
}

/// Starts mongodump. The connection string, which holds the password, goes through a pipe on its
/// standard input: never argv, which every user of the machine can read, nor the environment.
pub fn start(
    found: &FoundMongodump,
    uri: &Secret,
    database: Option<&str>,
    watch: Watch,
    grant: String,
    cancel: &CancellationToken,
) -> Result<Running> {
    let mut command = Command::new(&found.path);
    command.args(["--config", "/dev/stdin", "--archive", "--numParallelCollections=1"]);
    if let Some(database) = database {
        command.arg(format!("--db={database}"));
    }
    let kills = Kills::watch();
    // The thread that spawns is the one that reads to the end.
    process::die_with_us(&mut command);
    let mut child = command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Error::failed(format!("cannot run {}", found.path.display())).caused_by(e))?;
    let quoted = uri.expose_secret().replace('\'', "''");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // It may end before it reads: then its exit code tells why.
    let _ = stdin.write_all(format!("uri: '{quoted}'\n").as_bytes());
    drop(stdin);
    let lines = Arc::new(Mutex::new(VecDeque::new()));
    keep_lines(BufReader::new(child.stderr.take().expect("stderr is piped")), lines.clone());
    let chunks = Chunks::of(child.stdout.take().expect("stdout is piped"), watch, cancel.clone());
    let redactor = Redactor::new(&[uri.expose_secret()], &[]);
    Ok(Running { child, chunks: Some(chunks), lines, redactor, grant, kills })
}

impl Running {
    /// Its archive.
    pub fn output(&mut self) -> &mut Chunks {
        self.chunks.as_mut().expect("the output is there until the end")
    }

    /// Judges the run: only a whole archive from a child that ended well counts.
    pub fn finish(mut self, read: Result<()>) -> Result<()> {
        let chunks = self.chunks.take().expect("the output is there until the end");
        if chunks.is_cancelled() {
            // Whoever ends the run waits for this: the child gets no time to end by itself.
            return Err(Error::aftermath("the run was cancelled"));
        }
        let stalled = chunks.is_stalled();
        // Its pipe is closed here: a child that still writes ends.
        drop(chunks);
        if stalled {
            return Err(Error::failed(format!(
                "mongodump hangs: it sent nothing for too long{}",
                self.said()
            ))
            .hint("If the server is that slow, raise stall_timeout (BACKUP_STALL_TIMEOUT)"));
        }
        // Closing its pipe ends it soon if it did not end by itself.
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
            // The server's words for error 13, which would come again in another run.
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

    /// Returns true if one of its last lines has these words.
    fn has_said(&self, words: &str) -> bool {
        // The thread that keeps them may be a moment behind.
        thread::sleep(Duration::from_millis(50));
        self.lines.lock().expect("no holder panics").iter().any(|line| line.contains(words))
    }

    /// Its last lines, as the end of a message.
    fn said(&self) -> String {
        // The thread that keeps them may be a moment behind.
        thread::sleep(Duration::from_millis(50));
        let lines = self.lines.lock().expect("no holder panics");
        if lines.is_empty() {
            "; it said nothing".into()
        } else {
            let lines = lines.iter().cloned().collect::<Vec<_>>().join(" | ");
            format!("; its last lines: {}", self.redactor.clean(&lines))
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.chunks = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep_lines(mut pipe: impl BufRead + Send + 'static, lines: Arc<Mutex<VecDeque<String>>>) {
    thread::spawn(move || {
        let mut line = Vec::new();
        // A longer line counts as several.
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
