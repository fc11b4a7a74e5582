//! The options of a new server.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bson::doc;

use super::process::PortTaken;
use super::tls::TlsFiles;
use super::{Mongod, ROOT_PASSWORD, ROOT_USER, Version, binary, connect};

/// A small cache, so that many servers fit on one machine.
pub const DEFAULT_CACHE_GB: f64 = 0.25;

const PORT_TRIES: u32 = 8;

/// The options of a server. `Mongod::builder()` creates it.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pub(super) replica_set: Option<String>,
    pub(super) uninitiated: bool,
    pub(super) auth: bool,
    tls: bool,
    tls_files: Option<TlsFiles>,
    key: Option<String>,
    socket: bool,
    ipv6: bool,
    parameters: Vec<(String, String)>,
    args: Vec<OsString>,
    cache_gb: Option<f64>,
    oplog_mb: Option<u32>,
    binary: Option<PathBuf>,
    version: Option<Version>,
    compatibility: Option<String>,
}

impl Builder {
    /// A replica set of this one member, which is primary when `start` returns.
    pub fn replica_set(mut self, name: &str) -> Self {
        self.replica_set = Some(name.to_owned());
        self
    }

    /// Do not initiate the set: another member will add this one.
    pub fn uninitiated(mut self) -> Self {
        self.uninitiated = true;
        self
    }

    /// Check users; creates [`ROOT_USER`] (unless the set is not initiated).
    pub fn auth(mut self) -> Self {
        self.auth = true;
        self
    }

    /// The key that members of a set with `auth` share, in base64 letters. The default is a random key.
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Accept only TLS, with a certificate for `127.0.0.1` and `localhost` signed by a new CA.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Accept only TLS, with these files (of another member, or with deliberate faults).
    pub fn tls_files(mut self, files: TlsFiles) -> Self {
        self.tls = true;
        self.tls_files = Some(files);
        self
    }

    /// Listen on a Unix socket too: [`Mongod::socket`].
    pub fn socket(mut self) -> Self {
        self.socket = true;
        self
    }

    /// Listen on `::1` too, which the machine must have.
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// A `--setParameter`.
    pub fn parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Allow `configureFailPoint` and other commands for tests.
    pub fn test_commands(self) -> Self {
        self.parameter("enableTestCommands", "1")
    }

    /// Any other argument of mongod.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// `--wiredTigerCacheSizeGB`. 0.25 is the smallest value that the server accepts.
    pub fn cache_gb(mut self, size: f64) -> Self {
        self.cache_gb = Some(size);
        self
    }

    /// `--oplogSize`; 200 if not given. A small oplog loses old entries soon.
    pub fn oplog_mb(mut self, size: u32) -> Self {
        self.oplog_mb = Some(size);
        self
    }

    /// Use this binary instead of the one that [`binary::find`] finds.
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Use a pinned version, which is fetched on demand, instead of the machine's mongod.
    pub fn version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// An older feature compatibility version than that of a new server: `5.0` for a server of 6.0.
    pub fn compatibility(mut self, version: &str) -> Self {
        self.compatibility = Some(version.to_owned());
        self
    }

    /// Starts the server, and returns when it can be used.
    pub async fn start(self) -> Result<Mongod> {
        let binary = match (&self.binary, self.version) {
            (Some(path), _) => path.clone(),
            (None, Some(version)) => tokio::task::spawn_blocking(move || version.path()).await??,
            (None, None) => tokio::task::spawn_blocking(binary::find).await??,
        };
        let dir = tempfile::Builder::new().prefix("uzima-mongod-").tempdir()?;
        std::fs::create_dir(dir.path().join("db"))?;
        let tls = match (&self.tls_files, self.tls) {
            (Some(files), _) => Some(files.clone()),
            (None, true) => Some(TlsFiles::create(dir.path())?),
            (None, false) => None,
        };
        if self.auth && self.replica_set.is_some() {
            write_key_file(&dir.path().join("key"), self.key.as_deref())?;
        }
        let mut server = Mongod { process: None, settings: self, port: 0, binary, tls, dir };
        for left in (0..PORT_TRIES).rev() {
            server.port = free_port()?;
            server.process = Some(server.spawn()?);
            match server.wait_until_it_answers().await {
                Ok(()) => break,
                Err(error) if error.is::<PortTaken>() && left > 0 => {
                    let _ = std::fs::remove_file(server.dir().join("mongod.log"));
                }
                Err(error) => return Err(error).context("mongod"),
            }
        }
        server.prepare().await?;
        Ok(server)
    }

