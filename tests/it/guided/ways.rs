//! The whole way through the questions, and the same by the printed command line.

use bson::{Document, doc};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;

use super::support::*;
use crate::encryption::support::{Encrypted, server as encrypted_server};
use crate::pit::stored::Stored;
use crate::pit::support::{self as pit, mark, oplog, set};
use crate::restore::support::{Backup, rows, server};
use crate::swap::support::{BACKED_UP, CHANGED, Shop, ids};

/// The documents of a namespace of `shop` or `rescue`.
async fn count(server: &Mongod, db: &str, collection: &str) -> u64 {
    let client = server.client().await.expect("a client");
    client.database(db).collection::<Document>(collection).count_documents(doc! {}).await.expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_restored_beside_the_live_one_and_by_the_printed_command() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..3).await;
    rows(&client, "shop", "carts", 0..2).await;
    let backup = Backup::of(&source, &[]);
    rows(&client, "shop", "orders", 3..4).await;
    let tool = || tool(&backup.home, &source, None);
    let mut guided = Guided::start(tool(), &[]);
    guided.enters(BACKUP).picks_namespace("orders").enters(DOCUMENTS).enters(TARGET).picks(NAMES, "as they");
    guided.waits(EXISTING);
    guided.enters(EXISTING).enters(NAMES);
    let (plan, line) = guided.planned(CONFIRM);
    for words in [
        "the server that is backed up",
        "shop.orders has 4 documents",
        "shop.orders as rescue.orders: 3 documents",
    ] {
        assert!(guided.before.contains(words), "{words}: {}", guided.before);
    }
    assert!(!plan.contains("carts"), "{plan}");
    let id = backup.manifest.id.as_str();
    assert_eq!(
        line,
        format!(
            "uzima-backup restore {id} --ns-include shop.orders \\\n    --ns-from 'shop.*' --ns-to 'rescue.*'"
        )
    );
    let (code, screen) = guided.confirms("y");
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!((count(&source, "shop", "orders").await, count(&source, "shop", "carts").await), (4, 2));
    let first = read_all(&client).await.expect("the server");
    assert_eq!(first.namespaces[&("rescue".into(), "orders".into())].documents.len(), 3);
    assert!(!first.namespaces.contains_key(&("rescue".into(), "carts".into())));
    client.database("rescue").drop().await.expect("a drop");
    pasted(&tool(), &line).ends(0);
    let second = read_all(&client).await.expect("the server");
    assert_eq!(first.diff(&second), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_before_an_event_of_the_timeline_is_restored_and_by_the_printed_command() {
    let stored = Stored::new(2).await;
    let wanted = pit::read_as_of(&stored.client, None).await.expect("the source");
    stored.client.database("live").collection::<Document>("rows").drop().await.expect("a drop");
    mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    let (target, live) = set(None).await;
    let tool = || {
        let mut command = pit::tool(&stored.home, &stored.server.uri(), &[]);
        command.env("RESTORE_URI", target.uri());
        command
    };
    let mut guided = Guided::start(tool(), &[]);
    guided.picks(BACKUP, "a moment").waits("Which moment?");
    guided
        .picks("Which moment?", "DROP")
        .enters(NAMESPACES)
        .enters(DOCUMENTS)
        .enters(TARGET)
        .enters_as_they_are();
    let (_, line) = guided.planned(CONFIRM);
    for words in ["restorable", "DROP live.rows, about 3 documents", "--at newest", "another moment"] {
        assert!(guided.before.contains(words), "{words}: {}", guided.before);
    }
    let (start, before) = line.rsplit_once(' ').expect("an argument");
    assert_eq!(start, "uzima-backup restore --before");
    // The timeline shows the argument, and the list of moments once more.
    let argument = format!("--before {before}");
    assert!(guided.before.matches(&argument).count() >= 2, "{argument}: {}", guided.before);
    let (code, screen) = guided.confirms("y");
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(rows_of(&live).await, rows_in(&wanted));
    pit::clear(&live).await;
    pasted(&tool(), &line).ends(0);
    assert_eq!(rows_of(&live).await, rows_in(&wanted));
}

async fn rows_of(client: &mongodb::Client) -> usize {
    rows_in(&pit::read_as_of(client, None).await.expect("the target"))
}

/// The number of documents in `live.rows`.
fn rows_in(snapshot: &uzima_testkit::read_all::Snapshot) -> usize {
    snapshot.get("live", "rows").expect("the collection").documents.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn live_data_of_the_source_is_dropped_only_after_its_name_is_typed() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    rows(&client, "shop", "orders", 3..9).await;
    let changed = read_all(&client).await.expect("the server");
    let tool = || tool(&backup.home, &source, None);
    let asked = || {
        let mut guided = Guided::start(tool(), &[]);
        guided.enters(BACKUP).enters(NAMESPACES).enters(DOCUMENTS).enters(TARGET).enters_as_they_are();
        guided.picks(EXISTING, "drop:");
        guided
    };
    let host = source.host();
    for wrong in ["y", "", "127.0.0.1", "other:27017"] {
        let mut guided = asked();
        let (plan, line) = guided.planned(&format!("{NAME}{host}: "));
        assert!(plan.contains("shop.orders: 3 documents (replaces 9 documents)"), "{plan}");
        assert!(line.ends_with(" --drop"), "{line}");
        let (code, screen) = guided.confirms(wrong);
        assert_eq!(code, Some(1), "{screen}");
        let error =
            format!("error: not restored, because the typed name is not {host}; nothing was changed\r\n");
        assert!(screen.ends_with(&error), "{screen}");
        assert_eq!(changed.diff(&read_all(&client).await.expect("the server")), Vec::<String>::new());
    }
    let mut guided = asked();
    let (_, line) = guided.planned(NAME);
    let (code, screen) = guided.confirms(&host);
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(count(&source, "shop", "orders").await, 3);
    rows(&client, "shop", "orders", 3..9).await;
    pasted(&tool(), &line).ends(0);
    assert_eq!(count(&source, "shop", "orders").await, 3);
}

/// Also if RESTORE_URI names the server that is backed up, and without questions before the plan.
#[tokio::test(flavor = "multi_thread")]
async fn every_interactive_drop_onto_the_source_asks_for_its_name() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let host = source.host();
    for target in [None, Some(&source)] {
        let mut guided = Guided::start(tool(&backup.home, &source, target), &["latest", "--drop"]);
        guided.waits(&format!("{NAME}{host}: "));
        let (code, screen) = guided.confirms("yes");
        assert_eq!(code, Some(1), "{screen}");
        assert!(screen.contains("nothing was changed"), "{screen}");
    }
    let (other, _) = server().await;
    let mut guided = Guided::start(tool(&backup.home, &source, Some(&other)), &["latest", "--drop"]);
    guided.waits(CONFIRM);
    let (code, screen) = guided.confirms("y");
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(count(&other, "shop", "orders").await, 3);
}

