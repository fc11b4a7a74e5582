//! Tars with appended members, and tars with links: a restore brings back what `tar x` would extract, or
//! touches nothing.

use uzima_testkit::read_all::read_all;

use super::hand_made::{archive, documents, file, from, tar};
use super::support::{rows, server};
use crate::cli::support::{Home, run};

/// The options of a collection with this validation level.
fn made(validation_level: &str) -> String {
    format!(r#"{{"options":{{"validationLevel":"{validation_level}"}},"indexes":[]}}"#)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_member_of_a_path_is_restored() {
    let (home, (target, live)) = (Home::new(), server().await);
    rows(&live, "shop", "orders", 500..577).await;
    for (night, level) in [("old", "off"), ("new", "moderate")] {
        file(&home, "shop/orders.bson", documents(0..10, night));
        file(&home, "shop/orders.metadata.json", made(level));
        file(&home, "shop/weather.metadata.json", r#"{"options":{"timeseries":{"timeField":"t"}}}"#);
        file(&home, "shop/system.buckets.weather.bson", "");
        let (flag, path) = if night == "old" { ("-cf", "dump") } else { ("-rf", "./dump") };
        tar(&home, &[flag, "dump.tar", path]);
    }
    run(from(&home, &home.path().join("dump.tar"), &target).arg("--drop")).ends(0);
    let found = read_all(&live).await.expect("the target");
    let orders = found.get("shop", "orders").expect("it was restored");
    assert_eq!(orders.documents.concat(), documents(0..10, "new"));
    assert_eq!(orders.options.get_str("validationLevel").expect("an option"), "moderate");
    assert!(found.get("shop", "weather").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_links_in_a_tar_are_restored() {
    let (home, (target, live)) = (Home::new(), server().await);
    let first = file(&home, "shop/a.bson", documents(0..7, "a"));
    let metadata = file(&home, "shop/a.metadata.json", made("off"));
    for (original, link) in
        [(&first, "shop/b.bson"), (&first, "archive/a.bson"), (&metadata, "shop/b.metadata.json")]
    {
        let link = home.path().join("dump").join(link);
        std::fs::create_dir_all(link.parent().expect("a folder")).expect("a folder");
        std::fs::hard_link(original, link).expect("a hard link");
    }
    // tar stores the first member as the file, and the others as links to it.
    tar(&home, &["-cf", "dump.tar", "dump"]);
    run(&mut from(&home, &home.path().join("dump.tar"), &target)).ends(0);
    let found = read_all(&live).await.expect("the target");
    for (db, collection) in [("shop", "a"), ("shop", "b"), ("archive", "a")] {
        let there = found.get(db, collection).unwrap_or_else(|| panic!("no {db}.{collection}"));
        assert_eq!(there.documents.concat(), documents(0..7, "a"), "{db}.{collection}");
    }
    assert_eq!(
        found
            .get("shop", "b")
            .expect("the collection")
            .options
            .get_str("validationLevel")
            .expect("an option"),
        "off"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_dumps_are_refused_before_anything_is_dropped() {
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 500..577).await;
    let before = read_all(&live).await.expect("the live data");
    let refused = |home: &Home, name: &str, code: i32, words: &[&str]| {
        run(from(home, &home.path().join(name), &target).arg("--drop")).ends(code).says(words);
    };

    let home = Home::new();
    let orders = file(&home, "shop/orders.bson", documents(0..7, "x"));
    std::fs::rename(&orders, home.path().join("pool")).expect("moved");
    std::os::unix::fs::symlink(home.path().join("pool"), &orders).expect("a soft link");
    tar(&home, &["-cf", "linked.tar", "dump"]);
    refused(&home, "linked.tar", 1, &["dump/shop/orders.bson is a soft link", "Unpack the tar"]);
    // The folder itself can be read, as the next step says.
    run(from(&home, &home.path().join("dump"), &target).args(["--drop", "--dry-run"])).ends(0);

    let home = Home::new();
    for night in ["monday", "tuesday"] {
        file(&home, "shop/orders.bson", documents(0..7, night));
        tar(&home, &["-rf", "week.tar", &format!("--transform=s/dump/{night}/"), "dump"]);
    }
    refused(
        &home,
        "week.tar",
        1,
        &["more than one dump", "monday/shop/orders.bson", "tuesday/shop/orders.bson"],
    );
    tar(&home, &["-P", "-cf", "absolute.tar", &home.path().join("dump").display().to_string()]);
    refused(&home, "absolute.tar", 1, &["leads out of the tar"]);

    let home = Home::new();
    file(&home, "shop/orders.bson", documents(0..7, "x"));
    file(&home, "shop/orders.bson.gz", "");
    refused(&home, "dump", 1, &["orders.bson and ", "orders.bson.gz are the same part"]);
    tar(&home, &["-cf", "both.tar", "dump"]);
    refused(&home, "both.tar", 1, &["orders.bson and ", "orders.bson.gz are the same part"]);

    let twice = [("shop", "orders", "", vec![]), ("shop", "orders", "", vec![])];
    std::fs::write(home.path().join("twice.archive"), archive(&twice)).expect("an archive");
    refused(&home, "twice.archive", 4, &["it announces shop.orders twice"]);

    let after = read_all(&live).await.expect("the live data");
    assert_eq!(before.diff(&after), Vec::<String>::new());
}
