//! The connection is cut in the middle of a cursor.

use std::collections::BTreeSet;
use std::time::Duration;

use uzima_testkit::load::Random;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::tcp_proxy::{Direction, Mode, TcpProxy};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};
use uzima_testkit::writers::{self, Writers};

use super::support::{Shelf, behind_a_proxy, failed, ids, insert, only, rows};

/// With documents of this size, the collection comes in a find of 101 documents, another find, and two
/// `getMore`.
const DOCUMENTS: i32 = 1_300;
const PAD: usize = 2_000;

/// The positions at which a reply is cut: in its header, in its first documents, near its end.
fn positions(seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut all = vec![0, 1, 15, 16, 40];
    all.extend((0..3).map(|_| random.below(200_000) as usize));
    all.extend((0..2).map(|_| random.below(900_000) as usize));
    all
}

#[tokio::test]
async fn a_quiet_server_is_read_byte_by_byte_through_every_cut() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, DOCUMENTS, PAD)).await;
    let shelf = Shelf::new();
    let calm = shelf.run(&server.uri(), only(&["d"])).await.expect("an undisturbed backup");
    let whole = shelf.decode(&calm);
    assert_eq!(ids(whole.get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
    assert_eq!(calm.manifest.notes, Vec::<String>::new());

    let uri = proxy.uri(&server.uri());
    shelf.run(&uri, only(&["d"])).await.expect("a backup through the proxy");
    let (finds, mores) = (proxy.commands("find").len(), proxy.commands("getMore").len());
    assert!(finds >= 2 && mores >= 2, "{finds} finds, {mores} getMores: too few to cut between");

    let mut cuts = 0;
    let commands = (1..=2).map(|nth| ("find", nth)).chain((1..=2).map(|nth| ("getMore", nth)));
    for (command, nth) in commands {
        let actions = positions(seed ^ nth).into_iter().map(Action::CutAnswer);
        for action in actions.chain([Action::Close, Action::CloseAfter]) {
            let rule = proxy.add(Rule::on(command).namespace("d.c").nth(nth).then(action.clone()));
            let report =
                shelf.run(&uri, only(&["d"])).await.unwrap_or_else(|e| panic!("{action:?}: {}", e.chain()));
            assert_eq!(proxy.hits(rule), 1, "{command} {nth} {action:?}");
            proxy.clear();
            let notes = &report.manifest.notes;
            let longer = matches!(action, Action::CutAnswer(n) if n > 100_000);
            assert!(longer || notes.len() == 1, "{command} {nth} {action:?}: {notes:?}");
            assert!(
                notes.iter().all(|note| note.starts_with("continued reading d.c after batch ")),
                "{notes:?}"
            );
            cuts += notes.len();
            let entry = &report.manifest.namespaces[0];
            assert_eq!(shelf.decode(&report).documents, whole.documents, "{command} {nth} {action:?}");
            assert_eq!(entry.xxh3_sum, calm.manifest.namespaces[0].xxh3_sum);
        }
    }
    assert!(cuts >= 32, "only {cuts} cuts happened");
}

#[tokio::test]
async fn with_concurrent_writers_no_untouched_document_is_missing() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    // The writers reuse existing collections. Documents of this size come in five batches.
    insert(&client, "live", "churn", &rows(0, writers::CHURN_DOCUMENTS, 1_500)).await;
    insert(&client, "live", "churn", &rows(10_000, 1_500, 1_500)).await;
    let options = writers::Options { ddl: false, pause: Duration::from_millis(2), ..Default::default() };
    let mut random = Random::new(seed);
    let writers = Writers::start(&server.uri(), options).await.expect("writers");
    let shelf = Shelf::new();
    let (mut cuts, mut noted, mut reports) = (0, 0, Vec::new());
    for round in 0..8 {
        let mut rules = Vec::new();
        for nth in 1..=3 {
            let command = ["find", "getMore"][random.below(2) as usize];
            let action = Action::CutAnswer(random.below(900_000) as usize);
            let rule = Rule::on(command).namespace("live.churn").nth(nth).then(action);
            rules.push(proxy.add(rule));
        }
        let before = writers.rounds();
        let report = shelf.run(&proxy.uri(&server.uri()), only(&["live"])).await.expect("a backup");
        assert!(writers.rounds() > before, "nothing was written during round {round}");
        cuts += rules.iter().map(|rule| proxy.hits(*rule)).sum::<u64>();
        proxy.clear();
        noted += report.manifest.notes.iter().filter(|note| note.contains("live.churn")).count();
        assert_eq!(report.manifest.consistency.achieved, "oplog");
        reports.push(report);
    }
    let done = writers.stop().await.expect("writers without an error");
    // 24 rules are set. How many of them take effect depends on the writers.
    assert!(cuts >= 12 && noted >= 6, "{cuts} cuts, {noted} resumptions");
    for report in &reports {
        let found = ids(shelf.decode(report).get("live.churn"));
        let there: BTreeSet<i32> = found.iter().copied().collect();
        let missing: Vec<_> = done.untouched.iter().filter(|id| !there.contains(id)).collect();
        assert_eq!(missing, Vec::<&i32>::new(), "seed {seed}");
        assert!((10_000..11_500).all(|id| there.contains(&id)), "seed {seed}");
        // An untouched document is there once. A document that was deleted and inserted again may be there
        // twice.
        let still = |id: &&i32| done.untouched.contains(id) || (10_000..11_500).contains(*id);
        assert_eq!(found.iter().filter(still).count(), done.untouched.len() + 1_500, "seed {seed}");
    }
}

/// The cut is anywhere in the data that a run receives: handshakes, answers and documents.
#[tokio::test]
async fn a_cut_anywhere_gives_the_whole_backup_or_none() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let server = Mongod::builder().start().await.expect("mongod");
    insert(&server.client().await.expect("a client"), "d", "c", &rows(0, 800, 2_000)).await;
    let proxy = TcpProxy::start(server.host().parse().expect("an address"));
    let uri = format!("mongodb://{}/?directConnection=true&serverSelectionTimeoutMS=3000", proxy.address());
    let whole = Shelf::new().run(&uri, only(&["d"])).await.expect("a backup");
    let heard = proxy.bytes(Direction::Down);
    let mut random = Random::new(seed);
    let (mut went_on, mut done) = (0, 0);
    for round in 0..24 {
        // Most bytes are documents, so every third cut is in the answers before them.
        let at = if round % 3 == 0 { random.below(12_000) } else { random.below(heard) };
        proxy.set_for_first(1, Mode::CutAfter(Direction::Down, at));
        let shelf = Shelf::new();
        match shelf.run(&uri, only(&["d"])).await {
            Ok(report) => {
                assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..800).collect::<Vec<_>>(), "at {at}");
                assert_eq!(report.manifest.namespaces[0].xxh3_sum, whole.manifest.namespaces[0].xxh3_sum);
                shelf.assert_only(&report).await;
                done += 1;
                went_on += report.manifest.notes.len();
            }
            Err(error) => {
                failed(Err(error));
                shelf.assert_nothing().await;
            }
        }
    }
    proxy.set(Mode::Pass);
    assert!(done >= 8 && went_on >= 4, "{done} done, {went_on} resumptions");
}
