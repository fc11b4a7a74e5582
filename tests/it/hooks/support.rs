//! Hooks that are shell scripts of a test.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::signals::until;
use crate::cli::support::Home;

/// Writes a script and returns its path.
pub fn script(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    path
}

/// Sets hooks that are scripts.
pub fn hooked(command: &mut Command, home: &Home, before: &str, after: &str) {
    command.env("BACKUP_BEFORE_HOOK", script(home, "before.sh", before));
    command.env("BACKUP_AFTER_HOOK", script(home, "after.sh", after));
}

/// The commands of a script that write its environment, as it was when the script began, to a file.
pub fn writes_environment(file: &Path) -> String {
    format!("tr '\\0' '\\n' < /proc/$$/environ > {}", file.display())
}

/// The variables that [`writes_environment`] wrote.
#[track_caller]
pub fn environment(file: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_string(), value.to_string()));
    text.lines().map(|line| pair(line).expect("a variable")).collect()
}

/// Waits until no process with these ids runs. A zombie counts as ended.
pub fn all_end(pids: &Path) {
    for pid in std::fs::read_to_string(pids).expect("process ids").split_whitespace() {
        let stat = format!("/proc/{pid}/stat");
        let is_zombie = |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        until("the process ends", || std::fs::read_to_string(&stat).map_or(true, |stat| is_zombie(&stat)));
    }
}

/// A script that begins a process that ignores SIGTERM, writes both ids to a file, and waits.
pub fn waits(pids: &Path) -> String {
    format!(
        "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & echo $$ $! > {0}.new; mv {0}.new {0}; wait",
        pids.display()
    )
}
