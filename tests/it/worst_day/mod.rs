//! Runs every command of docs/restore.md and RECOVERY.txt as it is printed there.

mod data;
mod page;
mod recovery;
mod shell;
mod situations;

use std::path::Path;

use uzima_testkit::mongod::Mongod;
use uzima_testkit::mongod::binary::on_path;
use uzima_testkit::official::Official;
use uzima_testkit::read_all::read_all;
use uzima_testkit::s3_server::S3Server;

use crate::cli::s3::to_s3;
use crate::cli::support::{Home, files, run};
use crate::records::support::{recorded, recording, server as with_rows};
use crate::restore::support::{Backup, rows, server};
use data::{Data, assert_taken, one};
use shell::Shell;

const PAGE: &str = include_str!("../../../docs/restore.md");

/// A block that is added to the page or removed from it has no arm here, so the test fails.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_page() {
    let data = Data::new().await;
    let sections = shell::sections(PAGE);
    for (heading, blocks) in &sections {
        let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
        match (heading.as_str(), &blocks[..]) {
            ("Everything", [newest, older]) => with_the_tool(newest, older).await,
            ("Without the tool", [folder, bucket, formats @ ..]) if formats.len() == 4 => {
                from_a_bucket(&data, bucket);
                for (format, restore) in
                    ["tar.gz", "tar.zst", "archive.gz", "archive.zst"].iter().zip(formats)
                {
                    without_the_tool(&data, format, folder, restore).await;
                }
            }
            ("One collection", [beside, swap, back, instead, without]) => {
                one_collection(&data, beside, instead).await;
                one_collection_and_back(&data, swap, back).await;
                one_collection_without_the_tool(&data, without).await;
            }
            ("One document", [get, back]) => situations::one_document(get, back).await,
            ("An interrupted restore", [goes_on]) => situations::an_interrupted_restore(goes_on).await,
            ("One database", [database]) => situations::one_database(&data, database).await,
            ("Before a mistake", [point, compared]) => situations::before_a_mistake(point, compared).await,
            ("Beside live data", [beside]) => situations::beside_live_data(&data, beside).await,
            ("A damaged backup", [newer, sound]) => situations::a_damaged_backup(newer, sound).await,
            ("Another server", [other]) => {
                let (target, restored) = server().await;
                let backup = data.backup("tar.gz");
                Shell::new(&backup.home.backups(), &target.uri()).run(other);
                data.assert_in(&restored).await;
            }
            ("The records are lost", [anew]) => the_records_are_lost(anew).await,
            ("The machine is lost", [machine]) => the_machine_is_lost(&data, machine).await,
            (heading, blocks) => panic!("no test runs the {} blocks of '{heading}'", blocks.len()),
        }
    }
    assert_eq!(sections.len(), 12);
}

async fn with_the_tool(newest: &str, older: &str) {
    let ((source, original), (target, restored)) = (server().await, server().await);
    rows(&original, "shop", "orders", 0..10).await;
    let backup = Backup::of(&source, &[]);
    let old = read_all(&original).await.expect("the source");
    rows(&original, "shop", "orders", 10..20).await;
    run(backup.home.to_dir(&source.uri()).arg("backup")).ends(0);
    rows(&restored, "shop", "orders", 15..30).await;
    let mut shell = Shell::new(&backup.home.backups(), &target.uri());
    shell.id = backup.manifest.id.to_string();
    let said = shell.run(newest);
    assert!(said.contains(&shell.id) && said.contains("replaces 15 documents"), "{said}");
    let new = read_all(&original).await.expect("the source");
    assert_eq!(new.diff(&read_all(&restored).await.expect("the target")), Vec::<String>::new());
    shell.env =
        vec![("BACKUP_DIR", backup.home.backups().display().to_string()), ("RESTORE_URI", target.uri())];
    shell.run(older);
    assert_eq!(old.diff(&read_all(&restored).await.expect("the target")), Vec::<String>::new());
}

/// Fetching from a bucket gives the objects of the newest backup.
fn from_a_bucket(data: &Data, fetch: &str) {
    if on_path("aws").is_none() {
        eprintln!("SKIPPED worst_day::from_a_bucket: the aws command is not on PATH");
        return;
    }
    let (home, bucket) = (Home::new(), S3Server::start());
    for _ in 0..2 {
        run(to_s3(&home, &data.server.uri(), &bucket).arg("backup")).ends(0);
    }
    bucket.insert("daily-backups/oplog/nightly/chain/1795489212.0000000005/slice.json", b"{}".to_vec());
    let mut shell = Shell::new(&home.backups(), "");
    shell.env = vec![("AWS_ENDPOINT_URL", bucket.endpoint())];
    shell.run(fetch);
    let objects = bucket.objects();
    let newest = objects.keys().rfind(|key| key.ends_with("/manifest.json")).expect("a manifest");
    let folder =
        newest.strip_suffix("manifest.json").expect("a path that ends with the name of the manifest");
    for name in ["manifest.json", "index.json.zst", "dump.tar.gz"] {
        let fetched = std::fs::read(shell.rescue().join(name)).expect(name);
        assert!(objects[&format!("{folder}{name}")] == fetched, "{name}");
    }
}

