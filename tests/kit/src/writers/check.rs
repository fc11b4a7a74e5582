//! Checks whether a database has the data of one instant of the writers' work.

use std::collections::BTreeSet;

use anyhow::Result;
use bson::{Document, doc};
use mongodb::{Client, Database};

use super::{FLIP_DOCUMENTS, Report};

/// Returns the violated invariants as texts. With `instant`, the data must be of one instant; without, only the
/// invariant of any dump is checked.
pub async fn check(client: &Client, database: &str, report: &Report, instant: bool) -> Result<Vec<String>> {
    let database = client.database(database);
    let mut wrong = Vec::new();
    let churn = ids(&database, "churn").await?;
    let lost: Vec<_> = report.untouched.iter().filter(|id| !churn.contains(id)).collect();
    if !lost.is_empty() {
        wrong.push(format!("churn lost {} documents that nobody touched, first {}", lost.len(), lost[0]));
    }
    if !instant {
        return Ok(wrong);
    }
    let counter = database.collection::<Document>("counter").find_one(doc! { "_id": "n" }).await?;
    let counter = counter.map_or(Ok(-1), |row| row.get_i32("v"))?;
    let log = ids(&database, "log").await?.last().copied().unwrap_or(0);
    if counter != log && counter != log + 1 {
        wrong.push(format!("counter.v is {counter}, the largest log._id {log}"));
    }
    let (t1, t2) = (ids(&database, "t1").await?, ids(&database, "t2").await?);
    if t1 != t2 {
        wrong.push(format!("t1 and t2 differ in {:?}", t1.symmetric_difference(&t2).collect::<Vec<_>>()));
    }
    let flip = ids(&database, "flip").await?;
    if flip != (0..FLIP_DOCUMENTS).collect() {
        wrong.push(format!("flip holds {} of its {FLIP_DOCUMENTS} documents", flip.len()));
    }
    Ok(wrong)
}

async fn ids(database: &Database, collection: &str) -> Result<BTreeSet<i32>> {
    let find = doc! { "find": collection, "projection": { "_id": 1 } };
    let mut cursor = database.run_cursor_command(find).await?;
    let mut ids = BTreeSet::new();
    while cursor.advance().await? {
        let id = cursor.current().get_i32("_id")?;
        ids.insert(id);
    }
    Ok(ids)
}
