//! Data that comes back unchanged: the torture database with everything that breaks backup tools, small
//! random databases, and a backup that contains one `_id` twice.

use bson::{Document, doc, rawdoc};
use mongodb::Client;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::Rule;
use uzima_testkit::{raw, torture};

use super::support::{Backup, differences, server};
use crate::cli::support::run;
use crate::native::random::documents;
use crate::native::support::{behind_a_proxy, insert, meanwhile, rows};

const FORMATS: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

#[tokio::test(flavor = "multi_thread")]
async fn the_torture_database_comes_back_in_every_format() {
    let (source, original) = server().await;
    let made = torture::fill(&original).await.expect("the torture database");
    let found = read_all(&original).await.expect("all of it").namespaces.len();
    assert_eq!(found, made.namespaces.len() + 1, "and the buckets of the time series");
    assert!(found > 35, "{found}");
    for format in FORMATS {
        let backup = Backup::of(&source, &["--format", format]);
        let (target, restored) = server().await;
        let report = run(backup.restore_into(&target).arg("--json")).ends(0).json();
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{format}");
        assert_eq!((&report["users"], &report["roles"]), (&2.into(), &1.into()), "{report}");
        // A second restore, over the restored data.
        run(&mut backup.restore_into(&target)).ends(1).says(&["types.", "--drop"]);
        run(backup.restore_into(&target).arg("--drop")).ends(0);
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{format}");
    }
}

/// Options of a collection.
fn options() -> impl Strategy<Value = Document> {
    prop_oneof![
        Just(doc! {}),
        Just(doc! {"capped": true, "size": 64 << 20}),
        Just(doc! {"clusteredIndex": {"key": {"_id": 1}, "unique": true, "name": "by id"}}),
        Just(doc! {"collation": {"locale": "de", "strength": 2}}),
        Just(doc! {"validator": {"nobody": {"$exists": true}}}),
        (1_i64..1 << 40).prop_map(
            |n| doc! {"storageEngine": {"wiredTiger": {"configString": format!("app_metadata=(n={n})")}}}
        ),
    ]
}

/// Index keys. Each has one field, because the server refuses a key with arrays in two fields.
fn indexes() -> impl Strategy<Value = Vec<Document>> {
    let direction =
        prop_oneof![Just(bson::Bson::Int32(1)), Just(bson::Bson::Double(-1.0)), Just(bson::Bson::Int64(1))];
    let extra = prop_oneof![
        Just(doc! {}),
        Just(doc! {"sparse": true}),
        Just(doc! {"hidden": true}),
        Just(doc! {"collation": {"locale": "fr", "caseLevel": true}}),
        Just(doc! {"collation": {"locale": "simple"}}),
        Just(doc! {"partialFilterExpression": {"zz": {"$gt": 5_i64}}}),
    ];
    proptest::collection::vec((direction, extra), 0..4).prop_map(|all| {
        let index = |(n, (direction, extra)): (usize, (bson::Bson, Document))| {
            // No document has a field of this name, so no value can be too long or unsuitable for the index.
            let mut index = doc! {"key": {format!("zz{n}"): direction}, "name": format!("index {n} ü/*")};
            index.extend(extra);
            index
        };
        all.into_iter().enumerate().map(index).collect()
    })
}

type Collection = (Document, Vec<Document>, Vec<Vec<u8>>);

fn database() -> impl Strategy<Value = Vec<(String, Collection)>> {
    let collection = (options(), indexes(), prop_oneof![1 => Just(Vec::new()), 4 => documents()]);
    proptest::collection::btree_map("[a-zA-Zäß漢%/+ .]{1,12}", collection, 1..4)
        .prop_map(|all| all.into_iter().map(|(name, made)| (format!("c{name}x"), made)).collect())
}

async fn make(database: &mongodb::Database, name: &str, (options, indexes, documents): &Collection) {
    let mut create = doc! {"create": name};
    create.extend(options.clone());
    database.run_command(create).await.unwrap_or_else(|e| panic!("{name:?}: {e}"));
    raw::insert(database, name, documents).await.expect("documents");
    if !indexes.is_empty() {
        let create = doc! {"createIndexes": name, "indexes": indexes.clone()};
        database.run_command(create).await.unwrap_or_else(|e| panic!("{name:?}: {e}"));
    }
}

#[test]
fn small_random_databases_come_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let start = || runtime.block_on(Mongod::builder().start()).expect("mongod");
    let (source, target) = (start(), start());
    let clients = [&source, &target].map(|server| runtime.block_on(server.client()).expect("a client"));
    let config = Config { cases: 12, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(
            &(database(), proptest::sample::select(&FORMATS[..]), any::<bool>()),
            |(all, format, replace)| {
                runtime.block_on(async {
                    raw::drop_databases(&clients[0], &["r"]).await.expect("a drop");
                    for (name, collection) in &all {
                        make(&clients[0].database("r"), name, collection).await;
                    }
                    if !replace {
                        raw::drop_databases(&clients[1], &["r"]).await.expect("a drop");
                    }
                    let backup = Backup::of(&source, &["--db", "r", "--format", format]);
                    let flag = if replace { "--exact" } else { "--quiet" };
                    run(backup.restore_into(&target).arg(flag)).ends(0);
                    let differences = differences(&clients[0], &clients[1]).await;
                    assert_eq!(differences, Vec::<String>::new(), "{format}");
                });
                Ok(())
            },
        )
        .unwrap();
}

/// Documents of 100 KB, so that a segment has 671 of them.
const PAD: usize = 100_000;
/// The first documents of the first segment, and some near its end, which come again in the second segment.
const AGAIN: [i32; 6] = [0, 1, 2, 640, 641, 642];

async fn delete_and_reinsert(client: Client) {
    let orders = client.database("shop").collection::<bson::Document>("orders");
    let deleted = orders.delete_many(doc! {"_id": {"$in": AGAIN.to_vec()}}).await.expect("a delete");
    assert_eq!(deleted.deleted_count, AGAIN.len() as u64);
    let changed: Vec<_> = AGAIN.iter().map(|id| rawdoc! {"_id": *id, "changed": true}).collect();
    insert(&client, "shop", "orders", &changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_two_documents_with_one_id_is_restored() {
    let (source, proxy, original) = behind_a_proxy().await;
    insert(&original, "shop", "orders", &rows(0, 700, PAD)).await;
    let during = Rule::on("getMore").namespace("shop.orders").nth(58);
    let during = proxy.add(during.then(meanwhile(source.uri(), delete_and_reinsert)));
    let backup = Backup::at(&proxy.uri(&source.uri()), &["--db", "shop"]);
    assert_eq!(proxy.hits(during), 1);
    assert_eq!(backup.manifest.totals.documents, 706, "six were read twice");
    let (target, restored) = server().await;
    let report = run(backup.restore_into(&target).arg("--json")).ends(0).json();
    let orders = &report["namespaces"][0];
    assert_eq!((&orders["documents"], &orders["superseded"]), (&json!(706), &json!(6)), "{report}");
    assert_eq!(differences(&original, &restored).await, Vec::<String>::new());
    // The restore has to read documents to find the later one, and to replace the earlier one. The role
    // `restore` allows neither.
    let target = Mongod::builder().auth().start().await.expect("mongod");
    target.create_user("bringer", "x", &[("restore", "admin")]).await.expect("a user");
    let mut command = backup.restore_into(&target);
    let uri = target.uri_as("bringer", "x", "admin");
    run(command.env("RESTORE_URI", uri)).ends(1).says(&["may not", "readWriteAnyDatabase", "--drop"]);
}
