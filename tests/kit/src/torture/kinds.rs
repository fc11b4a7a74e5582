//! Every kind of collection: capped, clustered, validated, collated, time series, views.

use anyhow::Result;
use bson::{DateTime, Document, doc, rawdoc};
use mongodb::{Client, Database};

use super::{Holds, Inventory, Kind};
use crate::raw;

pub(super) async fn fill(client: &Client, holds: Holds, made: &mut Inventory) -> Result<()> {
    let opts = client.database("opts");
    run(&opts, doc! { "create": "capped", "capped": true, "size": 65536, "max": 100 }).await?;
    numbered(&opts, "capped", 150).await?;
    made.add("opts", "capped", Kind::Collection, 100);

    if holds.clustered {
        let clustered = doc! { "key": { "_id": 1 }, "unique": true, "name": "my clustered key" };
        run(&opts, doc! { "create": "clustered", "clusteredIndex": clustered }).await?;
        numbered(&opts, "clustered", 20).await?;
        made.add("opts", "clustered", Kind::Collection, 20);
    }

    validated(&opts).await?;
    made.add("opts", "validated", Kind::Collection, 2);
    collated(&opts).await?;
    made.add("opts", "collated", Kind::Collection, 2);

    if holds.pre_and_post_images {
        run(&opts, doc! { "create": "images", "changeStreamPreAndPostImages": { "enabled": true } }).await?;
        numbered(&opts, "images", 1).await?;
        made.add("opts", "images", Kind::Collection, 1);
    }

    if holds.time_series {
        weather(&opts).await?;
        made.add("opts", "weather", Kind::TimeSeries, 60);
    }

    let storage = doc! { "wiredTiger": { "configString": "block_compressor=zlib" } };
    run(&opts, doc! { "create": "storage_opts", "storageEngine": storage }).await?;
    numbered(&opts, "storage_opts", 1).await?;
    made.add("opts", "storage_opts", Kind::Collection, 1);

    let source: Vec<_> = (0..50).map(|n| rawdoc! { "_id": n, "a": n % 5 }.into_bytes()).collect();
    raw::insert(&opts, "src", &source).await?;
    made.add("opts", "src", Kind::Collection, 50);
    let pipeline = [doc! { "$match": { "a": { "$gt": 1 } } }];
    run(&opts, doc! { "create": "view1", "viewOn": "src", "pipeline": &pipeline[..] }).await?;
    made.add("opts", "view1", Kind::View, 30);
    let pipeline = [doc! { "$project": { "a": 1 } }];
    run(&opts, doc! { "create": "view2", "viewOn": "view1", "pipeline": &pipeline[..] }).await?;
    made.add("opts", "view2", Kind::View, 30);
    Ok(())
}

/// A validator, and a document that breaks it. A restore that obeys the validator loses this document.
async fn validated(opts: &Database) -> Result<()> {
    let schema = doc! { "$jsonSchema": { "required": ["a"], "properties": { "a": { "bsonType": "int" } } } };
    let create = doc! {
        "create": "validated", "validator": schema, "validationLevel": "moderate", "validationAction": "error",
    };
    run(opts, create).await?;
    raw::insert(opts, "validated", &[rawdoc! { "_id": 1, "a": 1 }.as_bytes()]).await?;
    run(opts, doc! { "collMod": "validated", "validationLevel": "off" }).await?;
    let breaks = rawdoc! { "_id": 2, "b": "breaks the validator" };
    raw::insert(opts, "validated", &[breaks.as_bytes()]).await?;
    run(opts, doc! { "collMod": "validated", "validationLevel": "strict" }).await
}

async fn collated(opts: &Database) -> Result<()> {
    run(opts, doc! { "create": "collated", "collation": { "locale": "fr", "strength": 2 } }).await?;
    let documents = ["é", "f"].map(|id| rawdoc! { "_id": id }.into_bytes());
    raw::insert(opts, "collated", &documents).await?;
    let simple = doc! { "key": { "x": 1 }, "name": "x_simple", "collation": { "locale": "simple" } };
    let inherits = doc! { "key": { "y": 1 }, "name": "y_1" };
    run(opts, doc! { "createIndexes": "collated", "indexes": [simple, inherits] }).await
}

async fn weather(opts: &Database) -> Result<()> {
    let series = doc! { "timeField": "ts", "metaField": "sensor", "granularity": "minutes" };
    let lifetime = 1_000_000_000_i64;
    run(opts, doc! { "create": "weather", "timeseries": series, "expireAfterSeconds": lifetime }).await?;
    let start = DateTime::builder().year(2026).month(1).day(1).build()?.timestamp_millis();
    let rows: Vec<_> = (0..60_i32)
        .map(|n| {
            let at = DateTime::from_millis(start + i64::from(n) * 60_000);
            rawdoc! { "ts": at, "sensor": { "id": n % 3 }, "t": 20.0 + f64::from(n) / 10.0 }.into_bytes()
        })
        .collect();
    raw::insert(opts, "weather", &rows).await
}

async fn numbered(database: &Database, collection: &str, count: i32) -> Result<()> {
    let documents: Vec<_> = (0..count).map(|n| rawdoc! { "_id": n }.into_bytes()).collect();
    raw::insert(database, collection, &documents).await
}

async fn run(database: &Database, command: Document) -> Result<()> {
    database.run_command(command).await?;
    Ok(())
}
