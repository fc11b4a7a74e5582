//! The restore finds out on the target, before anything is dropped, which namespaces, indexes and roles the target cannot
//! take, and the flags in its message restore the rest.

use std::collections::BTreeMap;
use std::process::Command;

use bson::{DateTime, Document, doc, rawdoc};
use mongodb::Client;
use serde_json::json;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::read_all;

use super::support::{Backup, differences, rows, server};
use crate::cli::support::{Home, Ran, run};
use crate::drill::support::{assert_gone, drill, scratch};
use crate::replay::support::{Dump, entry, now, since};

/// A replica set with one member of this version.
async fn set(version: Version) -> (Mongod, Client) {
    let server = Mongod::builder().version(version).replica_set("rs").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    (server, client)
}

/// The flags in the next step of a refusal.
fn flags(ran: &Ran) -> Vec<String> {
    let (_, rest) = ran.stderr.split_once("The same command with ").expect("flags");
    let (flags, _) = rest.split_once(" restores the rest").expect("the end of the flags");
    let words = run(Command::new("sh").arg("-c").arg(format!("printf '%s\\0' {flags}"))).ends(0).stdout;
    words.split_terminator('\0').map(str::to_string).collect()
}

/// The number of documents by namespace, without the server's own namespaces.
async fn documents(client: &Client) -> BTreeMap<String, usize> {
    let all = read_all(client).await.expect("all of it");
    let own = |name: &str| name.starts_with("admin.") || name.starts_with("config.");
    let rows = all.namespaces.iter().map(|((db, name), one)| (format!("{db}.{name}"), one.documents.len()));
    rows.filter(|(name, _)| !own(name)).collect()
}

async fn command(client: &Client, db: &str, command: Document) {
    let done = client.database(db).run_command(command.clone()).await;
    done.unwrap_or_else(|e| panic!("{command}: {e}"));
}

/// Namespaces that only MongoDB 6.0 accepts, namespaces that every server accepts, and a dump of both with an
/// oplog.
async fn six() -> (Dump, Mongod, Client) {
    let (source, original) = set(Version::V6_0_27).await;
    for db in ["alpha", "zeta"] {
        rows(&original, db, "orders", 0..50).await;
    }
    let clustered = doc! {"key": {"_id": 1}, "unique": true};
    command(&original, "shop", doc! {"create": "clustered", "clusteredIndex": clustered.clone()}).await;
    rows(&original, "shop", "clustered", 0..5).await;
    let series = doc! {"create": "series", "timeseries": {"timeField": "t", "metaField": "m"}};
    command(&original, "shop", series).await;
    let point = doc! {"t": DateTime::now(), "m": 1, "x": 1};
    original.database("shop").collection::<Document>("series").insert_one(point).await.expect("a point");
    let densify = doc! {"$densify": {"field": "x", "range": {"step": 1, "bounds": "full"}}};
    command(&original, "shop", doc! {"create": "dense", "viewOn": "orders", "pipeline": [densify]}).await;
    command(&original, "shop", doc! {"create": "denser", "viewOn": "dense", "pipeline": []}).await;
    let partial = doc! {"$or": [{"a": 1}, {"b": 1}]};
    let index = doc! {"key": {"text": 1}, "name": "some.text", "partialFilterExpression": partial};
    command(&original, "alpha", doc! {"createIndexes": "orders", "indexes": [index]}).await;
    let resource = doc! {"db": "shop", "collection": ""};
    let privilege = doc! {"resource": resource, "actions": ["find", "compactStructuredEncryptionData"]};
    command(&original, "shop", doc! {"createRole": "six", "privileges": [privilege], "roles": []}).await;
    command(&original, "shop", doc! {"createUser": "clerk", "pwd": "x", "roles": ["read"]}).await;
    let start = now(&original).await;
    let dump = Dump::of(&source);
    let orders = original.database("alpha").collection::<Document>("orders");
    orders.update_one(doc! {"_id": 1}, doc! {"$set": {"text": "changed"}}).await.expect("an update");
    command(&original, "late", doc! {"create": "clustered", "clusteredIndex": clustered}).await;
    command(&original, "late", doc! {"create": "plain"}).await;
    dump.oplog(&since(&original, start).await);
    (dump, source, original)
}

