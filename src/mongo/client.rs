//! Prepares a connection string for the driver: for the server that is backed up, for the target of a restore, and for the
//! records.

use std::fmt;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{AuthMechanism, ClientOptions, Compressor, ServerAddress, Tls};

use super::hello::Unfit;
use super::relay::Relay;
use super::server::any_member;
use super::tls;
use super::unfound::{self, Step};
use crate::base::error::{Error, Kind, Result};
use crate::base::retry::Patience;
use crate::base::secret::{ExposeSecret, Secret};
use crate::config::uri::{self, MongoUri};

/// How long a member may take to answer `hello`.
const ASKED: Duration = Duration::from_secs(5);

/// How long a client may take to end its connections. A run has up to four clients, and none may hold its end up: with
/// `mongodb+srv` the driver waits for a task that sleeps for 60 s between its looks at the name server (3.9.1,
/// src/sdam/srv_polling.rs), and a member that is down does not answer.
const CLOSING: Duration = Duration::from_millis(400);

/// A user as MongoDB knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// The database that it was created in.
    pub db: String,
}

/// A valid connection string, with valid files.
pub struct Access {
    uri: MongoUri,
    relay: Option<Relay>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connection string holds a password.
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the connection string of the setting `key`, and the files that it names.
    ///
    /// # Errors
    /// Returns an error that names the option or the file that cannot be used.
    pub fn read(key: &str, uri: &Secret) -> Result<Access> {
        let uri = uri::read_named(key, uri.expose_secret())?;
        tls::check_files(&uri).map_err(|error| error.of_kind(Kind::Away))?;
        let relay = uri.is_on("tlsAllowInvalidHostnames").then(|| Relay::start(&uri)).transpose()?;
        Ok(Access { uri, relay })
    }

    /// The connection string with which mongodump reads the member at `address`; `source` as for
    /// [`MongoUri::for_mongodump`].
    ///
    /// # Errors
    /// Returns an error if a relay is needed and cannot accept mongodump's connections.
    pub fn for_mongodump(&self, address: &ServerAddress, source: Option<&str>) -> Result<Secret> {
        match &self.relay {
            Some(relay) => Ok(self.uri.without_tls().for_mongodump(&relay.door(address)?, source)),
            None => Ok(self.uri.for_mongodump(address, source)),
        }
    }

    /// Why the relay did not reach a server, and the next step. The driver does not know the cause.
    pub fn why(&self) -> Option<(String, Option<Step>)> {
        let why = self.relay.as_ref()?.why()?;
        let step = unfound::step_of(&why);
        Some((why, step))
    }

    /// Returns false if the relay's last connection failed in a way that will not pass.
    pub fn passes(&self) -> bool {
        self.why().is_none_or(|(_, step)| step.is_none_or(Step::passes))
    }

    /// The driver's options, and the user that logs in. Looks up the name of a `mongodb+srv` string.
    pub async fn options(&self) -> mongodb::error::Result<(ClientOptions, Option<User>)> {
        let mut options = ClientOptions::parse(self.uri.for_driver().expose_secret()).await?;
        options.app_name.get_or_insert_with(|| "uzima-backup".into());
        // The socket leads to one server; the names that a set has for its members may be unknown here.
        let socket = matches!(options.hosts.as_slice(), [ServerAddress::Unix { .. }]);
        if socket && options.direct_connection.is_none() && options.repl_set_name.is_none() {
            options.direct_connection = Some(true);
        }
        if let Some(level) = self.uri.option("zstdCompressionLevel").and_then(|level| level.parse().ok()) {
            for compressor in options.compressors.iter_mut().flatten() {
                if let Compressor::Zstd { level: own } = compressor {
                    *own = Some(level);
                }
            }
        }
        if let Some(relay) = &self.relay {
            options.tls = Some(Tls::Disabled);
            options.socks5_proxy = Some(relay.proxy());
        }
        let mut user = None;
        if let Some(credential) = &mut options.credential {
            let certificate = credential.mechanism == Some(AuthMechanism::MongoDbX509);
            let db = credential.source.clone().filter(|_| !certificate);
            let default = if certificate { "$external" } else { "admin" };
            user = credential
                .username
                .clone()
                .map(|name| User { name, db: db.unwrap_or_else(|| default.into()) });
            if certificate {
                // The driver sends it in a field that servers do not know, and they refuse the login (3.9.1,
                // src/client/auth/x509.rs). The certificate has the name as well.
                credential.username = None;
            }
        }
        Ok((options, user))
    }
}

/// Asks a member, without a login, why it cannot be read. Called after a refused login, because a member without data knows
/// no users. `None` if the member can be read, or does not answer.
pub async fn unfit(options: &ClientOptions) -> Option<Unfit> {
    let mut options = options.clone();
    options.credential = None;
    options.repl_set_name = None;
    options.direct_connection = Some(true);
    options.load_balanced = None;
    options.hosts.truncate(1);
    options.server_selection_timeout = Some(ASKED);
    let client = Client::with_options(options).ok()?;
    let admin = client.database("admin");
    let hello = admin.run_command(bson::doc! {"hello": 1}).selection_criteria(any_member());
    let reply = super::patience::bounded(ASKED, hello.into_future()).await;
    close(client).await;
    Unfit::of(&reply.ok()?)
}

/// Ends a client's connections, for [`CLOSING`] at most.
pub async fn close(client: Client) {
    let _ = tokio::time::timeout(CLOSING, client.shutdown()).await;
}

/// The error that a name in a connection string cannot be looked up.
pub fn unresolved(what: &str, patience: &Patience, error: &mongodb::error::Error) -> Error {
    Error::new(Kind::Away, format!("{what} cannot be resolved{}", patience.in_vain_text())).caused_by(super::errors::tidy(error)).hint(format!(
        "Check the name in {what}, and this machine's name server: mongodb+srv:// needs a name with an SRV record, \
         mongodb:// a name with an address"
    ))
}
