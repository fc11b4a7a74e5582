//! The recorded calls of the stand-in.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The kind of file that the `--config` argument named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    Pipe,
    File,
}

/// One call of the program.
#[derive(Clone, Debug)]
pub struct Run {
    pub pid: u32,
    /// Its arguments, without the program's name.
    pub argv: Vec<String>,
    /// Names of its environment variables, with the SHA-256 of each value.
    pub env: BTreeMap<String, String>,
    /// The kind of its config file, if it got one.
    pub config_via: Option<Via>,
    /// The keys in that config file, with the SHA-256 of each value.
    pub config: BTreeMap<String, String>,
}

impl Run {
    pub(super) fn read(dir: &Path) -> Result<Run> {
        let file = |name: &str| std::fs::read_to_string(dir.join(name));
        let argv = file("argv")?;
        Ok(Run {
            pid: file("pid")?.trim().parse().context("pid")?,
            argv: argv.split_terminator('\0').map(str::to_owned).collect(),
            env: pairs(&file("env")?),
            config_via: file("config-via")
                .ok()
                .map(|via| if via.trim() == "pipe" { Via::Pipe } else { Via::File }),
            config: file("config").map(|text| pairs(&text)).unwrap_or_default(),
        })
    }

    /// Returns true if the config file gave this value to this key.
    pub fn config_has(&self, key: &str, value: &str) -> bool {
        self.config.get(key).is_some_and(|hash| *hash == sha256(value))
    }

    /// Returns true if the environment gave this value to this variable.
    pub fn env_has(&self, name: &str, value: &str) -> bool {
        self.env.get(name).is_some_and(|hash| *hash == sha256(value))
    }

    /// Returns true if the process still runs.
    pub fn is_alive(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // After the name in brackets comes the state; a zombie has ended.
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    }
}

/// The hash of a value, in the form of the script.
pub fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.rsplit_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
