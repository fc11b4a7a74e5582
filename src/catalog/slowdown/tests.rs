use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

/// A backup of this many MiB that waited these seconds for MongoDB, the compression and the store, and worked for one second.
fn backup(mib: u64, [mongodb, compression, store]: [u64; 3]) -> BackupSpeed {
    let [mongodb_seconds, compression_seconds, store_seconds] =
        [mongodb, compression, store].map(|n| n as f64);
    let seconds = mongodb_seconds + compression_seconds + store_seconds + 1.0;
    let other_seconds = 1.0;
    let timing = DataTiming { seconds, mongodb_seconds, compression_seconds, store_seconds, other_seconds };
    BackupSpeed { raw_bytes: mib * MIB, timing }
}

#[test]
fn the_note_says_by_how_much_and_which_wait_grew_most() {
    let before = [backup(6_000, [60, 30, 9]); 6];
    let slow = slowdown(&backup(6_600, [66, 233, 300]), &before).unwrap();
    assert_eq!(
        slow.to_string(),
        "slower than usual: 11.0 MiB/s raw, where the median of the last 6 backups is 60.0 MiB/s; the data took \
         10 min 0 s instead of about 1 min 50 s, and the wait for the store grew most, by 4 min 50 s"
    );
    let mut slow = backup(6_000, [60, 30, 9]);
    (slow.timing.seconds, slow.timing.other_seconds) = (300.0, 201.0);
    let words = slowdown(&slow, &before).unwrap().to_string();
    assert!(
        words.ends_with("about 1 min 40 s, although no wait grew: this machine itself was slower"),
        "{words}"
    );
}

#[test]
fn a_backup_is_slow_below_half_of_the_median_and_a_minute_longer() {
    let before = [backup(6_000, [99, 0, 0]); 5];
    let is_slow = |now: &BackupSpeed| slowdown(now, &before).is_some();
    assert!(!is_slow(&backup(6_000, [199, 0, 0])), "exactly half of the speed");
    assert!(is_slow(&backup(6_000, [200, 0, 0])));
    // At the usual speed, 600 MiB take 10 s.
    assert!(!is_slow(&backup(600, [68, 0, 0])), "59 s longer");
    assert!(is_slow(&backup(600, [69, 0, 0])));
    assert!(slowdown(&backup(6_000, [500, 0, 0]), &before[..4]).is_none(), "too few backups");
    assert!(slowdown(&backup(6_000, [500, 0, 0]), &[backup(0, [1, 1, 1]); 9]).is_none(), "no usual speed");
}

#[test]
fn only_the_newest_ten_backups_count_and_single_slow_ones_do_not() {
    let (fast, slow) = (backup(6_000, [99, 0, 0]), backup(6_000, [999, 0, 0]));
    let newest_first = |slow_ones: usize| [vec![slow; slow_ones], vec![fast; 40]].concat();
    assert!(slowdown(&slow, &newest_first(4)).is_some());
    assert!(slowdown(&slow, &newest_first(6)).is_none(), "it is the usual speed by now");
}

fn speeds() -> impl Strategy<Value = BackupSpeed> {
    (0_u64..100_000, [0_u64..10_000, 0..10_000, 0..10_000]).prop_map(|(mib, waits)| backup(mib, waits))
}

proptest! {
    #[test]
    fn a_backup_that_is_not_slow_does_not_become_slow_by_being_faster(
        before in prop::collection::vec(speeds(), 0..20),
        now in speeds(),
        faster in 0.0_f64..1.0,
    ) {
        let mut quicker = now;
        quicker.timing.seconds *= faster;
        if slowdown(&quicker, &before).is_some() {
            prop_assert!(slowdown(&now, &before).is_some());
        }
    }

    #[test]
    fn a_slow_backup_took_a_minute_longer_and_had_enough_before_it(
        before in prop::collection::vec(speeds(), 0..20),
        now in speeds(),
    ) {
        if let Some(slow) = slowdown(&now, &before) {
            prop_assert!(now.timing.seconds >= LONGER && before.len() >= FEWEST);
            prop_assert!(slow.speed < slow.usual * PART && slow.seconds >= slow.expected + LONGER);
            let mut newest: Vec<BackupSpeed> = before.iter().take(MOST).copied().collect();
            newest.reverse();
            prop_assert_eq!(slowdown(&now, &newest), Some(slow), "the order does not matter");
        }
        let fast = [now; MOST];
        prop_assert_eq!(slowdown(&now, &fast), None, "the usual speed is not slow");
    }
}
