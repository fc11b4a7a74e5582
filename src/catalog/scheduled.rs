//! The mails that the mail service keeps for a job, to be sent if its backups stop. Their ids are an object in the store,
//! because another machine may make the next backup and must cancel them. docs/format.md describes every field.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{layout, marks};
use crate::base::clock;
use crate::base::error::Result;
use crate::store::Store;

/// The most superseded mails that are remembered. There are more only if cancelling failed in as many runs.
const MOST: usize = 100;

/// A mail that the service sends at a time, unless it is cancelled.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ScheduledMail {
    /// The id that the service gave it.
    pub id: String,
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
}

/// The mails about a job whose backups stop. A later backup replaces the object.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ScheduledMails {
    pub format: u32,
    pub job: String,
    /// The machine that scheduled them.
    pub host: String,
    /// The backup after which they were scheduled.
    pub backup: String,
    /// Several only if there are more recipients than one mail may have.
    pub mails: Vec<ScheduledMail>,
    /// When they should be sent, if the service does not keep mails for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_at: Option<DateTime<Utc>>,
    /// Earlier mails that could not be cancelled yet.
    #[serde(default)]
    pub superseded: Vec<ScheduledMail>,
}

impl ScheduledMails {
    /// Reads the object of a job. The inner error says why it cannot be used.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn read(store: &dyn Store, job: &str) -> Result<Option<Result<ScheduledMails, String>>> {
        let check = |found: &ScheduledMails| {
            if found.format != marks::FORMAT {
                return Err(format!("has the format {}, but this version only knows 1", found.format));
            }
            // An id becomes a part of an address.
            let plain = |mail: &ScheduledMail| {
                let sign = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                (1..=100).contains(&mail.id.len()) && mail.id.bytes().all(sign)
            };
            let sound = found.mails.iter().chain(&found.superseded).all(plain);
            match found.job == job && sound && found.mails.len() + found.superseded.len() <= 10 * MOST {
                true => Ok(()),
                false => Err("belongs to another job, or names a mail that cannot be one".into()),
            }
        };
        marks::read(store, &layout::scheduled(job), check).await
    }

    /// Writes the object, in place of an earlier one.
    ///
    /// # Errors
    /// Returns an error if the store does not accept it.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        marks::write_signed(store, &layout::scheduled(&self.job), self, None).await
    }

    /// The mails of this object that a later one supersedes. The service has already sent those of the past.
    pub fn to_cancel(&self, now: DateTime<Utc>) -> Vec<ScheduledMail> {
        let mut all: Vec<ScheduledMail> =
            self.mails.iter().chain(&self.superseded).filter(|mail| mail.at > now).cloned().collect();
        all.truncate(MOST);
        all
    }
}