async fn without_the_tool(data: &Data, format: &str, fetch: &str, restore: &str) {
    let backup = data.backup(format);
    // An older backup, a later failed run and an oplog slice must not be fetched.
    let slice = "oplog/nightly/6563a1b2c3d4e5f60718293a-1795489212.0000000005/1795489212.0000000005";
    for (folder, file) in [
        ("2020/01/20200101T000000Z-aaaaaa", "manifest.json"),
        ("9999/12/x", "dump.tar.gz"),
        (slice, "slice.json"),
    ] {
        let folder = backup.home.backups().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(file), "x").expect("a file");
    }
    let shell = Shell::new(&backup.home.backups(), "");
    shell.run(fetch);
    assert_taken(&backup, &shell.taken(restore));
    if Official::find(&format!("worst_day::without_the_tool ({format})")).is_some() {
        let (target, restored) = server().await;
        let shell = Shell::new(&backup.home.backups(), &target.uri());
        let said = shell.run(fetch) + &shell.run(restore);
        assert!(said.contains(" 0 document(s) failed to restore"), "{said}");
        assert!(said.contains("replaying oplog"), "{said}");
        data.assert_in(&restored).await;
    }
}

async fn one_collection(data: &Data, beside: &str, instead: &str) {
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 0..5).await;
    rows(&live, "shop", "others", 0..5).await;
    let before = read_all(&live).await.expect("the live data");
    let backup = data.backup("tar.gz");
    let shell = Shell::new(&backup.home.backups(), &target.uri());
    shell.run(beside);
    let mut after = read_all(&live).await.expect("the live data");
    assert_eq!(one(&after, "rescue"), one(&data.original, "shop"));
    after.retain(|db, _| db != "rescue");
    assert_eq!(before.diff(&after), Vec::<String>::new());
    shell.run(instead);
    let after = read_all(&live).await.expect("the live data");
    assert_eq!(one(&after, "shop"), one(&data.original, "shop"));
    assert_eq!(after.get("shop", "others"), before.get("shop", "others"));
}

async fn one_collection_and_back(data: &Data, swap: &str, back: &str) {
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 0..5).await;
    let before = read_all(&live).await.expect("the live data");
    let backup = data.backup("tar.gz");
    let mut shell = Shell::new(&backup.home.backups(), &target.uri());
    let said = shell.run(swap);
    let after = read_all(&live).await.expect("the live data");
    assert_eq!(one(&after, "shop"), one(&data.original, "shop"));
    let (_, id) = said.split_once("restore --undo ").expect("the way back");
    shell.id = id.chars().take_while(|letter| *letter != '`').collect();
    shell.run(back);
    let mut after = read_all(&live).await.expect("the live data");
    after.retain(|db, _| db == "shop");
    assert_eq!(before.diff(&after), Vec::<String>::new());
}

async fn one_collection_without_the_tool(data: &Data, restore: &str) {
    let backup = data.backup("tar.gz");
    let fetched = |target: &Mongod| {
        let shell = Shell::new(&backup.home.backups(), &target.uri());
        std::fs::create_dir(shell.rescue()).expect("a folder");
        std::fs::copy(backup.artifact(), shell.rescue().join("dump.tar.gz")).expect("the artifact");
        shell
    };
    let (target, restored) = server().await;
    let shell = fetched(&target);
    assert_eq!(files(&shell.taken(restore)), ["shop/orders.bson", "shop/orders.metadata.json"]);
    if Official::find("worst_day::one_collection_without_the_tool").is_some() {
        fetched(&target).run(restore);
        let found = read_all(&restored).await.expect("the target");
        assert_eq!(one(&found, "rescue"), one(&data.original, "shop"));
        assert_eq!(found.namespaces.len(), 1);
    }
}

async fn the_records_are_lost(anew: &str) {
    let ((source, client), home) = (with_rows().await, Home::new());
    let shell = Shell::new(&home.backups(), &source.uri());
    run(recording(&home, &source.uri()).arg("backup")).ends(0);
    let before = recorded(&client).await;
    client.database("uzima_backup").drop().await.expect("a drop");
    let said = shell.run(anew);
    assert!(said.contains("the records were rebuilt from the store: 1 added"), "{said}");
    assert_eq!(recorded(&client).await[1..], before);
}

async fn the_machine_is_lost(data: &Data, machine: &str) {
    let ((target, restored), bucket) = (server().await, S3Server::start());
    run(to_s3(&Home::new(), &data.server.uri(), &bucket).arg("backup")).ends(0);
    let mut shell = Shell::new(Path::new("/nowhere"), &target.uri());
    shell.env = vec![("S3_ENDPOINT_URL", bucket.endpoint())];
    shell.run(machine);
    data.assert_in(&restored).await;
}
