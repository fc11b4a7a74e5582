//! Finds the bounds between the ranges of a collection.
//!
//! `$sample` picks records at random, and finds of their `_id`s with `showRecordId` return the record ids. A sample is not even,
//! because the server walks down a tree at random, so more records are picked than bounds are needed, and every few of them
//! becomes a bound.

use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocumentBuf, rawdoc};
use mongodb::error::Error as Driver;

use super::cursor::{self, NativeCollection, RecordId};
use crate::mongo::commands;

/// The size of a range that is aimed at, in batches.
const RANGE: u64 = 4;
/// The most ranges of a collection.
const MOST: u64 = 512;
/// The records that are picked for each bound.
const PICKS: u64 = 4;
/// Picks at random are cheap for the server if they are fewer than one in 20 of all records. Otherwise it reads and sorts the
/// whole collection. Source: MongoDB 6.0, `src/mongo/db/pipeline/pipeline_d.cpp`.
const SPARSE: u64 = 25;
/// The most ids in one command.
const ASKED: usize = 1_000;

/// The number of ranges for a collection of this many documents, of which `size` make a batch. 1 if it is not worth to divide it.
fn ranges(documents: u64, size: u32) -> u64 {
    let wanted = (documents / u64::from(size) / RANGE).min(MOST);
    wanted.min(documents / SPARSE / PICKS).max(1)
}

/// Bounds that divide the collection into ranges of about one size. A batch has `size` documents. Returns no bounds if the
/// collection is small.
pub(super) async fn bounds(collection: &NativeCollection, size: u32) -> Result<Vec<RecordId>, Driver> {
    let count = rawdoc! {"count": collection.collection.as_str()};
    let reply = collection.server.command(&collection.db, count).await?;
    let documents = reply.get("n").and_then(commands::number).unwrap_or_default();
    let ranges = ranges(documents, size);
    if ranges < 2 {
        return Ok(Vec::new());
    }
    let stages = [rawdoc! {"$sample": {"size": (ranges * PICKS) as i64}}, rawdoc! {"$project": {"_id": 1}}];
    let mut pipeline = RawArrayBuf::new();
    stages.into_iter().for_each(|stage| pipeline.push(stage));
    let aggregate = rawdoc! {
        "aggregate": collection.collection.as_str(),
        "pipeline": pipeline,
        "cursor": {"batchSize": (ranges * PICKS) as i64},
    };
    let picked = collection.server.documents(&collection.db, aggregate).await?;
    let mut ids = Vec::new();
    for some in picked.chunks(ASKED) {
        let shown = collection.server.documents(&collection.db, by_ids(collection, some)).await?;
        ids.extend(shown.iter().filter_map(|document| cursor::shown(document.as_bytes())));
    }
    Ok(every_few(ids, ranges))
}

/// The find of the record ids of documents that were picked.
fn by_ids(collection: &NativeCollection, picked: &[RawDocumentBuf]) -> RawDocumentBuf {
    let mut ids = RawArrayBuf::new();
    // The text of an `_id` need not be UTF-8; then it is not looked for.
    let values = picked.iter().filter_map(|document| document.get("_id").ok().flatten());
    values.for_each(|id| ids.push(id));
    let mut find = rawdoc! {
        "find": collection.collection.as_str(),
        "filter": {"_id": {"$in": ids}},
        "projection": {"_id": 1},
        "showRecordId": true,
        "batchSize": ASKED as i64,
    };
    if let Some(concern) = collection.concern() {
        find.append(cstr!("readConcern"), concern);
    }
    find
}

/// At most `ranges - 1` of the ids, at about equal distances. Ids of several kinds cannot be of one collection: then none.
fn every_few(mut ids: Vec<RecordId>, ranges: u64) -> Vec<RecordId> {
    if ids.windows(2).any(|pair| pair[0].partial_cmp(&pair[1]).is_none()) {
        return Vec::new();
    }
    ids.sort_by(|a, b| a.partial_cmp(b).expect("they have one kind"));
    ids.dedup();
    let step = ids.len().div_ceil(ranges as usize).max(1);
    ids.into_iter().skip(step - 1).step_by(step).take(ranges as usize - 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_with_the_collection_and_picks_stay_sparse() {
        for (documents, size, want) in [
            (0, 1_000, 1),
            (7_999, 1_000, 1),
            (8_000, 1_000, 2),
            (1_000_000, 1_500, 166),
            // Batches of four documents: 100 ranges would need more picks than one in 25.
            (1_600, 4, 16),
            (90, 1, 1),
            (u64::MAX, 1, 512),
        ] {
            assert_eq!(ranges(documents, size), want, "{documents} documents in batches of {size}");
        }
    }

    #[test]
    fn bounds_are_sorted_different_and_few() {
        let numbers = |ids: &[i64]| ids.iter().map(|n| RecordId::Number(*n)).collect::<Vec<_>>();
        assert_eq!(every_few(numbers(&[9, 1, 8, 1, 2, 7, 3, 6, 4, 5]), 3), numbers(&[3, 6]));
        assert_eq!(every_few(numbers(&[5, 5]), 3), numbers(&[5]));
        assert_eq!(every_few(Vec::new(), 3), []);
        let kinds = vec![RecordId::Number(1), RecordId::Key(vec![1])];
        assert_eq!(every_few(kinds, 2), []);
    }
}
