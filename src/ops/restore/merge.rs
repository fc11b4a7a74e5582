//! Merges documents into a collection: inserts those whose `_id` is missing, and compares the others with the present ones.
//!
//! The server finds the present documents, because it decides which `_id`s are equal: 1 and 1.0 are, and a collation may make texts
//! equal. Present documents are compared as they arrive, so that only one batch of the server is in memory. Two documents are equal if
//! their bytes are: the same fields in the same order, with the same types and values.

use std::collections::HashMap;

use bson::{RawArrayBuf, RawBson, RawBsonRef, RawDocument, rawdoc};

use super::replay::id_key;
use super::report::MergeCounts;
use crate::base::error::Result;
use crate::dumpformat::query;
use crate::restore_target::RestoreTarget;
use crate::restore_target::insert::{self, Destination, RefusedDocument, id_text};

/// The most `_id`s in a query, and their length in bytes; the last one may exceed it.
const IDS: usize = 10_000;
const ID_BYTES: usize = 1 << 20;

/// What a merge does with documents that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Insert,
    /// Counts them as inserted, for a `--dry-run`.
    Count,
}

/// Merges documents. Returns also the documents that the server refuses for another reason than their `_id`.
pub(super) async fn merge(
    target: &RestoreTarget,
    destination: &Destination,
    documents: &[&RawDocument],
    missing: Missing,
) -> Result<(MergeCounts, Vec<RefusedDocument>)> {
    let mut counts = MergeCounts::default();
    let mut absent = Vec::new();
    for batch in batches(documents) {
        let present = look(target, destination, &batch).await?;
        for (document, equal) in batch.into_iter().zip(present) {
            match equal {
                Some(equal) => counts.present(|| id_of(document), equal),
                None => absent.push(document.as_bytes()),
            }
        }
    }
    counts.inserted = absent.len() as u64;
    if missing == Missing::Count || absent.is_empty() {
        return Ok((counts, Vec::new()));
    }
    let mut refused = Vec::new();
    for one in target.insert_all(destination, &absent).await? {
        counts.inserted -= 1;
        // Another client inserted a document with this `_id` in the meantime.
        match if one.same_id { find(target, destination, &one.document).await? } else { None } {
            Some(equal) => counts.present(|| id_of(&one.document), equal),
            None => refused.push(one),
        }
    }
    Ok((counts, refused))
}

fn id_of(document: &RawDocument) -> String {
    document.get("_id").ok().flatten().map_or_else(|| "without _id".into(), id_text)
}

/// Groups documents into batches, each for one query.
fn batches<'a>(documents: &[&'a RawDocument]) -> Vec<Vec<&'a RawDocument>> {
    let (mut batches, mut bytes) = (vec![Vec::new()], 0);
    for document in documents.iter().copied() {
        let last = batches.last_mut().expect("there is one");
        match last.len() < IDS && bytes < ID_BYTES {
            true => last.push(document),
            false => {
                batches.push(vec![document]);
                bytes = 0;
            }
        }
        bytes += id_bytes(document);
    }
    batches
}

/// The space of a document's `_id` in a query, in bytes, without most of a value that is not long.
fn id_bytes(document: &RawDocument) -> usize {
    16 + match document.get("_id") {
        Ok(Some(RawBsonRef::String(text))) => text.len(),
        Ok(Some(RawBsonRef::Binary(binary))) => binary.bytes.len(),
        Ok(Some(RawBsonRef::Document(inner))) => inner.as_bytes().len(),
        _ => 0,
    }
}

/// Says for each document whether the target has its `_id`: `None` if it does not, else whether the documents are equal.
async fn look(
    target: &RestoreTarget,
    destination: &Destination,
    documents: &[&RawDocument],
) -> Result<Vec<Option<bool>>> {
    let (mut ids, mut places) = (RawArrayBuf::new(), HashMap::<u64, Vec<usize>>::new());
    for (at, document) in documents.iter().enumerate() {
        if let Ok(Some(id)) = document.get("_id") {
            ids.push(RawBson::from(id));
            places.entry(id_key(id)).or_default().push(at);
        }
    }
    if places.is_empty() {
        return Ok(vec![None; documents.len()]);
    }
    let command = rawdoc! {"find": destination.collection.as_str(), "filter": {"_id": {"$in": ids}}};
    let start = || (vec![None; documents.len()], false);
    let add = |(found, astray): &mut (Vec<Option<bool>>, bool), there: &RawDocument| match place(
        there, documents, &places,
    ) {
        Some(at) => found[at] = Some(there.as_bytes() == documents[at].as_bytes()),
        None => *astray = true,
    };
    let (mut found, astray) = target.gather(&destination.db, command, start, add).await?;
    // The collation of the collection makes other texts equal than the bytes do.
    if astray {
        for (at, document) in documents.iter().enumerate() {
            if found[at].is_none() {
                found[at] = find(target, destination, document).await?;
            }
        }
    }
    Ok(found)
}

/// The position of the document whose `_id` a present document has.
fn place(
    there: &RawDocument,
    documents: &[&RawDocument],
    places: &HashMap<u64, Vec<usize>>,
) -> Option<usize> {
    let id = there.get("_id").ok()??;
    let same = |at: &&usize| {
        let own = documents[**at].get("_id").ok().flatten();
        own.is_some_and(|own| query::are_equal(own, id).unwrap_or(false))
    };
    places.get(&id_key(id))?.iter().find(same).copied()
}

/// Looks for the present document with the `_id` of a document: `None` if there is none, else whether both are equal.
async fn find(
    target: &RestoreTarget,
    destination: &Destination,
    document: &RawDocument,
) -> Result<Option<bool>> {
    let one = destination.find_one(insert::id_filter(document)?);
    let same = |found: &mut Option<bool>, there: &RawDocument| {
        *found = Some(there.as_bytes() == document.as_bytes());
    };
    target.gather(&destination.db, one, || None, same).await
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    #[test]
    fn batches_have_each_document_once_and_few_bytes_of_ids() {
        let long: Vec<RawDocumentBuf> =
            (0..5).map(|n| rawdoc! {"_id": format!("{n}{}", "x".repeat(ID_BYTES / 2))}).collect();
        let long: Vec<&RawDocument> = long.iter().map(|document| &**document).collect();
        let lens: Vec<usize> = batches(&long).iter().map(Vec::len).collect();
        assert_eq!(lens, [2, 2, 1]);
        let small = rawdoc! {"_id": 1};
        let many = vec![&*small; IDS + 1];
        assert_eq!(batches(&many).iter().map(Vec::len).collect::<Vec<_>>(), [IDS, 1]);
    }

    #[test]
    fn a_present_document_belongs_to_the_one_with_an_equal_id() {
        // Both numbers are the same as doubles, so they have one key.
        let (small, large) = (9_007_199_254_740_992_i64, 9_007_199_254_740_993_i64);
        let documents = [rawdoc! {"_id": small}, rawdoc! {"_id": large}, rawdoc! {"_id": "a"}];
        let documents: Vec<&RawDocument> = documents.iter().map(|document| &**document).collect();
        let mut places = HashMap::<u64, Vec<usize>>::new();
        for (at, document) in documents.iter().enumerate() {
            places.entry(id_key(document.get("_id").unwrap().unwrap())).or_default().push(at);
        }
        assert_eq!(places.len(), 2);
        assert_eq!(place(&rawdoc! {"_id": large}, &documents, &places), Some(1));
        assert_eq!(place(&rawdoc! {"_id": small as f64}, &documents, &places), Some(0));
        assert_eq!(place(&rawdoc! {"_id": "A"}, &documents, &places), None);
    }
}
