use std::fmt::Write;

use proptest::prelude::*;

use super::*;

impl ProgressLine {
    /// The line on a terminal that is wide enough.
    fn whole(&self) -> String {
        self.text(&self.name, &self.parts)
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn reading(mib: u64) -> Counters {
    Counters {
        attempt: 1,
        phase: Phase::Reading,
        begun: 3,
        current: "shop.orders".into(),
        documents: 12_345,
        raw_bytes: mib << 20,
        expected_bytes: 300 << 20,
        stored_bytes: 4 << 20,
        namespaces: 3,
        expected_namespaces: 9,
        moves: mib,
        ..Counters::default()
    }
}

/// A reading of another phase, which began after [`reading`].
fn of(phase: Phase) -> Counters {
    Counters { phase, begun: 4, current: String::new(), ..reading(0) }
}

/// Feeds readings, each with its second, and returns the last line.
fn last(readings: impl IntoIterator<Item = (u64, Counters)>) -> ProgressLine {
    let mut history = ProgressHistory::default();
    let lines = readings.into_iter().map(|(second, reading)| history.line(&reading, at(second)));
    lines.last().expect("a reading")
}

#[test]
fn an_estimate_is_made_from_the_last_30_seconds() {
    // 1 MiB/s for 100 s, and then 2 MiB/s.
    let slow = |second| (second, reading(second));
    let fast = |second: u64| (second, reading(100 + (second - 100) * 2));
    let line = last((0..100).map(slow).chain((100..=140).map(fast)));
    assert_eq!(
        line.whole(),
        "reading shop.orders (3/9 namespaces), 12,345 documents, 180.0 MiB of 300.0 MiB raw, 4.0 MiB stored, 2.0 MiB/s, \
         about 1 min 0 s left"
    );
    // It is not shown before it means something.
    assert!(last((0..5).map(slow)).whole().ends_with(", 1.0 MiB/s"));
    assert!(last((0..6).map(slow)).whole().ends_with(", about 4 min 55 s left"));
    // Without an expected size, or at its end, there is no estimate.
    let unknown = |second| (second, Counters { expected_bytes: 0, ..reading(second) });
    assert!(last((1..60).map(unknown)).whole().ends_with(", 59.0 MiB raw, 4.0 MiB stored, 1.0 MiB/s"));
    for end in 299..310 {
        let line = last((250..=end).map(slow)).whole();
        assert_eq!(line.contains("left"), end == 299, "{line}");
        assert!(!line.contains("about 0"), "{line}");
    }
}

#[test]
fn a_run_that_stands_still_names_what_it_waits_for_and_how_long() {
    let moving = || (0..=40).map(|second| (second, reading(second)));
    let still = |under_way| move |second| (second, Counters { under_way, ..reading(40) });
    let line = last(moving().chain((41..=44).map(still(0)))).whole();
    assert!(!line.contains("waiting"), "{line}");
    for second in 45..=3_600 {
        let line = last(moving().chain([still(0)(second)])).whole();
        assert!(line.contains("stored, waiting for MongoDB for ") && !line.contains("left"), "{line}");
    }
    let line = last(moving().chain((41..=52).map(still(0)))).whole();
    assert!(line.ends_with("4.0 MiB stored, waiting for MongoDB for 12 s"), "{line}");
    let line = last(moving().chain((41..=3600).map(still(2)))).whole();
    assert!(line.ends_with("waiting for the store for 59 min 20 s"), "{line}");
    // When it goes on, the wait does not count as slow work.
    let again = |second| (second, reading(second - 3560));
    let line = last(moving().chain((41..=3600).map(still(0))).chain((3601..=3608).map(again))).whole();
    assert!(line.ends_with(", 1.0 MiB/s, about 4 min 12 s left"), "{line}");
}

#[test]
fn each_phase_has_a_name_and_an_estimate_a_wait_or_a_time_of_its_own() {
    let mut text = String::new();
    for phase in [
        Phase::Preparing,
        Phase::AskingStore,
        Phase::AskingServer,
        Phase::Reading,
        Phase::Uploading,
        Phase::Proving,
        Phase::Completing,
        Phase::Recording,
        Phase::Hook,
        Phase::Checking,
        Phase::Writing,
        Phase::Loading,
        Phase::Replaying,
        Phase::Indexing,
        Phase::Finishing,
        Phase::Comparing,
        Phase::Verifying,
        Phase::Diffing,
    ] {
        let moving = |second: u64| {
            let counters = Counters {
                documents: 10 * second,
                raw_bytes: second << 20,
                packed_bytes: 20 << 20,
                stored_bytes: second << 20,
                operations: 100 * second,
                expected_operations: 5_000,
                moves: second,
                ..of(phase)
            };
            (second, counters)
        };
        let readings = || [(0, reading(7))].into_iter().chain((1..=11).map(moving));
        writeln!(text, "{}", last(readings()).whole()).unwrap();
        writeln!(text, "{}", last(readings().chain([(42, moving(11).1)])).whole()).unwrap();
    }
    insta::assert_snapshot!(text, @"
    preparing, 10 s so far
    preparing, 41 s so far
    checking the store, 10 s so far
    checking the store, waiting for the store for 31 s
    examining the server, 10 s so far
    examining the server, waiting for MongoDB for 31 s
    reading (3/9 namespaces), 110 documents, 11.0 MiB of 300.0 MiB raw, 11.0 MiB stored, 1.0 MiB/s, about 4 min 49 s left
    reading (3/9 namespaces), 110 documents, 11.0 MiB of 300.0 MiB raw, 11.0 MiB stored, waiting for MongoDB for 31 s
    finishing the upload, 11.0 MiB of 20.0 MiB stored, 1.0 MiB/s, about 9 s left
    finishing the upload, 11.0 MiB of 20.0 MiB stored, waiting for the store for 31 s
    checking that the server stayed the same, 10 s so far
    checking that the server stayed the same, waiting for MongoDB for 31 s
    completing the backup, 10 s so far
    completing the backup, waiting for the store for 31 s
    recording the run, 10 s so far
    recording the run, 41 s so far
    running the hook, 10 s so far
    running the hook, 41 s so far
    checking, 110 documents, 11.0 MiB of 300.0 MiB raw, 1.0 MiB/s, about 4 min 49 s left
    checking, 110 documents, 11.0 MiB of 300.0 MiB raw, waiting for the store for 31 s
    restoring (3/9 namespaces), 110 documents, 11.0 MiB of 300.0 MiB raw, 1.0 MiB/s, about 4 min 49 s left
    restoring (3/9 namespaces), 110 documents, 11.0 MiB of 300.0 MiB raw, waiting for the store for 31 s
    restoring (3/9 namespaces), 110 documents, 11.0 MiB of 300.0 MiB raw, 1.0 MiB/s, about 4 min 49 s left
    restoring (3/9 namespaces), 110 documents, 11.0 MiB of 300.0 MiB raw, waiting for the dump for 31 s
    replaying the oplog, 1,100 of 5,000 operations, 11.0 MiB of 300.0 MiB raw, 1.0 MiB/s, about 4 min 49 s left
    replaying the oplog, 1,100 of 5,000 operations, 11.0 MiB of 300.0 MiB raw, waiting for MongoDB for 31 s
    building the indexes (3/9 namespaces), 10 s so far
    building the indexes (3/9 namespaces), 41 s so far
    finishing the restore, 10 s so far
    finishing the restore, 41 s so far
    comparing the restored data, 110 documents, 11.0 MiB of 300.0 MiB raw, 1.0 MiB/s, about 4 min 49 s left
    comparing the restored data, 110 documents, 11.0 MiB of 300.0 MiB raw, waiting for MongoDB for 31 s
    verifying, 110 documents, 11.0 MiB of 300.0 MiB, 1.0 MiB/s, about 4 min 49 s left
    verifying, 110 documents, 11.0 MiB of 300.0 MiB, waiting for the store for 31 s
    comparing the backups, 110 documents, 11.0 MiB of 300.0 MiB raw, 1.0 MiB/s, about 4 min 49 s left
    comparing the backups, 110 documents, 11.0 MiB of 300.0 MiB raw, waiting for the store for 31 s
    ");
}

/// The measures of an earlier backup say nothing about the next one.
#[test]
fn the_next_backup_of_a_verify_begins_anew() {
    let verifying = |begun: u64, mib: u64| Counters {
        begun,
        current: "20261130T030000Z-7k3q9d".into(),
        documents: 0,
        raw_bytes: mib << 20,
        moves: 100 * begun + mib,
        ..of(Phase::Verifying)
    };
    let first = (0..=20).map(|second| (second, verifying(5, second * 10)));
    let second = (21..=31).map(|second| (second, verifying(6, second - 21)));
    let line = last(first.chain(second)).whole();
    assert_eq!(
        line,
        "verifying 20261130T030000Z-7k3q9d, 10.0 MiB of 300.0 MiB, 1.0 MiB/s, about 4 min 50 s left"
    );
}

#[test]
fn a_further_attempt_is_named() {
    for (attempt, begin) in [
        (0, "reading shop"),
        (1, "reading shop"),
        (2, "second attempt: reading shop"),
        (3, "third attempt: reading shop"),
        (4, "attempt 4: reading shop"),
    ] {
        let line = last([(0, Counters { attempt, ..reading(0) })]).whole();
        assert!(line.starts_with(begin), "{line}");
    }
}

#[test]
fn a_restore_that_builds_indexes_shows_their_time_and_no_estimate() {
    let writing = |mib: u64, beside: &[(Phase, &str)]| Counters {
        phase: Phase::Writing,
        beside: beside.iter().map(|(phase, name)| (*phase, name.to_string())).collect(),
        ..reading(mib)
    };
    let rows = (Phase::Indexing, "shop.rows");
    let moving = (0..=10).map(|second| (second, writing(second, &[])));
    // Other namespaces are still written.
    let line = last(moving.clone().chain([(11, writing(11, &[rows]))])).whole();
    assert!(
        line.starts_with("restoring shop.orders (3/9 namespaces), ") && line.ends_with(" left"),
        "{line}"
    );
    // Everything is written.
    let done = |second| (second, writing(300, &[rows, (Phase::Counting, "shop.orders")]));
    let line = last(moving.clone().chain((11..=136).map(done))).whole();
    assert_eq!(line, "building the indexes of shop.rows (3/9 namespaces), 2 min 5 s so far");
    let counts = |second| (second, writing(300, &[(Phase::Counting, "shop.rows")]));
    let line = last(moving.clone().chain((11..=14).map(counts))).whole();
    assert_eq!(line, "counting the documents of shop.rows (3/9 namespaces), 3 s so far");
    // Nothing is written while indexes are built.
    let waits = |second| (second, writing(10, &[rows]));
    let line = last(moving.clone().chain((11..=31).map(waits))).whole();
    assert_eq!(line, "building the indexes of shop.rows (3/9 namespaces), 20 s so far");
    let stuck = |second| (second, Counters { under_way: 1, ..writing(10, &[]) });
    let line = last(moving.chain((11..=31).map(stuck))).whole();
    assert!(line.ends_with("waiting for MongoDB for 21 s"), "{line}");
}

#[test]
fn a_narrow_terminal_gets_a_short_name_and_fewer_figures() {
    let names = ["warehouse.order_lines_of_last_year", "倉庫.注文明細の去年のもの"];
    let mut text = String::new();
    for name in names {
        let named = |second| (second, Counters { current: name.into(), ..reading(second) });
        let line = last((0..=20).map(named));
        assert_eq!(line.within(1_000), line.whole());
        for columns in [120, 80, 60, 40, 32, 20, 8, 0] {
            writeln!(text, "{columns:<3} |{}", line.within(columns)).unwrap();
        }
    }
    insta::assert_snapshot!(text, @"
    120 |reading warehouse…ast_year (3/9 namespaces), 20.0 MiB of 300.0 MiB raw, 4.0 MiB stored, 1.0 MiB/s, about 4 min 40 s left
    80  |reading warehouse.o…_last_year, 20.0 MiB of 300.0 MiB raw, about 4 min 40 s left
    60  |reading warehouse.orde…s_of_last_year, about 4 min 40 s left
    40  |reading ware…year, about 4 min 40 s left
    32  |reading, about 4 min 40 s left
    20  |about 4 mi…40 s left
    8   |abou…eft
    0   |
    120 |reading 倉庫.注文…年のもの (3/9 namespaces), 20.0 MiB of 300.0 MiB raw, 4.0 MiB stored, 1.0 MiB/s, about 4 min 40 s left
    80  |reading 倉庫.注文明…去年のもの, 20.0 MiB of 300.0 MiB raw, about 4 min 40 s left
    60  |reading 倉庫.注文明細の去年のもの, about 4 min 40 s left
    40  |reading 倉庫…もの, about 4 min 40 s left
    32  |reading, about 4 min 40 s left
    20  |about 4 mi…40 s left
    8   |abou…eft
    0   |
    ");
}

/// Names as users choose them, and any characters.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}\\.[a-z_]{0,60}",
        "[\u{0}-\u{20}\u{300}-\u{310}\u{4e00}-\u{4e10}\u{200b}-\u{202e}👩🏽🇩🇪.]{0,60}",
        any::<String>()
    ]
}

fn phases() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::AskingServer),
        Just(Phase::Reading),
        Just(Phase::Uploading),
        Just(Phase::Writing),
        Just(Phase::Replaying),
        Just(Phase::Indexing),
        Just(Phase::Verifying)
    ]
}

