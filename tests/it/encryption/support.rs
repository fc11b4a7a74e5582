//! Keys, and stock `age`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use uzima_backup::base::keys::{Identities, IdentityFile};

use crate::cli::support::{bare, run};

/// An identity file that `keygen` wrote, and its recipient.
#[derive(Debug, Clone)]
pub struct Key {
    pub file: PathBuf,
    pub recipient: String,
}

impl Key {
    /// Makes a key in this folder.
    pub fn new(folder: &Path, name: &str) -> Key {
        let file = folder.join(name);
        let ran = run(bare().arg("keygen").arg("--out").arg(&file)).ends(0);
        let recipient = ran.stdout.lines().next().expect("a recipient").to_string();
        Key { file, recipient }
    }

    pub fn identities(&self) -> Identities {
        IdentityFile::read(&self.file).and_then(|file| file.identities(None)).expect("an identity")
    }
}

/// Runs a program of the Debian package `age` with this input. Returns its standard output.
pub fn stock(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} is needed ({e}): apt-get install age"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A thread of its own writes, because both pipes can be full.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("the writer ends");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
