//! The oracle of `restore --filter` and `--merge`: backups and oplog slices of a server whose documents and collections change all the
//! time. A restore that chooses documents must give what `find` gives on a server that was restored in full at the same instant.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Client;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::raw;
use uzima_testkit::read_all::{Snapshot, read_all, read_cursor};

use crate::cli::support::{Home, Ran, run};
use crate::pit::support::*;
use crate::pit::writers::Writers;

/// A backup that was made while writers changed documents, and slices in which they also changed collections.
struct Recorded {
    home: Home,
    /// A point in time in the slices.
    at: Timestamp,
}

async fn record(version: Option<Version>, seed: u64) -> Recorded {
    let ((server, client), home) = (set(version).await, Home::new());
    let writers = Writers::start(&client, seed, false).await;
    let uri = server.uri();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let home = {
        // A backup under way cannot have the rename of a collection.
        let _shapes = writers.gates.shapes.write().await;
        let uri = uri.clone();
        let made = move || {
            backup(&home, &uri, "oplog");
            home
        };
        tokio::task::spawn_blocking(made).await.expect("a backup")
    };
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let at = mark(&client).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    oplog(&home, &uri);
    writers.stop().await;
    let slice = home.manifests()[0].consistency.oplog.clone().expect("a slice");
    assert!(slice.entries > 0, "{slice:?}");
    Recorded { home, at }
}

impl Recorded {
    /// The arguments for the two instants: of the backup, and of the point in time.
    fn instants(&self) -> [Vec<String>; 2] {
        [vec!["latest".into()], vec!["--at".into(), text(self.at)]]
    }

    /// A restore that chooses documents. Views have none, so a filter leaves them out, as the message says.
    #[track_caller]
    fn choose(&self, target: &Mongod, args: &[&str]) -> Ran {
        let ran = run(restore(&self.home, target, args).arg("--json"));
        if ran.code != Some(2) {
            return ran;
        }
        assert!(ran.stderr.contains("--ns-exclude live.view leaves them out"), "{}", ran.stderr);
        run(restore(&self.home, target, args).args(["--json", "--ns-exclude", "live.view"]))
    }
}

fn filters(random: &mut StdRng) -> Vec<Document> {
    let mut n = || random.random_range(0..150);
    vec![
        doc! {"n": {"$gte": n()}},
        doc! {"$or": [{"n": {"$lt": n()}}, {"code": {"$exists": false}}]},
        doc! {"all": {"$gt": n()}},
        doc! {"$nor": [{"a.b": {"$lte": n()}}, {"writer": 1}]},
        doc! {"_id": {"$in": [n(), n(), f64::from(n()), "a", -1]}},
        doc! {"sum": {"$ne": 100}},
    ]
}

fn json(filter: &Document) -> String {
    Bson::Document(filter.clone()).into_canonical_extjson().to_string()
}

/// The documents that a server finds in all collections.
async fn found(client: &Client, filter: &Document) -> Snapshot {
    let mut all = read_all(client).await.expect("a snapshot");
    all.retain(|db, _| DATABASES.contains(&db));
    let filter = RawDocumentBuf::try_from(filter).expect("a filter");
    for ((db, name), one) in &mut all.namespaces {
        // The temporary collection of a `$out` that is under way: the command `create` has no such option.
        if name.starts_with("tmp.agg_out.") {
            one.options = Default::default();
        }
        if one.kind != "view" {
            // The filter compares texts byte by byte.
            let simple = rawdoc! {"locale": "simple"};
            let find = rawdoc! {"find": name.as_str(), "filter": filter.clone(), "collation": simple};
            one.documents = read_cursor(&client.database(db), find).await.expect("documents");
        }
    }
    all
}

