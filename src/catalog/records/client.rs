//! The server of the records: how its client is made of a connection string that was written for
//! something else, and its errors in words a person can act on.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bson::RawDocumentBuf;
use mongodb::options::{
    Acknowledgment, CollectionOptions, ReadPreference, ReadPreferenceOptions, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};

use super::{RUNS, RecordsOptions};
use crate::base::error::{Error, Result};
use crate::base::secret::{ExposeSecret, Redactor};
use crate::config::selection::RECORDS_DB;
use crate::config::uri;
use crate::mongo::client::Access;
use crate::mongo::commands::{bounded, heard};
use crate::mongo::errors;
use crate::mongo::errors::{Class, User};

/// A longer silence is logged: a run that waits for its records seems to be over.
const QUIET: Duration = Duration::from_secs(3);

/// A server that keeps records.
#[derive(Debug)]
pub struct RecordsServer {
    client: Client,
    patience: Duration,
    /// The log has its silence already.
    silent: AtomicBool,
    redactor: Redactor,
    places: String,
    user: Option<User>,
    /// How it is reached.
    access: Access,
}

impl RecordsServer {
    /// Gets ready to talk to it.
    pub async fn connect(options: &RecordsOptions) -> Result<RecordsServer> {
        let redactor = Redactor::new(&[options.uri.expose_secret()], &[]);
        let failed = |why: String| {
            Error::failed(format!("the server of the records cannot be resolved: {}", redactor.clean(&why)))
                .hint("Correct MONGO_URI or BACKUP_RECORDS; with BACKUP_RECORDS=off nothing is recorded")
        };
        let access = Access::read("the connection string of the records", &options.uri).await?;
        let parsed = tokio::time::timeout(options.patience, access.options()).await;
        let (mut client, user) = parsed
            .map_err(|_| failed(format!("no answer within {} s", options.patience.as_secs())))?
            .map_err(|e| failed(errors::tidy(&e)))?;
        // The URI was written for reading, perhaps from a secondary; records are written.
        client.selection_criteria = None;
        client.read_concern = None;
        for wait in [&mut client.server_selection_timeout, &mut client.connect_timeout] {
            *wait = Some(wait.unwrap_or(options.patience).min(options.patience));
        }
        let places = uri::shown_all(&client.hosts);
        Ok(RecordsServer {
            client: Client::with_options(client).map_err(|e| failed(errors::tidy(&e)))?,
            patience: options.patience,
            silent: AtomicBool::new(false),
            places,
            user,
            access,
            redactor,
        })
    }

    /// The collection, whatever the connection string says of reading and writing.
    pub fn collection(&self) -> Collection<RawDocumentBuf> {
        let write = WriteConcern::builder().w(Acknowledgment::Majority).w_timeout(self.patience).build();
        // Where there is no primary, what a secondary knows is better than nothing.
        let read = ReadPreference::PrimaryPreferred { options: Some(ReadPreferenceOptions::default()) };
        let options = CollectionOptions::builder()
            .write_concern(write)
            .selection_criteria(SelectionCriteria::ReadPreference(read))
            .build();
        self.client.database(RECORDS_DB).collection_with_options(RUNS, options)
    }

    /// Ends the connections.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.client.shutdown()).await;
    }

    /// `answer`, but not for ever.
    pub async fn within<T>(
        &self,
        answer: impl Future<Output = mongodb::error::Result<T>>,
    ) -> mongodb::error::Result<T> {
        // Looking for a server and its answer: each may take its time.
        let limit = self.patience * 2;
        let service = format!("the server of the records, MongoDB at {},", self.places);
        let first = || !self.silent.swap(true, Relaxed);
        heard(&service, QUIET, limit, first, bounded(limit, answer)).await.0
    }

    /// What failed, why, and the next step. `what` could not be done to the records.
    pub fn explain(&self, what: &str, error: mongodb::error::Error) -> Error {
        let off = "with BACKUP_RECORDS=off nothing is recorded";
        let hint = match (errors::classify(&error), &self.user) {
            (Class::Unauthorized, Some(User { name, db })) => format!(
                "Grant the role: db.getSiblingDB(\"{db}\").grantRolesToUser({name:?}, [{{role: \"readWrite\", db: \
                 \"{RECORDS_DB}\"}}]); {off}"
            ),
            (Class::Unauthorized, None) => {
                format!("Name a user who may write to the database {RECORDS_DB}; {off}")
            }
            (Class::Login, _) => format!("Check user, password and authSource; {off}"),
            _ => match errors::connect_hint(&error, "the connection string of the records", true) {
                Some(hint) => format!("{hint}; {off}"),
                None => format!("Check that MongoDB runs there and takes writes; {off}"),
            },
        };
        log::debug!("records cannot be {what}: {error}");
        let why = match self.access.relay_failure("the connection string of the records", true) {
            Some((why, _)) if errors::classify(&error) == Class::Interrupted => why,
            _ => self.redactor.clean(&errors::tidy(&error)),
        };
        Error::failed(format!("records cannot be {what} (MongoDB at {}, database {RECORDS_DB})", self.places))
            .hint(hint)
            .caused_by(why)
    }
}
