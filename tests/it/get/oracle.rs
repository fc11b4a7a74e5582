//! The filter finds the same documents as `find` on a server, for random documents and random filters.

use std::collections::BTreeSet;

use bson::raw::{CString, RawJavaScriptCodeWithScope};
use bson::{
    Binary, Bson, DateTime, Document, RawArrayBuf, RawBson, RawDocumentBuf, Regex, Timestamp, cstr, doc,
};
use futures_util::TryStreamExt;
use mongodb::options::Hint;
use mongodb::{Client, Collection};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use uzima_backup::dumpformat::extjson::{self, Json};
use uzima_backup::dumpformat::query::Query;

use crate::restore::support::server;

/// The documents of a collection.
const DOCUMENTS: i32 = 250;

/// The names of fields. Some are also positions in arrays.
const NAMES: [&str; 5] = ["a", "b", "c", "0", "1"];

fn key(name: &str) -> CString {
    CString::try_from(name).expect("a name without zero")
}

fn decimal(rng: &mut StdRng) -> RawBson {
    let texts = [
        "1",
        "1.00",
        "-0",
        "0E+10",
        "0.1",
        "1.5",
        "NaN",
        "Infinity",
        "-Infinity",
        "1E+6000",
        "-1E-6000",
        "9007199254740993",
        "9223372036854775807.5",
        "0.1000000000000000055511151231257827",
        "5E-324",
    ];
    RawBson::Decimal128(texts.choose(rng).expect("a text").parse().expect("a decimal"))
}

fn double(rng: &mut StdRng) -> RawBson {
    let numbers = [
        0.0,
        -0.0,
        1.0,
        1.5,
        0.1,
        2.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        9_007_199_254_740_992.0,
        9_223_372_036_854_775_808.0,
        -9_223_372_036_854_775_808.0,
        5e-324,
        1e300,
    ];
    RawBson::Double(*numbers.choose(rng).expect("a number"))
}

/// A value without parts. Values of one type are often equal.
fn scalar(rng: &mut StdRng) -> RawBson {
    let text =
        |rng: &mut StdRng| (*["", "a", "A", "ab", "b", "é", "z\0"].choose(rng).expect("a text")).to_string();
    let whole = [1, 2, 0, -1, (1 << 53) + 1, i64::MAX, i64::MIN];
    match rng.random_range(0..24) {
        0..3 => RawBson::Int32(rng.random_range(-1..3)),
        3..5 => RawBson::Int64(*whole.choose(rng).expect("a number")),
        5..8 => double(rng),
        8..10 => decimal(rng),
        10..12 => RawBson::String(text(rng)),
        12 => RawBson::Symbol(text(rng)),
        13 => RawBson::Boolean(rng.random()),
        14..16 => RawBson::Null,
        16 => RawBson::ObjectId(bson::oid::ObjectId::from_bytes([rng.random_range(0..2); 12])),
        17 => RawBson::DateTime(DateTime::from_millis(rng.random_range(-1..2))),
        18 => RawBson::Timestamp(Timestamp { time: 1, increment: rng.random_range(0..2) }),
        19 => {
            let subtype = [0_u8, 2, 4, 5, 0x80].choose(rng).copied().expect("a type").into();
            let length = if rng.random_bool(0.5) { 16 } else { rng.random_range(0..3) };
            RawBson::Binary(Binary { subtype, bytes: vec![rng.random_range(0..2); length] })
        }
        20 => {
            let pattern = key(["x", "y"].choose(rng).expect("a pattern"));
            RawBson::RegularExpression(Regex { pattern, options: key(["", "i"].choose(rng).expect("flags")) })
        }
        21 => RawBson::JavaScriptCode(["f", "g"].choose(rng).expect("code").to_string()),
        22 => {
            let mut scope = RawDocumentBuf::new();
            scope.append(cstr!("n"), rng.random_range(0..2));
            RawBson::JavaScriptCodeWithScope(RawJavaScriptCodeWithScope { code: "f".into(), scope })
        }
        _ if rng.random() => RawBson::MinKey,
        _ => RawBson::MaxKey,
    }
}

/// A value with at most `depth` levels of documents and arrays.
fn value(rng: &mut StdRng, depth: usize) -> RawBson {
    match rng.random_range(0..10) {
        0..3 if depth > 0 => RawBson::Document(document(rng, depth)),
        3..6 if depth > 0 => {
            let mut items = RawArrayBuf::new();
            (0..rng.random_range(0..4)).for_each(|_| items.push(value(rng, depth - 1)));
            RawBson::Array(items)
        }
        _ => scalar(rng),
    }
}

fn document(rng: &mut StdRng, depth: usize) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for name in NAMES.sample(rng, NAMES.len()).copied().collect::<Vec<_>>() {
        if rng.random_bool(0.4) {
            out.append(key(name), value(rng, depth - 1));
        }
    }
    out
}

