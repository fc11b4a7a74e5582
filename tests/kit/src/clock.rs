//! Changes the clock of a process while it runs, as a time daemon does.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Sets the clock of processes that [`SteppedClock::of`] prepared.
#[derive(Debug)]
pub struct SteppedClock {
    folder: TempDir,
    seconds: i64,
}

impl SteppedClock {
    /// Makes a clock that is correct until [`SteppedClock::step`], and then wrong by `seconds`.
    pub fn by(seconds: i64) -> Result<SteppedClock> {
        let clock = SteppedClock { folder: TempDir::new()?, seconds };
        let source = clock.folder.path().join("stepped_clock.c");
        std::fs::write(&source, include_str!("stepped_clock.c"))?;
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([clock.library(), source])
            .stdin(Stdio::null())
            .output()
            .context("cc cannot be run: install a C compiler, as the package gcc")?;
        if !compiled.status.success() {
            bail!("cc failed: {}", String::from_utf8_lossy(&compiled.stderr).trim());
        }
        Ok(clock)
    }

    /// Makes a process of a dynamically linked program use this clock.
    pub fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", self.library());
        command.env("CLOCK_STEPPED", self.stepped()).env("CLOCK_STEP", self.seconds.to_string())
    }

    /// The file whose presence sets the clock.
    pub fn stepped(&self) -> PathBuf {
        self.folder.path().join("stepped")
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("stepped_clock.so")
    }
}
