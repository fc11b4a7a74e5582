//! The server of the records: how its client is made of a connection string that was written for
//! something else, and its errors in words a person can act on.

use std::time::Duration;

use bson::RawDocumentBuf;
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, ReadPreference, ReadPreferenceOptions,
    SelectionCriteria, ServerAddress, WriteConcern,
};
use mongodb::{Client, Collection};

use super::{RUNS, RecordsOptions};
use crate::error::{Error, Result};
use crate::secret::{ExposeSecret, Redactor};
use crate::source::errors::{self, Class};
use crate::source::selection::RECORDS_DB;

/// A server that keeps records.
#[derive(Debug)]
pub struct Server {
    client: Client,
    patience: Duration,
    redactor: Redactor,
    places: String,
    user: Option<String>,
    auth_source: String,
}

impl Server {
    /// Gets ready to talk to it.
    pub async fn connect(options: &RecordsOptions) -> Result<Server> {
        let uri = options.uri.expose_secret();
        let redactor = Redactor::new(&[uri], &[]);
        let failed = |why: String| {
            Error::failed(format!("the server of the records cannot be resolved: {}", redactor.clean(&why)))
                .hint("Correct MONGO_URI or BACKUP_RECORDS; with BACKUP_RECORDS=off nothing is recorded")
        };
        let parsed = tokio::time::timeout(options.patience, ClientOptions::parse(uri).into_future()).await;
        let mut client = parsed
            .map_err(|_| failed(format!("no answer within {} s", options.patience.as_secs())))?
            .map_err(|e| failed(errors::tidy(&e)))?;
        client.app_name.get_or_insert_with(|| "uzima-backup".into());
        // The URI was written for reading, perhaps from a secondary; records are written.
        client.selection_criteria = None;
        client.read_concern = None;
        for wait in [&mut client.server_selection_timeout, &mut client.connect_timeout] {
            *wait = Some(wait.unwrap_or(options.patience).min(options.patience));
        }
        let places: Vec<String> = client.hosts.iter().map(ServerAddress::to_string).collect();
        let credential = client.credential.clone().unwrap_or_default();
        Ok(Server {
            client: Client::with_options(client).map_err(|e| failed(errors::tidy(&e)))?,
            patience: options.patience,
            places: places.join(","),
            user: credential.username,
            auth_source: credential.source.unwrap_or_else(|| "admin".into()),
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
        crate::source::patience::bounded(self.patience * 2, answer).await
    }

    /// What failed, why, and the next step. `what` could not be done to the records.
    pub fn explain(&self, what: &str, error: mongodb::error::Error) -> Error {
        let off = "with BACKUP_RECORDS=off nothing is recorded";
        let hint = match (errors::classify(&error), &self.user) {
            (Class::Unauthorized, Some(user)) => format!(
                "Grant the role: db.getSiblingDB(\"{}\").grantRolesToUser(\"{user}\", [{{role: \"readWrite\", db: \
                 \"{RECORDS_DB}\"}}]); {off}",
                self.auth_source
            ),
            (Class::Unauthorized, None) => {
                format!("Name a user who may write to the database {RECORDS_DB}; {off}")
            }
            (Class::Login, _) => format!("Check user, password and authSource; {off}"),
            _ => match errors::whereabouts(&error) {
                Some(hint) => format!("{hint}; {off}"),
                None => format!("Check that MongoDB runs there and takes writes; {off}"),
            },
        };
        log::debug!("records cannot be {what}: {error}");
        let why = self.redactor.clean(&errors::tidy(&error));
        Error::failed(format!("records cannot be {what} (MongoDB at {}, database {RECORDS_DB})", self.places))
            .hint(hint)
            .caused_by(why)
    }
}
