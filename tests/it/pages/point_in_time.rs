//! Runs the commands of docs/point-in-time.md.

use std::path::Path;
use std::time::Duration;

use bson::{Document, Timestamp, doc};
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;

use super::{block, read};
use crate::cli::support::{Home, run};
use crate::pit::support::{mark, set};
use crate::readme::shell;

const TIME: &str = "2026-11-24T13:59:59Z";

/// A server with a backup, slices, and a mistake.
struct WorstDay {
    home: Home,
    server: Mongod,
    client: Client,
    page: String,
    /// The last time before the mistake.
    before: Timestamp,
}

impl WorstDay {
    async fn new() -> WorstDay {
        let ((server, client), home) = (set(None).await, Home::new());
        insert(&client, 0..10).await;
        let mut day = WorstDay {
            home,
            server,
            client,
            page: read("docs/point-in-time.md"),
            before: Timestamp { time: 0, increment: 0 },
        };
        let said = day.run("Set-up", &[]);
        assert!(said.contains("all data was read and is intact"), "{said}");
        insert(&day.client, 10..20).await;
        day.before = mark(&day.client).await;
        // The mistake is in a later second.
        while mark(&day.client).await.time <= day.before.time + 1 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        day.client.database("shop").collection::<Document>("orders").drop().await.expect("a drop");
        day
    }

    /// Runs the commands below a heading, with the addresses of this test.
    fn run(&self, heading: &str, replaced: &[(&str, &str)]) -> String {
        let mut commands = block(&self.page, heading, "sh")
            .replace("mongodb://localhost:27017", &self.server.uri())
            .replace("/var/backups/mongodb", self.home.backups().to_str().expect("UTF-8"))
            .replace("/var/tmp/rescue", self.rescue().to_str().expect("UTF-8"));
        for (example, ours) in replaced {
            assert!(commands.contains(example), "{heading}: {example}");
            commands = commands.replace(example, ours);
        }
        shell(&commands, self.home.path())
    }

    fn rescue(&self) -> std::path::PathBuf {
        self.home.path().join("rescue")
    }

    fn time(&self) -> String {
        let time = chrono::DateTime::from_timestamp(i64::from(self.before.time), 0).expect("a time");
        time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

async fn insert(client: &Client, ids: std::ops::Range<i32>) {
    let rows = ids.map(|id| doc! {"_id": id});
    client.database("shop").collection::<Document>("orders").insert_many(rows).await.expect("rows");
}

async fn count(client: &Client, db: &str) -> u64 {
    client.database(db).collection::<Document>("orders").count_documents(doc! {}).await.expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_page() {
    let day = WorstDay::new().await;
    assert_eq!(count(&day.client, "shop").await, 0);
    let said = day.run("The worst day", &[(TIME, &day.time())]);
    assert!(said.contains("oplog slice"), "{said}");
    assert_eq!(count(&day.client, "shop").await, 20);
    day.run("One collection", &[(TIME, &day.time())]);
    assert_eq!(count(&day.client, "rescue").await, 20);
    day.run("Join the slices", &[]);
    let joined = std::fs::read(day.rescue().join("slices/oplog.bson")).expect("the slices");
    let (mut rest, mut last) = (&joined[..], Timestamp { time: 0, increment: 0 });
    while let Some(length) = rest.first_chunk() {
        let (entry, later) = rest.split_at(i32::from_le_bytes(*length) as usize);
        let at = bson::RawDocument::from_bytes(entry).expect("BSON").get_timestamp("ts").expect("a time");
        assert!((at.time, at.increment) > (last.time, last.increment), "in order");
        (rest, last) = (later, at);
    }
    assert!((last.time, last.increment) > (day.before.time, day.before.increment));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_operations_page() {
    let ((server, client), home) = (set(None).await, Home::new());
    insert(&client, 0..10).await;
    let place = format!("export MONGO_URI='{}' BACKUP_DIR='{}'\n", server.uri(), home.backups().display());
    shell(&format!("{place}uzima-backup backup"), home.path());
    insert(&client, 10..20).await;
    let page = read("docs/operations.md");
    let said = shell(&format!("{place}{}", block(&page, "Storing the oplog", "sh")), home.path());
    for words in ["would", "a restore can reach", "restorable", "shop.orders", "sound"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slices_are_replayed_by_mongorestore() {
    if Official::find("pages::point_in_time::the_slices_are_replayed_by_mongorestore").is_none() {
        return;
    }
    let day = WorstDay::new().await;
    day.run("The worst day", &[(TIME, &day.time())]);
    let (uri, base) = (day.server.uri(), day.home.manifests()[0].id.to_string());
    let mut restore = day.home.to_dir(&uri);
    restore.env("RESTORE_URI", &uri).args(["restore", &base, "--drop", "--yes", "--ns-include", "shop.*"]);
    run(&mut restore).ends(0);
    assert_eq!(count(&day.client, "shop").await, 10);
    day.run("Join the slices", &[]);
    let limit = format!("{}:{}", day.before.time, day.before.increment + 1);
    let page = day.page.split("### Replay the slices").nth(1).expect("a section");
    let commands = block(&format!("### Replay the slices{page}"), "Replay the slices", "sh")
        .replace("mongodb://localhost:27017", &day.server.uri())
        .replace("/var/tmp/rescue", day.rescue().to_str().expect("UTF-8"))
        .replace("1795528800:1", &limit);
    shell(&commands, Path::new("/"));
    assert_eq!(count(&day.client, "shop").await, 20);
}
