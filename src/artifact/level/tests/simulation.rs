//! A simulated data path: a reader, compressors, a writer and an upload in parts, on a machine with some cores. The costs and ratios
//! of the levels are those of 1 MiB of orders of 700 bytes, as measured on one core.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Flow, LevelControl};
use crate::config::choices::Codec;

/// Of each level: milliseconds for 1 MB, and the ratio.
type Levels = &'static [(f64, f64)];

const ZSTD: Levels = &[
    (3.5, 2.385),
    (5.0, 2.597),
    (5.8, 2.725),
    (7.7, 2.765),
    (12.0, 2.838),
    (16.7, 2.944),
    (22.0, 2.988),
    (25.0, 3.009),
    (27.0, 3.013),
    (29.0, 3.046),
    (40.0, 3.071),
    (40.0, 3.071),
    (118.0, 3.091),
    (185.0, 3.099),
    (196.0, 3.099),
    (370.0, 3.261),
    (385.0, 3.248),
    (455.0, 3.264),
    (526.0, 3.267),
];
const GZIP: Levels = &[
    (8.5, 2.507),
    (12.2, 2.550),
    (14.2, 2.616),
    (17.5, 2.639),
    (20.9, 2.709),
    (25.7, 2.744),
    (32.2, 2.770),
    (45.9, 2.791),
    (46.0, 2.792),
    (156.0, 2.863),
    (238.0, 2.866),
    (294.0, 2.866),
];

/// The seconds of a step.
const STEP: f64 = 0.02;
/// The size of a part in MB.
const PART: f64 = 8.388_608;
const NONE: f64 = 1e-9;

#[derive(Debug, Clone, Copy)]
struct Machine {
    /// MB of documents.
    total: f64,
    cores: usize,
    /// How much slower than the measured core a core is.
    slower: f64,
    /// The part of the processor time that the compressors get in every other interval, and the length of an interval in seconds.
    starved: (f64, f64),
    /// Milliseconds of the client's reader, and of a server on the same machine, for 1 MB.
    reader: f64,
    server: f64,
    /// MB of a collection. Its first part waits for the collection's end, because it has the size.
    collection: f64,
    /// The most MB per second that the server sends.
    source: f64,
    /// MB per second of the line until `turn`, and then.
    line: [f64; 2],
    turn: f64,
    /// MB per second of one connection.
    connection: f64,
    /// Seconds from the end of a part to its answer.
    latency: f64,
    at_once: usize,
}

/// A block on its way.
#[derive(Clone, Copy)]
struct Block {
    /// In MB.
    raw: f64,
    /// The core that compresses it, and the milliseconds that are left.
    core: Option<usize>,
    left: f64,
    /// The MB that come of it.
    stored: f64,
}

/// A part under way: its size, what is sent of it, and when it may begin and is answered.
struct Part {
    size: f64,
    sent: f64,
    begins: f64,
    answered: Option<f64>,
}

