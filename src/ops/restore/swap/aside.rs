//! `restore --kept`, `--undo` and `--discard`: the collections that swaps keep beside the live ones.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::mark::{HexUuids, MarkedCollection, RestoreMark};
use super::{SwapSide, SwapState, mark};
use crate::base::error::{Error, Result};
use crate::base::suggest;
use crate::ops::restore::marks::{MarkFormat, Marks};

/// A swap whose collections are kept.
#[derive(Debug, JsonSchema, Serialize)]
pub struct KeptRestore {
    /// The restore's own id, for `--undo` and `--discard`.
    pub id: String,
    /// The backup or dump.
    pub from: String,
    pub started_at: DateTime<Utc>,
    pub state: SwapState,
    /// True if the collections are staging collections of a restore with `--filter` or `--merge`.
    pub staging: bool,
    /// The collections that are live, or will be when the moves are finished.
    pub live: SwapSide,
    pub collections: Vec<KeptCollection>,
}

/// A collection of a swap.
#[derive(Debug, JsonSchema, Serialize)]
pub struct KeptCollection {
    pub namespace: String,
    /// The collection that has the live name now; null if it is neither of both, or there is none.
    pub live: Option<SwapSide>,
    /// The collections that are aside.
    pub kept: Vec<String>,
    /// The number of documents in each of `kept`, by the server's metadata; null if the user may not count them.
    pub documents: Vec<Option<u64>>,
}

/// What `--undo` or `--discard` did.
#[derive(Debug, JsonSchema, Serialize)]
pub struct AsideReport {
    /// The version of the JSON format.
    pub version: u8,
    pub id: String,
    /// `host:port`.
    pub target: String,
    /// The collections of the swap that are live now; null if the restore was no swap.
    pub live: Option<SwapSide>,
    /// The live collections that were moved, or the kept ones that were dropped.
    pub collections: Vec<String>,
    /// Notes; they lead to exit code 3.
    pub notes: Vec<String>,
}

impl Marks {
    async fn find(&self, id: &str) -> Result<RestoreMark> {
        let mut marks: Vec<RestoreMark> = self.read(MarkFormat::Swap).await?;
        let at = marks.iter().position(|mark| mark.id == id);
        at.map(|at| marks.swap_remove(at)).ok_or_else(|| {
            let what =
                format!("MongoDB at {} knows no restore {id} that keeps collections", self.target.address);
            let ids = marks.iter().map(|mark| mark.id.as_str());
            let step = suggest::advice(id, ids);
            Error::usage(what).hint(step.unwrap_or_else(|| "`uzima-backup restore --kept` lists them".into()))
        })
    }

    /// Lists the swaps whose collections are kept.
    ///
    /// # Errors
    /// Returns an error if the target does not answer.
    pub(in crate::ops::restore) async fn kept_by_swaps(&self) -> Result<Vec<KeptRestore>> {
        let mut restores = Vec::new();
        for mark in self.read::<RestoreMark>(MarkFormat::Swap).await? {
            let uuids = self.uuids(&mark).await?;
            let mut collections = Vec::new();
            for one in &mark.collections {
                let kept = aside_names(&mark, one, &uuids);
                let mut documents = Vec::new();
                for name in &kept {
                    documents.push(self.target.count(&one.db, name).await?);
                }
                let live = one.at(&one.name, &uuids).and_then(|live| {
                    [SwapSide::Restored, SwapSide::Earlier]
                        .into_iter()
                        .find(|side| one.uuid(*side) == Some(live))
                });
                let kept = kept.into_iter().map(|name| format!("{}.{name}", one.db)).collect();
                collections.push(KeptCollection { namespace: one.full_name(), live, kept, documents });
            }
            let started_at =
                DateTime::from_timestamp_millis(mark.started_at.timestamp_millis()).unwrap_or_default();
            let RestoreMark { id, from, state, staging, live, .. } = mark;
            restores.push(KeptRestore { id, from, started_at, state, staging, live, collections });
        }
        Ok(restores)
    }

