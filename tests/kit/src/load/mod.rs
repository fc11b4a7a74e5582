//! Plausible data in any amount, for the bench and the quickstart: deterministic by seed, written fast.

mod rows;
mod words;

use anyhow::Result;
use bson::{doc, rawdoc};
use futures_util::{StreamExt, TryStreamExt, stream};
use mongodb::{Client, Database};

use crate::raw;
pub use rows::{Orders, Random, event, note};

/// How much [`fill`] writes.
#[derive(Clone, Debug)]
pub struct Load {
    pub database: String,
    pub seed: u64,
    /// Documents of about 700 bytes in `orders`, which has two indexes.
    pub orders: u64,
    /// Short rows in `notes`, and as many in `events`.
    pub rows: u64,
    /// Collections `tiny000`, `tiny001` … of 0 to 9 documents.
    pub tiny: u32,
    /// Incompressible documents of 16 KiB in `blobs`.
    pub blobs: u64,
}

impl Default for Load {
    fn default() -> Self {
        Load { database: "store".into(), seed: 1, orders: 100_000, rows: 50_000, tiny: 200, blobs: 0 }
    }
}

/// The number of written documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub collections: u64,
    pub documents: u64,
    /// Bytes of BSON.
    pub bytes: u64,
}

/// The approximate size of one insert command.
const BATCH_BYTES: usize = 8 << 20;

/// Drops the database and fills it again.
pub async fn fill(client: &Client, load: &Load) -> Result<Written> {
    let database = client.database(&load.database);
    raw::drop_databases(client, &[&load.database]).await?;
    let mut written = Written::default();

    let mut orders = Orders::new(load.seed);
    written += many(&database, "orders", (0..load.orders).map(|_| orders.next_document())).await?;
    let indexes = [
        doc! { "key": { "customer.email": 1, "placed": -1 }, "name": "customer" },
        doc! { "key": { "number": 1 }, "name": "number", "unique": true },
    ];
    database.run_command(doc! { "createIndexes": "orders", "indexes": &indexes[..] }).await?;

    let mut random = Random::new(load.seed ^ 0x6e6f_7465);
    written += many(&database, "notes", (0..load.rows).map(|n| note(&mut random, n))).await?;
    written += many(&database, "events", (0..load.rows).map(|n| event(&mut random, n))).await?;
    written += tiny(&database, load.tiny).await?;
    if load.blobs > 0 {
        written += incompressible(&database, "blobs", load.blobs, 16 << 10, load.seed).await?;
    }
    Ok(written)
}

/// `count` collections `tiny000` …, with 0 to 9 documents each.
async fn tiny(database: &Database, count: u32) -> Result<Written> {
    collections(database, count, |n| n % 10).await
}

/// Creates `count` collections of one document each in the database `many`, which shows the cost per collection.
pub async fn many_tiny(client: &Client, count: u32) -> Result<Written> {
    raw::drop_databases(client, &["many"]).await?;
    collections(&client.database("many"), count, |_| 1).await
}

async fn collections(database: &Database, count: u32, documents: fn(u32) -> u32) -> Result<Written> {
    let made = stream::iter(0..count).map(|n| async move {
        let name = format!("tiny{n:03}");
        let rows: Vec<_> =
            (0..documents(n)).map(|id| rawdoc! { "_id": id as i32, "of": &*name }.into_bytes()).collect();
        if rows.is_empty() {
            database.run_command(doc! { "create": &name }).await?;
            return Ok(Written { collections: 1, ..Written::default() });
        }
        many(database, &name, rows.into_iter()).await
    });
    let all: Vec<Written> =
        made.buffer_unordered(32).try_collect::<Vec<_>>().await.map_err(|e: anyhow::Error| e)?;
    let mut sum = Written::default();
    all.into_iter().for_each(|one| sum += one);
    Ok(sum)
}

/// `count` documents of about `size` random bytes.
pub async fn incompressible(
    database: &Database,
    collection: &str,
    count: u64,
    size: usize,
    seed: u64,
) -> Result<Written> {
    let mut random = Random::new(seed ^ 0x626c_6f62);
    let documents = (0..count).map(|n| {
        let bytes = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: random.bytes(size) };
        rawdoc! { "_id": n as i64, "bytes": bytes }.into_bytes()
    });
    many(database, collection, documents).await
}

async fn many(
    database: &Database,
    collection: &str,
    documents: impl Iterator<Item = Vec<u8>>,
) -> Result<Written> {
    let mut written = Written { collections: 1, ..Written::default() };
    let mut batch: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    for document in documents {
        bytes += document.len();
        written.documents += 1;
        written.bytes += document.len() as u64;
        batch.push(document);
        if bytes >= BATCH_BYTES {
            raw::insert(database, collection, &batch).await?;
            batch.clear();
            bytes = 0;
        }
    }
    raw::insert(database, collection, &batch).await?;
    Ok(written)
}

impl std::ops::AddAssign for Written {
    fn add_assign(&mut self, other: Written) {
        self.collections += other.collections;
        self.documents += other.documents;
        self.bytes += other.bytes;
    }
}
