//! A real `mongod` for one test: started on a free port in a folder of its own, killed on drop.
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! let server = uzima_testkit::mongod::Mongod::builder().replica_set("rs0").start().await?;
//! let client = server.client().await?;
//! # Ok(()) }
//! ```
//!
//! Without a version, the server is the machine's own mongod, or 6.0.5 if the machine has none.
//! [`Builder::version`] asks for one of the pinned [`Version`]s, which are fetched on demand;
//! [`Builder::compatibility`] sets an older feature compatibility version; and
//! [`SetBuilder::versions`](crate::replica_set::SetBuilder::versions) makes a set of two versions.

pub mod binary;
mod builder;
mod process;
mod tls;
mod uri;
mod version;
mod wheel;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bson::{Document, doc};
use mongodb::Client;
use mongodb::options::ClientOptions;

pub use builder::{Builder, DEFAULT_CACHE_GB};
use process::Process;
pub use tls::{CLIENT_NAME, TlsFiles};
pub use uri::percent_encode;
pub use version::{VARIABLE as VERSIONS_VARIABLE, Version};

/// The user that `auth()` creates, with the role `root` on `admin`.
pub const ROOT_USER: &str = "root";
/// Its password has every character that must be percent-encoded in a URI, and a non-ASCII character.
pub const ROOT_PASSWORD: &str = "p@ss:w/or%d$ü";

/// A running server. Dropping it kills the process and removes its folder.
pub struct Mongod {
    // Declared before `dir`, so that the process ends before its folder is removed.
    process: Option<Process>,
    settings: Builder,
    port: u16,
    binary: PathBuf,
    tls: Option<TlsFiles>,
    dir: tempfile::TempDir,
}

impl Mongod {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The path of its Unix socket, if it was started with [`Builder::socket`].
    pub fn socket(&self) -> PathBuf {
        self.dir().join(format!("mongodb-{}.sock", self.port))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that holds `db/`, `mongod.log`, the key file and the certificates.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        std::fs::read(self.dir().join("mongod.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The CA that signed the server's certificate, if the server speaks TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.ca.as_path())
    }

    /// The process id, while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// A URI with all rights: with root's login if users are checked, with the set's name and the CA.
    pub fn uri(&self) -> String {
        match self.settings.auth {
            true => self.uri_as(ROOT_USER, ROOT_PASSWORD, "admin"),
            false => self.uri_parts().build(),
        }
    }

    /// A URI for some other user, whose user database is `auth_source`.
    pub fn uri_as(&self, user: &str, password: &str, auth_source: &str) -> String {
        self.uri_parts().user(user, password, auth_source).build()
    }

    /// A URI without a login.
    pub fn uri_anonymous(&self) -> String {
        self.uri_parts().build()
    }

    /// A URI for a direct connection to this member of a replica set.
    pub fn direct_uri(&self) -> String {
        let parts = self.uri_parts().direct();
        match self.settings.auth {
            true => parts.user(ROOT_USER, ROOT_PASSWORD, "admin").build(),
            false => parts.build(),
        }
    }

    pub async fn client(&self) -> Result<Client> {
        connect(&self.uri()).await
    }

    pub async fn direct_client(&self) -> Result<Client> {
        connect(&self.direct_uri()).await
    }

    /// Creates a user on `admin` with these roles, each `(role, database)`, for [`uri_as`](Self::uri_as).
    pub async fn create_user(&self, name: &str, password: &str, roles: &[(&str, &str)]) -> Result<()> {
        let roles: Vec<_> = roles.iter().map(|(role, db)| doc! { "role": role, "db": db }).collect();
        let create = doc! { "createUser": name, "pwd": password, "roles": roles };
        self.client().await?.database("admin").run_command(create).await?;
        Ok(())
    }

    /// Ends the server as an administrator would (SIGTERM) and waits for it.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(process) => process.terminate(Duration::from_secs(30)),
            None => Ok(()),
        }
    }

    /// Ends the server as a power failure would (SIGKILL) and waits for it.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts the server again on the same port and data, after `stop` or `kill` (or stops it first).
    pub async fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.process = Some(self.spawn()?);
        self.wait_until_it_answers().await?;
        if self.settings.replica_set.is_some() && !self.settings.uninitiated {
            self.wait_for_member_state(&["PRIMARY", "SECONDARY"]).await?;
        }
        Ok(())
    }

    /// Makes the primary step down. A lone member elects itself again after `seconds`.
    pub async fn stepdown(&self, seconds: u32) -> Result<()> {
        let command = doc! { "replSetStepDown": seconds, "secondaryCatchUpPeriodSecs": 0, "force": true };
        self.direct_client().await?.database("admin").run_command(command).await?;
        Ok(())
    }

    /// Sets the feature compatibility version, as `5.0`.
    pub async fn set_compatibility(&self, version: &str) -> Result<()> {
        let command = doc! { "setFeatureCompatibilityVersion": version };
        self.client().await?.database("admin").run_command(command).await?;
        Ok(())
    }

    /// Waits until this member is a writable primary.
    pub async fn wait_for_primary(&self) -> Result<()> {
        self.wait_for_hello("a writable primary", |hello| {
            hello.get_bool("isWritablePrimary").unwrap_or(false)
        })
        .await
    }

    pub(crate) async fn wait_for_member_state(&self, states: &[&str]) -> Result<()> {
        self.wait_for_hello(&format!("{states:?}"), |hello| {
            let on = |key| hello.get_bool(key).unwrap_or(false);
            (states.contains(&"PRIMARY") && on("isWritablePrimary"))
                || (states.contains(&"SECONDARY") && on("secondary"))
                || (states.contains(&"ARBITER") && on("arbiterOnly"))
        })
        .await
    }

    async fn wait_for_hello(&self, what: &str, ready: impl Fn(&Document) -> bool) -> Result<()> {
        // Without a login: `hello` needs no user, and the root user may not exist yet.
        let client = connect(&self.uri_parts().direct().build()).await?;
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let hello = client.database("admin").run_command(doc! { "hello": 1 }).await;
            if hello.as_ref().is_ok_and(&ready) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} did not become {what} in 60 s; last answer: {hello:?}", self.host());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn uri_parts(&self) -> uri::Parts {
        uri::Parts::new(self.host(), self.settings.replica_set.clone(), self.ca_file().map(Path::to_owned))
    }

    fn spawn(&self) -> Result<Process> {
        let args = self.settings.arguments(self.port, self.dir(), self.tls.as_ref());
        Process::spawn(&self.binary, args, &self.dir().join("mongod.log"))
    }

    async fn wait_until_it_answers(&self) -> Result<()> {
        let process = self.process.as_ref().context("the server is not running")?;
        process.wait_until_listening(self.port, Duration::from_secs(60), || self.log()).await?;
        self.wait_for_hello("reachable", |_| true).await
    }
}

/// A client for tests, with a server selection timeout of 20 s instead of 30.
pub async fn connect(uri: &str) -> Result<Client> {
    let mut options = ClientOptions::parse(uri).await.with_context(|| format!("MongoDB URI {uri}"))?;
    options.server_selection_timeout = Some(Duration::from_secs(20));
    Ok(Client::with_options(options)?)
}