    /// Exchanges the live collections of a swap and those that are kept. After an interrupted swap, makes the earlier ones live.
    ///
    /// # Errors
    /// Returns an error if there is no such swap, if its collections are incomplete or gone, or if they could not be moved.
    pub(in crate::ops::restore) async fn undo_swap(&self, id: &str) -> Result<AsideReport> {
        let mut mark = self.find(id).await?;
        self.refuse_young(&mark)?;
        let want = match mark.state {
            SwapState::Loading if mark.staging => {
                return Err(Error::failed(format!(
                    "the restore {id} was no --swap: it has staging collections for --filter or --merge, and moved nothing in"
                ))
                .hint(format!(
                    "If it was interrupted, --discard {id} drops its staging collections; documents that it inserted before stay. \
                     Nothing was changed"
                )));
            }
            SwapState::Loading => {
                return Err(Error::failed(format!(
                    "the restore {id} has moved nothing yet: it is loading, or was interrupted"
                ))
                .hint(format!(
                    "If it was interrupted, --discard {id} drops what it loaded. Nothing was changed"
                )));
            }
            SwapState::Moving => SwapSide::Earlier,
            SwapState::Settled => mark.live.other(),
        };
        let uuids = self.uuids(&mark).await?;
        for one in &mut mark.collections {
            // An application may have re-created the collection.
            let live = one.at(&one.name, &uuids).map(str::to_string);
            if live.is_some() && live.as_deref() != one.uuid(want) && mark.state == SwapState::Settled {
                match want {
                    SwapSide::Restored => one.earlier = live,
                    SwapSide::Earlier => one.restored = live,
                }
            }
        }
        let known: usize = mark.collections.iter().map(|one| one.strangers.len()).sum();
        let mut trial = mark.clone();
        super::name_strangers(&mut trial, &uuids);
        for one in &trial.collections {
            one.moves(id, want, &uuids).map_err(|why| {
                Error::failed(why)
                    .hint("Nothing was changed. `uzima-backup restore --kept` shows where each collection is")
            })?;
        }
        self.exchange(&mut mark, want).await?;
        let mut notes = self.stop_expiry(&mut mark).await;
        notes.extend(super::strangers(&mark, known));
        let collections = mark.collections.iter().map(MarkedCollection::full_name).collect();
        Ok(self.report(mark, collections, notes))
    }

    /// Drops the collections that a swap keeps, and forgets it.
    ///
    /// # Errors
    /// Returns an error if there is no such swap, if it was interrupted while collections were moved, or if a live collection does not
    /// exist any more, so that the kept one is the only one.
    pub(in crate::ops::restore) async fn discard_swap(&self, id: &str) -> Result<AsideReport> {
        let mut mark = self.find(id).await?;
        self.refuse_young(&mark)?;
        if mark.state == SwapState::Loading {
            self.adopt(&mut mark).await?;
        }
        if mark.state == SwapState::Moving {
            return Err(Error::failed(format!(
                "the restore {id} was interrupted while it moved collections"
            ))
            .hint(format!(
                "Nothing was dropped. `uzima-backup restore --undo {id}` moves all of them back first"
            )));
        }
        let uuids = self.uuids(&mark).await?;
        for one in mark.collections.iter().filter(|_| mark.state == SwapState::Settled) {
            let keeps = !aside_names(&mark, one, &uuids).is_empty();
            if keeps && one.at(&one.name, &uuids) != one.uuid(mark.live) {
                let what = format!(
                    "{} does not exist any more or was created again, so what is kept may be its only copy",
                    one.full_name()
                );
                return Err(Error::failed(what).hint(format!(
                    "Nothing was dropped. `uzima-backup restore --undo {id}` moves it back; or drop it yourself"
                )));
            }
        }
        // Another run may have moved something since the mark was read.
        let now = self.find(id).await?;
        if (now.state, now.changed_at) != (mark.state, mark.changed_at) {
            return Err(Error::failed(format!("another run is at work on the restore {id}"))
                .hint("Nothing was dropped. Look at `uzima-backup restore --kept`, and try again"));
        }
        let mut dropped = Vec::new();
        for one in &mark.collections {
            let mut names = aside_names(&mark, one, &uuids);
            if mark.state == SwapState::Loading {
                names.retain(|name| *name == mark::loaded(id, &one.name));
            }
            for name in names {
                self.target.drop_namespace(&one.db, &name).await?;
                dropped.push(format!("{}.{name}", one.db));
            }
        }
        self.target.remove_mark(id).await?;
        Ok(self.report(mark, dropped, Vec::new()))
    }

    fn report(&self, mark: RestoreMark, collections: Vec<String>, notes: Vec<String>) -> AsideReport {
        let target = self.target.address.clone();
        AsideReport { version: 1, id: mark.id, target, live: Some(mark.live), collections, notes }
    }
}

/// The collections of a swap that are not live: those with the names of this restore.
fn aside_names(mark: &RestoreMark, one: &MarkedCollection, uuids: &HexUuids) -> Vec<String> {
    let names = [mark::loaded(&mark.id, &one.name), mark::kept(&mark.id, &one.name)];
    names.into_iter().chain(one.strangers.clone()).filter(|name| one.at(name, uuids).is_some()).collect()
}
