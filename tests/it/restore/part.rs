//! A restore of chosen namespaces reads only their data, and can write them under other names.

use serde_json::json;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::s3_server::{Fault, Rule, S3Server};
use uzima_testkit::torture;

use super::support::{Backup, differences, rows, server};
use crate::cli::s3::to_s3;
use crate::cli::support::{Home, run};

/// The number of artifact bytes that were requested since call `from`.
fn asked(bucket: &S3Server, from: usize) -> u64 {
    let calls = bucket.calls();
    let ranges =
        calls[from..].iter().filter(|call| call.key.contains("/dump.")).filter_map(|call| call.range.clone());
    let length = |range: String| {
        let (start, end) = range.strip_prefix("bytes=").expect("bytes").split_once('-').expect("a range");
        end.parse::<u64>().expect("a number") - start.parse::<u64>().expect("a number") + 1
    };
    ranges.map(length).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_one_collection_reads_only_that_collection() {
    let (source, original) = server().await;
    let random = (0..30_000).map(|n| bson::doc! {"_id": n, "text": format!("{:x}", md5(n))});
    original.database("shop").collection("large").insert_many(random).await.expect("rows");
    rows(&original, "shop", "few", 0..100).await;
    for format in ["tar.gz", "archive.zst"] {
        let (home, bucket) = (Home::new(), S3Server::start());
        let backup = ["backup", "--db", "shop", "--format", format, "--json"];
        let backup = run(to_s3(&home, &source.uri(), &bucket).args(backup)).ends(0).json();
        let whole = backup["stored_bytes"].as_u64().expect("a size");
        let (target, live) = server().await;
        let restore = |args: &[&str]| {
            let mut command = to_s3(&home, "mongodb://127.0.0.1:1", &bucket);
            command.env("RESTORE_URI", target.uri()).args(["restore", "latest", "--yes", "--json"]);
            run(command.args(args))
        };
        let from = bucket.calls().len();
        restore(&["--ns-include=shop.few"]).ends(0);
        let read = asked(&bucket, from);
        assert!(read > 0 && read * 20 < whole, "{format}: {read} of {whole} bytes");
        let found = read_all(&live).await.expect("the target");
        assert_eq!(found.namespaces.keys().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["few"]);
        // Into an empty server everything is read once, and checked while it is written.
        let (target, _) = server().await;
        let from = bucket.calls().len();
        let mut command = to_s3(&home, "mongodb://127.0.0.1:1", &bucket);
        run(command.env("RESTORE_URI", target.uri()).args(["restore", "latest", "--yes"])).ends(0);
        let read = asked(&bucket, from);
        assert!(read > whole / 2 && read < whole + whole / 5, "{format}: {read} of {whole} bytes");
    }
}

/// Interrupted or refused reads of a bucket are repeated or reported, and are not taken for damage.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_answers_of_a_bucket_are_repeated() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..5_000).await;
    let (home, bucket) = (Home::new(), S3Server::start());
    run(to_s3(&home, &source.uri(), &bucket).args(["backup", "--db", "shop"])).ends(0);
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 0..3).await;
    let restore = || {
        let mut command = to_s3(&home, "mongodb://127.0.0.1:1", &bucket);
        command.env("RESTORE_URI", target.uri()).args(["restore", "latest", "--yes", "--drop"]);
        run(&mut command)
    };
    let artifact = |rule: Rule| bucket.faults().add(rule.key("/dump.tar.gz"));
    artifact(Rule::from(0, "GetObject", Fault::Answer(403, "AccessDenied")));
    restore().ends(1).says(&["dump.tar.gz"]);
    assert_eq!(
        read_all(&live).await.expect("a snapshot of the server").documents(),
        3,
        "nothing was touched"
    );
    bucket.faults().clear();
    artifact(Rule::first(2, "GetObject", Fault::BreakOff(100)));
    artifact(Rule::at(3, "GetObject", Fault::Answer(503, "SlowDown")));
    restore().ends(0);
    assert_eq!(differences(&original, &live).await, Vec::<String>::new());
}

