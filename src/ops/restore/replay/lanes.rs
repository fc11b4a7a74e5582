//! Chooses the lane of a write. During a replay a collection has no index but that on `_id`, so writes to different documents
//! commute, and lanes may run at the same time. Writes to one document share a lane, in which they stay in order.

use std::hash::Hasher;

use bson::{RawBsonRef, RawDocument};
use xxhash_rust::xxh3::Xxh3Default;

use crate::dumpformat::oplog::TargetNamespace;

/// The number of lanes.
pub(super) const LANES: usize = 4;
/// Deeper values do not matter for the choice of a lane. A hostile slice may be nested without end.
const DEEPEST: usize = 32;

/// The lane of the writes with this key.
pub(super) fn lane_of(key: u64) -> usize {
    (key % LANES as u64) as usize
}

/// The key of a write: always the same for equal `_id`s of a collection. All writes to a namespace have one key if they
/// must stay in order, or if it is a system collection or in `admin`. `None` if the document has no `_id`, so that the write
/// may concern any document.
pub(super) fn key_of(to: &TargetNamespace, operation: &RawDocument, in_order: bool) -> Option<u64> {
    let mut hasher = Xxh3Default::new();
    for part in [&to.db, &to.collection] {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    if !(in_order || to.buckets || to.db == "admin" || to.collection.starts_with("system.")) {
        hash_key(&mut hasher, written_id(operation)?, 0);
    }
    Some(hasher.finish())
}

/// The `_id` of the document that an operation writes.
pub(crate) fn written_id(operation: &RawDocument) -> Option<RawBsonRef<'_>> {
    let document = operation.get_document("o2").or(operation.get_document("o")).ok()?;
    document.get("_id").ok()?
}

/// The key of an `_id`: the same for `_id`s that are equal in an index without a collation. Different `_id`s may have the same key.
pub(crate) fn id_key(id: RawBsonRef) -> u64 {
    let mut hasher = Xxh3Default::new();
    hash_key(&mut hasher, id, 0);
    hasher.finish()
}

/// Hashes a value so that values which are equal in an index have the same hash: numbers by their value, whatever their type,
/// and symbols as strings. Different values may have the same hash.
fn hash_key(hasher: &mut Xxh3Default, value: RawBsonRef, depth: usize) {
    let (kind, bytes) = match value {
        RawBsonRef::Int32(n) => return hash_number(hasher, n.into()),
        RawBsonRef::Int64(n) => return hash_number(hasher, n as f64),
        RawBsonRef::Double(n) => return hash_number(hasher, n),
        // Text is read as the nearest double, as the conversion of an integer is.
        RawBsonRef::Decimal128(n) => return hash_number(hasher, n.to_string().parse().unwrap_or(f64::NAN)),
        RawBsonRef::Document(document) if depth < DEEPEST => {
            hasher.write_u8(b'{');
            for (name, value) in document.iter().flatten() {
                hasher.write(name.as_str().as_bytes());
                hasher.write_u8(0);
                hash_key(hasher, value, depth + 1);
            }
            return hasher.write_u8(b'}');
        }
        RawBsonRef::Array(values) if depth < DEEPEST => {
            hasher.write_u8(b'[');
            values.into_iter().flatten().for_each(|value| hash_key(hasher, value, depth + 1));
            return hasher.write_u8(b']');
        }
        RawBsonRef::String(text) | RawBsonRef::Symbol(text) => (b's', text.as_bytes()),
        RawBsonRef::Binary(binary) => (b'b', binary.bytes),
        RawBsonRef::ObjectId(id) => return hasher.write(&id.bytes()),
        RawBsonRef::DateTime(at) => return hasher.write_i64(at.timestamp_millis()),
        RawBsonRef::Timestamp(at) => {
            return hasher.write_u64(u64::from(at.time) << 32 | u64::from(at.increment));
        }
        RawBsonRef::Boolean(value) => (b't', if value { &[1][..] } else { &[0] }),
        // Rare as an `_id`: all of them share a lane.
        _ => (b'?', &[][..]),
    };
    hasher.write_u8(kind);
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
}

