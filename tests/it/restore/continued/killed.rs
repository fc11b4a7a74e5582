//! Restores that are ended by a signal while they load.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Case, NAMES, has_ended, insert_into, interrupt_at, printed, shell};
use crate::cli::support::run;
use crate::restore::support::rows;

/// The number of commands in a sample.
const SAMPLE: usize = 14;

/// The printed command goes on. Complete collections stay: they keep their UUIDs, and nothing is inserted into them again.
#[tokio::test(flavor = "multi_thread")]
async fn the_printed_command_goes_on_and_complete_collections_stay() {
    let case = Case::new().await;
    let ran = case.interrupt(&[], insert_into("e"), libc::SIGTERM).await.ends(143);
    let line = printed(&ran);
    assert!(line.contains(&case.id) && line.ends_with("--yes --continue"), "{line}");
    let kept = case.kept();
    let one = &kept["interrupted"][0];
    assert_eq!((&one["state"], &one["at_work"]), (&"loading".into(), &false.into()), "{kept}");
    assert!(
        line.ends_with(one["command"].as_str().expect("a text").trim_start_matches("uzima-backup ")),
        "{kept}"
    );
    let complete: Vec<&str> = one["namespaces"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|made| made["complete"] == true)
        .map(|made| made["namespace"].as_str().expect("a name"))
        .collect();
    assert_eq!(complete, ["shop.a", "shop.b", "shop.c", "shop.d", "shop.system.js"], "{kept}");
    let mut before = Vec::new();
    for name in &NAMES[..4] {
        before.push(case.uuid(name).await);
    }

    // The plan shows what stays, and changes nothing.
    let planned = case.restore(&["--continue", "--dry-run"], 0);
    assert!(
        planned.stdout.contains("shop.a: 40 documents (kept: complete already, with 40 documents)"),
        "{planned:?}"
    );
    assert!(
        planned.stdout.contains("shop.e: 40 documents (replaces the interrupted restore's "),
        "{planned:?}"
    );
    let text = run(&mut case.tool(&["--kept"])).ends(0).stdout;
    assert!(
        text.contains("to go on: uzima-backup restore ")
            && text.contains("made shop.a: 40 documents, complete"),
        "{text}"
    );

    case.proxy.clear_log();
    run(&mut shell(&line, &case.tool(&[]))).ends(0);
    let inserted: Vec<String> = case.proxy.commands("insert").into_iter().map(|one| one.namespace).collect();
    assert!(NAMES[..4].iter().all(|name| !inserted.contains(&format!("shop.{name}"))), "{inserted:?}");
    assert!(inserted.contains(&"shop.e".to_string()), "{inserted:?}");
    for (name, before) in NAMES.iter().zip(before) {
        assert_eq!(case.uuid(name).await, before, "{name}");
    }
    case.assert_equal("continued").await;
    assert_eq!(case.interrupted(), Vec::<String>::new());
}

/// SIGKILL at a sample of the commands. The restore goes on at once, because its process is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_killed_at_any_command_goes_on() {
    let case = Case::new().await;
    case.restore(&[], 0);
    case.assert_equal("not interrupted").await;
    let all = case.proxy.log().iter().filter(|command| !command.is_hello()).count() as u64;
    let seed = std::env::var("UZIMA_TEST_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or_else(|| rand::random::<u32>().into());
    let commands: Vec<u64> = (1..=all).collect();
    let chosen: Vec<u64> = match std::env::var_os("UZIMA_TEST_FULL").is_some() {
        true => commands,
        false => commands.sample(&mut StdRng::seed_from_u64(seed), SAMPLE).copied().collect(),
    };
    println!("killed at {chosen:?} of {all} commands, UZIMA_TEST_SEED={seed}");
    let mut continued = 0;
    for nth in chosen {
        case.empty().await;
        let at = Rule::on("*").nth(nth);
        let Some(_) = case.interrupt_command(&mut case.tool(&["latest"]), at, libc::SIGKILL).await else {
            continue;
        };
        let marked = !case.interrupted().is_empty();
        if !marked && has_ended(&case.differences().await) {
            continue;
        }
        let args: &[&str] = if marked { &["--continue"] } else { &[] };
        case.restore(args, 0);
        case.assert_equal(&format!("command {nth}, seed {seed}")).await;
        assert_eq!(case.interrupted(), Vec::<String>::new(), "command {nth}");
        continued += u32::from(marked);
    }
    assert!(continued > 3, "{continued}");
}

