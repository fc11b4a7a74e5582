//! Other programs that this one runs: where they are, and which version.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::base::writable;
use crate::base::writable::Strictness;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks for a program in `search_path` (the value of PATH), then in `folders`: cron's PATH is short. Relative and empty
/// entries of PATH mean the working directory, where anybody may put a program, and are passed over.
pub fn locate(name: &str, search_path: Option<&str>, folders: &[&str]) -> Option<PathBuf> {
    let path = search_path.unwrap_or("").split(':').filter(|folder| folder.starts_with('/'));
    path.chain(folders.iter().copied()).map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Checks that nobody else can replace a program before this process runs it.
///
/// # Errors
/// Returns what others can change, and how to take that right away.
pub fn trusted(path: &Path) -> Result<(), String> {
    match writable::by_others(path, Strictness::Program) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(format!(
            "{} is not run, because {found}; take that right away ({}), or name another program",
            path.display(),
            found.remedy()
        )),
        Err(e) => Err(format!("{} cannot be run: {e}", path.display())),
    }
}

/// Whether `--version` ended well, and what it said. One that never ends must not hold a run up.
pub fn version(path: &Path) -> io::Result<(bool, String)> {
    let mut child = Command::new(path)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(io::Error::other(format!(
                    "it does not answer --version within {} s",
                    PATIENCE.as_secs()
                )));
            }
        }
    };
    // A few lines: they fit into the pipe, so the program could end before they were read.
    let mut text = Vec::new();
    let pipe = child.stdout.take().expect("stdout is piped");
    pipe.take(64 << 10).read_to_end(&mut text)?;
    Ok((status.success(), String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_entries_of_path_are_searched() {
        let folder = tempfile::tempdir_in(".").unwrap();
        std::fs::write(folder.path().join("some-tool"), "").unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        let absolute = folder.path().canonicalize().unwrap();
        for relative in [format!("{name}:./{name}"), String::new(), ":".into(), ".".into()] {
            assert_eq!(locate("some-tool", Some(&relative), &[]), None, "{relative}");
            let both = format!("{relative}:{}", absolute.display());
            assert_eq!(locate("some-tool", Some(&both), &[]), Some(absolute.join("some-tool")));
        }
    }
}
