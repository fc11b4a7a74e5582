//! What is done about a lost cursor: whether reading may go on at all, and where.

use std::cmp::Ordering;

use bson::raw::cstr;
use bson::rawdoc;
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::error::Error as Driver;

use super::open::Open;
use super::scan::{Scan, Stop};
use super::token::{self, RecordId};
use crate::base::error::Error;
use crate::mongo::commands::Progress;
use crate::mongo::errors;
use crate::mongo::errors::Class;
use crate::mongo::{commands, listing};
use crate::source::describe;

/// Record ids of a batch when only they are read.
const IDS: u32 = 10_000;

/// A cursor that was lost.
pub struct Lost {
    /// What that means.
    pub class: Class,
    /// Why, in words.
    pub cause: String,
    /// What to end with if it cannot be mended.
    pub end: Stop,
}

impl From<Driver> for Lost {
    fn from(error: Driver) -> Lost {
        Lost { class: errors::classify(&error), cause: errors::tidy(&error), end: Stop::Driver(error) }
    }
}

impl Scan {
    /// A cursor behind the last whole batch.
    pub async fn again(&self, client: &Client, size: u32) -> Result<Open, Stop> {
        let Some(last) = self.trail.last() else {
            return Ok(self.open(client, None, size).await?);
        };
        match self.open(client, Some(last), size).await {
            Err(e) if errors::classify(&e) == Class::TokenGone => {}
            answer => return Ok(answer?),
        }
        // The last record was deleted: go on behind the one before it that is still there.
        let before = self.predecessor(client, last).await?;
        Ok(self.open(client, before.as_ref(), size).await?)
    }

    /// The newest record up to `last` that is still there; `None` if there is none, and all that is
    /// there lies behind `last`.
    ///
    /// Only record ids are read, not documents: `showRecordId` puts the id in the place of a field
    /// `$recordId` of the document's own (seen on 6.0.5), whose value would be lost.
    async fn predecessor(&self, client: &Client, last: &RecordId) -> Result<Option<RecordId>, Stop> {
        let older = self.trail.newest_first().skip(1).cloned().map(Some);
        for from in older.chain([None]) {
            let mut find = self.find(from.as_ref(), IDS);
            find.append(cstr!("showRecordId"), true);
            find.append(cstr!("projection"), rawdoc! {"_id": 1_i32});
            let mut cursor = match self.cursor(client, find, IDS).await {
                Err(e) if errors::classify(&e) == Class::TokenGone => continue,
                answer => answer?,
            };
            let mut before = from;
            let mut progress = Progress::new(self.server.stall);
            while let Some(reply) = self.server.next(async { cursor.next().await.transpose() }).await? {
                let documents = reply.doc_slices()?;
                progress.step(!documents.is_empty())?;
                for value in documents {
                    let value = value.map_err(|e| self.malformed(e))?;
                    let id = value.as_document().and_then(|d| token::shown(d.as_bytes()));
                    let id = id.ok_or_else(|| self.malformed("a document carries no record id"))?;
                    match id.partial_cmp(last) {
                        Some(Ordering::Greater) => return Ok(before),
                        Some(_) => before = Some(id),
                        None => return Err(self.malformed("record ids of two kinds").into()),
                    }
                }
            }
            return Ok(before);
        }
        Ok(None)
    }

    /// Decides about a lost cursor: `true` = open anew, `false` = the collection is gone, which the
    /// check at the end of the run reports.
    pub async fn settle(&mut self, client: &Client, lost: Lost) -> Result<bool, Stop> {
        let Lost { class, cause, end } = lost;
        if !matches!(class, Class::Interrupted | Class::TokenGone | Class::CollectionGone) {
            return Err(end);
        }
        let nowhere = self.blind || (!self.tokens && self.delivered > 0);
        if class != Class::CollectionGone && nowhere {
            return Err(Stop::Error(
                Error::restart(format!(
                    "the cursor on {} was lost, and this server gives no resume tokens",
                    self.name
                ))
                .caused_by(cause),
            ));
        }
        let mut away: Option<Driver> = None;
        loop {
            let why = away.as_ref().map_or_else(|| cause.clone(), errors::tidy);
            if !self.waiting.pause(&why).await {
                // Another member may have taken over, which only a new run can read.
                return Err(match away {
                    Some(e) => {
                        let text = format!("{} cannot be reached any more", self.server.service());
                        Error::restart(text).caused_by(errors::tidy(&e)).into()
                    }
                    None => end,
                });
            }
            let now = match self.server.hello_now(client).await {
                Ok(now) => now,
                Err(e) if errors::classify(&e) == Class::Interrupted => {
                    away = Some(e);
                    continue;
                }
                Err(e) => return Err(Stop::Driver(e)),
            };
            away = None;
            if let Some(what) = self.server.changed(&now) {
                return Err(Stop::Error(
                    Error::restart(format!("{what} while {} was read", self.name)).caused_by(cause),
                ));
            }
            let uuid = match self.uuid_now(client).await {
                Ok(uuid) => uuid,
                Err(e) if errors::classify(&e) == Class::Interrupted => continue,
                Err(e) => return Err(Stop::Driver(e)),
            };
            match uuid {
                uuid if self.at.is_some() && uuid != self.uuid => {
                    return Err(self.not_any_more(&cause).into());
                }
                None if self.uuid.is_some() => return Ok(false),
                // No document of the old collection was read. The new one is read instead, and named at the end of the run.
                uuid if uuid != self.uuid && self.tolerant && self.delivered == 0 => self.uuid = uuid,
                uuid if uuid != self.uuid && self.tolerant => return Ok(false),
                uuid if uuid != self.uuid => {
                    return Err(Stop::Error(
                        Error::moved(format!("{} was recreated while it was read", self.name))
                            .caused_by(cause),
                    ));
                }
                // It is there again, but no cursor of before it was away can be: a rename there and back.
                _ if class == Class::CollectionGone && nowhere => {
                    return Err(Stop::Error(
                        Error::moved(format!("{} was away while it was read", self.name)).caused_by(cause),
                    ));
                }
                _ => {}
            }
            self.notes
                .add(format!("went on reading {} behind batch {} after: {cause}", self.name, self.delivered));
            return Ok(true);
        }
    }

    /// Returns true if the server lists the collection that the run began with under its name.
    pub async fn is_listed(&self, client: &Client) -> Result<bool, Stop> {
        match self.uuid_now(client).await {
            Ok(uuid) => Ok(uuid == self.uuid),
            // The member may be restarting; `settle` waits for it and asks again.
            Err(e) if errors::classify(&e) == Class::Interrupted => Ok(false),
            Err(e) => Err(Stop::Driver(e)),
        }
    }

    async fn uuid_now(&self, client: &Client) -> Result<Option<String>, Driver> {
        let database = client.database(&self.db);
        let row = self.server.ask(|| listing::collection(&database, &self.collection)).await?;
        match row.and_then(|row| commands::uuid_of(&row)) {
            None if self.raw => {
                // Until the feature compatibility version is 9.0, its UUID is that of its buckets.
                let buckets = format!("{}{}", describe::BUCKETS, self.collection);
                let row = self.server.ask(|| listing::collection(&database, &buckets)).await?;
                Ok(row.and_then(|row| commands::uuid_of(&row)))
            }
            uuid => Ok(uuid),
        }
    }
}
