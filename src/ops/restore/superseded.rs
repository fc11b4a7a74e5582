//! One `_id` twice in a backup: a document was deleted and written anew behind the cursor while it was read.
//! The one that stands later in the backup was read later: it wins, whichever arrived first.

use std::collections::BTreeMap;

use bson::{RawDocument, RawDocumentBuf, rawdoc};
use xxhash_rust::xxh3::xxh3_128;

use crate::base::error::{Error, Kind, Result};
use crate::model::tally::Tally;
use crate::restore_target::Target;
use crate::restore_target::insert::Place;

/// Shows all documents of a namespace in the order of the backup.
pub type Scan = Box<dyn FnOnce(&mut dyn FnMut(&[u8])) -> Result<()> + Send>;

/// The result for documents whose `_id` the target had already.
#[derive(Debug, Default)]
pub struct Settled {
    /// The sum of the backup's documents that are not at the target.
    pub gone: Tally,
    /// How many documents that are not in the backup were replaced: another client wrote them.
    pub foreign: u64,
}

/// Decides about documents that were refused because their `_id` is there: a later one replaces it.
pub async fn settle(
    target: &Target,
    place: &Place,
    refused: Vec<RawDocumentBuf>,
    scan: Scan,
) -> Result<Settled> {
    let (mut gone, mut foreign) = (Tally::default(), 0);
    let mut there: BTreeMap<u128, (RawDocumentBuf, Vec<RawDocumentBuf>)> = BTreeMap::new();
    for document in refused {
        let current = current(target, place, &document).await?;
        there.entry(xxh3_128(current.as_bytes())).or_insert((current, Vec::new())).1.push(document);
    }
    let mut last: BTreeMap<u128, Option<u64>> = BTreeMap::new();
    for (hash, (_, refused)) in &there {
        last.insert(*hash, None);
        last.extend(refused.iter().map(|document| (xxh3_128(document.as_bytes()), None)));
    }
    let last = tokio::task::spawn_blocking(move || {
        let mut at = 0;
        scan(&mut |document| {
            if let Some(last) = last.get_mut(&xxh3_128(document)) {
                *last = Some(at);
            }
            at += 1;
        })?;
        Ok::<_, Error>(last)
    });
    let last = last.await.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
    for (hash, (current, refused)) in there {
        let newest = refused.iter().max_by_key(|document| last[&xxh3_128(document.as_bytes())]);
        let newest = newest.filter(|document| last[&xxh3_128(document.as_bytes())] > last[&hash]);
        for document in
            refused.iter().filter(|document| newest.is_none_or(|newest| !std::ptr::eq(newest, *document)))
        {
            gone += Tally::of(document.as_bytes());
        }
        if let Some(newest) = newest {
            match last[&hash] {
                Some(_) => gone += Tally::of(current.as_bytes()),
                None => foreign += 1,
            }
            target.replace(place, &current, newest).await?;
        }
    }
    Ok(Settled { gone, foreign })
}

/// The document that has the `_id`, as the server compares them: 1 and 1.0 are the same to it.
async fn current(target: &Target, place: &Place, document: &RawDocument) -> Result<RawDocumentBuf> {
    let filter = of_id(document)?;
    target.find(&place.db, place.find_one(filter)).await?.into_iter().next().ok_or_else(|| {
        let what =
            format!("a document of {}.{} disappeared while it was restored", place.db, place.collection);
        Error::new(Kind::Refused, what)
            .hint(format!("Another client is writing to {}.{}: stop it first", place.db, place.collection))
    })
}

/// A filter for the document's `_id`.
pub fn of_id(document: &RawDocument) -> Result<RawDocumentBuf> {
    let id = document.get("_id").ok().flatten();
    let id = id.ok_or_else(|| Error::failed("a document has no _id that can be read"))?;
    Ok(rawdoc! {"_id": {"$eq": bson::RawBson::from(id)}})
}

impl Target {
    /// Puts a document in the place of another one with the same `_id`.
    async fn replace(&self, place: &Place, old: &RawDocument, new: &RawDocument) -> Result<()> {
        self.delete(place, of_id(old)?).await?;
        match self.insert(place, new.as_bytes()).await?.first() {
            None => Ok(()),
            Some(refused) => {
                let what = format!("cannot write into {}.{}", place.db, place.collection);
                Err(Error::new(Kind::Refused, what).caused_by(refused.why.clone()))
            }
        }
    }
}
