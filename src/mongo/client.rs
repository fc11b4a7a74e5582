//! Prepares a connection string for the driver: for the server that is backed up, for the target of a restore, and for the
//! records.

use std::fmt;
use std::time::Duration;

use mongodb::Client;
use mongodb::options::{AuthMechanism, ClientOptions, Compressor, ServerAddress, Tls};

use super::commands::{self, Unfit};
use super::errors::{self, ConnectStep, User};
use super::tls::{self, Relay};
use crate::base::error::{Error, Kind, Result};
use crate::base::retry::Patience;
use crate::base::secret::{ExposeSecret, Secret};
use crate::config::uri::{self, MongoUri};

/// How long a member may take to answer `hello`.
const ASKED: Duration = Duration::from_secs(5);

/// How long a client may take to close its connections. A run has up to four clients, and none may delay its end: with
/// `mongodb+srv` the driver waits for a task that sleeps for 60 s between its queries of the name server (3.9.1,
/// src/sdam/srv_polling.rs), and a member that is down does not answer.
const CLOSING: Duration = Duration::from_millis(400);

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
    pub async fn read(key: &str, uri: &Secret) -> Result<Access> {
        let uri = uri::read_named(key, uri.expose_secret())?;
        // Files are read on a thread that may block.
        let read = tokio::task::spawn_blocking(move || {
            tls::check_files(&uri).map_err(|error| error.of_kind(Kind::Away))?;
            let relay = uri.is_on("tlsAllowInvalidHostnames").then(|| Relay::start(&uri)).transpose()?;
            Ok(Access { uri, relay })
        });
        read.await.unwrap_or_else(|e| Err(Error::failed("cannot read the TLS files").caused_by(e)))
    }

    /// The connection string with which mongodump reads the member at `address`. `source` has the meaning that
    /// [`MongoUri::for_mongodump`] gives it.
    ///
    /// # Errors
    /// Returns an error if a relay is needed and cannot accept mongodump's connections.
    pub fn for_mongodump(&self, address: &ServerAddress, source: Option<&str>) -> Result<Secret> {
        match &self.relay {
            Some(relay) => Ok(self.uri.without_tls().for_mongodump(&relay.door(address)?, source)),
            None => Ok(self.uri.for_mongodump(address, source)),
        }
    }

    /// Why the relay's last connection failed, which the driver does not know, and the next step if there is a special one.
    /// `whose` is the setting with the connection string; `writes` is true if the connection is for writing.
    pub fn relay_failure(&self, whose: &str, writes: bool) -> Option<(String, Option<String>)> {
        let why = self.relay.as_ref()?.why()?;
        let hint = ConnectStep::after(&why).map(|step| step.words(whose, writes));
        Some((why, hint))
    }

    /// Returns false if the relay's last connection failed for a reason that stays until somebody acts.
    pub fn passes(&self) -> bool {
        let why = self.relay.as_ref().and_then(Relay::why);
        why.and_then(|why| ConnectStep::after(&why)).is_none_or(ConnectStep::passes)
    }

    /// The driver's options, and the user that logs in. Looks up the name of a `mongodb+srv` string.
    pub async fn options(&self) -> mongodb::error::Result<(ClientOptions, Option<User>)> {
        let mut options = ClientOptions::parse(self.uri.for_driver().expose_secret()).await?;
        options.app_name.get_or_insert_with(|| "uzima-backup".into());
        // The socket leads to one server. The names that a set has for its members may be unknown on this machine.
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
                // The driver sends the name in a field that servers do not know, so they refuse the login (3.9.1,
                // src/client/auth/x509.rs). The certificate has the name as well.
                credential.username = None;
            }
        }
        Ok((options, user))
    }
}

/// Asks a member, without a login, why it cannot be read. Called after a refused login, because a member without data has no
/// users. Returns `None` if the member can be read, or does not answer.
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
    let hello = admin.run_command(bson::doc! {"hello": 1}).selection_criteria(commands::any_member());
    let reply = commands::bounded(ASKED, hello.into_future()).await;
    close(client).await;
    Unfit::of(&reply.ok()?)
}

/// Closes a client's connections; waits for [`CLOSING`] at most.
pub async fn close(client: Client) {
    let _ = tokio::time::timeout(CLOSING, client.shutdown()).await;
}

/// The error that a name in a connection string cannot be resolved. `what` names the connection string.
pub fn unresolved(what: &str, patience: &Patience, error: &mongodb::error::Error) -> Error {
    let message = format!("{what} cannot be resolved{}", patience.in_vain_text());
    Error::new(Kind::Away, message).caused_by(errors::tidy(error)).hint(format!(
        "Check the name in {what}, and this machine's name server: mongodb+srv:// needs a name with an SRV record, \
         mongodb:// a name with an address"
    ))
}