    /// Does the same as `start`, for callers without a runtime.
    pub fn start_blocking(self) -> Result<Mongod> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.start())
    }

    pub(super) fn arguments(&self, port: u16, dir: &Path, tls: Option<&TlsFiles>) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut add = |flag: &str, value: &dyn AsRef<std::ffi::OsStr>| {
            args.push(flag.into());
            args.push(value.as_ref().into());
        };
        add("--dbpath", &dir.join("db"));
        add("--port", &port.to_string());
        add("--bind_ip", &if self.ipv6 { "127.0.0.1,::1" } else { "127.0.0.1" });
        add("--wiredTigerCacheSizeGB", &self.cache_gb.unwrap_or(DEFAULT_CACHE_GB).to_string());
        // The recorder of diagnostic data costs disk space and time, and no test uses it.
        add("--setParameter", &"diagnosticDataCollectionEnabled=false");
        for (name, value) in &self.parameters {
            add("--setParameter", &format!("{name}={value}"));
        }
        if let Some(name) = &self.replica_set {
            add("--replSet", name);
            add("--oplogSize", &self.oplog_mb.unwrap_or(200).to_string());
            if self.auth {
                add("--keyFile", &dir.join("key"));
            }
        }
        if let Some(files) = tls {
            add("--tlsMode", &"requireTLS");
            add("--tlsCertificateKeyFile", &files.server);
            add("--tlsCAFile", &files.ca);
            args.push("--tlsAllowConnectionsWithoutCertificates".into());
        }
        match self.socket {
            true => args.extend([OsString::from("--unixSocketPrefix"), dir.into()]),
            false => args.push("--nounixsocket".into()),
        }
        if self.ipv6 {
            args.push("--ipv6".into());
        }
        args.push("--quiet".into());
        if self.auth {
            args.push("--auth".into());
        }
        args.extend(self.args.iter().cloned());
        args
    }
}

impl Mongod {
    /// Prepares a new server for a test: waits for a primary, then creates a user.
    async fn prepare(&self) -> Result<()> {
        if self.settings.uninitiated {
            return Ok(());
        }
        // The localhost exception: with no user yet, a client on this machine may initiate and create one.
        let client = connect(&self.uri_parts().direct().build()).await?;
        let admin = client.database("admin");
        if let Some(name) = &self.settings.replica_set {
            let settings = doc! { "electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 500 };
            let members = [doc! { "_id": 0, "host": self.host() }];
            let config = doc! { "_id": name, "members": &members[..], "settings": settings };
            admin.run_command(doc! { "replSetInitiate": config }).await.context("replSetInitiate")?;
            self.wait_for_primary().await?;
        }
        if self.settings.auth {
            let create = doc! { "createUser": ROOT_USER, "pwd": ROOT_PASSWORD, "roles": ["root"] };
            admin.run_command(create).await.context("creating the root user")?;
        }
        if let Some(version) = &self.settings.compatibility {
            self.set_compatibility(version).await.context("setting the feature compatibility version")?;
        }
        Ok(())
    }
}

/// A free port below the range that the kernel uses for outgoing connections, so that it stays free while the server
/// is restarted. Another process may still take it first; then `start` tries another port.
fn free_port() -> Result<u16> {
    let candidates = std::iter::repeat_with(|| rand::random_range(15_000..32_000)).take(200);
    let mut free = candidates.filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    free.next().context("no free port between 15000 and 32000")
}

fn write_key_file(path: &Path, key: Option<&str>) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let key = key.map_or_else(|| format!("{:032x}", rand::random::<u128>()), str::to_owned);
    if key.len() < 6 {
        bail!("a key for a key file has at least 6 letters");
    }
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut &file, key.as_bytes())?;
    Ok(())
}
