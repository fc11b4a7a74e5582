//! Dumps of old servers and old versions of mongodump.

use bson::{RawDocumentBuf, rawdoc};
use uzima_testkit::read_all::read_all;

use super::hand_made::{archive, documents, file, from, tar};
use super::support::{rows, server};
use crate::cli::support::{Home, run};

/// The indexes of `shop.orders` as a MongoDB 2.4 server stored them in `shop.system.indexes`.
fn indexes() -> Vec<RawDocumentBuf> {
    vec![
        rawdoc! {"v": 1, "key": {"_id": 1}, "ns": "old.orders", "name": "_id_"},
        rawdoc! {"v": 1, "key": {"text": 1}, "unique": true, "ns": "old.orders", "name": "text_1", "safe": true, "w": 1},
        rawdoc! {"v": 1, "key": {"place": "2dsphere"}, "ns": "old.orders", "name": "place_2dsphere", "background": true},
        rawdoc! {"v": 0, "key": {"a": 1}, "ns": "old.items", "name": "a_1", "dropDups": true, "sparse": 1},
    ]
}

/// Up to mongodump 2.6 a dump stored its indexes only in `system.indexes`.
#[tokio::test(flavor = "multi_thread")]
async fn indexes_in_system_indexes_are_restored() {
    let home = Home::new();
    let (orders, items) = (documents(0..1, "x"), documents(0..3, "y"));
    file(&home, "shop/orders.bson", &orders);
    file(&home, "shop/items.bson", &items);
    let all: Vec<u8> = indexes().iter().flat_map(|index| index.as_bytes()).copied().collect();
    file(&home, "shop/system.indexes.bson", all);
    tar(&home, &["-czf", "dump.tar.gz", "dump"]);
    let raw = |bytes: &[u8], size: usize| {
        bytes
            .chunks(size)
            .map(|one| RawDocumentBuf::from_bytes(one.to_vec()).expect("a document"))
            .collect::<Vec<_>>()
    };
    let archived = archive(&[
        ("shop", "system.indexes", "", indexes()),
        ("shop", "orders", "", raw(&orders, orders.len())),
        ("shop", "items", "", raw(&items, items.len() / 3)),
    ]);
    std::fs::write(home.path().join("dump.archive"), archived).expect("an archive");
    let (target, live) = server().await;
    for name in ["dump", "dump.tar.gz", "dump.archive"] {
        let ran = run(from(&home, &home.path().join(name), &target).arg("--drop")).ends(0);
        assert!(!ran.stdout.contains("system.indexes"), "{}", ran.stdout);
        let found = read_all(&live).await.expect("the target");
        let orders = found.get("shop", "orders").expect("it was restored");
        let index = |name: &str| {
            let found =
                orders.indexes.iter().find(|index| index.get_str("name").is_ok_and(|own| own == name));
            found.unwrap_or_else(|| panic!("{name} is missing"))
        };
        assert!(index("text_1").get_bool("unique").expect("an option"), "{name}");
        assert_eq!(index("text_1").get_i32("v").expect("a version"), 2, "{name}");
        let version = index("place_2dsphere").get_i32("2dsphereIndexVersion");
        assert_eq!(version.expect("the version that it had"), 1, "{name}");
        assert_eq!(found.get("shop", "items").expect("it was restored").indexes.len(), 2, "{name}");
    }
    // If there is metadata, it takes precedence.
    file(&home, "shop/orders.metadata.json", r#"{"options":{"create":"orders"},"indexes":[]}"#);
    run(from(&home, &home.path().join("dump"), &target).arg("--drop")).ends(0);
    let found = read_all(&live).await.expect("the target");
    assert_eq!(found.get("shop", "orders").expect("it was restored").indexes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_no_server_takes_are_converted_on_request() {
    let (home, (target, live)) = (Home::new(), server().await);
    rows(&live, "shop", "orders", 500..577).await;
    let before = read_all(&live).await.expect("the live data");
    file(&home, "shop/orders.bson", documents(0..1, "x"));
    let metadata = r#"{"options":{"create":"orders","flags":1,"capped":{"$undefined":true},"size":null},"indexes":[
        {"v":1,"key":{"_id":true},"name":"_id_","ns":"shop.orders"},
        {"v":1,"key":{"a":true},"name":"a_true","ns":"shop.orders","unique":true,"safe":null},
        {"v":1,"key":{"a":1},"name":"a_1","ns":"shop.orders","background":true},
        {"v":1,"key":{"b":"1","c":""},"name":"b_1_c_","ns":"shop.orders","dropDups":true,"w":1},
        {"v":1,"key":{"d":1.0},"name":"d_1","ns":"shop.orders","nonsense":true,"sparse":1}]}"#;
    file(&home, "shop/orders.metadata.json", metadata);
    let path = home.path().join("dump");
    for args in [&["--drop"][..], &["--drop", "--dry-run"]] {
        run(from(&home, &path, &target).args(args)).ends(1).says(&[
            "shop.orders: the index 'a_true' has true",
            "'b_1_c_'",
            "--convert-legacy-indexes",
        ]);
    }
    let after = read_all(&live).await.expect("the live data");
    assert_eq!(before.diff(&after), Vec::<String>::new());
    let ran = run(from(&home, &path, &target).args(["--drop", "--convert-legacy-indexes"])).ends(0);
    for word in [
        "'a_true' was converted",
        "'a_1' is left out: 'a_true' has the same key",
        "without its option 'nonsense'",
    ] {
        assert!(ran.stdout.contains(word), "no {word:?} in:\n{}", ran.stdout);
    }
    let found = read_all(&live).await.expect("the target");
    let orders = found.get("shop", "orders").expect("it was restored");
    let mut names: Vec<&str> =
        orders.indexes.iter().map(|index| index.get_str("name").expect("a name")).collect();
    names.sort();
    assert_eq!(names, ["_id_", "a_true", "b_1_c_", "d_1"]);
    // Without indexes there is nothing to convert.
    run(from(&home, &path, &target).args(["--drop", "--no-indexes"])).ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_nothing_fails() {
    let (home, (target, _live)) = (Home::new(), server().await);
    file(&home, "local/startup_log.bson", documents(0..1, "x"));
    let path = home.path().join("dump");
    run(&mut from(&home, &path, &target)).ends(1).says(&["nothing is restored", "only local.startup_log"]);
    run(from(&home, &path, &target).arg("--dry-run")).ends(1).says(&["nothing is restored"]);
    file(&home, "config/settings.bson", documents(0..1, "x"));
    run(&mut from(&home, &path, &target)).ends(1).says(&["only config.settings", "--ns-include"]);
    file(&home, "shop/orders.bson", documents(0..1, "x"));
    run(from(&home, &path, &target).args(["--ns-exclude", "*"])).ends(1).says(&["leave out all of"]);
    run(from(&home, &path, &target).args(["--ns-include", "shop.*", "--ns-exclude", "shop.o*"]))
        .ends(1)
        .says(&["leave out all of", "shop.orders"]);
    run(&mut from(&home, &path, &target)).ends(0);
    std::fs::create_dir(home.path().join("empty")).expect("a folder");
    std::fs::write(home.path().join("empty.archive"), archive(&[])).expect("an archive");
    tar(&home, &["-cf", "empty.tar", "-T", "/dev/null"]);
    for name in ["empty", "empty.archive", "empty.tar"] {
        run(&mut from(&home, &home.path().join(name), &target)).ends(1).says(&["contains no collection"]);
    }
}