async fn filtered_as_found(version: Option<Version>, seed: u64) {
    let recorded = record(version, seed).await;
    let ((full, full_client), (target, client)) = (set(version).await, set(version).await);
    let mut random = StdRng::seed_from_u64(seed);
    for instant in recorded.instants() {
        let instant: Vec<&str> = instant.iter().map(String::as_str).collect();
        clear(&full_client).await;
        restored(&mut restore(&recorded.home, &full, &instant));
        for (n, filter) in filters(&mut random).into_iter().enumerate() {
            // With --drop, other documents are replaced.
            if n % 2 == 0 {
                clear(&client).await;
            }
            let text = json(&filter);
            let drop: &[&str] = if n % 2 == 0 { &[] } else { &["--drop"] };
            let ran = recorded.choose(&target, &[&instant[..], &["--filter", &text], drop].concat());
            assert!([Some(0), Some(3)].contains(&ran.code), "{seed} {instant:?} {text}: {}", ran.stderr);
            crate::docs::schema::check("restore", &ran.json());
            let mut wanted = found(&full_client, &filter).await;
            wanted.namespaces.retain(|_, one| one.kind != "view");
            let mut there = read_all(&client).await.expect("the target");
            there.retain(|db, _| DATABASES.contains(&db));
            there.namespaces.retain(|_, one| one.kind != "view");
            assert_eq!(wanted.diff(&there), Vec::<String>::new(), "{seed} {instant:?} {text}");
            let matched: u64 = ran.json()["namespaces"]
                .as_array()
                .expect("namespaces")
                .iter()
                .map(|one| one["filtered"]["matched"].as_u64().expect("a number"))
                .sum();
            assert_eq!(matched, wanted.documents() as u64, "{seed} {instant:?} {text}");
            nothing_left(&client).await;
        }
    }
}

