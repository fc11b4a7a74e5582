//! Changes of collections, each restored before, between and after its parts.

use bson::{Document, RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{Snapshot, read_all, read_cursor};

use super::support::*;
use crate::cli::support::{Home, run};

/// A server with backups of both kinds and slices, and its content at some moments.
struct History {
    home: Home,
    server: Mongod,
    client: Client,
    bases: Vec<String>,
    moments: Vec<(String, Timestamp, Snapshot)>,
}

impl History {
    /// Runs the commands, and makes the backups.
    async fn after(commands: Vec<(&str, Document)>) -> History {
        let ((server, client), home) = (set(None).await, Home::new());
        let mut history = History { home, server, client, bases: Vec::new(), moments: Vec::new() };
        history.run(commands).await;
        mark(&history.client).await;
        for consistency in ["oplog", "snapshot"] {
            backup(&history.home, &history.server.uri(), consistency);
        }
        history.bases = history.home.manifests().iter().map(|one| one.id.to_string()).collect();
        history
    }

    async fn run(&self, commands: Vec<(&str, Document)>) {
        for (db, command) in commands {
            let done = self.client.database(db).run_command(command.clone()).await;
            match done {
                // The server begins to build a unique index, finds equal values, and gives up.
                Err(e) if e.to_string().contains("E11000") && command.contains_key("createIndexes") => {}
                done => drop(done.unwrap_or_else(|e| panic!("{command}: {e}"))),
            }
        }
    }

    /// Runs the commands in a transaction.
    async fn transaction(&self, commands: Vec<(&str, Document)>) {
        let mut session = self.client.start_session().await.expect("a session");
        session.start_transaction().await.expect("a transaction");
        for (db, command) in commands {
            let done = self.client.database(db).run_command(command.clone()).session(&mut session).await;
            done.unwrap_or_else(|e| panic!("{command}: {e}"));
        }
        session.commit_transaction().await.expect("a commit");
    }

    async fn record(&mut self, name: String) {
        let at = mark(&self.client).await;
        self.moments.push((name, at, read_as_of(&self.client, None).await.expect("the source")));
    }

    fn slice(&self) {
        oplog(&self.home, &self.server.uri());
    }

    /// Runs a phase. Its last moment is recorded, and with `UZIMA_TEST_FULL=1` the moment after each command.
    async fn phase(&mut self, name: &str, commands: Vec<(&'static str, Document)>) {
        for (n, command) in commands.into_iter().enumerate() {
            let text = format!("{name}, command {n}: {}", command.1);
            self.run(vec![command]).await;
            if std::env::var_os("UZIMA_TEST_FULL").is_some() {
                self.record(text).await;
            }
        }
        self.record(format!("after {name}")).await;
        self.slice();
    }

    /// Restores each moment from each base.
    async fn check(&self) {
        let (target, live) = set(None).await;
        for base in &self.bases {
            for (name, at, wanted) in &self.moments {
                run(&mut restore(&self.home, &target, &[base, "--at", &text(*at)])).ends(0);
                assert_eq!(differences_from(&live, wanted).await, Vec::<String>::new(), "{name}");
                clear(&live).await;
            }
        }
        println!("{} moments from {} bases", self.moments.len(), self.bases.len());
    }

    /// The times of the commands in the oplog that have this name, after the bases.
    async fn times(&self, command: &str) -> Vec<Timestamp> {
        let field = format!("o.{command}");
        let since = self.home.manifests()[0].consistency.at.expect("an instant");
        let filter = doc! {"op": "c", field: {"$exists": true}, "ts": {"$gt": Timestamp::from(since)}};
        let find = RawDocumentBuf::try_from(&doc! {"find": "oplog.rs", "filter": filter}).expect("a command");
        let entries = read_cursor(&self.client.database("local"), find).await.expect("the oplog");
        let time = |bytes: &Vec<u8>| RawDocument::from_bytes(bytes).expect("an entry").get_timestamp("ts");
        entries.iter().map(|entry| time(entry).expect("a time")).collect()
    }
}

fn live(command: Document) -> (&'static str, Document) {
    ("live", command)
}

fn insert(collection: &str, ids: std::ops::Range<i32>) -> (&'static str, Document) {
    let rows: Vec<Document> = ids.map(|n| doc! {"_id": n, "n": n, "code": n, "of": n % 2}).collect();
    live(doc! {"insert": collection, "documents": rows})
}

fn set_field(collection: &str, id: i32, field: &str, value: i32) -> (&'static str, Document) {
    let update = doc! {"q": {"_id": id}, "u": {"$set": {field: value}}};
    live(doc! {"update": collection, "updates": [update]})
}

fn delete(collection: &str, filter: Document) -> (&'static str, Document) {
    live(doc! {"delete": collection, "deletes": [{"q": filter, "limit": 0}]})
}

fn index(collection: &str, key: &str, unique: bool) -> (&'static str, Document) {
    let mut spec = doc! {"key": {key: 1}, "name": key};
    if unique {
        spec.insert("unique", true);
    }
    live(doc! {"createIndexes": collection, "indexes": [spec]})
}

fn rename(from: &str, to: &str) -> (&'static str, Document) {
    let (from, to) = (format!("live.{from}"), format!("live.{to}"));
    ("admin", doc! {"renameCollection": from, "to": to, "dropTarget": true})
}

fn out(from: &str, filter: Document, to: &str) -> (&'static str, Document) {
    live(doc! {"aggregate": from, "pipeline": [{"$match": filter}, {"$out": to}], "cursor": {}})
}

fn measure(n: i64, place: &str) -> (&'static str, Document) {
    let at = bson::DateTime::from_millis(1_795_000_000_000 + n * 60_000);
    live(doc! {"insert": "series", "documents": [{"at": at, "place": place, "n": n}]})
}

fn series(meta: &str) -> (&'static str, Document) {
    live(doc! {"create": "series", "timeseries": {"timeField": "at", "metaField": meta}})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_collection_is_restored_before_between_and_after() {
    let ttl = doc! {"key": {"when": 1}, "name": "ttl", "expireAfterSeconds": 5000};
    let view =
        |name: &str, n: i32| live(doc! {"create": name, "viewOn": "mod", "pipeline": [{"$match": {"n": n}}]});
    let mut history = History::after(vec![
        insert("ren_a", 0..5),
        index("ren_a", "n", false),
        insert("ren_b", 10..13),
        index("ren_b", "of", false),
        insert("again", 0..5),
        index("again", "n", true),
        insert("source", 0..20),
        insert("out", 50..55),
        index("out", "of", false),
        insert("mod", 0..5),
        live(doc! {"createIndexes": "mod", "indexes": [ttl]}),
        index("mod", "n", false),
        view("view", 1),
        insert("idx", 0..50),
        insert("uniq", 0..6),
        index("uniq", "code", true),
        series("place"),
        measure(1, "here"),
        live(doc! {"create": "capped", "capped": true, "size": 1 << 20, "max": 8}),
        insert("capped", 0..6),
        insert("to_capped", 0..6),
        live(doc! {"create": "clustered", "clusteredIndex": {"key": {"_id": 1}, "unique": true}}),
        insert("clustered", 0..6),
        insert("swap", 0..3),
        ("second", doc! {"insert": "rows", "documents": [{"_id": 1}]}),
        ("second", doc! {"create": "view", "viewOn": "rows", "pipeline": []}),
        ("second", doc! {"create": "series", "timeseries": {"timeField": "at"}}),
    ])
    .await;
    history.record("before the changes".into()).await;
    history
        .phase(
            "the first changes",
            vec![
                rename("ren_a", "ren_b"),
                live(doc! {"drop": "again"}),
                live(doc! {"create": "again", "collation": {"locale": "de", "strength": 1}}),
                insert("again", 3..8),
                index("again", "of", false),
                out("source", doc! {"of": 1}, "out"),
                live(doc! {"collMod": "mod", "index": {"name": "ttl", "expireAfterSeconds": 7000}}),
                live(doc! {"collMod": "mod", "validator": {"n": {"$gte": 0}}, "validationLevel": "moderate"}),
                live(doc! {"collMod": "view", "viewOn": "mod", "pipeline": [{"$match": {"n": 2}}]}),
                index("idx", "n", false),
                // Two documents exchange their unique values.
                set_field("uniq", 0, "code", 100),
                set_field("uniq", 1, "code", 0),
                set_field("uniq", 0, "code", 1),
                measure(2, "there"),
                measure(3, "here"),
                insert("capped", 6..20),
                live(doc! {"convertToCapped": "to_capped", "size": 1 << 16}),
                insert("to_capped", 6..12),
                delete("clustered", doc! {"_id": {"$lt": 3}}),
                live(doc! {"drop": "swap"}),
                view("swap", 1),
                ("second", doc! {"dropDatabase": 1}),
                ("second", doc! {"insert": "rows", "documents": [{"_id": 2}]}),
            ],
        )
        .await;
    history
        .phase(
            "the second changes",
            vec![
                insert("ren_a", 100..103),
                insert("ren_b", 20..22),
                rename("ren_b", "ren_c"),
                live(doc! {"drop": "again"}),
                live(doc! {"create": "again", "capped": true, "size": 1 << 16}),
                insert("again", 0..3),
                out("source", doc! {}, "out2"),
                insert("out", 70..72),
                live(doc! {"collMod": "mod", "index": {"name": "n", "hidden": true}}),
                live(doc! {"collMod": "mod", "index": {"name": "n", "prepareUnique": true}}),
                live(doc! {"collMod": "mod", "index": {"name": "n", "unique": true}}),
                live(doc! {"collMod": "mod", "validator": {}, "changeStreamPreAndPostImages": {"enabled": true}}),
                live(doc! {"drop": "view"}),
                view("view2", 3),
                live(doc! {"dropIndexes": "idx", "index": "n"}),
                index("idx", "of", false),
                // A unique value goes to a new document.
                delete("uniq", doc! {"_id": 2}),
                insert("uniq", 6..7),
                set_field("uniq", 6, "code", 2),
                delete("series", doc! {"place": "here"}),
                live(doc! {"collMod": "series", "expireAfterSeconds": 400_000_000_i64}),
                index("series", "place", false),
                live(doc! {"collMod": "capped", "cappedMax": 12}),
                insert("capped", 20..24),
                insert("clustered", 0..2),
                live(doc! {"drop": "swap"}),
                insert("swap", 5..7),
            ],
        )
        .await;
    history
        .transaction(vec![
            live(doc! {"create": "born", "validator": {"n": {"$gte": 0}}}),
            index("born", "n", true),
            insert("born", 0..5),
            set_field("mod", 0, "n", 50),
        ])
        .await;
    history
        .phase(
            "the third changes",
            vec![
                live(doc! {"drop": "ren_c"}),
                rename("ren_a", "ren_b"),
                insert("ren_a", 0..2),
                live(doc! {"drop": "again"}),
                insert("again", 5..7),
                out("source", doc! {"n": {"$lt": 0}}, "out2"),
                live(doc! {"drop": "out"}),
                live(doc! {"collMod": "mod", "index": {"name": "n", "hidden": false}}),
                live(doc! {"dropIndexes": "idx", "index": "*"}),
                index("idx", "code", true),
                // The values are unique only at the end.
                live(doc! {"dropIndexes": "uniq", "index": "code"}),
                set_field("uniq", 3, "code", 4),
                insert("uniq", 10..12),
                set_field("uniq", 10, "code", 4),
                index("uniq", "code", true),
                delete("uniq", doc! {"_id": {"$in": [3, 4]}}),
                index("uniq", "code", true),
                live(doc! {"drop": "series"}),
                series("kind"),
                measure(5, "there"),
                live(doc! {"drop": "capped"}),
                insert("capped", 0..3),
            ],
        )
        .await;
    history.check().await;
}

/// The names of the collections of a database, and their numbers of documents.
async fn counts(client: &Client, db: &str) -> Vec<(String, usize)> {
    let all = read_all(client).await.expect("the target");
    let of = all.namespaces.into_iter().filter(|((of, _), _)| of == db);
    of.map(|((_, name), one)| (name, one.documents.len())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_within_a_command_has_the_entries_before_it() {
    let history = History::after(vec![
        insert("source", 0..20),
        insert("out", 50..55),
        insert("idx", 0..50),
        ("second", doc! {"insert": "a", "documents": [{"_id": 1}]}),
        ("second", doc! {"insert": "b", "documents": [{"_id": 1}, {"_id": 2}]}),
    ])
    .await;
    history
        .run(vec![
            out("source", doc! {"of": 1}, "out"),
            index("idx", "n", false),
            ("second", doc! {"dropDatabase": 1}),
        ])
        .await;
    mark(&history.client).await;
    history.slice();
    let (target, restored) = set(None).await;
    let go = async |args: &[&str]| {
        clear(&restored).await;
        run(&mut restore(&history.home, &target, args)).ends(0);
    };
    let renamed = history.times("renameCollection").await;
    assert_eq!(renamed.len(), 1);
    go(&["--before", &text(renamed[0])]).await;
    let found = counts(&restored, "live").await;
    let temporary = found.iter().find(|(name, _)| name.starts_with("tmp.agg_out.")).expect("the new data");
    assert_eq!(temporary.1, 10, "{found:?}");
    assert!(found.contains(&("out".into(), 5)), "{found:?}");
    go(&["--at", &text(renamed[0])]).await;
    let found = counts(&restored, "live").await;
    assert!(!found.iter().any(|(name, _)| name.starts_with("tmp.")), "{found:?}");
    assert!(found.contains(&("out".into(), 10)), "{found:?}");
    let indexes = async || {
        let list = rawdoc! {"listIndexes": "idx"};
        read_cursor(&restored.database("live"), list).await.expect("indexes").len()
    };
    let built = history.times("commitIndexBuild").await;
    assert_eq!(built.len(), 1);
    go(&["--before", &text(built[0])]).await;
    assert_eq!(indexes().await, 1);
    go(&["--at", &text(built[0])]).await;
    assert_eq!(indexes().await, 2);
    let drops = history.times("drop").await;
    assert_eq!(drops.len(), 3, "one of each collection of the database");
    go(&["--before", &text(drops[0])]).await;
    let all = [("a".to_string(), 1), ("b".into(), 2), ("marks".into(), 1)];
    assert_eq!(counts(&restored, "second").await, all);
    for (left, drop) in [2, 1, 0].into_iter().zip(drops) {
        go(&["--at", &text(drop)]).await;
        let found = counts(&restored, "second").await;
        assert!(found.len() == left && found.iter().all(|one| all.contains(one)), "{found:?}");
    }
}
