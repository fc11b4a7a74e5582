//! Prepares a connection string for the driver: for the server that is backed up, for the target of a restore, and for the
//! records.

use std::fmt;
use std::time::Duration;

use mongodb::Client;
use mongodb::error::Error as Driver;
use mongodb::options::{AuthMechanism, ClientOptions, Compressor, ServerAddress, Tls};

use super::commands::{self, Unfit};
use super::errors::{self, Class, ConnectStep, UriSetting, User};
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
    setting: UriSetting,
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
    /// Reads the connection string of a setting, and the files that it names.
    ///
    /// # Errors
    /// Returns an error that names the option or the file that cannot be used.
    pub async fn read(setting: UriSetting, uri: &Secret) -> Result<Access> {
        let uri = uri::read_named(setting.name, uri.expose_secret())?;
        // Files are read on a thread that may block.
        let read = tokio::task::spawn_blocking(move || {
            tls::check_files(&uri).map_err(|error| error.of_kind(Kind::Away))?;
            let relay = uri.is_on("tlsAllowInvalidHostnames").then(|| Relay::start(&uri)).transpose()?;
            Ok(Access { setting, uri, relay })
        });
        read.await.unwrap_or_else(|e| Err(Error::failed("cannot read the TLS files").caused_by(e)))
    }

    /// The connection string with which mongodump reads the member at `address`. `source` has the meaning that
    /// [`MongoUri::for_mongodump`] gives it.
    pub fn for_mongodump(&self, address: &ServerAddress, source: Option<&str>) -> Result<Secret> {
        match &self.relay {
            Some(relay) => Ok(self.uri.without_tls().for_mongodump(&relay.door(address)?, source)),
            None => Ok(self.uri.for_mongodump(address, source)),
        }
    }

    /// Why the relay's last connection failed, which the driver does not know. `None` if there is no relay or the connection
    /// succeeded.
    pub fn relay_failure(&self) -> Option<String> {
        self.relay.as_ref()?.why()
    }

    /// Returns the cause of an error that may pass by itself. Returns `None` if the relay's last connection failed for a
    /// reason that stays until somebody acts.
    pub fn passing(&self, error: &Driver) -> Option<String> {
        let step = self.relay_failure().and_then(|why| ConnectStep::after(&why));
        errors::passing(error).filter(|_| step.is_none_or(ConnectStep::passes))
    }

    /// Makes an error of this tool from a driver's error. `doing` says what failed, and on which object.
    pub(crate) fn explain(&self, doing: String, user: Option<&User>, error: &Driver) -> Error {
        match self.relay_failure().filter(|_| errors::classify(error) == Class::Interrupted) {
            Some(why) => {
                let hint = match ConnectStep::after(&why) {
                    Some(step) => step.words(self.setting),
                    None => self.setting.check(),
                };
                Error::failed(doing).caused_by(why).hint(hint)
            }
            None => errors::explain(doing, self.setting, user, error),
        }
    }

    /// Explains an error as [`Access::explain`] does, for the first request to a server. The error is a [`Kind::Away`] if the
    /// server cannot be reached, refuses the login, or is too old.
    pub(crate) fn explain_first(&self, doing: String, user: Option<&User>, error: &Driver) -> Error {
        if let Some(why) = errors::without_hello(error) {
            return Error::new(Kind::Away, doing).caused_by(why).hint("Update the server");
        }
        let explained = self.explain(doing, user, error);
        match errors::classify(error) {
            Class::Login | Class::Interrupted => explained.of_kind(Kind::Away),
            _ => explained,
        }
    }

    /// Asks for [`Access::options`] until the name server answers or the patience is over. `passing` returns the cause of an
    /// error that may pass.
    pub(crate) async fn resolve(
        &self,
        patience: &Patience,
        passing: impl Fn(&Driver) -> Option<String>,
    ) -> Result<(ClientOptions, Option<User>)> {
        let what = self.setting.name;
        let service = format!("the name server, for {what}");
        patience.retry(&service, passing, || self.options()).await.map_err(|error| {
            let message = format!("{what} cannot be resolved{}", patience.in_vain_text());
            Error::new(Kind::Away, message).caused_by(errors::tidy(&error)).hint(format!(
                "Check the name in {what}, and this machine's name server: mongodb+srv:// needs a name with an SRV record, \
                 mongodb:// a name with an address"
            ))
        })
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
            options.socks5_proxy = Some(relay.proxy.clone());
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

/// After a refused login, asks the member without a login why it cannot be used: a member without data has no users.
/// Returns `None` if `error` is not a refused login, or if the member can be used or does not answer.
pub async fn unfit(options: &ClientOptions, error: &Driver) -> Option<Unfit> {
    if errors::classify(error) != Class::Login {
        return None;
    }
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
