use bson::rawdoc;
use proptest::prelude::*;

use super::*;

/// The differences of two lists of documents, and of the `_id`s that a slice writes.
fn found(
    sides: [&[RawDocumentBuf]; 2],
    written: &[i32],
    limit: usize,
    memory: u64,
) -> (DocumentChanges, [Vec<u64>; 3]) {
    let (hasher, folder) = (RecordHasher::new(), tempfile::tempdir().unwrap());
    let mut records = HashRecords::new(10_000, memory, folder.path()).unwrap();
    for (origin, documents) in [Origin::First, Origin::Second].into_iter().zip(sides) {
        for (position, document) in documents.iter().enumerate() {
            records.push(hasher.document(origin, 0, position as u64, document.as_bytes())).unwrap();
        }
    }
    written.iter().for_each(|id| records.push(hasher.write(0, RawBsonRef::Int32(*id))).unwrap());
    let mut finder = ChangeFinder { found: vec![FoundChanges::default()], limit };
    records.sorted_parts(&mut |part| finder.take(part)).unwrap();
    let FoundChanges { changes, added, removed, changed } = finder.found.remove(0);
    (changes, [added, removed, changed].map(|positions| positions.0.into_sorted_vec()))
}

#[test]
fn documents_are_compared_by_id_whatever_their_order() {
    let a = [rawdoc! {"_id": 1, "n": 1}, rawdoc! {"_id": 2, "n": 1}, rawdoc! {"_id": 3, "n": 1}];
    let b = [rawdoc! {"_id": 4, "n": 1}, rawdoc! {"_id": 3, "n": 2}, rawdoc! {"_id": 1, "n": 1}];
    for memory in [1, 64 << 20] {
        let (changes, lists) = found([&a, &b], &[3, 3, 9], 20, memory);
        assert_eq!((changes.added, changes.removed, changes.changed), (1, 1, 1));
        assert_eq!((changes.touched, changes.without_id), (1, 0));
        assert_eq!(lists, [vec![0], vec![1], vec![2]]);
    }
}

#[test]
fn ids_of_another_type_are_other_ids() {
    let (changes, _) = found([&[rawdoc! {"_id": 1}], &[rawdoc! {"_id": 1_i64}]], &[], 20, 1);
    assert_eq!((changes.added, changes.removed, changes.changed), (1, 1, 0));
}

#[test]
fn documents_without_id_and_with_the_same_id_are_counted() {
    let a = [rawdoc! {"n": 1}, rawdoc! {"n": 1}, rawdoc! {"n": 2}];
    let b = [rawdoc! {"n": 3}, rawdoc! {"n": 1}];
    let (changes, lists) = found([&a, &b], &[], 20, 1);
    assert_eq!((changes.added, changes.removed, changes.changed), (1, 2, 0));
    assert_eq!((changes.without_id, lists.concat()), (3, vec![]));
    let a = [rawdoc! {"_id": 1, "n": 1}, rawdoc! {"_id": 1, "n": 2}, rawdoc! {"_id": 1, "n": 3}];
    let b = [rawdoc! {"_id": 1, "n": 3}, rawdoc! {"_id": 1, "n": 4}];
    let (changes, lists) = found([&a, &b], &[], 20, 1);
    assert_eq!((changes.added, changes.removed, changes.changed), (0, 1, 1));
    assert_eq!(lists, [vec![], vec![1], vec![0]]);
    let broken = [RawDocumentBuf::from_bytes(vec![7, 0, 0, 0, 0xff, 0, 0]).unwrap()];
    assert_eq!(found([&broken, &[]], &[], 20, 1).0.without_id, 1);
}

#[test]
fn the_lists_have_the_first_documents() {
    let all: Vec<RawDocumentBuf> = (0..100).map(|n| rawdoc! {"_id": n}).collect();
    let (changes, [added, removed, _]) = found([&[], &all], &[], 3, 1);
    assert_eq!((changes.added, added, removed), (100, vec![0, 1, 2], vec![]));
}

