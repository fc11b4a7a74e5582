use anyhow::Result;
use bson::{Document, doc};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::writers::{Options, Writers, check};

#[tokio::test]
async fn writers_keep_their_promises_and_broken_promises_are_found() -> Result<()> {
    let server = Mongod::builder().replica_set("rs0").start().await?;
    let mut writers = Writers::start(&server.uri(), Options { renames: true, ..Options::default() }).await?;
    writers.wait_for_rounds(150).await?;
    let report = writers.stop().await?;
    assert!(report.rounds >= 150 && report.untouched.len() == 500, "{}", report.rounds);

    let client = server.client().await?;
    let live = client.database("live");
    assert_eq!(check(&client, "live", &report, true).await?, Vec::<String>::new());
    let names = live.list_collection_names().await?;
    assert!(names.contains(&"tmp2".to_owned()) && !names.contains(&"tmp1".to_owned()), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("moving")), "{names:?}");

    live.collection::<Document>("churn").delete_one(doc! { "_id": 4 }).await?;
    assert_eq!(check(&client, "live", &report, false).await?.len(), 1);
    live.collection::<Document>("flip").delete_one(doc! { "_id": 9 }).await?;
    live.collection("t1").insert_one(doc! { "_id": 1 }).await?;
    live.collection("log").insert_one(doc! { "_id": 1_000_000 }).await?;
    let wrong = check(&client, "live", &report, true).await?;
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn an_error_of_a_writer_is_not_lost() -> Result<()> {
    let server = Mongod::builder().start().await?;
    // A lone server has no transactions. The second round uses one.
    let mut writers = Writers::start(&server.uri(), Options::default()).await?;
    let error = format!("{:#}", writers.wait_for_rounds(5).await.unwrap_err());
    assert!(error.contains("writers, round 2"), "{error}");
    let mut writers =
        Writers::start(&server.uri(), Options { transactions: false, ..Options::default() }).await?;
    writers.wait_for_rounds(5).await?;
    writers.stop().await?;
    Ok(())
}