fn md5(n: i32) -> u128 {
    // Incompressible data.
    xxhash_rust::xxh3::xxh3_128(&n.to_le_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_restored_under_other_names() {
    let (source, original) = server().await;
    torture::fill_with(&original, torture::Options { big: false, users: true })
        .await
        .expect("the torture database");
    let backup = Backup::of(&source, &[]);
    let (target, live) = server().await;
    let args = ["--ns-include=opts.*", "--ns-include=names.with\\*star", "--ns-exclude=*.images", "--json"];
    let renames = ["--ns-from=opts.*", "--ns-to=copy.*", "--ns-from=names.$n$", "--ns-to=$n$.names"];
    let report = run(backup.restore_into(&target).args(args).args(renames)).ends(0).json();
    assert_eq!(report["users"], json!(null), "a filter is given");
    let (before, after) = (
        read_all(&original).await.expect("a snapshot of the server"),
        read_all(&live).await.expect("a snapshot of the server"),
    );
    let mut wanted = before.clone();
    wanted.retain(|db, name| db == "opts" && name != "images");
    assert!(wanted.namespaces.len() >= 9, "{:?}", wanted.namespaces.keys());
    for ((_, name), namespace) in wanted.namespaces {
        let mut copy = after.get("copy", &name).unwrap_or_else(|| panic!("no {name}")).clone();
        copy.uuid = namespace.uuid;
        assert_eq!(copy, namespace, "{name}");
    }
    assert!(after.get("copy", "images").is_none() && after.users.is_empty());
    assert_eq!(after.get("with*star", "names").expect("the collection with the odd name").documents.len(), 1);
    // A filter with --users restores users; without a filter, --no-users leaves them out.
    let (target, live) = server().await;
    run(backup.restore_into(&target).args(["--ns-include=shop.*", "--users"])).ends(0);
    let found = read_all(&live).await.expect("the target");
    assert_eq!((found.users.len(), found.roles.len(), found.namespaces.len()), (2, 1, 2));
    let (target, live) = server().await;
    run(backup.restore_into(&target).args(["--no-users", "--no-indexes"])).ends(0);
    let found = read_all(&live).await.expect("the target");
    assert!(
        found.users.is_empty() && found.get("indexes", "many").expect("the collection").indexes.len() == 1
    );
}

/// `--exact` drops namespaces that the backup does not contain, but nothing in other databases and no
/// connected user.
#[tokio::test(flavor = "multi_thread")]
async fn exact_drops_namespaces_that_the_backup_does_not_contain() {
    let (source, original) = server().await;
    torture::fill_with(&original, torture::Options { big: false, users: true })
        .await
        .expect("the torture database");
    let backup = Backup::of(&source, &[]);
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let live = target.client().await.expect("a client");
    rows(&live, "shop", "extra", 0..3).await;
    rows(&live, "shop", "orders", 0..3).await;
    rows(&live, "other", "rows", 0..3).await;
    target.create_user("stranger", "x", &[("read", "shop")]).await.expect("a user");
    target.create_user("keeper", "another password", &[("read", "shop")]).await.expect("a user");
    let report = run(backup.restore_into(&target).args(["--drop", "--json"])).ends(0).json();
    assert_eq!(report["dropped"], json!([]));
    let merged = read_all(&live).await.expect("the target");
    let keeper = read_all(&original).await.expect("the source").users["admin.keeper"].clone();
    assert!(merged.users["admin.keeper"] == keeper, "the one of the backup");
    assert!(merged.get("shop", "extra").is_some() && merged.users.len() == 4, "{:?}", merged.users.keys());
    let report = run(backup.restore_into(&target).args(["--exact", "--json"])).ends(0).json();
    assert_eq!(report["dropped"], json!(["shop.extra"]));
    let exact = read_all(&live).await.expect("the target");
    assert!(exact.get("shop", "extra").is_none() && exact.get("other", "rows").is_some());
    let users: Vec<&String> = exact.users.keys().collect();
    assert_eq!(users, ["admin.keeper", "admin.root", "shop.app"]);
    assert_eq!(exact.users["admin.root"], merged.users["admin.root"]);
}

/// As with mongorestore, a view keeps showing the same collection. Renaming only the collection gives a note.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_a_renamed_collection_is_noted() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let view = bson::doc! {"create": "open", "viewOn": "orders", "pipeline": []};
    original.database("shop").run_command(view).await.expect("a view");
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    let restore = |args: &[&str]| run(backup.restore_into(&target).args(args)).ends(0);
    let astray = "the view shop.open will show shop.orders, but shop.orders is restored as shop.old";
    let alone = ["--ns-from=shop.orders", "--ns-to=shop.old"];
    let planned = restore(&[&alone[..], &["--dry-run"]].concat());
    assert!(planned.stdout.contains(&format!("note: {astray}\n")), "{}", planned.stdout);
    assert_eq!(restore(&[&alone[..], &["--json"]].concat()).json()["notes"], json!([astray]));
    let found = read_all(&live).await.expect("the target");
    let view = |snapshot: &Snapshot, db: &str| snapshot.get(db, "open").expect("the view").options.clone();
    assert_eq!(
        view(&found, "shop"),
        view(&read_all(&original).await.expect("a snapshot of the server"), "shop")
    );
    let whole = restore(&["--ns-from=shop.*", "--ns-to=copy.*", "--json"]).json();
    assert_eq!(whole["notes"], json!([]), "it shows the copy");
}
