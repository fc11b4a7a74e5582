//! A server with a collection that changed since its backup.

use std::process::Command;
use std::time::Duration;

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mongodb::options::IndexOptions;
use mongodb::{Client, IndexModel};
use serde_json::Value;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, run};

/// The seconds of the TTL index: nothing expires during a test.
pub const SECONDS: i64 = 1_000_000;

/// The documents of the backup, and those that are live afterwards.
pub const BACKED_UP: std::ops::Range<i32> = 0..60;
pub const CHANGED: std::ops::Range<i32> = 40..100;

/// A server with `shop.orders` and `shop.carts`, its backup, and other documents in `shop.orders` since then.
pub struct Shop {
    pub server: Mongod,
    pub client: Client,
    pub home: Home,
}

impl Shop {
    pub async fn new(server: Mongod) -> Shop {
        let client = server.client().await.expect("a client");
        let home = Home::new();
        let shop = Shop { server, client, home };
        shop.fill("orders", BACKED_UP).await;
        let ttl = IndexOptions::builder().expire_after(Duration::from_secs(SECONDS as u64)).build();
        let orders = shop.client.database("shop").collection::<Document>("orders");
        orders
            .create_index(IndexModel::builder().keys(doc! {"at": 1}).options(ttl).build())
            .await
            .expect("an index");
        shop.fill("carts", 0..5).await;
        run(shop.home.to_dir(&shop.server.uri()).arg("backup")).ends(0);
        orders.delete_many(doc! {"_id": {"$lt": CHANGED.start}}).await.expect("a mistake");
        shop.fill("orders", BACKED_UP.end..CHANGED.end).await;
        shop
    }

    pub async fn fill(&self, collection: &str, ids: std::ops::Range<i32>) {
        let rows = ids.map(|id| doc! {"_id": id, "at": bson::DateTime::now()});
        self.client
            .database("shop")
            .collection::<Document>(collection)
            .insert_many(rows)
            .await
            .expect("rows");
    }

    /// The `_id`s of a collection of `shop`, sorted.
    pub async fn ids(&self, collection: &str) -> Vec<i32> {
        let collection = self.client.database("shop").collection::<Document>(collection);
        let found = collection.find(doc! {});
        let rows: Vec<Document> =
            found.sort(doc! {"_id": 1}).await.expect("rows").try_collect().await.expect("rows");
        rows.iter().map(|row| row.get_i32("_id").expect("a number")).collect()
    }

    /// The names of the collections of `shop`, sorted.
    pub async fn names(&self) -> Vec<String> {
        let mut names = self.client.database("shop").list_collection_names().await.expect("names");
        names.sort();
        names
    }

    /// The seconds after which documents of a collection expire.
    pub async fn expiry(&self, collection: &str) -> i64 {
        let indexes = self
            .client
            .database("shop")
            .run_command(doc! {"listIndexes": collection})
            .await
            .expect("indexes");
        let batch =
            indexes.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch")).expect("rows");
        let seconds = batch.iter().find_map(|index| index.as_document()?.get("expireAfterSeconds"));
        match seconds.expect("a TTL index") {
            Bson::Int32(n) => i64::from(*n),
            Bson::Int64(n) => *n,
            other => panic!("{other}"),
        }
    }

    pub fn tool(&self, args: &[&str]) -> Command {
        let mut command = self.home.to_dir(&self.server.uri());
        command.arg("restore").args(args);
        command
    }

    /// Runs `restore` with these flags, and returns its JSON.
    #[track_caller]
    pub fn restore(&self, args: &[&str], code: i32) -> Value {
        run(self.tool(args).arg("--json")).ends(code).json()
    }

    /// Swaps `shop.orders`. Returns the restore's id.
    #[track_caller]
    pub fn swap(&self) -> String {
        self.swap_ending(&[0])
    }

    /// Swaps `shop.orders`, with one of these exit codes.
    #[track_caller]
    pub fn swap_ending(&self, codes: &[i32]) -> String {
        let swap = ["latest", "--ns-include", "shop.orders", "--swap", "--yes", "--json"];
        let ran = run(&mut self.tool(&swap));
        assert!(codes.iter().any(|code| ran.code == Some(*code)), "{ran:?}");
        crate::docs::schema::check("restore", &ran.json());
        ran.json()["swap"]["id"].as_str().expect("an id").to_string()
    }

    /// Lets the marks look as old as those of a run that was killed long ago.
    pub async fn age_marks(&self) {
        let old = bson::DateTime::from_millis(bson::DateTime::now().timestamp_millis() - 3_600_000);
        let marks = self.client.database("uzima_backup").collection::<Document>("restores");
        marks.update_many(doc! {}, doc! {"$set": {"changed_at": old}}).await.expect("an update");
    }

    pub async fn marks(&self) -> u64 {
        let marks = self.client.database("uzima_backup").collection::<Document>("restores");
        marks.count_documents(doc! {}).await.expect("a count")
    }
}

pub fn ids(range: std::ops::Range<i32>) -> Vec<i32> {
    range.collect()
}
