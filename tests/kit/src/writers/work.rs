//! The rounds of writes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result};
use bson::{Document, doc};
use mongodb::{Client, Database};

use super::{CHURN_DOCUMENTS, FLIP_DOCUMENTS, Options, Report};
use crate::mongod::connect;

pub(super) async fn run(
    uri: &str,
    options: &Options,
    stop: &AtomicBool,
    rounds: &AtomicU64,
) -> Result<Report> {
    let client = connect(uri).await?;
    let database = client.database(&options.database);
    let mut n = prepare(&database).await.context("preparing the writers' collections")?;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        round(&client, &database, options, n).await.with_context(|| format!("writers, round {n}"))?;
        rounds.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(options.pause).await;
    }
    client.shutdown().await;
    let untouched = (0..CHURN_DOCUMENTS).filter(|id| is_untouched(*id)).collect();
    Ok(Report { rounds: rounds.load(Ordering::Relaxed), untouched })
}

/// Selects every second document.
fn is_untouched(id: i32) -> bool {
    id % 2 == 0
}

/// Creates missing collections, and returns the number of the last round of an earlier run.
async fn prepare(database: &Database) -> Result<i32> {
    let all = |name: &str| database.collection::<Document>(name);
    let names = database.list_collection_names().await?;
    for name in ["t1", "t2", "log"] {
        if !names.iter().any(|known| known == name) {
            database.create_collection(name).await?;
        }
    }
    for (name, count, pad) in [("flip", FLIP_DOCUMENTS, 500), ("churn", CHURN_DOCUMENTS, 200)] {
        if all(name).count_documents(doc! {}).await? == 0 {
            let documents = (0..count).map(|id| doc! { "_id": id, "pad": "x".repeat(pad) });
            all(name).insert_many(documents).await?;
        }
    }
    let last = all("log").find_one(doc! {}).sort(doc! { "_id": -1 }).await?;
    let n = last.map_or(Ok(0), |row| row.get_i32("_id"))?;
    all("counter").replace_one(doc! { "_id": "n" }, doc! { "v": n }).upsert(true).await?;
    Ok(n)
}

async fn round(client: &Client, database: &Database, options: &Options, n: i32) -> Result<()> {
    let all = |name: &str| database.collection::<Document>(name);
    all("counter").update_one(doc! { "_id": "n" }, doc! { "$inc": { "v": 1 } }).await?;
    all("log").insert_one(doc! { "_id": n, "at": n }).await?;
    client.database("other").collection("noise").insert_one(doc! { "n": n }).await?;
    if n % 3 == 0 {
        all("log").delete_one(doc! { "_id": n - 2 }).await?;
    }
    churn(database, n).await?;
    if options.transactions {
        transactions(client, database, n).await?;
    }
    if options.ddl && n % 50 == 0 {
        let temporary = all(&format!("tmp{}", n / 50));
        temporary.insert_one(doc! { "_id": 1 }).await?;
        let index = doc! { "key": { "z": 1 }, "name": "z_1" };
        let create = doc! { "createIndexes": temporary.name(), "indexes": [index] };
        database.run_command(create).await?;
    }
    if options.ddl && n % 70 == 0 {
        all("tmp1").drop().await?;
    }
    if options.renames && n % 10 == 0 {
        let name = |which: i32| format!("{}.moving{}", database.name(), which % 2);
        let (from, to) = (n / 10, n / 10 + 1);
        all(&format!("moving{}", from % 2)).insert_one(doc! { "n": n }).await?;
        let rename = doc! { "renameCollection": name(from), "to": name(to), "dropTarget": true };
        client.database("admin").run_command(rename).await?;
    }
    Ok(())
}

/// Deletes an odd document and inserts it again. Also inserts a new document and deletes the document of ten rounds before.
async fn churn(database: &Database, n: i32) -> Result<()> {
    let churn = database.collection::<Document>("churn");
    let id = (n * 14 + 1) % CHURN_DOCUMENTS;
    debug_assert!(!is_untouched(id));
    if let Some(document) = churn.find_one_and_delete(doc! { "_id": id }).await? {
        churn.insert_one(document).await?;
    }
    churn.insert_one(doc! { "_id": CHURN_DOCUMENTS + n, "pad": "new" }).await?;
    if n > 10 {
        churn.delete_one(doc! { "_id": CHURN_DOCUMENTS + n - 10 }).await?;
    }
    Ok(())
}

async fn transactions(client: &Client, database: &Database, n: i32) -> Result<()> {
    let all = |name: &str| database.collection::<Document>(name);
    let mut session = client.start_session().await?;
    if n % 2 == 0 {
        session.start_transaction().await?;
        let id = doc! { "_id": n * 7 % FLIP_DOCUMENTS };
        let found = all("flip").find_one_and_delete(id).session(&mut session).await?;
        let mut document = found.context("flip lost a document")?;
        document.insert("n", n);
        all("flip").insert_one(document).session(&mut session).await?;
        session.commit_transaction().await?;
    }
    if n % 20 == 0 {
        session.start_transaction().await?;
        all("t1").insert_one(doc! { "_id": n }).session(&mut session).await?;
        all("t2").insert_one(doc! { "_id": n, "pair": n }).session(&mut session).await?;
        session.commit_transaction().await?;
    }
    Ok(())
}