/// A passphrase is asked for once, although a timeline, a backup and two plans are read. `--dry-run` asks for no confirmation.
#[tokio::test(flavor = "multi_thread")]
async fn namespaces_of_an_encrypted_backup_are_known_after_one_passphrase() {
    let (source, encrypted) = (encrypted_server().await, Encrypted::new());
    encrypted.backup(&source.uri(), &[]);
    encrypted.oplog(&source.uri(), 0);
    let client = source.client().await.expect("a client");
    client.database("canaryshop").collection::<Document>("canaryfew").drop().await.expect("a drop");
    encrypted.oplog(&source.uri(), 0);
    let identity = encrypted.protected("protected.key", "correct horse");
    let mut tool = encrypted.tool(&source.uri());
    tool.env("BACKUP_IDENTITY_FILE", identity);
    let mut guided = Guided::start(tool, &["--dry-run", "--no-users"]);
    guided.picks(BACKUP, "a moment").answers("protected.key: ", b"correct horse\n");
    guided.picks("Which moment?", "DROP").waits("all: 3 namespaces, 303 documents");
    guided.picks_namespace("canaryfew").enters(DOCUMENTS).enters(TARGET).enters_as_they_are();
    let (code, screen) = guided.terminal.ends();
    let screen = guided.before + &screen;
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(screen.matches("Passphrase of ").count(), 1, "{screen}");
    assert!(!screen.contains("horse") && !screen.contains("Restore this?"), "{screen}");
    let line = "uzima-backup restore --before ";
    assert!(screen.contains(line) && screen.contains("--ns-include canaryshop.canaryfew"), "{screen}");
    assert!(screen.contains("--no-users --dry-run"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_exchanges_the_collections_and_keeps_the_live_ones() {
    let shop = Shop::new(set(None).await.0).await;
    let tool = || tool(&shop.home, &shop.server, None);
    let mut guided = Guided::start(tool(), &[]);
    guided.enters(BACKUP).picks_namespace("orders").enters(DOCUMENTS).enters(TARGET).enters_as_they_are();
    guided.picks(EXISTING, "swap:");
    let (plan, line) = guided.planned(NAME);
    assert!(plan.contains("moved in when all is loaded") && line.ends_with(" --swap"), "{plan} {line}");
    let (code, screen) = guided.confirms("no");
    assert_eq!((code, shop.ids("orders").await), (Some(1), ids(CHANGED)), "{screen}");
    let mut guided = Guided::start(tool(), &["--swap", "--ns-include", "shop.orders"]);
    guided.enters(BACKUP).enters(TARGET);
    let (_, same) = guided.planned(NAME);
    assert_eq!(same, line, "flags answer their questions");
    let (code, screen) = guided.confirms(&shop.server.host());
    assert_eq!((code, shop.ids("orders").await), (Some(0), ids(BACKED_UP)), "{screen}");
    assert_eq!(shop.names().await.len(), 3, "the earlier collection is kept");
    pasted(&tool(), &line).ends(0);
    assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
    assert_eq!(shop.names().await.len(), 4);
}

/// Esc leads back, an unreachable server leads to the choice of another answer, and a password is refused.
#[tokio::test(flavor = "multi_thread")]
async fn answers_can_be_changed_until_the_plan_is_right() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    let mut guided = Guided::start(tool(&backup.home, &source, None), &[]);
    guided.enters(BACKUP).enters(NAMESPACES);
    guided.answers(DOCUMENTS, b"{\"a\": {\"$regex\": \"x\"}}\r").answers("(Supported are", b"\x1b");
    guided.picks(NAMESPACES, "by patterns").answers("Patterns, separated by commas", b"shop.x*\r");
    guided.answers("matches nothing in the backup", b"\x7f\x7fo*\r");
    guided.enters(DOCUMENTS).picks(TARGET, "another server");
    let uri = |user: &str, host: &str| format!("mongodb://{user}{host}/?serverSelectionTimeoutMS=500");
    guided.answers("Its connection string", format!("{}\r", uri("u:secret@", "127.0.0.1:1")).as_bytes());
    guided.waits("holds a password").waits("RESTORE_URI");
    let mut keys = vec![0x7f; uri("u:secret@", "127.0.0.1:1").len()];
    keys.extend(format!("{}\r", uri("", "127.0.0.1:1")).as_bytes());
    guided.answers("RESTORE_URI", &keys).enters_as_they_are();
    guided.waits("error: ").picks("What should change?", "another server");
    let keys = format!("{}\r", target.uri());
    guided
        .picks(TARGET, "another server")
        .answers("Its connection string", keys.as_bytes())
        .enters_as_they_are();
    let (_, line) = guided.planned(CONFIRM);
    assert!(line.contains("--to-uri") && line.contains("--ns-include 'shop.o*'"), "{line}");
    assert!(!line.contains("--filter"), "{line}");
    let (code, screen) = guided.confirms("y");
    assert_eq!(code, Some(0), "{screen}");
    assert_eq!(read_all(&live).await.expect("the target").documents(), 3);
}

impl Guided {
    #[track_caller]
    fn enters_as_they_are(&mut self) -> &mut Guided {
        self.picks(NAMES, "as they")
    }
}
