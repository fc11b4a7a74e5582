//! A program that imitates `mongodump`: it records how it was called, plays back a recorded archive, and ends
//! as configured: successfully, with an error, killed, hanging, or early with exit code 0.
//!
//! It is a POSIX shell script in a folder of its own, so a test of any package can put it on PATH. Secrets are
//! recorded only as SHA-256, so that a test that searches the disk for secrets does not find these records.

mod record;
mod script;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

pub use record::{Run, Via, sha256};

/// The end of a run after it has written its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this status. `Exit(0)` after [`Play::stop_at`] is a truncated archive that looks like a success.
    Exit(u8),
    /// By SIGKILL.
    Killed,
    /// Never, until another process ends it.
    Hangs,
}

/// The behaviour of one run.
#[derive(Clone, Debug)]
pub struct Play {
    archive: Vec<u8>,
    stop_at: Option<usize>,
    stderr: Vec<String>,
    ending: Ending,
    ignores_term: bool,
    /// Seconds before the first byte.
    silent: u64,
}

impl Play {
    /// Writes the whole archive (uncompressed) and ends successfully.
    pub fn archive(bytes: Vec<u8>) -> Play {
        Play {
            archive: bytes,
            stop_at: None,
            stderr: Vec::new(),
            ending: Ending::Exit(0),
            ignores_term: false,
            silent: 0,
        }
    }

    /// Sends nothing for this number of seconds before the first byte.
    pub fn silent(mut self, seconds: u64) -> Play {
        self.silent = seconds;
        self
    }

    /// Writes only this number of bytes of the archive.
    pub fn stop_at(mut self, bytes: usize) -> Play {
        self.stop_at = Some(bytes);
        self
    }

    /// Prints this line on stderr at the end. It may be called several times.
    pub fn stderr(mut self, line: &str) -> Play {
        self.stderr.push(line.to_owned());
        self
    }

    pub fn ending(mut self, ending: Ending) -> Play {
        self.ending = ending;
        self
    }

    /// Does not end on SIGTERM or SIGINT.
    pub fn ignores_term(mut self) -> Play {
        self.ignores_term = true;
        self
    }
}

/// The program and its records. Dropping it removes its folder.
pub struct StandIn {
    dir: tempfile::TempDir,
}

impl StandIn {
    /// Makes a program with the version of this crate's fixtures. The first run does the first play, and so on. The
    /// last play is repeated.
    pub fn create(plays: &[Play]) -> Result<StandIn> {
        Self::with_version("100.18.0", plays)
    }

    /// Makes a program that reports another version. A text that contains `mongodump` is printed unchanged.
    pub fn with_version(version: &str, plays: &[Play]) -> Result<StandIn> {
        let dir = tempfile::Builder::new().prefix("uzima-standin-").tempdir()?;
        std::fs::create_dir(dir.path().join("bin"))?;
        let said = match version.contains("mongodump") {
            true => version.to_owned(),
            false => format!("mongodump version: {version}\ngit version: x\n   os: linux\n   arch: amd64"),
        };
        std::fs::write(dir.path().join("version"), said + "\n")?;
        for (number, play) in (1..).zip(plays) {
            let bytes = &play.archive[..play.stop_at.unwrap_or(usize::MAX).min(play.archive.len())];
            std::fs::write(dir.path().join(format!("archive-{number}")), bytes)?;
            let stderr: String = play.stderr.iter().map(|line| format!("{line}\n")).collect();
            std::fs::write(dir.path().join(format!("stderr-{number}")), stderr)?;
        }
        let standin = StandIn { dir };
        write_program(&standin.program(), &script::script(standin.dir.path(), plays))?;
        Ok(standin)
    }

    /// The folder to put on PATH.
    pub fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    /// The program itself.
    pub fn program(&self) -> PathBuf {
        self.bin().join("mongodump")
    }

    /// The number of version queries.
    pub fn version_calls(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("version-calls")).unwrap_or_default().lines().count()
    }

    /// All runs so far except version queries, in order.
    pub fn runs(&self) -> Result<Vec<Run>> {
        (1..)
            .map(|number| self.dir.path().join(format!("run-{number}")))
            .take_while(|dir| dir.join("pid").exists())
            .map(|dir| Run::read(&dir))
            .collect()
    }
}

/// Writes an executable file with a child process. If this process had it open for writing, a child that another test
/// forks at that moment would have it open too, and running it would fail with ETXTBSY.
pub fn write_program(path: &Path, text: &str) -> Result<()> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", "cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no pipe to sh")?.write_all(text.as_bytes())?;
    anyhow::ensure!(child.wait()?.success(), "{} could not be written", path.display());
    Ok(())
}

/// A recorded file of the official tools, from `tests/fixtures/mongodump-100.18.0`, decompressed.
pub fn fixture(name: &str) -> Result<Vec<u8>> {
    let path = fixture_path(name);
    let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(file), &mut bytes)?;
    Ok(bytes)
}

/// The path of such a file.
pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/mongodump-100.18.0").join(name)
}
