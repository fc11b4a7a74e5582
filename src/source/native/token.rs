//! Resume tokens: where a scan in natural order stands.
//!
//! With `$_requestResumeToken: true` each batch carries `postBatchResumeToken: {$recordId: …}`, and
//! `$_resumeAfter` begins exactly behind that record. Record ids are 64-bit integers, for clustered
//! collections binary; both grow along the scan. They differ between the members of a replica set, so a
//! token means something only to the process that gave it. Source: MongoDB 6.0,
//! `src/mongo/db/query/plan_executor.h`, and seen on 6.0.5.

use std::cmp::Ordering;

use bson::raw::cstr;
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

/// A record's place in the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordId {
    /// An ordinary collection.
    Number(i64),
    /// A clustered collection: the key's bytes.
    Key(Vec<u8>),
}

impl PartialOrd for RecordId {
    /// Ids of different kinds have no order: they are never of one collection.
    fn partial_cmp(&self, other: &RecordId) -> Option<Ordering> {
        match (self, other) {
            (RecordId::Number(a), RecordId::Number(b)) => Some(a.cmp(b)),
            (RecordId::Key(a), RecordId::Key(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

impl RecordId {
    fn of(value: RawBsonRef<'_>) -> Option<RecordId> {
        match value {
            RawBsonRef::Int64(n) => Some(RecordId::Number(n)),
            RawBsonRef::Int32(n) => Some(RecordId::Number(n.into())),
            RawBsonRef::Binary(b) => Some(RecordId::Key(b.bytes.to_vec())),
            _ => None,
        }
    }

    /// The value of `$_resumeAfter`.
    pub fn token(&self) -> RawDocumentBuf {
        let mut token = RawDocumentBuf::new();
        match self {
            RecordId::Number(n) => token.append(cstr!("$recordId"), *n),
            RecordId::Key(bytes) => token.append(
                cstr!("$recordId"),
                bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: bytes.clone() },
            ),
        }
        token
    }
}

/// The token in a reply's `cursor`; none from a server that has none, and none where it is null
/// (nothing was scanned yet).
pub fn of_reply(reply: &RawDocument) -> Option<RecordId> {
    let token = reply.get_document("cursor").ok()?.get_document("postBatchResumeToken").ok()?;
    RecordId::of(token.get("$recordId").ok()??)
}

/// Whether a reply has a token at all, and be it null.
pub fn given(reply: &RawDocument) -> bool {
    reply.get_document("cursor").is_ok_and(|cursor| cursor.get_document("postBatchResumeToken").is_ok())
}

/// Whether a reply says that its cursor has no more.
pub fn is_last(reply: &RawDocument) -> bool {
    reply.get_document("cursor").and_then(|cursor| cursor.get_i64("id")).is_ok_and(|id| id == 0)
}

/// The places a scan has passed, thinned out towards its beginning: if the newest record is gone, an
/// older one may still be there.
#[derive(Debug, Default)]
pub struct Trail {
    passed: Vec<RecordId>,
}

/// More places than this are thinned out.
const LONGEST: usize = 64;

impl Trail {
    /// A whole batch up to here was handed on.
    pub fn push(&mut self, id: RecordId) {
        self.passed.push(id);
        if self.passed.len() > LONGEST {
            let mut n = 0;
            // Every second one of the older half goes; the newer half stays dense.
            self.passed.retain(|_| {
                n += 1;
                n > LONGEST / 2 || n % 2 == 1
            });
        }
    }

    /// The newest place.
    pub fn last(&self) -> Option<&RecordId> {
        self.passed.last()
    }

    /// The places, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &RecordId> {
        self.passed.iter().rev()
    }
}

/// The record id of a document that was asked for with `showRecordId: true` and a projection, which
/// together put it last.
pub fn shown(document: &[u8]) -> Option<RecordId> {
    let (at, value) = last_element(document)?;
    if document.get(at + 1..value)? != b"$recordId\0" {
        return None;
    }
    let bytes = document.get(value..document.len() - 1)?;
    match document[at] {
        0x12 => Some(RecordId::Number(i64::from_le_bytes(*bytes.first_chunk::<8>()?))),
        0x05 => Some(RecordId::Key(bytes.get(5..)?.to_vec())),
        _ => None,
    }
}

/// Where a document's last element and its value begin. Steps over lengths only: the strings of a
/// stored document need not be UTF-8. Source: <https://bsonspec.org/spec.html>.
fn last_element(document: &[u8]) -> Option<(usize, usize)> {
    let end = document.len().checked_sub(1)?;
    let int = |at: usize| {
        let bytes = document.get(at..at + 4)?.first_chunk::<4>()?;
        usize::try_from(i32::from_le_bytes(*bytes)).ok()
    };
    let text = |at: usize| Some(document.get(at..)?.iter().position(|b| *b == 0)? + 1);
    let (mut at, mut last) = (4, None);
    while at < end {
        let value = at + 1 + text(at + 1)?;
        last = Some((at, value));
        let len = match document[at] {
            0x01 | 0x09 | 0x11 | 0x12 => 8,
            0x02 | 0x0d | 0x0e => 4 + int(value)?,
            0x03 | 0x04 | 0x0f => int(value)?,
            0x05 => 5 + int(value)?,
            0x06 | 0x0a | 0x7f | 0xff => 0,
            0x07 => 12,
            0x08 => 1,
            0x0b => {
                let pattern = text(value)?;
                pattern + text(value + pattern)?
            }
            0x0c => 4 + int(value)? + 12,
            0x10 => 4,
            0x13 => 16,
            _ => return None,
        };
        at = value.checked_add(len)?;
    }
    if at == end { last } else { None }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn the_record_id_is_read() {
        // An `_id` need not be UTF-8.
        let odd = [&b"\x02_id\0\x02\0\0\0\xff\0"[..]].concat();
        let plain = [&(odd.len() as i32 + 5).to_le_bytes(), odd.as_slice(), &[0]].concat();
        let shown_as = |kind: u8, value: &[u8]| {
            let field = [&[kind], &b"$recordId\0"[..], value].concat();
            let len = (odd.len() + field.len() + 5) as i32;
            [&len.to_le_bytes(), odd.as_slice(), &field, &[0]].concat()
        };
        assert_eq!(shown(&shown_as(0x12, &99_i64.to_le_bytes())), Some(RecordId::Number(99)));
        for key in [vec![], vec![60], vec![5; 300], b"\x05$recordId\0\x01\0\0\0\0x".to_vec()] {
            let value = [&(key.len() as i32).to_le_bytes()[..], &[0], &key].concat();
            assert_eq!(shown(&shown_as(0x05, &value)), Some(RecordId::Key(key)));
        }
        for none in [&plain, &shown_as(0x02, b"\x02\0\0\0x\0"), &b"\x05\0\0\0\0".to_vec(), &vec![]] {
            assert_eq!(shown(none), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(kinds in proptest::collection::vec(0_u8..=20, 0..40), tail: Vec<u8>) {
            let _ = shown(&[&[0; 4][..], &kinds, b"$recordId\0", &tail, &[0]].concat());
            let _ = shown(&tail);
        }
    }

    #[test]
    fn the_trail_keeps_the_newest_dense_and_the_start() {
        let mut trail = Trail::default();
        for n in 0..10_000 {
            trail.push(RecordId::Number(n));
            assert!(trail.passed.len() <= LONGEST);
        }
        assert_eq!(trail.last(), Some(&RecordId::Number(9_999)));
        let newest: Vec<_> = trail.newest_first().take(10).cloned().collect();
        assert_eq!(newest, (9_990..10_000).rev().map(RecordId::Number).collect::<Vec<_>>());
        assert_eq!(trail.passed[0], RecordId::Number(0));
        assert!(trail.passed.is_sorted());
    }

    #[test]
    fn tokens_read_back() {
        for id in [RecordId::Number(5), RecordId::Key(vec![1, 2, 3])] {
            let mut cursor = RawDocumentBuf::new();
            cursor.append(cstr!("postBatchResumeToken"), id.token());
            let mut reply = RawDocumentBuf::new();
            reply.append(cstr!("cursor"), cursor);
            assert_eq!(of_reply(&reply), Some(id));
        }
        assert_eq!(of_reply(&rawdoc! {"cursor": {"postBatchResumeToken": {"$recordId": null}}}), None);
        assert_eq!(of_reply(&rawdoc! {"cursor": {}}), None);
    }
}