/// Writes documents to the target, under names of the backup and under other names.
async fn live(client: &Client) -> BTreeMap<String, usize> {
    for name in ["alpha.orders", "shop.clustered", "shop.series", "zeta.orders", "late.clustered", "own.rows"]
    {
        let (db, collection) = name.split_once('.').expect("a namespace");
        rows(client, db, collection, 1_000..1_010).await;
    }
    documents(client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_target_is_refused_before_the_first_drop_and_the_flags_restore_the_rest() {
    let (dump, source, _) = six().await;
    // The same data as an archive and as a stored backup. Both have no oplog, because nothing was written
    // during the backup.
    let archive = Backup::of(&source, &["--format", "archive.zst"]);
    let moved = archive.home.path().join("moved");
    std::fs::copy(archive.artifact(), &moved).expect("a copy");
    let path = |path: &std::path::Path| path.to_str().expect("UTF-8").to_string();
    let sources: [(&Home, Vec<String>); 3] = [
        (&dump.home, vec!["--from".into(), path(&dump.folder)]),
        (&archive.home, vec!["--from".into(), path(&moved)]),
        (&archive.home, vec!["latest".into()]),
    ];
    let old = [
        (
            Version::V5_0_32,
            None,
            1,
            &["shop.clustered: 'clusteredIndex' needs MongoDB 5.3", "shop.dense: "][..],
            &[0][..],
        ),
        (
            Version::V6_0_27,
            Some("5.0"),
            0,
            &["shop.clustered: ", "shop.dense: ", "compatibility version 5.0"],
            &[0, 1],
        ),
        (
            Version::V4_4_2,
            None,
            1,
            &["shop.clustered: ", "shop.series: 'timeseries' needs MongoDB 5.0"],
            &[0, 2],
        ),
    ];
    for (version, compatibility, roles, says, tried) in old {
        for at in tried.iter().copied() {
            let (home, which) = &sources[at];
            let mut target = Mongod::builder().version(version).replica_set("rs");
            if let Some(compatibility) = compatibility {
                target = target.compatibility(compatibility);
            }
            let target = target.start().await.expect("mongod");
            let client = target.client().await.expect("a client");
            let before = live(&client).await;
            let restore = |args: &[&str]| {
                let mut command = home.tool();
                command.env("BACKUP_DIR", home.backups()).env("RESTORE_URI", target.uri()).arg("restore");
                run(command.args(which).args(["--drop", "--yes"]).args(args))
            };
            let index = "the index 'some.text' of alpha.orders: ";
            for args in [&["--dry-run"][..], &[]] {
                let ran = restore(args).ends(1).says(says).says(&["Nothing was changed", index]);
                assert_eq!(ran.stderr.contains("the role shop.six: "), roles == 1, "{}", ran.stderr);
                let slice = at == 0;
                assert!(ran.stderr.contains("late.clustered: "), "{}", ran.stderr);
                let form = slice && version == Version::V4_4_2;
                assert_eq!(ran.stderr.contains("$v: 2"), form, "{}", ran.stderr);
                assert_eq!(documents(&client).await, before, "{version:?} {which:?}");
            }
            let rest = flags(&restore(&[]));
            let words: Vec<&str> = rest.iter().map(String::as_str).collect();
            assert!(words.contains(&"--no-index") && words.contains(&"alpha.orders.some.text"), "{words:?}");
            assert!(words.contains(&if roles == 1 { "--no-users" } else { "--users" }), "{words:?}");
            let ran = restore(&words);
            // The formats of older dumps do not store the server's version.
            assert_eq!(ran.code, Some(if which[0] == "--from" { 0 } else { 3 }), "{}", ran.stderr);
            let after = documents(&client).await;
            for (name, rows) in
                [("alpha.orders", 50), ("zeta.orders", 50), ("shop.clustered", 10), ("own.rows", 10)]
            {
                assert_eq!(after.get(name), Some(&rows), "{name} on {version:?} of {which:?}");
            }
            if version != Version::V4_4_2 {
                assert_eq!(after.get("shop.system.buckets.series"), Some(&1));
            }
            let changed = client.database("alpha").collection::<Document>("orders");
            let changed = changed.find_one(doc! {"text": "changed"}).await.expect("an answer");
            let replays = !words.contains(&"--no-replay");
            assert_eq!(changed.is_some(), replays || at > 0, "{version:?} {which:?}");
            assert_eq!(after.contains_key("late.plain"), at > 0 || replays, "{after:?}");
            let clerks = client.database("admin").collection::<Document>("system.users");
            let clerks = clerks.count_documents(doc! {"user": "clerk"}).await.expect("a count");
            assert_eq!(clerks, 1 - roles, "{version:?}");
        }
    }
}

/// MongoDB 5.0 writes updates of the form `$v: 2`, which 4.4 cannot read. Everything else in the backup suits
/// 4.4.
#[tokio::test(flavor = "multi_thread")]
async fn an_oplog_that_the_target_cannot_read_is_found() {
    let (source, original) = set(Version::V5_0_32).await;
    rows(&original, "shop", "orders", 0..20).await;
    command(&original, "shop", doc! {"createUser": "clerk", "pwd": "x", "roles": ["read"]}).await;
    let start = now(&original).await;
    let dump = Dump::of(&source);
    let orders = original.database("shop").collection::<Document>("orders");
    orders.update_one(doc! {"_id": 1}, doc! {"$set": {"text": "changed"}}).await.expect("an update");
    // For a change that only the replay would make, `--no-replay` is enough.
    let day = doc! {"$dateTrunc": {"date": "$t", "unit": "day"}};
    let validator = doc! {"$expr": {"$ne": [day, bson::Bson::Null]}};
    command(&original, "shop", doc! {"collMod": "orders", "validator": validator}).await;
    dump.oplog(&since(&original, start).await);
    let (target, live) = set(Version::V4_4_2).await;
    rows(&live, "shop", "orders", 1_000..1_010).await;
    let ran = dump.restore(&target.uri(), &["--drop"]).ends(1).says(&["$v: 2", "in shop.orders"]);
    assert_eq!(flags(&ran), ["--no-replay"]);
    assert_eq!(documents(&live).await["shop.orders"], 10);
    let report = dump.restore(&target.uri(), &["--drop", "--no-replay"]).ends(0).json();
    assert_eq!((&report["users"], &report["namespaces"][0]["documents"]), (&json!(1), &json!(20)));
    // In the other direction, 5.0 reads the updates of 4.4.
    let (newer, _) = set(Version::V6_0_27).await;
    dump.restore(&newer.uri(), &[]).ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_differ_only_by_case_are_refused() {
    let (source, original) = server().await;
    rows(&original, "alpha", "x", 0..20).await;
    rows(&original, "shop", "a", 0..20).await;
    rows(&original, "shop", "b", 0..20).await;
    let backup = Backup::of(&source, &[]);
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let live = target.client().await.expect("a client");
    rows(&live, "alpha", "x", 1_000..1_050).await;
    rows(&live, "Shop", "own", 0..3).await;
    let before = documents(&live).await;
    // The role `restore` may not list all databases.
    target.create_user("restorer", "x", &[("restore", "admin")]).await.expect("a user");
    for uri in [target.uri(), target.uri_as("restorer", "x", "admin")] {
        let restore = |args: &[&str]| {
            run(backup.restore_into(&target).env("RESTORE_URI", &uri).arg("--drop").args(args))
        };
        let names = ["the database 'shop'", "'Shop'", "--ns-exclude 'shop.*' restores"];
        restore(&["--dry-run"]).ends(1).says(&names);
        let ran = restore(&[]).ends(1).says(&names);
        assert!(!ran.stderr.contains("again with --drop"), "{}", ran.stderr);
        restore(&["--ns-from=alpha.*", "--ns-to=SHOP.*"]).ends(1).says(&["'SHOP'", "'shop'"]);
        assert_eq!(documents(&live).await, before);
        // The database is no longer listed, but its name is still taken.
        command(&live, "Ghost", doc! {"create": "a"}).await;
        command(&live, "Ghost", doc! {"drop": "a"}).await;
        restore(&["--ns-from=shop.*", "--ns-to=ghost.*"])
            .ends(1)
            .says(&["the database 'ghost'", "already have: [Ghost]"]);
        assert_eq!(documents(&live).await, before);
    }
    let ran = run(backup.restore_into(&target).arg("--drop")).ends(1);
    run(backup.restore_into(&target).arg("--drop").args(flags(&ran))).ends(0);
    assert_eq!(documents(&live).await["alpha.x"], 20);
    // Both come with the backup, under their new names.
    let (empty, none) = server().await;
    let both = ["--ns-from=shop.b", "--ns-to=SHOP.b"];
    let ran = run(backup.restore_into(&empty).args(both)).ends(1).says(&["'SHOP'", "'shop'"]);
    assert_eq!(documents(&none).await, BTreeMap::new());
    // Names that no server accepts.
    for (to, says) in [
        ("a b.*", "the name of a database cannot contain ' '"),
        (&format!("shop.{}*", "x".repeat(250)), "255 bytes"),
    ] {
        let rename = ["--ns-from=shop.*".to_string(), format!("--ns-to={to}")];
        run(backup.restore_into(&empty).args(&rename)).ends(1).says(&[says, "--ns-exclude"]);
    }
    assert!(ran.stderr.contains("--ns-exclude"), "{}", ran.stderr);
}

/// Every option that `create` accepts on this server comes back, and a drill compares it.
#[tokio::test(flavor = "multi_thread")]
async fn every_option_of_a_collection_comes_back() {
    for version in [Version::V4_4_2, Version::V5_0_32, Version::V6_0_27] {
        let (source, original) = set(version).await;
        let engine = |text: &str| doc! {"wiredTiger": {"configString": text}};
        let mut options = vec![
            doc! {"autoIndexId": true},
            doc! {"autoIndexId": true, "capped": true, "size": 4096},
            doc! {"autoIndexId": true, "collation": {"locale": "fr"}},
            doc! {"capped": true, "size": 4096, "max": 10},
            doc! {"flags": 1},
            doc! {"storageEngine": engine("block_compressor=zlib")},
            doc! {"indexOptionDefaults": {"storageEngine": engine("prefix_compression=false")}},
            doc! {"validator": {"a": {"$exists": true}}, "validationLevel": "moderate", "validationAction": "warn"},
            doc! {"validator": {"$jsonSchema": {"required": ["a"]}}, "validationLevel": "off"},
            doc! {"collation": {"locale": "de", "strength": 2, "numericOrdering": true}},
        ];
        if version < Version::V6_0_27 {
            options.push(doc! {"recordPreImages": true});
        }
        if version >= Version::V5_0_32 {
            for granularity in ["seconds", "minutes", "hours"] {
                options.push(doc! {"timeseries": {"timeField": "t", "granularity": granularity}, "expireAfterSeconds": 1_000_000_000_i64});
            }
        }
        if version >= Version::V6_0_27 {
            options.push(doc! {"changeStreamPreAndPostImages": {"enabled": true}});
            let clustered = doc! {"key": {"_id": 1}, "unique": true, "name": "mine"};
            options.push(doc! {"clusteredIndex": clustered.clone()});
            options.push(doc! {"clusteredIndex": clustered, "expireAfterSeconds": 1_000_000_000_i64});
        }
        for (n, options) in options.into_iter().enumerate() {
            let mut create = doc! {"create": format!("c{n}")};
            create.extend(options);
            command(&original, "shop", create).await;
            let row = doc! {"_id": n as i32, "t": DateTime::now()};
            original
                .database("shop")
                .collection::<Document>(&format!("c{n}"))
                .insert_one(row)
                .await
                .expect("a row");
        }
        // A temporary collection, which the server itself would drop at its next start.
        let temporary = doc! {"op": "c", "ns": "shop.$cmd", "o": {"create": "temporary", "temp": true}};
        command(&original, "admin", doc! {"applyOps": [temporary]}).await;
        let backup = Backup::of(&source, &[]);
        run(backup.home.to_dir(&source.uri()).args(["verify", "latest"])).ends(0);
        let drilled = scratch();
        run(drill(&backup, drilled.path()).env("MONGOD_PATH", version.path().expect("a mongod"))).ends(0);
        assert_gone(drilled.path());
        command(&original, "shop", doc! {"drop": "temporary"}).await;
        let (target, live) = set(version).await;
        for args in [&[][..], &["--drop"]] {
            run(backup.restore_into(&target).args(args)).ends(0);
            command(&live, "shop", doc! {"drop": "temporary"}).await;
            let differences = differences(&original, &live).await;
            assert_eq!(differences, Vec::<String>::new(), "{version:?}");
        }
    }
}

/// Neither a plan nor a restore leaves a trial collection behind, and backups leave trial collections out.
#[tokio::test(flavor = "multi_thread")]
async fn trials_are_removed_and_swept() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..20).await;
    command(&original, "shop", doc! {"create": "v", "viewOn": "orders", "pipeline": []}).await;
    command(&original, "other", doc! {"create": "s", "timeseries": {"timeField": "t"}}).await;
    // Trial collections of killed runs: one old, one recent.
    let now = chrono::Utc::now().timestamp();
    let name = |age: i64| format!("uzima_backup_trial_{:x}_abc_0", now - age);
    let names = async |client: &Client| {
        let mut names = Vec::new();
        for db in ["shop", "other", "uzima_backup_trial"] {
            names.extend(client.database(db).list_collection_names().await.expect("names"));
        }
        names.retain(|name| name.starts_with("uzima"));
        names.sort();
        names
    };
    for db in ["shop", "uzima_backup_trial"] {
        for age in [3_600, 0] {
            command(&original, db, doc! {"create": name(age)}).await;
        }
    }
    let backup = Backup::of(&source, &[]);
    let all: Vec<&str> = backup.manifest.namespaces.iter().map(|n| n.collection.as_str()).collect();
    assert!(all.iter().all(|name| !name.starts_with("uzima")), "{all:?}");
    run(backup.restore_into(&source).args(["--drop", "--dry-run"])).ends(0);
    assert_eq!(names(&original).await, [name(0), name(0)], "trial collections of a running restore stay");
    let (target, live) = server().await;
    run(backup.restore_into(&target).arg("--dry-run")).ends(0);
    assert_eq!(names(&live).await, Vec::<String>::new());
    let mut left = Vec::new();
    for db in ["shop", "other"] {
        left.extend(live.database(db).list_collection_names().await.expect("names"));
    }
    // The server creates this collection for the first view of a database, and the user may not always drop it.
    assert_eq!(left, ["system.views", "system.views"]);
    run(&mut backup.restore_into(&target)).ends(0);
    assert_eq!(names(&live).await, Vec::<String>::new());
}

/// A user who may not create collections with other names can still restore.
#[tokio::test(flavor = "multi_thread")]
async fn the_plan_lists_namespaces_that_the_user_may_not_try() {
    let (source, original) = server().await;
    command(&original, "shop", doc! {"create": "orders", "capped": true, "size": 1 << 20}).await;
    rows(&original, "shop", "orders", 0..20).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let live = target.client().await.expect("a client");
    rows(&live, "shop", "orders", 100..110).await;
    let user = async |name: &str, collection: &str| {
        let actions = [
            "find",
            "listCollections",
            "listIndexes",
            "dropCollection",
            "createCollection",
            "insert",
            "createIndex",
            "bypassDocumentValidation",
            "convertToCapped",
        ];
        let of = |collection: &str, actions: &[&str]| doc! {"resource": {"db": "shop", "collection": collection}, "actions": actions.to_vec()};
        let privileges = [of(collection, &actions), of("", &["listCollections"])];
        command(&live, "admin", doc! {"createRole": name, "privileges": privileges.to_vec(), "roles": []})
            .await;
        target.create_user(name, "x", &[(name, "admin")]).await.expect("a user");
        target.uri_as(name, "x", "admin")
    };
    let uri = user("narrow", "orders").await;
    let restore = |uri: &str, args: &[&str]| {
        run(backup.restore_into(&target).env("RESTORE_URI", uri).arg("--drop").args(args))
    };
    let plan = restore(&uri, &["--dry-run", "--json"]).ends(0).json();
    let unproved = plan["unproved"][0].as_str().expect("a line");
    assert!(unproved.starts_with("shop.orders: whether the target accepts"), "{plan}");
    assert_eq!((&plan["refused"], &plan["rest"]), (&json!([]), &json!(null)));
    assert!(restore(&uri, &["--dry-run"]).ends(0).stdout.contains("  unproved: shop.orders: "));
    restore(&uri, &[]).ends(0);
    // In its own database the user may create collections, so nothing is unproved.
    let uri = user("wide", "").await;
    let plan = restore(&uri, &["--dry-run", "--json"]).ends(0).json();
    assert_eq!(plan["unproved"], json!([]));
}

/// Views are tried on trial copies of the collections that they show, not on the target's existing ones.
#[tokio::test(flavor = "multi_thread")]
async fn views_are_tried_together_with_the_views_that_they_read() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..20).await;
    let view = |name: &str, on: &str, locale: &str| doc! {"create": name, "viewOn": on, "pipeline": [], "collation": {"locale": locale}};
    command(&original, "shop", view("b", "orders", "fr")).await;
    command(&original, "shop", view("a", "b", "fr")).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    // The existing views have a collation that the backup's views cannot be combined with, so all are
    // replaced together.
    command(&live, "shop", view("b", "orders", "de")).await;
    command(&live, "shop", view("a", "b", "de")).await;
    run(backup.restore_into(&target).args(["--drop", "--dry-run"])).ends(0);
    // A view that is not part of the restore stays.
    let part = ["--drop", "--ns-include=shop.a", "--ns-include=shop.orders"];
    let ran = run(backup.restore_into(&target).args(part)).ends(1).says(&["shop.a: ", "collation"]);
    assert_eq!(flags(&ran), ["--ns-exclude", "shop.a"]);
}