/// Runs a backup. Returns its seconds and the mean level.
fn run(machine: &Machine, levels: Levels, mut choose: impl FnMut(Flow) -> i32) -> (f64, f64) {
    let m = machine;
    let (mut now, mut read, mut partial, mut in_flight) = (0.0_f64, 0.0, 0.0, 0.0);
    // The blocks in the order of the artifact; the first ones are being compressed.
    let mut blocks: VecDeque<Block> = VecDeque::new();
    let (mut packed, mut current, mut acknowledged) = (0.0, 0.0, 0.0);
    // The writer is blocked while parts are ready and another one waits.
    let (mut waiting, mut ready): (Option<f64>, VecDeque<f64>) = (None, VecDeque::new());
    let (mut written, mut held, mut first) = (0.0, 0.0, true);
    let mut parts: Vec<Part> = Vec::new();
    let (mut compressing, mut weighed) = (0.0, 0.0);
    let budget = m.cores as f64 * 4.0;
    loop {
        // The compressors have a lower priority than the reader and the server.
        let mut cpu = m.cores as f64 * STEP * 1000.0 / m.slower;
        if read < m.total {
            let room = (budget - in_flight - partial).max(0.0);
            let wanted = (m.source * STEP).min(m.total - read).min(cpu / (m.reader + m.server));
            let wanted = wanted.min(STEP * 1000.0 / m.slower / m.reader);
            let taken = wanted.min(room);
            cpu -= taken * (m.reader + m.server);
            (read, partial) = (read + taken, partial + taken);
            if ready.is_empty() && taken < wanted {
                compressing += STEP;
            }
            while partial >= 1.0 || (read >= m.total - NONE && partial > NONE) {
                let raw = partial.min(1.0);
                (partial, in_flight) = (partial - raw, in_flight + raw);
                blocks.push_back(Block { raw, core: None, left: 0.0, stored: 0.0 });
            }
        }
        if (now / m.starved.1) as u64 % 2 == 1 {
            cpu *= m.starved.0;
        }
        let sent = acknowledged + parts.iter().map(|part| part.sent).sum::<f64>();
        for core in 0..m.cores {
            let mut time = cpu / m.cores as f64;
            while time > NONE {
                let own = |block: &&mut Block| block.core == Some(core) && block.left > NONE;
                if let Some(block) = blocks.iter_mut().find(own) {
                    let worked = time.min(block.left);
                    (time, block.left) = (time - worked, block.left - worked);
                    continue;
                }
                let Some(block) = blocks.iter_mut().find(|block| block.core.is_none()) else { break };
                let bytes = |mb: f64| (mb * 1e6) as u64;
                let level = choose(Flow {
                    now: Duration::from_secs_f64(now),
                    packed: bytes(packed - held),
                    sent: bytes(sent),
                    compressing: Duration::from_secs_f64(compressing),
                });
                let (cost, ratio) = levels[level as usize - 1];
                weighed += f64::from(level) * block.raw;
                let (left, stored) = (block.raw * cost, block.raw / ratio);
                *block = Block { core: Some(core), left, stored, ..*block };
            }
        }
        while ready.is_empty() {
            let Some(block) = blocks.pop_front_if(|block| block.core.is_some() && block.left <= NONE) else {
                break;
            };
            in_flight -= block.raw;
            (packed, current, written) = (packed + block.stored, current + block.stored, written + block.raw);
            if current >= PART {
                current -= PART;
                if std::mem::take(&mut first) { held = PART } else { ready.push_back(PART) }
            }
            if written >= m.collection {
                (written, first) = (0.0, true);
                ready.extend((held > 0.0).then(|| std::mem::take(&mut held)));
            }
            if waiting.is_none() {
                waiting = ready.pop_front();
            }
        }
        let all = read >= m.total - NONE && blocks.is_empty();
        if all && ready.is_empty() && held + current > 0.0 {
            ready.extend(
                [std::mem::take(&mut held), std::mem::take(&mut current)]
                    .into_iter()
                    .filter(|size| *size > 0.0),
            );
            waiting = waiting.or_else(|| ready.pop_front());
        }
        if all && ready.is_empty() && waiting.is_none() && parts.is_empty() {
            return (now, weighed / m.total);
        }
        while parts.len() < m.at_once {
            let Some(size) = waiting.take() else { break };
            waiting = ready.pop_front();
            parts.push(Part { size, sent: 0.0, begins: now + m.latency, answered: None });
        }
        let mut line = STEP * if now < m.turn { m.line[0] } else { m.line[1] };
        let mut sending = parts.iter().filter(|part| part.begins <= now && part.sent < part.size).count();
        for part in parts.iter_mut().filter(|part| part.begins <= now && part.sent < part.size) {
            let share = (line / sending as f64).min(part.size - part.sent).min(m.connection * STEP);
            (line, sending) = (line - share, sending - 1);
            part.sent += share;
            if part.sent >= part.size - NONE {
                (part.sent, part.answered) = (part.size, Some(now + m.latency));
            }
        }
        parts.retain(|part| {
            let over = part.answered.is_some_and(|at| at <= now);
            acknowledged += if over { part.size } else { 0.0 };
            !over
        });
        now += STEP;
    }
}

