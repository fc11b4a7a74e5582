mod simulation;

use std::time::Duration;

use super::*;

const PART: u64 = 8 << 20;
const ZSTD: Codec = Codec::Zstd { level: 3 };

/// A data path after some seconds, with this backlog. Whether the reader always waits for the compression, or never.
fn flow(seconds: u64, sent: u64, backlog: u64, hungry: bool) -> Flow {
    let now = Duration::from_secs(seconds);
    Flow { now, packed: sent + backlog, sent, compressing: if hungry { now } else { Duration::ZERO } }
}

#[test]
fn the_level_follows_the_backlog_up_and_down() {
    let mut control = LevelControl::new(ZSTD, PART, 4);
    let line = 2 << 20;
    let levels: Vec<i32> = (1..=80)
        .map(|second| control.next(flow(second, second * line, second.min(80 - second) * PART / 8, false)))
        .collect();
    let (rising, falling) = levels.split_at(40);
    assert!(rising.is_sorted() && falling.iter().rev().is_sorted(), "{levels:?}");
    assert_eq!((levels[0], levels[39], levels[79]), (3, 19, 3), "{levels:?}");
}

#[test]
fn a_backlog_that_a_fast_line_needs_does_not_raise_the_level() {
    let mut control = LevelControl::new(ZSTD, PART, 4);
    for second in 1..100 {
        let backlog = second.min(2) * PART;
        assert_eq!(control.next(flow(second, second * (100 << 20), backlog, false)), 3);
    }
}

#[test]
fn the_level_stays_at_the_default_while_reading_is_the_bottleneck() {
    for (codec, usual) in [(ZSTD, 3), (Codec::Gzip { level: 4 }, 4)] {
        let mut control = LevelControl::new(codec, PART, 1);
        for second in 1..100 {
            assert_eq!(control.next(flow(second, second << 20, PART / 2, false)), usual);
        }
    }
}

#[test]
fn the_level_falls_while_the_compressors_are_the_bottleneck_and_rises_again() {
    let mut control = LevelControl::new(ZSTD, PART, 1);
    let hungry: Vec<i32> = (1..=20).map(|second| control.next(flow(second, second << 30, 0, true))).collect();
    assert!(hungry.is_sorted_by(|a, b| a >= b), "{hungry:?}");
    assert_eq!((hungry[0], hungry[19]), (3, 1), "{hungry:?}");
    let mut fed = flow(20, 20 << 30, 0, true);
    let levels: Vec<i32> = (0..20)
        .map(|_| {
            fed.now += Duration::from_secs(1);
            control.next(fed)
        })
        .collect();
    assert!(levels.is_sorted() && levels[19] == 3, "{levels:?}");
}

#[test]
fn the_level_does_not_fall_below_the_default_while_the_line_is_busy() {
    let mut control = LevelControl::new(ZSTD, PART, 4);
    for second in 1..100 {
        assert_eq!(control.next(flow(second, second * (100 << 20), PART, true)), 3);
    }
}

#[test]
fn a_backlog_that_falls_in_one_step_lowers_the_level_slowly_but_a_dry_line_at_once() {
    let mut control = LevelControl::new(ZSTD, PART, 4);
    assert_eq!((1..20).map(|n| control.next(flow(n, n << 20, 6 * PART, true))).last(), Some(19));
    assert_eq!(control.next(flow(20, 60 << 20, PART, true)), 18);
    assert_eq!(control.next(flow(21, 70 << 20, 0, true)), 3);
}

#[test]
fn strange_figures_give_a_level_of_the_codec() {
    let ends = [0, 1, PART, u64::MAX];
    for codec in [ZSTD, Codec::Zstd { level: 19 }, Codec::Gzip { level: 1 }] {
        let mut control = LevelControl::new(codec, PART, 1);
        for (packed, sent, millis) in ends.iter().flat_map(|packed| {
            ends.iter().flat_map(move |sent| [0, 5, 1, u64::MAX].map(|millis| (*packed, *sent, millis)))
        }) {
            let now = Duration::from_millis(millis);
            let level = control.next(Flow { now, packed, sent, compressing: now });
            assert!(codec.levels().contains(&level), "{level} {packed} {sent} {millis}");
        }
    }
}

fn auto(codec: Codec, compressors: usize, meter: &Meter) -> Arc<AutoLevel> {
    AutoLevel::new(codec, compressors, (PART, 1), meter.clone(), Waits::default()).unwrap()
}

#[test]
fn blocks_of_different_levels_decode_as_one_stream_and_the_mean_is_weighed_by_their_length() {
    let words =
        ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "then", "it", "sleeps"];
    let mut seed = 1_u32;
    let text: Vec<u8> = (0..20_000)
        .flat_map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            format!("{} ", words[(seed >> 16) as usize % words.len()]).into_bytes()
        })
        .collect();
    for codec in [ZSTD, Codec::Gzip { level: 4 }] {
        let meter = Meter::default();
        let auto = auto(codec, 1, &meter);
        assert_eq!(auto.mean(), f64::from(codec.level()));
        let mut encode = auto.encoder().unwrap();
        let (mut stream, mut piece, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        let (usual, highest) = (codec.level(), *codec.levels().end());
        let (mut sizes, mut levels) = (Vec::new(), 0);
        for block in 0..20 {
            meter.packed(if block == 0 { 0 } else { 100 * PART });
            encode(&text, &mut piece).unwrap();
            sizes.push(piece.len());
            levels += (usual + block).min(highest);
            stream.extend_from_slice(&piece);
            raw.extend_from_slice(&text);
        }
        assert_eq!(codec.decode(&stream, u64::MAX).unwrap(), raw);
        assert_eq!(auto.mean(), f64::from(levels * 5) / 100.0);
        assert!(sizes[19] < sizes[0], "{sizes:?}");
    }
}

#[test]
fn of_many_threads_only_four_use_the_levels_that_need_much_memory() {
    let meter = Meter::default();
    meter.packed(100 * PART);
    let risen = |compressors| {
        let level = auto(ZSTD, compressors, &meter);
        for _ in 0..16 {
            let (_, strong) = level.next(1);
            level.state().strong.extend(strong);
        }
        level
    };
    let level = risen(5);
    let held: Vec<_> = (0..6).map(|_| level.next(1)).collect();
    let levels: Vec<i32> = held.iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [19, 19, 19, 19, 8, 8]);
    assert_eq!(held.iter().filter(|(_, strong)| strong.is_some()).count(), 4);
    // With as many threads as that, each has a compressor of its own.
    let few = risen(4);
    assert_eq!((0..6).map(|_| few.next(1).0).collect::<Vec<_>>(), [19; 6]);
}