/// If the target refuses one index, the documents and the other indexes come back.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_the_target_does_not_know_can_be_left_out() {
    let (source, original) = set(Version::V4_4_2).await;
    rows(&original, "shop", "places", 0..20).await;
    let haystack = doc! {"key": {"at": "geoHaystack", "kind": 1}, "name": "at*", "bucketSize": 1.0};
    let text = doc! {"key": {"text": 1}, "name": "text_1"};
    command(&original, "shop", doc! {"createIndexes": "places", "indexes": [haystack, text]}).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = set(Version::V6_0_5).await;
    // The target has nothing to lose: the documents come back, and the message names the index.
    let says = ["the index 'at*' of shop.places: "];
    run(backup.restore_into(&target).arg("--dry-run")).ends(1).says(&says);
    let report = run(backup.restore_into(&target).arg("--json")).ends(1).json();
    assert!(report["namespaces"][0]["problems"].to_string().contains("'at*'"), "{report}");
    assert_eq!(documents(&live).await["shop.places"], 20);
    rows(&live, "shop", "places", 100..110).await;
    let ran = run(backup.restore_into(&target).arg("--drop")).ends(1).says(&says);
    assert_eq!(documents(&live).await["shop.places"], 30, "nothing was dropped");
    assert_eq!(flags(&ran), ["--no-index", r"shop.places.at\*"]);
    let report =
        run(backup.restore_into(&target).arg("--drop").args(flags(&ran)).arg("--json")).ends(0).json();
    assert_eq!(report["namespaces"][0]["indexes"], json!(1), "{report}");
    assert_eq!(documents(&live).await["shop.places"], 20);
    let wrong = ["--drop", "--no-index=shop.places.text"];
    run(backup.restore_into(&target).args(wrong)).ends(2).says(&["matches no index", "shop.places.text_1"]);
}