#[test]
fn a_scratch_file_has_no_plain_value() {
    const CANARY: &str = "canary-of-a-secret-value";
    let (hasher, folder) = (RecordHasher::new(), tempfile::tempdir().unwrap());
    let mut records = HashRecords::new(10_000, 1, folder.path()).unwrap();
    for n in 0..10_000 {
        let document = rawdoc! {"_id": format!("{CANARY}-{n}"), "text": CANARY};
        records.push(hasher.document(Origin::First, 0, n, document.as_bytes())).unwrap();
    }
    let HashRecords::Scratch(file) = &records else { panic!("in memory") };
    let written = file.written();
    assert!(written.len() > 300_000, "{}", written.len());
    assert!(!written.windows(6).any(|window| window == &CANARY.as_bytes()[..6]));
    // Without the key, the hash of a known value is not in the file either.
    let known = blake3::hash(rawdoc! {"_id": format!("{CANARY}-0"), "text": CANARY}.as_bytes());
    assert!(!written.windows(HASH).any(|window| window == &known.as_bytes()[..HASH]));
}

#[test]
fn equal_segments_are_left_out_once_for_each_pair() {
    let placed = |blake3: &str, first: u64| PlacedSegment {
        segment: Segment {
            namespace: 0,
            documents: 10,
            raw_bytes: 100,
            blake3: blake3.into(),
            offset: 0,
            length: 1,
        },
        first,
    };
    let firsts = |segments: &[PlacedSegment]| segments.iter().map(|placed| placed.first).collect::<Vec<_>>();
    let [a, b] = different([
        vec![placed("x", 0), placed("y", 10), placed("x", 20)],
        vec![placed("z", 0), placed("x", 10), placed("w", 20)],
    ]);
    assert_eq!((firsts(&a), firsts(&b)), (vec![10, 20], vec![0, 20]));
}

proptest! {
    /// Each number is a document: its `_id`, and its version in both backups (0: it is missing).
    #[test]
    fn random_changes_of_documents_are_found_exactly(
        versions in proptest::collection::vec((0..3_i32, 0..3_i32), 0..80),
        turn in 0..80_usize,
        memory in prop_oneof![Just(1), Just(5_000_u64), Just(64 << 20)],
    ) {
        let side = |of: fn(&(i32, i32)) -> i32| -> Vec<(usize, RawDocumentBuf)> {
            let there = versions.iter().enumerate().filter(|(_, versions)| of(versions) > 0);
            there.map(|(id, versions)| (id, rawdoc! {"_id": id as i32, "version": of(versions)})).collect()
        };
        let (a, mut b) = (side(|versions| versions.0), side(|versions| versions.1));
        let turn = turn % b.len().max(1);
        b.rotate_left(turn);
        let documents = |side: &[(usize, RawDocumentBuf)]| {
            side.iter().map(|(_, document)| document.clone()).collect::<Vec<_>>()
        };
        let (changes, lists) = found([&documents(&a), &documents(&b)], &[], 1_000, memory);
        let ids = |is: fn(&(i32, i32)) -> bool| -> Vec<usize> {
            let all = versions.iter().enumerate().filter(|(_, versions)| is(versions));
            all.map(|(id, _)| id).collect()
        };
        let wanted = [
            ids(|(a, b)| *a == 0 && *b > 0),
            ids(|(a, b)| *a > 0 && *b == 0),
            ids(|(a, b)| *a > 0 && *b > 0 && a != b),
        ];
        let [added, removed, changed] = lists;
        let named = |positions: &[u64], side: &[(usize, RawDocumentBuf)]| {
            let mut ids: Vec<usize> = positions.iter().map(|at| side[*at as usize].0).collect();
            ids.sort_unstable();
            ids
        };
        prop_assert_eq!([named(&added, &b), named(&removed, &a), named(&changed, &a)], wanted);
        let counts = [changes.added, changes.removed, changes.changed];
        prop_assert_eq!(counts, [added.len() as u64, removed.len() as u64, changed.len() as u64]);
    }
}