/// A run in which anything happens: its readings, each with the milliseconds since the one before.
fn runs() -> impl Strategy<Value = Vec<(u64, Counters)>> {
    let amounts = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), 0..3u32, 0..3usize);
    let counters = (names(), phases(), amounts, 0..5u64);
    let reading = counters.prop_map(|(current, phase, (a, b, c, d, attempt, under_way), moves)| Counters {
        attempt,
        phase,
        begun: u64::from(attempt),
        beside: vec![(Phase::Indexing, current.clone()); under_way],
        current,
        documents: a,
        raw_bytes: b,
        expected_bytes: c,
        packed_bytes: d,
        stored_bytes: a,
        namespaces: b,
        expected_namespaces: c,
        operations: d,
        expected_operations: a,
        under_way,
        moves,
        sent_bytes: a,
    });
    prop::collection::vec((0..20_000u64, reading), 1..6)
}

proptest! {
    #[test]
    fn a_line_is_never_wider_than_the_terminal(run in runs(), columns in 0..200usize) {
        let (mut history, mut now) = (ProgressHistory::default(), 0);
        for (later, reading) in run {
            now += later;
            let line = history.line(&reading, Duration::from_millis(now));
            let text = line.within(columns);
            prop_assert!(measure_text_width(&text) <= columns, "{columns}: {text:?}");
            for text in [text, line.whole()] {
                prop_assert!(!text.contains(escape::steers), "{text:?}");
                prop_assert!(!text.contains("about 0"), "{text}");
                prop_assert!(!(text.contains("waiting") && text.contains(" left")), "{text}");
            }
        }
    }
}