/// A drill's server that cannot hold the backup does not make the backup damaged.
#[tokio::test(flavor = "multi_thread")]
async fn a_drill_on_an_older_server_names_what_that_server_cannot_hold() {
    let (source, original) = set(Version::V6_0_27).await;
    rows(&original, "shop", "orders", 0..20).await;
    let plain = Backup::of(&source, &[]);
    let clustered = doc! {"create": "clustered", "clusteredIndex": {"key": {"_id": 1}, "unique": true}};
    command(&original, "shop", clustered).await;
    let backup = Backup::of(&source, &[]);
    let within = scratch();
    let old = Version::V4_4_2.path().expect("a mongod");
    run(drill(&backup, within.path()).env("MONGOD_PATH", &old)).ends(1).says(&[
        "(MongoDB 4.4.2) cannot hold the backup of MongoDB",
        "shop.clustered: ",
        "says nothing about the backup",
    ]);
    // The same server can hold this backup.
    run(drill(&plain, within.path()).env("MONGOD_PATH", &old)).ends(3);
    assert_gone(within.path());
    let lent =
        Mongod::builder().version(Version::V6_0_27).compatibility("5.0").start().await.expect("mongod");
    let mut drill = backup.home.to_dir("mongodb://127.0.0.1:1");
    run(drill.env("DRILL_URI", lent.uri()).args(["verify", "latest", "--drill"]))
        .ends(1)
        .says(&["feature compatibility version 5.0", "shop.clustered: "]);
    let names = lent.client().await.expect("a client").list_database_names().await.expect("names");
    assert!(names.iter().all(|name| ["admin", "config", "local"].contains(&name.as_str())), "{names:?}");
}

