//! The kinds of backups that can be the base of a point in time.

use std::path::PathBuf;

use bson::{Document, Timestamp, doc};
use tempfile::TempDir;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::official::Official;
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::standin::write_program;

use super::support::*;
use crate::cli::support::{Home, TOOL, run};
use crate::restore::support::differences;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaseKind {
    pub engine: &'static str,
    pub consistency: &'static str,
    pub format: &'static str,
}

impl BaseKind {
    /// The kinds that a server of this version can have. Neither MongoDB 4.4 nor mongodump reads collections as of an earlier
    /// time.
    pub fn all(version: Option<Version>) -> Vec<BaseKind> {
        let mut ways = vec![("native", "oplog"), ("mongodump", "oplog")];
        if version != Some(Version::V4_4_2) {
            ways.push(("native", "snapshot"));
        }
        let formats = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];
        let of = |(engine, consistency)| formats.map(|format| BaseKind { engine, consistency, format });
        ways.into_iter().flat_map(of).collect()
    }
}

impl std::fmt::Display for BaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.engine, self.consistency, self.format)
    }
}

/// Makes bases of every kind of a server.
pub struct BaseMaker {
    uri: String,
    mongodump: PathBuf,
    _folder: TempDir,
}

impl BaseMaker {
    /// Where the official mongodump is not on PATH, `test` is printed, and a program that reads the server with the native
    /// engine takes its place.
    pub fn new(test: &str, uri: &str) -> BaseMaker {
        let folder = TempDir::new().expect("a folder");
        let mongodump = match Official::find(&format!("{test}, bases by the official mongodump")) {
            Some(official) => official.mongodump,
            None => {
                let program = folder.path().join("mongodump");
                let text = STAND_IN
                    .replace("FOLDER", folder.path().to_str().expect("UTF-8"))
                    .replace("TOOL", TOOL)
                    .replace("ADDRESS", uri);
                write_program(&program, &text).expect("a program");
                program
            }
        };
        BaseMaker { uri: uri.into(), mongodump, _folder: folder }
    }

    /// Makes a backup, which may need a look, because clients drop collections meanwhile.
    pub fn make(&self, home: &Home, kind: BaseKind) -> Manifest {
        let BaseKind { engine, consistency, format } = kind;
        let args = ["backup", "--engine", engine, "--consistency", consistency, "--format", format];
        let ran = run(tool(home, &self.uri, &args).env("MONGODUMP_PATH", &self.mongodump));
        assert!([Some(0), Some(3)].contains(&ran.code), "{kind}: {}\n{}", ran.stdout, ran.stderr);
        let manifest = home.manifests().pop().expect("a manifest");
        let made = (&*manifest.engine.name, &*manifest.consistency.achieved, &*manifest.artifact.format);
        assert_eq!(made, (engine, consistency, format), "{}", manifest.engine.why);
        manifest
    }
}

/// It ends with an error if the dump fails, as mongodump does.
const STAND_IN: &str = r#"#!/bin/sh
PATH=/usr/local/bin:/usr/bin:/bin
export PATH
case "$*" in
*--version*) echo 'mongodump version: 100.18.0'; exit 0 ;;
esac
cat >/dev/null
dump=$(mktemp -d 'FOLDER/dump-XXXXXX') && mkdir "$dump/backups" || exit 1
env -i MONGO_URI='ADDRESS' BACKUP_DIR="$dump/backups" BACKUP_MIN_FREE=0 BACKUP_RECORDS=off \
    UZIMA_BACKUP_STATE_DIR="$dump/state" UZIMA_BACKUP_CONFIG=/dev/null \
    'TOOL' backup --engine native --consistency none --format archive.gz >/dev/null 2>"$dump/log"
case $? in
0 | 3) find "$dump/backups" -name '*.gz' -exec gzip -dc {} + && rm -r "$dump" ;;
*) cat "$dump/log" >&2; exit 1 ;;
esac
"#;

/// Transactions are open while each base is made: a simple one, and a prepared one unless the base is a snapshot, which waits for
/// prepared documents.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_base_is_continued_to_a_later_instant() {
    let server = Mongod::builder().replica_set("rs").test_commands().start().await.expect("mongod");
    let (client, home) = (server.client().await.expect("a client"), Home::new());
    let maker =
        BaseMaker::new("pit::bases::every_kind_of_base_is_continued_to_a_later_instant", &server.uri());
    let (rows, admin) = (client.database("live").collection::<Document>("rows"), client.database("admin"));
    rows.insert_many((0..20).map(|n| doc! {"_id": n})).await.expect("rows");
    let mut moments: Vec<(BaseKind, Manifest, Timestamp, Snapshot)> = Vec::new();
    for (n, kind) in (1..).zip(BaseKind::all(None)) {
        // A snapshot must not be of the last moment.
        mark(&client).await;
        let mut open = client.start_session().await.expect("a session");
        open.start_transaction().await.expect("a transaction");
        rows.insert_one(doc! {"_id": 100 * n}).session(&mut open).await.expect("a row");
        let mut prepared = None;
        if kind.consistency == "oplog" {
            let mut session = client.start_session().await.expect("a session");
            session.start_transaction().await.expect("a transaction");
            rows.insert_one(doc! {"_id": 100 * n + 1}).session(&mut session).await.expect("a row");
            rows.delete_one(doc! {"_id": n}).session(&mut session).await.expect("a delete");
            let prepare = admin.run_command(doc! {"prepareTransaction": 1}).session(&mut session).await;
            let at =
                prepare.expect("a prepared transaction").get_timestamp("prepareTimestamp").expect("a time");
            prepared = Some((session, at));
        }
        let made = maker.make(&home, kind);
        rows.insert_one(doc! {"_id": 100 * n + 2}).await.expect("a row");
        rows.update_one(doc! {"_id": 0}, doc! {"$set": {"n": n}}).await.expect("an update");
        open.commit_transaction().await.expect("a commit");
        if let Some((mut session, at)) = prepared {
            let commit = doc! {"commitTransaction": 1, "commitTimestamp": at};
            admin.run_command(commit).session(&mut session).await.expect("a commit");
        }
        rows.delete_one(doc! {"_id": 100 * n}).await.expect("a delete");
        let at = mark(&client).await;
        moments.push((kind, made, at, read_all(&client).await.expect("the source")));
        oplog(&home, &server.uri());
    }
    let (target, live) = set(None).await;
    for (kind, made, at, wanted) in &moments {
        let report = restored(&mut restore(&home, &target, &["--json", "--at", &text(*at)])).json();
        assert_eq!(
            (&report["id"], &report["point"]["slices"]),
            (&made.id.as_str().into(), &1.into()),
            "{kind}"
        );
        let found = read_all(&live).await.expect("the target");
        assert_eq!(wanted.diff(&found), Vec::<String>::new(), "{kind}");
        clear(&live).await;
    }
    restored(&mut restore(&home, &target, &["--at", "newest"]));
    assert_eq!(differences(&client, &live).await, Vec::<String>::new());
}
