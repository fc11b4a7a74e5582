//! The bytes that `get` reads: the namespace's segments, up to the last wanted document.

use bson::rawdoc;
use mongodb::Client;
use uzima_backup::model::index::{Index, Segment};
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::raw;
use uzima_testkit::s3_server::S3Server;

use super::{ids, ran};
use crate::cli::s3::to_s3;
use crate::cli::support::{Home, NOWHERE, peak, run};
use crate::copies::readers_support::{TwoPlaces, flip};
use crate::restore::support::{Backup, rows, server};

/// The bytes that were requested of the objects of a backup since call `from`: whole objects and ranges.
fn requested(bucket: &S3Server, from: usize) -> u64 {
    let objects = bucket.objects();
    let calls = bucket.calls();
    let reads = calls[from..].iter().filter(|call| call.operation == "GetObject");
    let length = |range: &str| {
        let (start, end) = range.strip_prefix("bytes=").expect("bytes").split_once('-').expect("a range");
        end.parse::<u64>().expect("a number") - start.parse::<u64>().expect("a number") + 1
    };
    reads
        .map(|call| match &call.range {
            Some(range) => length(range),
            None => objects.get(&call.key).map_or(0, |body| body.len() as u64),
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_document_of_a_small_collection_costs_its_collection() {
    let (source, client) = server().await;
    let random = (0..30_000_u32)
        .map(|n| bson::doc! {"_id": n, "text": blake3::hash(&n.to_le_bytes()).to_hex().to_string()});
    client.database("shop").collection("large").insert_many(random).await.expect("rows");
    rows(&client, "shop", "few", 0..100).await;
    for format in ["tar.gz", "archive.zst"] {
        let (home, bucket) = (Home::new(), S3Server::start());
        run(to_s3(&home, &source.uri(), &bucket).args(["backup", "--format", format])).ends(0);
        let objects = bucket.objects();
        let manifest = objects.iter().find(|(key, _)| key.ends_with("/manifest.json")).expect("a manifest").1;
        let size = manifest.len() as u64;
        let manifest = Manifest::decode(manifest).expect("a manifest");
        let few = manifest.namespaces.iter().find(|entry| entry.collection == "few").expect("an entry");
        let from = bucket.calls().len();
        let mut command = to_s3(&home, NOWHERE, &bucket);
        command.args(["get", manifest.id.as_str(), "shop.few", "--id", "42", "--format=relaxed"]);
        assert_eq!(ids(&run(&mut command).ends(0)), [42]);
        let read = requested(&bucket, from);
        let most = size + manifest.index.size + few.stored_bytes + (256 << 10);
        println!("{format}: {read} of {} bytes requested, at most {most}", manifest.artifact.size);
        assert!(read <= most, "{format}: {read} of at most {most}");
        assert!(most < manifest.artifact.size, "{format}: the other collection is too small");
    }
}

/// Documents for more than one segment.
async fn two_segments(client: &Client) {
    let text = "x".repeat(1 << 20);
    for n in 0..80 {
        let row = rawdoc! {"_id": n, "text": text.as_str()};
        raw::insert(&client.database("shop"), "wide", &[row.as_bytes()]).await.expect("rows");
    }
}

fn segments(index: &[u8], manifest: &Manifest) -> Vec<Segment> {
    let wide = manifest.namespaces.iter().position(|entry| entry.collection == "wide").expect("an entry");
    let segments = Index::decode(index).expect("an index").segments;
    let found: Vec<Segment> = segments.into_iter().filter(|segment| segment.namespace == wide).collect();
    assert!(found.len() > 1, "{found:?}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_stops_at_the_limit() {
    let (source, client) = server().await;
    two_segments(&client).await;
    let (home, bucket) = (Home::new(), S3Server::start());
    run(to_s3(&home, &source.uri(), &bucket).arg("backup")).ends(0);
    let objects = bucket.objects();
    let object = |end: &str| objects.iter().find(|(key, _)| key.ends_with(end)).expect("an object").1;
    let manifest = Manifest::decode(object("/manifest.json")).expect("a manifest");
    let second = segments(object("/index.json.zst"), &manifest)[1].offset;
    for (args, wanted, later) in [
        (&["--limit", "1"][..], vec![0], false),
        (&["--id", "0"], vec![0], false),
        (&["--filter", r#"{"_id": {"$lt": 2}}"#, "--limit", "2"], vec![0, 1], false),
        (&["--filter", r#"{"_id": {"$in": [0, 79]}}"#], vec![0, 79], true),
    ] {
        let from = bucket.calls().len();
        let mut command = to_s3(&home, NOWHERE, &bucket);
        command.args(["get", "latest", "shop.wide", "--format=relaxed"]).args(args);
        assert_eq!(ids(&run(&mut command).ends(0)), wanted, "{args:?}");
        let calls = bucket.calls();
        let begins = |range: &str| range.strip_prefix("bytes=")?.split_once('-')?.0.parse::<u64>().ok();
        let reads = calls[from..].iter().filter(|call| call.key.contains("/dump."));
        let starts: Vec<u64> = reads.filter_map(|call| begins(call.range.as_deref()?)).collect();
        assert!(!starts.is_empty());
        assert_eq!(starts.iter().any(|start| *start >= second), later, "{args:?}: {starts:?}");
    }
}

/// Two collections, one of which is 16 times larger.
#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_the_collection() {
    let (source, client) = server().await;
    let text = "x".repeat(1 << 10);
    for (collection, count) in [("small", 8_000), ("large", 128_000)] {
        let all = (0..count).map(|n| bson::doc! {"_id": n, "text": &text});
        client.database("shop").collection(collection).insert_many(all).await.expect("rows");
    }
    let home = Backup::of(&source, &["--db", "shop"]).home;
    let peak_of = |namespace| peak(&mut super::get(&home, &["latest", namespace]));
    let (small, large) = (peak_of("shop.small"), peak_of("shop.large"));
    println!("get: peak {small} KiB for 8 MiB, {large} KiB for 128 MiB");
    assert!(large < small + (32 << 10), "{small} KiB, then {large} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_before_the_damage_are_printed() {
    let (source, client) = server().await;
    two_segments(&client).await;
    let backup = Backup::of(&source, &[]);
    let index = std::fs::read(backup.home.backups().join(&backup.manifest.index.key)).expect("an index");
    let second = segments(&index, &backup.manifest)[1].clone();
    flip(&backup.artifact(), second.offset + second.length / 2);
    let args = [backup.manifest.id.as_str(), "shop.wide", "--format=relaxed"];
    let damaged = ran(&backup.home, &args).ends(4).says(&["shop.wide is damaged"]);
    let printed = ids(&damaged);
    assert!(printed.len() >= 60 && printed.len() < 80, "{printed:?}");
    assert_eq!(printed, (0..printed.len() as i64).collect::<Vec<_>>());
    // The damage is behind the limit.
    assert_eq!(ids(&ran(&backup.home, &[&args[..], &["--limit", "2"]].concat()).ends(0)), [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_is_read_from_the_copy() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..500).await;
    let places = TwoPlaces::new();
    let manifest = places.backup(&source.uri(), &[]);
    let index = std::fs::read(places.folder("first").join(&manifest.index.key)).expect("an index");
    let at = manifest.namespaces.iter().position(|entry| entry.collection == "orders").expect("an entry");
    let segments = Index::decode(&index).expect("an index").segments;
    let orders = segments.iter().find(|segment| segment.namespace == at).expect("a segment");
    flip(&places.folder("first").join(&manifest.artifact.key), orders.offset + orders.length / 2);
    let args = ["get", "latest", "shop.orders", "--format=relaxed"];
    let read = places.run(&args).ends(3).says(&["needs a look", "first"]);
    assert_eq!(ids(&read), (0..500).collect::<Vec<_>>());
    places.run(&[&args[..], &["--place", "first"]].concat()).ends(4);
    assert_eq!(ids(&places.run(&[&args[..], &["--place", "copy"]].concat()).ends(0)).len(), 500);
}