/// A condition on one field or on several.
fn condition(rng: &mut StdRng, depth: usize) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    if depth > 0 && rng.random_bool(0.3) {
        let name = ["$and", "$or", "$nor"].choose(rng).expect("an operator");
        let mut conditions = RawArrayBuf::new();
        (0..rng.random_range(1..4)).for_each(|_| conditions.push(condition(rng, depth - 1)));
        out.append(key(name), conditions);
        return out;
    }
    let mut paths = BTreeSet::new();
    for _ in 0..rng.random_range(1..3) {
        let parts = (0..rng.random_range(1..4)).map(|_| *NAMES.choose(rng).expect("a name"));
        let path = parts.collect::<Vec<_>>().join(".");
        paths.insert(if rng.random_bool(0.03) { "_id".to_string() } else { path });
    }
    for path in paths {
        let direct = operand(rng);
        match direct {
            RawBson::RegularExpression(_) => out.append(key(&path), operators(rng, 1)),
            _ if rng.random_bool(0.6) => out.append(key(&path), operators(rng, 2)),
            direct => out.append(key(&path), direct),
        }
    }
    out
}

fn operand(rng: &mut StdRng) -> RawBson {
    match rng.random_range(0..4) {
        0 => value(rng, 2),
        _ => scalar(rng),
    }
}

/// Operators on a field, each at most once.
fn operators(rng: &mut StdRng, depth: usize) -> RawDocumentBuf {
    const ALL: [&str; 10] = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not"];
    let mut out = RawDocumentBuf::new();
    let count = *[1, 1, 1, 2].choose(rng).expect("a number");
    for name in ALL.sample(rng, count).copied().collect::<Vec<_>>() {
        let operand = match (name, operand(rng)) {
            ("$in" | "$nin", _) => {
                let mut values = RawArrayBuf::new();
                for _ in 0..rng.random_range(0..5) {
                    match operand(rng) {
                        RawBson::RegularExpression(_) => {}
                        value => values.push(value),
                    }
                }
                RawBson::Array(values)
            }
            ("$exists", _) => RawBson::Boolean(rng.random()),
            ("$not", _) if depth > 0 => RawBson::Document(operators(rng, depth - 1)),
            ("$not", _) => RawBson::Document(bson::rawdoc! {"$gt": 0}),
            // The server compares with a regular expression only by $eq.
            (name, RawBson::RegularExpression(_)) if name != "$eq" => RawBson::Null,
            (_, value) => value,
        };
        out.append(key(name), operand);
    }
    out
}

/// The `_id`s that the server finds.
async fn found(collection: &Collection<RawDocumentBuf>, filter: &RawDocumentBuf) -> BTreeSet<i32> {
    let filter = Document::try_from(filter).expect("a filter");
    // With bounds of the index of _id, 6.0.5 refuses some filters (error 4457011).
    let scan = Hint::Keys(doc! {"$natural": 1});
    let find = collection.find(filter.clone()).projection(doc! {"_id": 1}).hint(scan);
    let asked = async { find.await?.try_collect::<Vec<_>>().await };
    let rows = asked.await.unwrap_or_else(|e| panic!("{e}: {}", Bson::from(filter.clone())));
    rows.iter().map(|row| row.get_i32("_id").expect("an _id")).collect()
}

/// Compares the filter with the server. Returns how many pairs of a document and a filter match.
async fn compare(client: &Client, seed: u64, filters: usize) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let collection = client.database("oracle").collection::<RawDocumentBuf>("rows");
    collection.drop().await.expect("no collection");
    let mut rows = Vec::new();
    for id in 0..DOCUMENTS {
        let mut row = bson::rawdoc! {"_id": id};
        document(&mut rng, 4).iter().for_each(|field| {
            let (name, value) = field.expect("a field");
            row.append(name, value);
        });
        rows.push(row);
    }
    collection.insert_many(&rows).await.expect("rows");
    let rows: Vec<RawDocumentBuf> =
        collection.find(doc! {}).await.expect("rows").try_collect().await.expect("rows");
    let mut matches = 0;
    for _ in 0..filters {
        let filter = condition(&mut rng, 2);
        let mut text = String::new();
        extjson::write_document(&mut text, &filter).expect("a filter");
        assert_eq!(Json::parse(&text).unwrap().document().unwrap().unwrap(), filter, "{text}");
        let query = Query::parse(&text).unwrap_or_else(|e| panic!("{}: {text}", e.chain()));
        let ours = rows.iter().filter(|row| query.matches(row).expect("BSON"));
        let ours: BTreeSet<i32> = ours.map(|row| row.get_i32("_id").expect("an _id")).collect();
        let theirs = found(&collection, &filter).await;
        if let Some(id) = ours.symmetric_difference(&theirs).next() {
            let mut row = String::new();
            let of = rows.iter().find(|row| row.get_i32("_id").is_ok_and(|found| found == *id));
            extjson::write_document(&mut row, of.expect("a row")).expect("a row");
            panic!("seed {seed}: the filter {text}\nfinds {row}: {}", ours.contains(id));
        }
        matches += ours.len();
    }
    matches
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_finds_the_same_documents_as_the_server() {
    let full = std::env::var_os("UZIMA_TEST_FULL").is_some();
    let (seeds, filters) = if full { (0..40, 2_000) } else { (0..2, 400) };
    let (_server, client) = server().await;
    let (mut matches, mut all) = (0, 0);
    for seed in seeds {
        matches += compare(&client, seed, filters).await;
        all += filters;
    }
    println!("{all} filters on {DOCUMENTS} documents each: {matches} matches");
    let pairs = all * DOCUMENTS as usize;
    assert!(matches * 20 > pairs && matches * 20 < pairs * 19, "{matches} of {pairs} pairs match");
}
