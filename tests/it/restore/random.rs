//! Small random databases come back as they were.

use bson::{Document, doc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;

use super::support::{Backup, differences};
use crate::cli::support::run;
use crate::native::random::documents;

const FORMATS: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

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
