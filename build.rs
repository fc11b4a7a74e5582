//! Tells the binary what it was built from: `UZIMA_BACKUP_BUILD`, which `--version` prints.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    // A commit must not have a developer's every build begin anew: only what is installed names it.
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let commit = if variable("PROFILE") == "release" { commit(&root) } else { None };
    let target = variable("TARGET");
    let built = match commit {
        Some(Commit { id, moves }) => {
            println!("cargo:rerun-if-changed={}", moves.display());
            format!("commit {id}, {target}")
        }
        None => target,
    };
    println!("cargo:rustc-env=UZIMA_BACKUP_BUILD={built}");
    if variable("CARGO_CFG_TARGET_ENV") == "gnu" {
        // The unwinder comes from gcc's static library, so that libc is all that a machine needs: this archive
        // stands before Rust's own libraries, and what they ask of libgcc_s.so is there by then.
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// What is checked out.
pub struct Commit {
    /// Its id, the first 12 digits.
    pub id: String,
    /// The file that changes when another commit is checked out.
    pub moves: PathBuf,
}

/// The commit of the checkout at `root`. None without git, and none in an unpacked tarball, be it below a
/// checkout of something else: that one's commit says nothing.
pub fn commit(root: &Path) -> Option<Commit> {
    if !root.join(".git").exists() {
        return None;
    }
    let git = |args: &[&str]| {
        let output = Command::new("git").current_dir(root).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    };
    let id = git(&["rev-parse", "--short=12", "HEAD"])?;
    // The first is appended to by commits and checkouts alike, where it is kept; a file that is missing would
    // have every build begin anew.
    let files = ["logs/HEAD", "HEAD"].into_iter().filter_map(|name| git(&["rev-parse", "--git-path", name]));
    let moves = files.map(|file| root.join(file)).find(|file| file.exists())?;
    Some(Commit { id, moves })
}
