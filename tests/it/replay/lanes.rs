//! Writes are replayed in several lanes. Documents whose `_id`s are equal in the index, although their bytes differ, are still
//! written in order, and so are those of collections in which the order of all writes matters.

use bson::{Bson, Decimal128, Document, doc};
use mongodb::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

use super::support::{Dump, commands, insert, now, since, source};
use crate::restore::support::differences;

/// Groups of `_id`s that are equal in an index without collation.
pub fn equal_ids() -> Vec<Vec<Bson>> {
    let decimal = |text: &str| Bson::Decimal128(text.parse::<Decimal128>().expect("a decimal"));
    let numbers = |n: i32, texts: &[&str]| -> Vec<Bson> {
        let plain = [Bson::Int32(n), Bson::Int64(n.into()), Bson::Double(n.into())];
        plain.into_iter().chain(texts.iter().map(|text| decimal(text))).collect()
    };
    let zeros = [numbers(0, &["0", "-0", "0E+3", "0.000"]), vec![Bson::Double(-0.0)]].concat();
    let ones = numbers(1, &["1", "1.0", "10E-1"]);
    let large =
        vec![Bson::Int64(1 << 60), Bson::Double((1_u64 << 60) as f64), decimal("1152921504606846976")];
    let within = |values: &[Bson]| {
        values.iter().map(|n| Bson::Document(doc! {"a": n.clone(), "b": {"c": [n.clone(), 2]}})).collect()
    };
    let halves = vec![Bson::Double(2.5), decimal("2.5"), decimal("2.50")];
    let nans = vec![Bson::Double(f64::NAN), decimal("NaN")];
    let endless = vec![Bson::Double(f64::INFINITY), decimal("Infinity")];
    let (zeros_within, ones_within) = (within(&zeros), within(&ones));
    let words = vec![Bson::String("word".into()), Bson::Symbol("word".into())];
    vec![zeros, ones, large, halves, nans, endless, zeros_within, ones_within, words]
}

/// Writes a random document of a few, so that most writes are to documents that another one has just written.
async fn write(client: &Client, ids: &[Vec<Bson>], n: i32, random: &mut impl Rng) {
    let words: Vec<Bson> = ["a", "A", "á", "Á"].into_iter().map(Bson::from).collect();
    let (collection, id) = match random.random_range(0..10) {
        0..2 => ("collated", words.choose(random).cloned().expect("an id")),
        2 => ("capped", Bson::Int32(n)),
        _ => {
            let group = ids.choose(random).expect("a group");
            ("plain", group.choose(random).cloned().expect("an id"))
        }
    };
    let rows = client.database("shop").collection::<Document>(collection);
    let done = match random.random_range(0..4) {
        _ if collection == "capped" => rows.insert_one(doc! {"_id": id, "n": n}).await.map(drop),
        0 => rows.delete_one(doc! {"_id": id}).await.map(drop),
        1 => rows.update_one(doc! {"_id": id}, doc! {"$set": {"n": n}}).await.map(drop),
        _ => rows.update_one(doc! {"_id": id}, doc! {"$push": {"all": n}}).upsert(true).await.map(drop),
    };
    done.expect("a write");
}

/// With `UZIMA_TEST_FULL=1`: twenty times as many writes.
#[tokio::test(flavor = "multi_thread")]
async fn writes_to_equal_ids_stay_in_order() {
    let writes = if std::env::var_os("UZIMA_TEST_FULL").is_some() { 100_000 } else { 5_000 };
    let seed = rand::rng().random();
    println!("seed {seed}, {writes} writes");
    let mut random = StdRng::seed_from_u64(seed);
    let (server, client) = source().await;
    let collation = doc! {"locale": "en", "strength": 1};
    let create = vec![
        doc! {"create": "plain"},
        doc! {"create": "collated", "collation": collation},
        doc! {"create": "becomes_capped"},
        doc! {"create": "capped", "capped": true, "size": 1 << 20},
    ];
    commands(&client, "shop", create).await;
    insert(&client, "shop", "becomes_capped", 0..1).await;
    let (start, dump) = (now(&client).await, Dump::of(&server));
    commands(&client, "shop", vec![doc! {"convertToCapped": "becomes_capped", "size": 1 << 20}]).await;
    let ids = equal_ids();
    for n in 0..writes {
        write(&client, &ids, n, &mut random).await;
        if n % 10 == 0 {
            insert(&client, "shop", "becomes_capped", n + 1..n + 2).await;
        }
    }
    let oplog = since(&client, start).await;
    let (target, live) = source().await;
    dump.oplog(&oplog).restore(&target.uri(), &[]).ends(0);
    assert_eq!(differences(&client, &live).await, Vec::<String>::new());
    for capped in ["capped", "becomes_capped"] {
        assert_eq!(in_order(&client, capped).await, in_order(&live, capped).await);
    }
}

/// The `_id`s of a collection in natural order.
async fn in_order(client: &Client, collection: &str) -> Vec<Bson> {
    let rows = client.database("shop").collection::<Document>(collection);
    let mut cursor = rows.find(doc! {}).await.expect("a cursor");
    let mut ids = Vec::new();
    while cursor.advance().await.expect("a row") {
        ids.push(cursor.deserialize_current().expect("a row").get("_id").cloned().expect("an id"));
    }
    assert!(ids.len() > 100, "{collection}");
    ids
}