/// Collections, collection changes and roles that only the oplog contains are tried like the others.
#[tokio::test(flavor = "multi_thread")]
async fn the_oplog_is_tried_before_it_is_replayed() {
    let source = Mongod::builder().version(Version::V6_0_5).replica_set("rs").start().await.expect("mongod");
    let original = source.client().await.expect("a client");
    rows(&original, "shop", "orders", 0..20).await;
    let dump = Dump::of(&source);
    dump.oplog(&[
        entry(100, "c", "shop.$cmd", rawdoc! {"create": "strange", "nonsense": 1}),
        entry(101, "c", "shop.$cmd", rawdoc! {"create": "fine"}),
        entry(102, "c", "shop.$cmd", rawdoc! {"collMod": "orders", "validator": {"$nonsense": 1}}),
        entry(103, "c", "shop.$cmd", rawdoc! {"createIndexes": "fine", "v": 2, "key": {"a": "nonsense"}, "name": "odd"}),
        entry(104, "i", "admin.system.roles", rawdoc! {"_id": "shop.odd", "role": "odd", "db": "shop", "privileges": [{"resource": {"db": "shop", "collection": ""}, "actions": ["nonsense"]}], "roles": []}),
    ]);
    let (target, live) = set(Version::V6_0_5).await;
    rows(&live, "shop", "orders", 100..105).await;
    let ran = dump.restore(&target.uri(), &["--drop"]).ends(1).says(&[
        "shop.strange: ",
        "shop.orders: a change to it in the oplog slice: ",
        "the index 'odd' of shop.fine: ",
        "the role shop.odd: ",
    ]);
    assert_eq!(documents(&live).await["shop.orders"], 5);
    assert!(ran.stderr.contains("Name another target"), "nothing is left of it: {}", ran.stderr);
    rows(&original, "other", "rows", 0..3).await;
    let oplog = std::fs::read(dump.folder.join("oplog.bson")).expect("the oplog");
    let dump = Dump::of(&source);
    std::fs::write(dump.folder.join("oplog.bson"), oplog).expect("the oplog");
    let rest = flags(&dump.restore(&target.uri(), &["--drop"]).ends(1));
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    let report = dump.restore(&target.uri(), &[&["--drop"][..], &rest].concat()).ends(0).json();
    assert_eq!(report["replayed"]["came"], json!(["shop.fine"]), "{report}");
    assert_eq!(documents(&live).await["other.rows"], 3);
}