/// Large collections are marked as complete at once, so that even SIGKILL does not lose them.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_collection_stays_after_a_kill() {
    let case = Case::new().await;
    let (original, uri) = case.source().await;
    let large = (0..18).map(|n| bson::doc! {"_id": n, "text": "x".repeat(1 << 20)});
    original.database("shop").collection("_large").insert_many(large).await.expect("rows");
    let index = bson::doc! {"key": {"text": "hashed"}, "name": "hashed"};
    let index = bson::doc! {"createIndexes": "_large", "indexes": [index]};
    original.database("shop").run_command(index).await.expect("an index");
    run(case.home.to_dir(&uri).arg("backup")).ends(0);
    // Its index is built after it is marked.
    case.interrupt(&[], Rule::on("createIndexes").namespace("shop._large"), libc::SIGKILL).await;
    let kept = case.kept();
    let large = kept["interrupted"][0]["namespaces"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["namespace"] == "shop._large");
    assert!(large.is_some_and(|one| one["complete"] == true), "{kept}");
    let before = case.uuid("_large").await;
    case.restore(&["--continue"], 0);
    assert_eq!(case.uuid("_large").await, before);
}

/// An interrupted continuation can be continued.
#[tokio::test(flavor = "multi_thread")]
async fn a_continued_restore_that_is_interrupted_goes_on_again() {
    let case = Case::new().await;
    // Other workers would complete the later collections meanwhile.
    let at = ["c", "d", "e"].map(insert_into).to_vec();
    let mut tool = case.tool(&["latest"]);
    interrupt_at(&case.proxy, &mut tool, at, libc::SIGTERM).await.expect("it inserts");
    let first = case.interrupted();
    let a = case.uuid("a").await;
    let ran = case.interrupt(&["--continue"], insert_into("e"), libc::SIGTERM).await.ends(143);
    assert_eq!(case.interrupted(), first, "it is the same mark");
    let c = case.uuid("c").await;
    case.interrupt(&["--continue"], insert_into("e"), libc::SIGKILL).await;
    assert_eq!(case.interrupted(), first);
    run(&mut shell(&printed(&ran), &case.tool(&[]))).ends(0);
    assert_eq!((case.uuid("a").await, case.uuid("c").await), (a, c), "what was complete stayed three times");
    case.assert_equal("continued three times").await;
}

/// The server goes away in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_server_went_away_goes_on() {
    let case = Case::new().await;
    case.proxy.add(insert_into("d").times(1_000).then(Action::Close));
    let ran = run(&mut case.tool(&["latest"])).ends(1);
    case.proxy.clear();
    let line = printed(&ran);
    run(&mut shell(&line, &case.tool(&[]))).ends(0);
    case.assert_equal("continued").await;
}

/// A restore with --drop, interrupted: what it did not replace yet is replaced by the printed command, which has --drop as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_replaces_data_goes_on_with_drop() {
    let case = Case::new().await;
    for name in NAMES {
        rows(&case.live, "shop", name, 900..905).await;
    }
    let ran = case.interrupt(&["--drop"], insert_into("c"), libc::SIGTERM).await.ends(143);
    let line = printed(&ran);
    assert!(line.contains(" --drop ") && ran.stderr.contains("dropped and not restored: "), "{ran:?}");
    run(&mut shell(&line, &case.tool(&[]))).ends(0);
    case.assert_equal("continued").await;
}

/// A later run of the same restore that finds the interrupted one's collections names --continue, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_restore_names_the_interrupted_one() {
    let case = Case::new().await;
    // The view is made by then: its definition is the same in the next restore.
    case.interrupt(&[], insert_into("system.js"), libc::SIGKILL).await;
    let id = case.interrupted().remove(0);
    let before = case.uuid("a").await;
    let says =
        ["has data already", &format!("The restore {id} was interrupted: the same command with --continue")];
    case.restore(&[], 1).says(&says);
    case.restore(&["--dry-run"], 1).says(&says);
    let other = case.restore(&["--ns-include", "shop.a"], 1);
    assert!(!other.stderr.contains("--continue"), "it is another restore: {other:?}");
    assert_eq!(case.uuid("a").await, before);
    // With --drop, everything is restored again, and the mark, of which nothing is left, is removed.
    case.restore(&["--drop"], 0);
    case.assert_equal("dropped").await;
}
