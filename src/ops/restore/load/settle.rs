//! Documents of a backup that have the same `_id`: they were deleted and inserted again while the backup read them.

use std::collections::BTreeMap;

use bson::{RawDocument, RawDocumentBuf};
use xxhash_rust::xxh3::xxh3_128;

use super::super::origin::read_blocking;
use super::Load;
use crate::base::error::{Error, Kind, Result};
use crate::model::tally::Tally;
use crate::restore_target::RestoreTarget;
use crate::restore_target::insert::{self, Destination};

impl Load {
    /// Decides about documents that were refused because the target has their `_id`: a later document of the
    /// backup replaces the present one. Reads all documents of the namespace again, to find out which came later.
    /// Returns the backup's documents that are not at the target, and the number of replaced documents that are
    /// not in the backup because another client wrote them.
    pub(super) async fn settle(&self, refused: Vec<RawDocumentBuf>) -> Result<(Tally, u64)> {
        let (target, destination) = (&self.target, self.destination()?);
        let (mut gone, mut foreign) = (Tally::default(), 0);
        let mut there: BTreeMap<u128, (RawDocumentBuf, Vec<RawDocumentBuf>)> = BTreeMap::new();
        for document in refused {
            let current = current(target, destination, &document).await?;
            there.entry(xxh3_128(current.as_bytes())).or_insert((current, Vec::new())).1.push(document);
        }
        let mut last: BTreeMap<u128, Option<u64>> = BTreeMap::new();
        for (hash, (_, refused)) in &there {
            last.insert(*hash, None);
            last.extend(refused.iter().map(|document| (xxh3_128(document.as_bytes()), None)));
        }
        let (origin, at) = (self.origin.clone(), self.planned.chosen.at);
        let last = read_blocking(move || {
            let mut place = 0;
            origin.scan(at, &mut |document| {
                if let Some(last) = last.get_mut(&xxh3_128(document)) {
                    *last = Some(place);
                }
                place += 1;
            })?;
            Ok(last)
        })
        .await?;
        let place = |document: &RawDocumentBuf| last[&xxh3_128(document.as_bytes())];
        for (hash, (current, refused)) in there {
            let newest = refused.iter().max_by_key(|document| place(document));
            let newest = newest.filter(|document| place(document) > last[&hash]);
            let kept =
                |document: &&RawDocumentBuf| newest.is_some_and(|newest| std::ptr::eq(newest, *document));
            for document in refused.iter().filter(|document| !kept(document)) {
                gone += Tally::of(document.as_bytes());
            }
            if let Some(newest) = newest {
                match last[&hash] {
                    Some(_) => gone += Tally::of(current.as_bytes()),
                    None => foreign += 1,
                }
                target.replace(destination, &current, newest).await?;
            }
        }
        Ok((gone, foreign))
    }
}

/// The target's document with the same `_id`. The server considers 1 and 1.0 equal.
async fn current(
    target: &RestoreTarget,
    destination: &Destination,
    document: &RawDocument,
) -> Result<RawDocumentBuf> {
    let filter = insert::id_filter(document)?;
    let found = target.find(&destination.db, destination.find_one(filter)).await?.into_iter().next();
    found.ok_or_else(|| {
        let name = format!("{}.{}", destination.db, destination.collection);
        Error::new(Kind::Refused, format!("a document of {name} disappeared during the restore"))
            .hint(format!("Another client is writing to {name}: stop it first"))
    })
}
