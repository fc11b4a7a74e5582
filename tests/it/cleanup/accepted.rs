//! A server loses most of its data: backup and cleanup report that every night until a person accepts it once
//! for both.

use bson::doc;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, NOWHERE, run};

#[tokio::test]
async fn later_backups_are_compared_with_the_accepted_one() {
    let (server, home) = (Mongod::builder().start().await.expect("mongod"), Home::new());
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..300).map(|n| doc! {"_id": n})).await.expect("rows");
    let backup = || run(home.to_dir(&server.uri()).arg("backup"));
    let cleanup = |args: &[&str]| run(home.to_dir(NOWHERE).args(["cleanup", "--job", "shop"]).args(args));
    let backup_of_job = |code| {
        run(home.to_dir(&server.uri()).args(["backup", "--job", "shop"])).ends(code);
        home.manifests().pop().expect("a manifest").id.to_string()
    };
    backup().ends(0);
    backup_of_job(0);
    cleanup(&[]).ends(0);
    // The ids of two backups of the same second have no order.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    rows.delete_many(doc! {"_id": {"$gte": 20}}).await.expect("a delete");
    backup_of_job(3);
    let newest = backup_of_job(3);
    let frozen = cleanup(&[]).ends(3);
    assert!(frozen.stdout.contains("--accept "), "{}", frozen.stdout);
    cleanup(&["--accept", &newest]).ends(0);
    backup_of_job(0);
    cleanup(&[]).ends(0);
    // The acceptance does not apply to another job's collapse.
    backup().ends(3);
}