/// The server checks the target's remaining views against the new ones: they must not form a cycle, nor have
/// another collation.
#[tokio::test(flavor = "multi_thread")]
async fn remaining_views_are_tried_together_with_the_views_that_they_read() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..20).await;
    rows(&original, "shop", "b", 0..20).await;
    command(&original, "shop", doc! {"create": "a", "viewOn": "b", "pipeline": []}).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    let only = ["--drop", "--ns-include=shop.a", "--ns-include=shop.orders"];
    for top in [
        vec![doc! {"create": "b", "viewOn": "a", "pipeline": [{"$match": {"x": 1}}]}],
        vec![doc! {"create": "top", "viewOn": "a", "pipeline": [], "collation": {"locale": "fr"}}],
        vec![
            doc! {"create": "c", "viewOn": "none", "pipeline": [{"$lookup": {"from": "a", "as": "x", "pipeline": []}}]},
            doc! {"create": "b", "viewOn": "c", "pipeline": []},
        ],
    ] {
        command(&live, "shop", doc! {"dropDatabase": 1}).await;
        rows(&live, "shop", "a", 0..7).await;
        rows(&live, "shop", "orders", 100..107).await;
        for view in &top {
            command(&live, "shop", view.clone()).await;
        }
        let before = documents(&live).await;
        let says = ["shop.a: the view shop.", " of the target shows it: ", "Nothing was changed"];
        let ran = run(backup.restore_into(&target).args(only)).ends(1);
        assert!(ran.stderr.contains("shop.a: "), "{}", ran.stderr);
        if top.len() == 1 && top[0].get_str("create").is_ok_and(|name| name == "top") {
            ran.says(&says);
        }
        let after = documents(&live).await;
        for name in ["shop.a", "shop.orders"] {
            assert_eq!(after.get(name), before.get(name), "{name} under {top:?}");
        }
    }
    // A view that fits is no obstacle.
    command(&live, "shop", doc! {"dropDatabase": 1}).await;
    rows(&live, "shop", "a", 0..7).await;
    command(&live, "shop", doc! {"create": "top", "viewOn": "a", "pipeline": [{"$match": {"x": 1}}]}).await;
    run(backup.restore_into(&target).args(only)).ends(0);
}

/// `admin` accepts neither validators nor change stream images, and index keys of old dumps have empty parts.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_admin_database_are_found_before_the_first_drop() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..20).await;
    command(&original, "shop", doc! {"create": "checked", "validator": {"a": 1}}).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    let count = async |name: &str| {
        let of = live.database("admin").collection::<Document>(name);
        of.count_documents(doc! {}).await.expect("a count")
    };
    rows(&live, "admin", "orders", 0..5).await;
    rows(&live, "admin", "checked", 0..6).await;
    let moved = ["--drop", "--ns-from=shop.*", "--ns-to=admin.*"];
    let ran = run(backup.restore_into(&target).args(moved))
        .ends(1)
        .says(&["admin.checked: ", "Nothing was changed"]);
    assert_eq!((count("orders").await, count("checked").await), (5, 6));
    assert_eq!(flags(&ran), ["--ns-exclude", "shop.checked"]);
    run(backup.restore_into(&target).args(moved).args(flags(&ran))).ends(0);
    assert_eq!((count("orders").await, count("checked").await), (20, 6));
}
