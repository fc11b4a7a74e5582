//! Thirteen kinds of index on one collection.

use anyhow::Result;
use bson::{DateTime, doc, rawdoc};
use mongodb::Client;

use super::{Inventory, Kind};
use crate::raw;

/// The names of the indexes beside `_id_`.
pub const NAMES: [&str; 13] = [
    "compound",
    "loc_2dsphere",
    "p_2d",
    "h_hashed",
    "txt",
    "wild",
    "partial",
    "s_1",
    "exp_1",
    "hid_1",
    "double_key",
    "german",
    "Ünï index %/*",
];

pub(super) async fn fill(client: &Client, made: &mut Inventory) -> Result<()> {
    let database = client.database("indexes");
    let expires = DateTime::builder().year(2099).month(1).day(1).build()?;
    let documents: Vec<_> = (0..100)
        .map(|n| {
            let point = [n % 90, n % 45];
            rawdoc! {
                "_id": n,
                "a": n,
                "loc": { "type": "Point", "coordinates": [point[0], point[1]] },
                "p": [point[0], point[1]],
                "txt": format!("hello world {n}"),
                "w": { "x": n },
                "exp": expires,
            }
            .into_bytes()
        })
        .collect();
    raw::insert(&database, "many", &documents).await?;
    made.add("indexes", "many", Kind::Collection, 100);

    let keys = [
        doc! { "key": { "a": 1, "b": -1 } },
        doc! { "key": { "loc": "2dsphere" } },
        doc! { "key": { "p": "2d" }, "min": -200, "max": 200, "bits": 20 },
        doc! { "key": { "h": "hashed" } },
        doc! {
            "key": { "txt": "text", "title": "text" },
            "weights": { "txt": 3, "title": 10 },
            "default_language": "german",
        },
        doc! { "key": { "$**": 1 }, "wildcardProjection": { "w": 1 } },
        doc! { "key": { "a": 1 }, "partialFilterExpression": { "a": { "$gt": 10 } } },
        doc! { "key": { "s": 1 }, "sparse": true, "unique": true },
        doc! { "key": { "exp": 1 }, "expireAfterSeconds": 3600 },
        doc! { "key": { "hid": 1 }, "hidden": true },
        doc! { "key": { "dbl": 1.0 } },
        doc! { "key": { "col": 1 }, "collation": { "locale": "de", "strength": 1 } },
        doc! { "key": { "n": 1 } },
    ];
    for (mut index, name) in keys.into_iter().zip(NAMES) {
        index.insert("name", name);
        database.run_command(doc! { "createIndexes": "many", "indexes": [index] }).await?;
    }
    Ok(())
}