/// The shortest time with a fixed level, and the time and mean level if the level follows the line.
fn compare(machine: &Machine, codec: Codec) -> (f64, (f64, f64)) {
    let levels = if let Codec::Gzip { .. } = codec { GZIP } else { ZSTD };
    let fixed = codec.levels().map(|level| run(machine, levels, |_| level).0);
    let best = fixed.min_by(f64::total_cmp).expect("levels");
    let mut control = LevelControl::new(codec, (PART * 1e6) as u64, machine.at_once);
    (best, run(machine, levels, |flow| control.next(flow)))
}

/// Two cores, which a server on the same machine shares, and a line of 20 Mbit/s.
const NARROW: Machine = Machine {
    total: 300.0,
    cores: 2,
    slower: 1.0,
    starved: (1.0, 1.0),
    reader: 2.0,
    server: 4.0,
    collection: 1e6,
    source: 1e6,
    line: [2.5; 2],
    turn: 0.0,
    connection: 1e6,
    latency: 0.05,
    at_once: 4,
};

const CODECS: [Codec; 2] = [Codec::Zstd { level: 3 }, Codec::Gzip { level: 4 }];

#[test]
fn a_narrow_line_gets_a_high_level() {
    for codec in CODECS {
        let (best, (seconds, mean)) = compare(&NARROW, codec);
        assert!(seconds <= best * 1.05 && mean > f64::from(codec.level()) + 3.0, "{best} {seconds} {mean}");
    }
}

#[test]
fn a_disk_gets_the_fastest_level_and_a_slow_server_the_default() {
    for codec in CODECS {
        let disk = Machine { line: [1000.0; 2], latency: 0.0, at_once: 1, ..NARROW };
        let (best, (seconds, mean)) = compare(&disk, codec);
        assert!(seconds <= best * 1.1 + 0.1 && mean < 1.5, "{best} {seconds} {mean}");
        let (_, (_, mean)) = compare(&Machine { source: 20.0, ..disk }, codec);
        assert!((mean - f64::from(codec.level())).abs() < 0.01, "{mean}");
    }
}

#[test]
fn a_line_whose_speed_changes_half_way_is_followed() {
    for line in [[2.5, 25.0], [25.0, 2.5]] {
        let machine = Machine { line, turn: if line[0] < 10.0 { 20.0 } else { 2.0 }, ..NARROW };
        let (best, (seconds, mean)) = compare(&machine, Codec::Zstd { level: 3 });
        assert!(seconds <= best * 1.05, "{line:?}: {best} {seconds} {mean}");
    }
}

/// A server that is busy leaves little time to the compressors. The first part of each collection waits for the collection's end,
/// and is no backlog.
#[test]
fn compressors_without_time_do_not_raise_the_level() {
    for codec in CODECS {
        let busy = Machine { slower: 15.0, reader: 0.2, server: 0.2, collection: 55.0, ..NARROW };
        let (best, (seconds, mean)) = compare(&busy, codec);
        assert!(seconds <= best * 1.05, "{best} {seconds} {mean}");
    }
}

prop_compose! {
    fn machine()(
        (total, cores, slower) in (300.0..600.0_f64, prop::sample::select(vec![1, 2, 2, 4, 8]), 0.4..1.0_f64),
        (reader, server) in (1.0..3.0_f64, prop::sample::select(vec![0.0, 4.0])),
        collection in prop::sample::select(vec![50.0, 120.0, 1e6]),
        source in prop::sample::select(vec![20.0, 100.0, 1e6]),
        line in 0.1..2.3_f64,
        (connection, latency) in (prop::sample::select(vec![5.0, 20.0, 1e6, 1e6]), 0.0..0.1_f64),
        at_once in prop::sample::select(vec![1, 4, 4, 8]),
    ) -> Machine {
        let line = [10_f64.powf(line); 2];
        Machine { total, cores, slower, starved: (1.0, 1.0), reader, server, collection, source, line, turn: 0.0, connection, latency, at_once }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// It takes up to a second to find out how fast the line is.
    #[test]
    fn no_fixed_level_is_much_faster(machine in machine(), gzip in any::<bool>()) {
        let (best, (seconds, mean)) = compare(&machine, CODECS[usize::from(gzip)]);
        prop_assert!(seconds <= best * 1.1 + 1.0, "{best} {seconds} {mean}");
    }
}
