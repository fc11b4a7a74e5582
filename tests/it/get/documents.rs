//! The printed documents: formats, filters, keys and wrong usage.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::Stdio;

use bson::{RawBson, RawDocumentBuf, rawdoc};
use futures_util::TryStreamExt;
use mongodb::Client;
use uzima_backup::dumpformat::extjson::Json;

use super::{get, ids, ran};
use crate::cli::support::{Home, NOWHERE, run};
use crate::encryption::support::{Encrypted, server as canaries};
use crate::native::decode::split;
use crate::restore::support::{Backup, rows, server};

/// Documents with every type that JSON does not have.
fn kinds() -> Vec<RawDocumentBuf> {
    let decimal = RawBson::Decimal128("1.50".parse().unwrap());
    let mut all = rawdoc! {
        "_id": 0,
        "long": 5_i64,
        "whole": 1.0,
        "nan": f64::NAN,
        "when": bson::DateTime::from_millis(1_795_489_212_345),
        "second": bson::DateTime::from_millis(1_795_489_212_000),
        "early": bson::DateTime::from_millis(-1),
        "bytes": bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![1; 16] },
        "list": [1, {"a": [bson::Timestamp { time: 1, increment: 2 }]}],
    };
    all.append(bson::raw::cstr!("decimal"), decimal);
    all.append(bson::raw::cstr!("least"), RawBson::MinKey);
    vec![
        all,
        rawdoc! {"_id": "text", "of": "línea\n<&>\u{9b}2J"},
        rawdoc! {"_id": {"a": 1}, "null": bson::RawBsonRef::Null},
    ]
}

