//! The properties of this machine that settings depend on.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::layers::Env;

/// The state directory that the package creates.
pub const STATE_DIR: &str = "/var/lib/uzima-backup";

/// The machine that a process runs on.
#[derive(Debug, Clone)]
pub struct Machine {
    pub host: String,
    /// The value of `PATH`, for the search for mongodump and mongod.
    pub search_path: Option<String>,
    /// The default state directory: systemd's `STATE_DIRECTORY`, [`STATE_DIR`] for root and for its owner, else a directory
    /// of the user.
    pub state_dir: Option<PathBuf>,
    /// The number of threads that can run at once.
    pub cores: usize,
}

impl Machine {
    /// Reads the machine's name, the environment and the owner of the state directory.
    pub fn read(env: Env<'_>) -> Machine {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if name.trim().is_empty() { "localhost" } else { name.trim() };
        Machine {
            host: host.to_string(),
            search_path: env("PATH").and_then(|path| path.into_string().ok()),
            state_dir: state_dir(env),
            cores: std::thread::available_parallelism().map_or(2, usize::from),
        }
    }
}

fn state_dir(env: Env<'_>) -> Option<PathBuf> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let owner = |path: &str| std::fs::metadata(path).ok().map(|meta| meta.uid());
    // /proc/self belongs to the user that the process runs as.
    let user = owner("/proc/self");
    let is_ours = user == Some(0) || user.is_some() && owner(STATE_DIR) == user;
    env("STATE_DIRECTORY")
        .or_else(|| is_ours.then(|| PathBuf::from(STATE_DIR)))
        .or_else(|| env("XDG_STATE_HOME").map(|dir| dir.join("uzima-backup")))
        .or_else(|| env("HOME").map(|dir| dir.join(".local/state/uzima-backup")))
}
