//! Other programs that this one runs: where they are, and which version.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

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

/// Runs `--version`; returns whether the exit code was 0, and the first 64 KiB of the output. A program that does not
/// end in time, or whose future is dropped, is killed.
///
/// # Errors
/// Returns an error if the program cannot be run, or does not end in time.
pub async fn version(path: &Path) -> io::Result<(bool, String)> {
    let mut child = Command::new(path)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let output = async {
        let mut text = Vec::new();
        let pipe = child.stdout.take().expect("stdout is piped");
        pipe.take(64 << 10).read_to_end(&mut text).await?;
        Ok((child.wait().await?.success(), String::from_utf8_lossy(&text).into_owned()))
    };
    let late = || format!("it does not answer --version within {} s", PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, output).await.unwrap_or_else(|_| Err(io::Error::other(late())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_when_nobody_waits_for_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, pid) = (folder.path().join("slow"), folder.path().join("pid"));
        let script = format!(
            "#!/bin/sh\necho $$ > {0}.new\n/bin/mv {0}.new {0}\nexec /bin/sleep 600\n",
            pid.display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let asked = tokio::spawn(async move { version(&path).await });
        let pid: String = loop {
            match std::fs::read_to_string(&pid) {
                Ok(pid) => break pid,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        asked.abort();
        let process = PathBuf::from("/proc").join(pid.trim());
        while std::fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("sleep")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

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
