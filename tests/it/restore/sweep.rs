//! Refuses the Nth command of a restore, for every N. If an existing namespace is then dropped and not restored, the exit
//! code must be 1 and the message must name it.
//!
//! A sample of the Ns on a fixture with one namespace of each kind; with `UZIMA_TEST_FULL=1` all of them, and on the
//! torture database as well. `UZIMA_TEST_SEED` repeats a sample.

use std::collections::BTreeSet;
use std::process::Command;

use bson::{Document, doc, rawdoc};
use mongodb::Client;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::torture;
use uzima_testkit::wire_proxy::{Action, CommandError, Rule, WireProxy};

use super::support::Backup;
use crate::cli::support::{Ran, run};
use crate::native::support::behind_a_proxy;
use crate::replay::support::{Dump, commands, insert, now, since, source};

/// The number of commands in a sample.
const SAMPLE: usize = 35;
/// InternalError, BadValue, HostUnreachable, FailedToParse, Unauthorized, NamespaceExists, CommandNotFound,
/// WriteConcernFailed, IllegalOperation, MaxTimeMSExpired, WriteConflict, OutOfDiskSpace, and a restart, after which
/// the command is sent again. NamespaceNotFound is not among them: as the answer to a drop it is no refusal.
const CODES: [i32; 13] = [1, 2, 6, 9, 13, 48, 59, 64, 20, 50, 112, 14031, 11600];

/// A namespace of each kind.
async fn each_kind(client: &Client) {
    let index = |key: &str| doc! {"key": {key: 1}, "name": key};
    let all = vec![
        doc! {"create": "capped", "capped": true, "size": 65536},
        doc! {"create": "clustered", "clusteredIndex": {"key": {"_id": 1}, "unique": true}},
        doc! {"create": "view", "viewOn": "plain", "pipeline": []},
        doc! {"create": "series", "timeseries": {"timeField": "t"}},
        doc! {"create": "validated", "validator": {"a": 1}},
        doc! {"create": "collated", "collation": {"locale": "fr"}},
        doc! {"insert": "plain", "documents": [{"_id": 1}, {"_id": 2}]},
        doc! {"createIndexes": "plain", "indexes": [index("a"), index("b")]},
        doc! {"insert": "capped", "documents": [{"_id": 1}]},
        doc! {"insert": "clustered", "documents": [{"_id": 1}]},
        doc! {"insert": "series", "documents": [{"t": bson::DateTime::from_millis(1_700_000_000_000)}]},
        doc! {"insert": "validated", "documents": [{"_id": 1}], "bypassDocumentValidation": true},
        doc! {"insert": "collated", "documents": [{"_id": "é"}]},
        doc! {"insert": "system.js", "documents": [{"_id": "f", "value": "x"}]},
        doc! {"createUser": "app", "pwd": "x", "roles": ["read"]},
        doc! {"createRole": "auditor", "privileges": [], "roles": ["read"]},
    ];
    commands(client, "each", all).await;
}

/// Writes the part of the data that only the oplog slice contains.
async fn meanwhile(client: &Client) {
    insert(client, "each", "plain", 10..15).await;
    insert(client, "each", "new", 0..3).await;
    let all = vec![
        doc! {"update": "collated", "updates": [{"q": {}, "u": {"$set": {"x": 1}}, "multi": true}]},
        doc! {"delete": "clustered", "deletes": [{"q": {"_id": 1}, "limit": 1}]},
        doc! {"insert": "series", "documents": [{"t": bson::DateTime::from_millis(1_700_000_001_000)}]},
        doc! {"createIndexes": "validated", "indexes": [{"key": {"late": 1}, "name": "late"}]},
        doc! {"drop": "view"},
        doc! {"create": "view", "viewOn": "plain", "pipeline": [{"$match": {"_id": 1}}]},
    ];
    commands(client, "each", all).await;
}

/// A target, its expected state after the restore, and its state before.
struct Sweep {
    name: &'static str,
    target: Mongod,
    proxy: WireProxy,
    live: Client,
    wanted: Snapshot,
}

/// A document that is in no backup.
fn mark() -> bson::RawDocumentBuf {
    rawdoc! {"_id": "live"}
}

impl Sweep {
    async fn of(name: &'static str, original: &Client) -> Sweep {
        let (target, proxy, live) = behind_a_proxy().await;
        let wanted = read_all(original).await.expect("the original");
        Sweep { name, target, proxy, live, wanted }
    }