fn hash_number(hasher: &mut Xxh3Default, number: f64) {
    let number = match number {
        0.0 => 0.0, // also -0.0
        number if number.is_nan() => f64::NAN,
        number => number,
    };
    hasher.write_u8(b'n');
    hasher.write_u64(number.to_bits());
}

#[cfg(test)]
mod tests {
    use bson::{Bson, RawDocumentBuf, doc, rawdoc};
    use proptest::prelude::*;

    use super::*;

    fn place(db: &str, collection: &str) -> TargetNamespace {
        let (db, collection) = (db.to_string(), collection.to_string());
        TargetNamespace { from_db: db.clone(), from: collection.clone(), db, collection, buckets: false }
    }

    fn hash(id: impl Into<Bson>) -> u64 {
        let document = RawDocumentBuf::try_from(&doc! {"_id": id.into()}).unwrap();
        id_key(document.get("_id").unwrap().unwrap())
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    proptest! {
        #[test]
        fn equal_numbers_have_one_hash(n in prop_oneof![any::<i64>(), -1000_i64..1000, (1_i64 << 53) - 2..(1 << 53) + 3]) {
            let same = hash(n);
            prop_assert_eq!(hash(decimal(&n.to_string())), same);
            prop_assert_eq!(hash(decimal(&format!("{n}.00"))), same);
            if let Ok(n) = i32::try_from(n) {
                prop_assert_eq!(hash(n), same);
            }
            if n as f64 as i128 == i128::from(n) {
                prop_assert_eq!(hash(n as f64), same);
            }
            prop_assert_eq!(hash(doc! {"a": [n]}), hash(doc! {"a": [decimal(&n.to_string())]}));
        }
    }

    #[test]
    fn equal_special_values_have_one_hash() {
        for (one, other) in [
            (Bson::Double(-0.0), Bson::Int32(0)),
            (Bson::Double(-0.0), decimal("-0E+3")),
            (Bson::Double(f64::NAN), decimal("NaN")),
            (Bson::Double(-f64::NAN), Bson::Double(f64::NAN)),
            (Bson::Double(f64::NEG_INFINITY), decimal("-Infinity")),
            (Bson::Symbol("x".into()), "x".into()),
        ] {
            assert_eq!(hash(one.clone()), hash(other.clone()), "{one} {other}");
        }
        assert_ne!(hash("x"), hash("y"));
        assert_ne!(hash(1), hash(2));
        assert_ne!(hash(doc! {"a": 1}), hash(doc! {"a": 2}));
    }

    #[test]
    fn a_namespace_has_one_lane_if_its_order_matters() {
        let lanes = |to: &TargetNamespace, in_order| {
            let lane = |id: i32| key_of(to, &rawdoc! {"op": "i", "o": {"_id": id}}, in_order).map(lane_of);
            (0..100).map(lane).collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!(lanes(&place("shop", "rows"), false), LANES);
        assert_eq!(lanes(&place("shop", "rows"), true), 1);
        assert_eq!(lanes(&place("admin", "rows"), false), 1);
        assert_eq!(lanes(&place("shop", "system.js"), false), 1);
        assert_eq!(lanes(&TargetNamespace { buckets: true, ..place("shop", "series") }, false), 1);
    }

    #[test]
    fn an_update_has_the_lane_of_its_document() {
        let to = place("shop", "rows");
        for id in 0..20 {
            let insert = rawdoc! {"op": "i", "o": {"_id": id, "n": 1}};
            let update = rawdoc! {"op": "u", "o": {"$v": 2}, "o2": {"_id": f64::from(id)}};
            assert_eq!(key_of(&to, &insert, false), key_of(&to, &update, false));
        }
        assert_eq!(key_of(&to, &rawdoc! {"op": "i", "o": {"n": 1}}, false), None);
    }
}