/// Asserts that no staging collection and no mark is there.
async fn nothing_left(client: &Client) {
    for db in DATABASES {
        let names = client.database(db).list_collection_names().await.expect("names");
        assert!(names.iter().all(|name| !name.starts_with("uzima_backup")), "{names:?}");
    }
    let marks = client.database("uzima_backup").collection::<Document>("restores");
    assert_eq!(marks.count_documents(doc! {}).await.expect("a count"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_gives_what_find_gives_on_a_server_that_was_restored_at_the_same_instant() {
    filtered_as_found(None, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_gives_what_find_gives_on_mongodb_4_4() {
    filtered_as_found(Some(Version::V4_4_2), 12).await;
}

/// What a merge should count in a namespace.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    inserted: u64,
    equal: u64,
    different: u64,
}

impl Counts {
    fn of(json: &Value) -> Counts {
        let number = |field: &str| json["merged"][field].as_u64().expect("a number");
        Counts { inserted: number("inserted"), equal: number("equal"), different: number("different") }
    }
}

/// Writes a part of the documents to the target, some of them with other content or another type of number.
async fn seed_target(client: &Client, full: &Snapshot, random: &mut StdRng) {
    clear(client).await;
    for ((db, name), one) in &full.namespaces {
        if one.kind == "view" || one.options.get_bool("capped").unwrap_or(false) || random.random_bool(0.2) {
            continue;
        }
        let mut create = rawdoc! {"create": name.as_str()};
        if let Ok(collation) = one.options.get_document("collation") {
            create.append(bson::raw::cstr!("collation"), collation.to_owned());
        }
        let database = client.database(db);
        database.run_raw_command(create).await.expect("a collection");
        let mut rows: Vec<Vec<u8>> = Vec::new();
        for raw in &one.documents {
            let document: Document = bson::deserialize_from_slice(raw).expect("BSON");
            let id = document.get("_id").expect("an _id").clone();
            let other = match id {
                Bson::Int32(n) => Bson::Double(n.into()),
                Bson::Double(n) => Bson::Int64(n as i64),
                id => id,
            };
            match random.random_range(0..5) {
                0 | 1 => {}
                2 | 3 => rows.push(raw.clone()),
                _ => rows.push(doc! {"_id": other, "changed": true}.to_vec().expect("BSON")),
            }
        }
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        if !rows.is_empty() {
            raw::insert(&database, name, &rows).await.expect("rows");
        }
    }
}

async fn merged_as_computed(version: Option<Version>, seed: u64) {
    let recorded = record(version, seed).await;
    let ((full, full_client), (target, client)) = (set(version).await, set(version).await);
    let mut random = StdRng::seed_from_u64(seed);
    for instant in recorded.instants() {
        let instant: Vec<&str> = instant.iter().map(String::as_str).collect();
        clear(&full_client).await;
        restored(&mut restore(&recorded.home, &full, &instant));
        for filter in [None, filters(&mut random).into_iter().next()] {
            let wanted = found(&full_client, &filter.clone().unwrap_or_default()).await;
            seed_target(&client, &wanted, &mut random).await;
            let before = read_all(&client).await.expect("the target");
            let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
            let mut missing: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
            for ((db, name), one) in wanted.namespaces.iter().filter(|(_, one)| one.kind != "view") {
                let there = client.database(db).collection::<RawDocumentBuf>(name);
                let counts = counts.entry(format!("{db}.{name}")).or_default();
                for raw in &one.documents {
                    let document = RawDocument::from_bytes(raw).expect("BSON");
                    let id: Bson =
                        bson::deserialize_from_slice::<Document>(raw).expect("BSON")["_id"].clone();
                    match there.find_one(doc! {"_id": id}).await.expect("an answer") {
                        None => {
                            counts.inserted += 1;
                            missing.entry(format!("{db}.{name}")).or_default().push(raw.clone());
                        }
                        Some(other) if other.as_bytes() == document.as_bytes() => counts.equal += 1,
                        Some(_) => counts.different += 1,
                    }
                }
            }
            let text = filter.as_ref().map(json);
            let filter: Vec<&str> = text.iter().flat_map(|text| ["--filter", text.as_str()]).collect();
            let ran = recorded.choose(&target, &[&instant[..], &["--merge"], &filter].concat());
            let place = format!("{seed} {instant:?} {filter:?}");
            let different = counts.values().any(|counts| counts.different > 0);
            assert!(ran.code == Some(3) || !different && ran.code == Some(0), "{place}: {}", ran.stderr);
            let report = ran.json();
            crate::docs::schema::check("restore", &report);
            let named = report["namespaces"].as_array().expect("namespaces").iter();
            let named = named.filter(|one| !one["merged"].is_null());
            let reported: BTreeMap<String, Counts> = named
                .map(|one| (one["to"].as_str().expect("a name").to_string(), Counts::of(one)))
                .filter(|(name, _)| name != "live.view")
                .collect();
            assert_eq!(reported, counts, "{place}");
            let after = read_all(&client).await.expect("the target");
            for ((db, name), one) in wanted.namespaces.iter().filter(|(_, one)| one.kind != "view") {
                let (now, earlier) = (after.get(db, name).expect("a collection"), before.get(db, name));
                let mut documents = earlier.map(|earlier| earlier.documents.clone()).unwrap_or_default();
                documents.extend(missing.remove(&format!("{db}.{name}")).unwrap_or_default());
                documents.sort();
                let mut found = now.documents.clone();
                found.sort();
                assert!(found == documents, "{place}: {db}.{name}");
                match earlier {
                    // What is there stays as it is.
                    Some(earlier) => assert_eq!(
                        (&earlier.uuid, &earlier.options, &earlier.indexes),
                        (&now.uuid, &now.options, &now.indexes)
                    ),
                    None => assert_eq!((&one.options, &one.indexes), (&now.options, &now.indexes), "{place}"),
                }
            }
            nothing_left(&client).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_inserts_exactly_the_documents_that_are_missing_at_that_instant() {
    merged_as_computed(None, 21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_inserts_exactly_the_missing_documents_on_mongodb_4_4() {
    merged_as_computed(Some(Version::V4_4_2), 22).await;
}
