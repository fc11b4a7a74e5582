use std::collections::BTreeSet;

use anyhow::Result;
use bson::{RawDocument, doc};
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::{DiffOptions, read_all};
use uzima_testkit::torture::{self, Kind, indexes, types};

#[tokio::test]
async fn two_filled_servers_have_the_same_bytes() -> Result<()> {
    let server = Mongod::builder().start().await?;
    let client = server.client().await?;
    let made = torture::fill(&client).await?;
    let seen = read_all(&client).await?;

    assert_eq!(made.namespaces.len(), 36);
    for namespace in &made.namespaces {
        let found = seen.get(&namespace.database, &namespace.collection).expect(&namespace.collection);
        let kind = match namespace.kind {
            Kind::Collection => "collection",
            Kind::View => "view",
            Kind::TimeSeries => "timeseries",
        };
        assert_eq!(found.kind, kind, "{}", namespace.collection);
        let collection =
            client.database(&namespace.database).collection::<bson::RawDocumentBuf>(&namespace.collection);
        let count = collection.count_documents(doc! {}).await?;
        assert_eq!(count, namespace.documents, "{}", namespace.collection);
    }
    // The buckets of the time series are one more collection.
    assert_eq!(seen.namespaces.len(), made.namespaces.len() + 1);
    assert!(!seen.get("opts", "system.buckets.weather").unwrap().documents.is_empty());

    let sent: BTreeSet<_> = types::all_types().into_iter().collect();
    let found: BTreeSet<_> = seen.get("types", "all").unwrap().documents.iter().cloned().collect();
    assert_eq!(sent, found);
    assert_eq!(seen.get("types", "ids").unwrap().documents, types::ids());
    let bad = sent.iter().filter(|d| bson::Document::try_from(RawDocument::from_bytes(d).unwrap()).is_err());
    assert!(bad.count() >= 1, "no document that a decoder refuses");
    let many = seen.get("indexes", "many").unwrap();
    let names: Vec<_> = many.indexes.iter().map(|index| index.get_str("name").unwrap()).collect();
    assert_eq!(names[1..], indexes::NAMES);
    let big = &seen.get("big", "docs").unwrap().documents;
    assert!(big[0].len() > (16 << 20) - 64, "{}", big[0].len());
    assert_eq!(seen.users.keys().collect::<Vec<_>>(), made.users.iter().collect::<Vec<_>>());
    assert_eq!(seen.roles.keys().collect::<Vec<_>>(), made.roles.iter().collect::<Vec<_>>());

    let other = Mongod::builder().start().await?;
    torture::fill(&other.client().await?).await?;
    let again = read_all(&other.client().await?).await?;
    // Passwords are salted, and a bucket's id has random bits: these differ between any two servers.
    let mut lines = seen.diff_with(&again, &DiffOptions { users: false, ..DiffOptions::default() });
    lines.retain(|line| !line.starts_with("opts.system.buckets.weather: "));
    assert_eq!(lines, Vec::<String>::new());
    assert!(seen.diff_with(&again, &DiffOptions { uuids: true, ..DiffOptions::default() }).len() > 30);
    Ok(())
}

#[tokio::test]
async fn each_difference_is_named() -> Result<()> {
    let server = Mongod::builder().start().await?;
    let client = server.client().await?;
    let made = torture::fill_with(&client, torture::Options { big: false, users: false }).await?;
    assert!(made.users.is_empty() && made.namespaces.iter().all(|n| n.database != "big"));
    let before = read_all(&client).await?;
    assert_eq!(before.diff(&read_all(&client).await?), Vec::<String>::new());

    let shop = client.database("shop");
    let orders = shop.collection::<bson::Document>("orders");
    orders.delete_many(doc! { "_id": { "$lt": 5 } }).await?;
    orders.update_one(doc! { "_id": 7 }, doc! { "$set": { "total": 0 } }).await?;
    shop.run_command(doc! { "dropIndexes": "orders", "index": "total_1" }).await?;
    client.database("opts").run_command(doc! { "collMod": "validated", "validationLevel": "off" }).await?;
    client.database("opts").run_command(doc! { "drop": "view2" }).await?;
    client.database("names").collection("neu").insert_one(doc! { "_id": 1 }).await?;
    let images = client.database("opts").collection::<bson::Document>("src");
    images.delete_one(doc! { "_id": 0 }).await?;
    images.insert_one(doc! { "_id": 0, "a": 0 }).await?;

    let lines =
        before.diff_with(&read_all(&client).await?, &DiffOptions { order: true, ..Default::default() });
    let expected = [
        "names.neu is new (a collection of 1 documents)",
        "opts.src: the order differs from document 0 on",
        "opts.validated: options were",
        "opts.view2 is missing (a view)",
        "shop.orders: index \"total_1\" is missing",
        "shop.orders: 6 of 1000 documents are missing or changed: _id Int32(0), _id Int32(1), _id Int32(2), …",
        "shop.orders: 1 documents are new or changed: _id Int32(7)",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(expected) {
        assert!(line.starts_with(start), "{line}");
    }
    Ok(())
}

#[tokio::test]
async fn an_older_server_gets_only_the_kinds_that_it_supports() -> Result<()> {
    let namespaces = async |version: Version, compatibility: &str| -> Result<BTreeSet<String>> {
        let server = Mongod::builder().version(version).compatibility(compatibility).start().await?;
        let options = torture::Options { big: false, users: false };
        let made = torture::fill_with(&server.client().await?, options).await?;
        Ok(made.namespaces.into_iter().map(|namespace| namespace.collection).collect())
    };
    let all = namespaces(Version::V6_0_27, "6.0").await?;
    for (version, compatibility, without) in [
        (Version::V4_4_2, "4.4", &["clustered", "images", "weather"][..]),
        (Version::V5_0_32, "5.0", &["clustered", "images"]),
        (Version::V6_0_27, "5.0", &["clustered", "images"]),
    ] {
        let made = namespaces(version, compatibility).await?;
        let missing: Vec<_> = all.difference(&made).collect();
        assert_eq!(missing, without, "{version} {compatibility}");
    }
    Ok(())
}
