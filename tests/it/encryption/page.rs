//! The commands of docs/encryption.md, with stock tools.

use std::process::Command;

use bson::RawDocument;
use tempfile::TempDir;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;

use super::support::{insert, server};
use crate::cli::support::{Home, TOOL, run};
use crate::pages::{block, read};
use crate::pit::stored::slices;
use crate::restore::support::differences;

/// Runs commands of a page with a shell in a folder, as a person would.
fn shell(folder: &TempDir, code: &str, uri: Option<&str>, path: &str) -> crate::cli::support::Ran {
    let mut sh = Command::new("sh");
    sh.arg("-ec").arg(code).current_dir(folder.path()).env_clear().env("PATH", path);
    if let Some(uri) = uri {
        sh.env("MONGO_URI", uri);
    }
    run(&mut sh)
}

/// Stores two slices, and joins them as the page says.
async fn join_slices(
    server: &Mongod,
    home: &Home,
    recipients: &[&str],
    (page, folder, path): (&str, &TempDir, &str),
) {
    let client = server.client().await.expect("a client");
    for from in [1000, 1010] {
        insert(&client, from..from + 10).await;
        run(home.to_dir(&server.uri()).arg("oplog").env("BACKUP_RECIPIENTS", recipients.join(","))).ends(0);
    }
    let rescue = home.path().join("rescue");
    let mut commands = block(page, "Oplog slices", "sh").to_string();
    for (example, ours) in [
        ("/var/backups/mongodb", home.backups()),
        ("/var/tmp/rescue", rescue.clone()),
        ("/media/keys/second.key", folder.path().join("second.key")),
    ] {
        assert!(commands.contains(example), "{example}");
        commands = commands.replace(example, ours.to_str().expect("UTF-8"));
    }
    shell(folder, &commands, None, path).ends(0);
    let joined = std::fs::read(rescue.join("slices/oplog.bson")).expect("the slices");
    let (mut rest, mut times) = (&joined[..], Vec::new());
    while let Some(length) = rest.first_chunk() {
        let (entry, later) = rest.split_at(i32::from_le_bytes(*length) as usize);
        let time = RawDocument::from_bytes(entry).expect("BSON").get_timestamp("ts").expect("a time");
        times.push((time.time, time.increment));
        rest = later;
    }
    let entries: u64 = slices(home).iter().map(|(_, slice)| slice.entries).sum();
    assert!(times.is_sorted() && entries >= 2, "{times:?}");
    assert_eq!(times.len() as u64, entries);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_restore() {
    let page = read("docs/encryption.md");
    let folder = TempDir::new().expect("a folder");
    let tool = std::path::Path::new(TOOL).parent().expect("a folder").display().to_string();
    let path = format!("{tool}:{}", std::env::var("PATH").expect("a PATH"));
    let made = shell(&folder, block(&page, "Set-up", "sh"), None, &path).ends(0);
    let recipients: Vec<&str> = made.stdout.lines().filter(|line| line.starts_with("age1")).collect();
    assert_eq!(recipients.len(), 2, "{}", made.stdout);
    let (server, home) = (server().await, Home::new());
    let mut backup = home.to_dir(&server.uri());
    backup.args(["backup", "--format", "tar.zst"]).env("BACKUP_RECIPIENTS", recipients.join(","));
    run(&mut backup).ends(0);
    let manifest = home.manifests().pop().expect("a manifest");
    std::fs::write(folder.path().join("dump.tar.zst.age"), home.artifact(&manifest)).expect("a copy");
    let commands = block(&page, "The worst day", "sh");
    let (decrypt, restore) = commands.split_once('\n').expect("two commands");
    shell(&folder, decrypt, None, &path).ends(0);
    assert!(folder.path().join("dump/canaryshop/canaryrows.bson").is_file());
    let recovery = std::fs::read_to_string(folder.path().join("RECOVERY.txt")).expect("RECOVERY.txt");
    assert!(recovery.contains("age -d -i KEYFILE dump.tar.zst.age | zstd -dc | tar xf -"), "{recovery}");
    if let Some(tools) = Official::find("encryption::page::the_commands_of_the_page_restore (mongorestore)") {
        let target = Mongod::builder().start().await.expect("mongod");
        let official = tools.mongorestore.parent().expect("a folder").display().to_string();
        shell(&folder, restore, Some(&target.uri()), &format!("{official}:{path}")).ends(0);
        let (source, copy) = (server.client().await.expect("one"), target.client().await.expect("two"));
        let different = differences(&source, &copy).await;
        assert_eq!(
            different.iter().filter(|line| line.contains("canary")).collect::<Vec<_>>(),
            Vec::<&String>::new()
        );
    }
    // It writes to the source.
    join_slices(&server, &home, &recipients, (&page, &folder, &path)).await;
}