    /// The names that existed before. Buckets have no names of their own.
    fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.wanted.namespaces.keys().map(|(db, name)| (db.as_str(), name.as_str()));
        all.filter(|(_, name)| !name.starts_with("system.buckets."))
    }

    /// Puts a document under each name, and changes users and roles.
    async fn reset(&self) {
        // The mark of a restore that was refused. If the next one cannot look at it, it stays.
        self.live.database("uzima_backup").drop().await.expect("a drop");
        let databases: BTreeSet<&str> = self.names().map(|(db, _)| db).collect();
        for db in databases {
            self.live.database(db).drop().await.expect("a drop");
        }
        for (db, name) in self.names() {
            let rows = self.live.database(db).collection::<bson::RawDocumentBuf>(name);
            rows.insert_one(mark()).await.expect("a row");
        }
        for (kind, all) in [("User", &self.wanted.users), ("Role", &self.wanted.roles)] {
            for id in all.keys() {
                let (db, name) = id.split_once('.').expect("a name");
                let db = self.live.database(db);
                // The namespace may not exist yet.
                let _ = db.run_command(doc! {format!("drop{kind}"): name}).await;
                let mut create: Document = doc! {format!("create{kind}"): name, "roles": []};
                create.extend(if kind == "User" {
                    doc! {"pwd": "other"}
                } else {
                    doc! {"privileges": []}
                });
                db.run_command(create).await.expect("a user or role");
            }
        }
    }

    /// The namespaces that have neither all of their old documents nor all of the new ones.
    fn lost(&self, found: &Snapshot) -> Vec<String> {
        let mut lost = Vec::new();
        for (db, name) in self.names() {
            let untouched = found
                .get(db, name)
                .is_some_and(|there| there.kind == "collection" && there.documents == [mark().into_bytes()]);
            let buckets = format!("system.buckets.{name}");
            let of = |snapshot: &Snapshot| {
                let mut one = snapshot.clone();
                one.retain(|other, collection| other == db && [name, &buckets].contains(&collection));
                (one.users, one.roles) = Default::default();
                one
            };
            if !untouched && !of(&self.wanted).diff(&of(found)).is_empty() {
                lost.push(format!("{db}.{name}"));
            }
        }
        lost
    }

    /// Refuses one command after the other.
    async fn sweep(&self, restore: impl Fn(&str) -> Command) {
        let uri = self.proxy.uri(&self.target.uri());
        self.reset().await;
        run(&mut restore(&uri)).ends(0);
        let found = read_all(&self.live).await.expect("the target");
        assert_eq!(self.wanted.diff(&found), Vec::<String>::new(), "nothing is refused");
        let all = self.proxy.log().iter().filter(|command| !command.is_hello()).count();
        let seed = std::env::var("UZIMA_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
        let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
        let mut rng = StdRng::seed_from_u64(seed);
        let commands: Vec<u64> = (1..=all as u64).collect();
        let chosen: Vec<u64> = match full() {
            true => commands,
            false => commands.sample(&mut rng, SAMPLE).copied().collect(),
        };
        let (namespaces, documents) = (self.names().count(), self.wanted.documents());
        println!(
            "{}: {namespaces} namespaces, {documents} documents; refused {} of {all} commands, \
             UZIMA_TEST_SEED={seed}",
            self.name,
            chosen.len()
        );
        for nth in chosen {
            self.reset().await;
            let code = *CODES.choose(&mut rng).expect("a code");
            let error = CommandError::new(code);
            let after = rng.random_bool(0.2);
            let action = if after { Action::FailAfter(error) } else { Action::Fail(error) };
            self.proxy.clear_log();
            let rule = self.proxy.add(Rule::on("*").nth(nth).then(action));
            let ran = run(&mut restore(&uri));
            let hit = self.proxy.hits(rule) == 1;
            self.proxy.clear();
            let refused = self.proxy.log().into_iter().find(|command| command.action.is_some());
            let refused = refused.map(|command| format!("{} {}", command.name, command.namespace));
            let what = format!("command {nth}, {refused:?}, code {code}, carried out: {after}, seed {seed}");
            self.judge(&ran, &what).await;
            assert!(hit || ran.code == Some(0), "{what}");
        }
    }

    async fn judge(&self, ran: &Ran, what: &str) {
        let found = read_all(&self.live).await.expect("the target");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        for name in self.lost(&found) {
            let named = said.contains(&name) || said.contains(&name.escape_debug().to_string());
            assert!(ran.code == Some(1) && named, "{what}: {name} is lost, exit {:?}:\n{said}", ran.code);
        }
        if matches!(ran.code, Some(0 | 3)) {
            assert_eq!(self.wanted.diff(&found), Vec::<String>::new(), "{what}:\n{said}");
        } else {
            assert_eq!(ran.code, Some(1), "{what}:\n{said}");
        }
    }
}

fn full() -> bool {
    std::env::var_os("UZIMA_TEST_FULL").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_a_dump_with_an_oplog_leaves_no_loss_unnamed() {
    let (server, client) = source().await;
    each_kind(&client).await;
    let start = now(&client).await;
    let dump = Dump::of(&server);
    meanwhile(&client).await;
    dump.oplog(&since(&client, start).await);
    let sweep = Sweep::of("a dump with an oplog slice", &client).await;
    sweep
        .sweep(|uri| {
            let mut command = dump.home.tool();
            command.env("RESTORE_URI", uri).args(["restore", "--yes", "--drop", "--from"]).arg(&dump.folder);
            command
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_a_stored_backup_leaves_no_loss_unnamed() {
    let (server, client) = super::support::server().await;
    each_kind(&client).await;
    of_backup("a stored backup", &server, &client).await;
}

/// The torture database, only with `UZIMA_TEST_FULL=1`.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_torture_database_leaves_no_loss_unnamed() {
    if !full() {
        println!("UZIMA_TEST_FULL=1 sweeps the torture database");
        return;
    }
    let (server, client) = super::support::server().await;
    torture::fill_with(&client, torture::Options { big: false, users: true }).await.expect("a set");
    of_backup("the torture database", &server, &client).await;
}

async fn of_backup(name: &'static str, server: &Mongod, client: &Client) {
    let backup = Backup::of(server, &[]);
    let sweep = Sweep::of(name, client).await;
    sweep
        .sweep(|uri| {
            let mut command = backup.restore_into(&sweep.target);
            command.env("RESTORE_URI", uri).arg("--drop");
            command
        })
        .await;
}