async fn stored(client: &Client) -> Vec<Vec<u8>> {
    let all = client.database("shop").collection::<RawDocumentBuf>("kinds").find(bson::doc! {}).await;
    let all: Vec<RawDocumentBuf> = all.expect("rows").try_collect().await.expect("rows");
    all.into_iter().map(RawDocumentBuf::into_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_has_the_same_documents() {
    let (source, client) = server().await;
    client.database("shop").collection::<RawDocumentBuf>("kinds").insert_many(kinds()).await.expect("rows");
    let stored = stored(&client).await;
    for format in ["tar.gz", "archive.zst"] {
        let Backup { home, manifest } = Backup::of(&source, &["--format", format]);
        let canonical = ran(&home, &["latest", "shop.kinds"]).ends(0);
        let parse = |line: &str| Json::parse(line).unwrap().document().unwrap().unwrap().into_bytes();
        assert_eq!(canonical.stdout.lines().map(parse).collect::<Vec<_>>(), stored, "{}", canonical.stdout);
        assert_eq!(canonical.stderr, "");
        let bson =
            get(&home, &[manifest.id.as_str(), "shop.kinds", "--format", "bson"]).output().expect("it ends");
        assert_eq!(split(&bson.stdout), stored);
    }
    let home = Backup::of(&source, &[]).home;
    let relaxed = ran(&home, &["latest", "shop.kinds", "--format=relaxed"]).ends(0);
    insta::assert_snapshot!(relaxed.stdout, @r#"
    {"_id":0,"long":5,"whole":1.0,"nan":{"$numberDouble":"NaN"},"when":{"$date":"2026-11-24T03:00:12.345Z"},"second":{"$date":"2026-11-24T03:00:12Z"},"early":{"$date":{"$numberLong":"-1"}},"bytes":{"$binary":{"base64":"AQEBAQEBAQEBAQEBAQEBAQ==","subType":"04"}},"list":[1,{"a":[{"$timestamp":{"t":1,"i":2}}]}],"decimal":{"$numberDecimal":"1.50"},"least":{"$minKey":1}}
    {"_id":"text","of":"línea\n<&>\u009b2J"}
    {"_id":{"a":1},"null":null}
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn printed_bson_is_restored_as_a_dump() {
    let (source, client) = server().await;
    client.database("shop").collection::<RawDocumentBuf>("kinds").insert_many(kinds()).await.expect("rows");
    let wanted = stored(&client).await;
    let home = Backup::of(&source, &[]).home;
    let dump = home.path().join("dump");
    std::fs::create_dir_all(dump.join("shop")).expect("a folder");
    let file = std::fs::File::create(dump.join("shop/kinds.bson")).expect("a file");
    let status = get(&home, &["latest", "shop.kinds", "--format", "bson"]).stdout(file).status();
    assert!(status.expect("it ends").success());
    let (target, live) = server().await;
    let mut restore = home.tool();
    restore.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--from"]).arg(&dump);
    run(&mut restore).ends(0);
    assert_eq!(stored(&live).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_a_filter_and_a_limit_choose_documents() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..2_000).await;
    let home = Backup::of(&source, &[]).home;
    let found = |args: &[&str]| {
        let all = [&["latest", "shop.orders", "--format=relaxed"], args].concat();
        ids(&ran(&home, &all).ends(0))
    };
    assert_eq!(found(&["--id", "7"]), [7]);
    assert_eq!(found(&["--id", "-7"]), [0_i64; 0]);
    assert_eq!(found(&["--id", r#"{"$numberDecimal": "7.0"}"#]), [7]);
    assert_eq!(found(&["--limit", "3"]), [0, 1, 2]);
    assert_eq!(found(&["--filter", r#"{"_id": {"$gte": 1998}}"#]), [1998, 1999]);
    assert_eq!(found(&["--filter", r#"{"_id": {"$in": [5, 3]}}"#, "--limit", "9"]), [3, 5]);
    assert_eq!(found(&["--filter", r#"{"text": "row 1999 of shop.orders"}"#, "--limit", "1"]), [1999]);
    assert_eq!(found(&[]).len(), 2_000);
    let none = ran(&home, &["latest", "shop.orders", "--id", "9999"])
        .ends(0)
        .says(&["0 documents of shop.orders match"]);
    assert_eq!(none.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_and_filters_are_wrong_usage() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..3).await;
    let view = bson::doc! {"create": "open", "viewOn": "orders", "pipeline": []};
    client.database("shop").run_command(view).await.expect("a view");
    let home = Backup::of(&source, &[]).home;
    for (args, said) in [
        (&["shop.order"][..], "The nearest names are shop.orders, shop.open"),
        (&["shop"], "has no namespace shop"),
        (&["shop.open"], "shop.open is a view"),
        (&["shop.orders", "--filter", r#"{"a": {"$regex": "x"}}"#], "$regex"),
        (&["shop.orders", "--filter", r#"{"$where": "1"}"#], "Supported are {field: value}, $eq"),
        (&["shop.orders", "--filter", "{"], "the filter is not JSON"),
        (&["shop.orders", "--id", "507f1f77bcf86cd799439011"], r#"'{"$oid": "507f1f77bcf86cd799439011"}'"#),
        (&["shop.orders", "--id", "1", "--filter", "{}"], "cannot be used with"),
        (&["shop.orders", "--limit", "0"], "at least 1"),
        (&["shop.orders", "--format", "xml"], "json, relaxed, bson"),
    ] {
        let ran = ran(&home, &[&["latest"], args].concat()).ends(2).says(&[said, "next step: "]);
        assert_eq!(ran.stdout, "", "{args:?}");
    }
    ran(&home, &["20200101T000000Z-aaaaaa", "shop.orders"]).ends(1).says(&["20200101T000000Z-aaaaaa"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_backup_needs_its_key() {
    let (source, encrypted) = (canaries().await, Encrypted::new());
    encrypted.backup(&source.uri(), &[]);
    let get = |args: &[&str]| {
        let mut command = encrypted.tool(NOWHERE);
        command.args(["get", "latest", "canaryshop.canaryrows", "--id", "299", "--format=relaxed"]);
        run(command.args(args))
    };
    let key = encrypted.key.file.display().to_string();
    let found = get(&["--identity", &key]).ends(0);
    assert_eq!(found.stdout, "{\"_id\":299,\"canaryfield\":\"canary 299 of canaryrows\"}\n");
    let refused = get(&[]).ends(6).says(&["--identity"]);
    assert_eq!(refused.stdout, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_and_a_collation_are_noted() {
    let (source, client) = server().await;
    let shop = client.database("shop");
    let create = bson::doc! {"create": "series", "timeseries": {"timeField": "t"}};
    shop.run_command(create).await.expect("a time series");
    let measured = bson::doc! {"t": bson::DateTime::from_millis(1_700_000_000_000), "value": 5};
    shop.collection("series").insert_one(measured).await.expect("a measurement");
    let collation = bson::doc! {"locale": "en", "strength": 2};
    let create = bson::doc! {"create": "names", "collation": collation};
    shop.run_command(create).await.expect("a collection");
    shop.collection("names").insert_one(bson::doc! {"_id": 1, "name": "Ada"}).await.expect("a name");
    let home = Backup::of(&source, &[]).home;
    let buckets = ran(&home, &["latest", "shop.series"]).ends(0);
    assert!(buckets.stdout.contains("\"control\""), "{}", buckets.stdout);
    buckets.says(&["shop.series is a time series: its documents are buckets of measurements"]);
    let names = ran(&home, &["latest", "shop.names", "--filter", r#"{"name": "ada"}"#]).ends(0);
    assert_eq!(names.stdout, "");
    names.says(&[
        "shop.names has a collation, which the filter does not use",
        "0 documents of shop.names match",
    ]);
    assert_eq!(ran(&home, &["latest", "shop.names"]).ends(0).stderr, "");
}

/// `head` closes the pipe after its last line.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_pipe_is_no_error() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..60_000).await;
    let home = Backup::of(&source, &[]).home;
    for format in ["json", "bson"] {
        let mut command = get(&home, &["latest", "shop.orders", "--format", format]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        assert!(!out.fill_buf().expect("documents").is_empty());
        drop(out);
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
    }
}

#[test]
fn bson_is_not_printed_on_a_terminal() {
    let home = Home::new();
    let (mut person, mut program, null) = (0, 0, std::ptr::null_mut());
    // SAFETY: the descriptors outlive the call, and the other pointers may be null.
    let opened = unsafe { libc::openpty(&mut person, &mut program, null, null.cast(), null.cast()) };
    assert_eq!(opened, 0, "a terminal");
    // SAFETY: both descriptors were just opened, and nothing else owns them.
    let (person, program) = unsafe { (std::fs::File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) };
    let mut command = get(&home, &["latest", "shop.orders", "--format", "bson"]);
    let mut child = command.stdout(program).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(command);
    let mut said = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(2), "{said}");
    assert!(said.contains("BSON is not printed on a terminal"), "{said}");
    drop(person);
}
