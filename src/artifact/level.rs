//! The compression level that follows the line (`compression_level = auto`).
//!
//! The level rises while the upload is the bottleneck and falls while the compressors are. If reading is the bottleneck, it stays
//! at the codec's default: more compression would take time from a server on the same machine, and the backup would not end sooner.
//!
//! The signal is the backlog, the bytes of the artifact that are packed and not sent yet. It grows while the compressors are
//! faster than the line, so a level that follows it settles where both have the same speed, for any line and any processor.
//! [`LevelControl`] decides; [`AutoLevel`] asks it before each block.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::codec::Encoder;
use super::pack::Encode;
use crate::base::error::Result;
use crate::base::progress::Meter;
use crate::base::waits::Waits;
use crate::config::choices::Codec;

/// The time over which the rate of the line is averaged, in seconds.
const AVERAGED: f64 = 2.0;
/// The data of this many seconds of the line may wait, besides a part, before the level rises: a fast line needs several parts
/// under way to be busy, and a slow one does not.
const TOLERATED: f64 = 2.0;
/// The number of blocks after which the level below the default changes by one.
const WATCHED: u32 = 4;

/// How far a data path has come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Flow {
    /// Since the beginning.
    now: Duration,
    /// The bytes of the artifact that are packed, without full parts that cannot be sent yet.
    packed: u64,
    /// The bytes that are sent.
    sent: u64,
    /// How long the reader waited for the compression.
    compressing: Duration,
}

/// Chooses the level of the next block.
///
/// Below a backlog of one part, which has to be filled before it can be sent, the line may be idle: the level is the default, or less
/// while the compressors are the bottleneck. Up to one part and what the line sends in two seconds, it is the default. One part more
/// raises it to the highest, in equal steps.
#[derive(Debug)]
struct LevelControl {
    levels: RangeInclusive<i32>,
    /// The codec's default.
    usual: i32,
    level: i32,
    /// The lowest level now: the default or, while the line could send more and the compressors are the bottleneck, less.
    least: i32,
    /// The number of blocks since `watched_from`, in which the reader is watched.
    watched: u32,
    watched_from: Flow,
    /// The size of a part in bytes.
    part: f64,
    /// The most bytes of the parts under way that a fast line needs.
    under_way: f64,
    /// The rate of the line in bytes per second.
    rate: f64,
    before: Flow,
}

impl LevelControl {
    /// Begins at the codec's level. `at_once` parts of `part_size` bytes are sent at once.
    fn new(codec: Codec, part_size: u64, at_once: usize) -> LevelControl {
        let part = part_size as f64;
        LevelControl {
            levels: codec.levels(),
            usual: codec.level(),
            level: codec.level(),
            least: codec.level(),
            watched: 0,
            watched_from: Flow::default(),
            part,
            // On average, a part under way is half sent.
            under_way: part * at_once as f64 / 2.0,
            // Nothing is known about the line yet: neither wait for long nor rise at once.
            rate: part / 2.0,
            before: Flow::default(),
        }
    }

    fn next(&mut self, flow: Flow) -> i32 {
        self.measure(&flow);
        let backlog = flow.packed.saturating_sub(flow.sent) as f64;
        let tolerated = self.part + (self.rate * TOLERATED).min(self.under_way);
        if backlog >= self.part {
            // The line is busy: a level below the default would only give it more to send.
            (self.least, self.watched, self.watched_from) = (self.usual, 0, flow);
        } else {
            self.watch_reader(flow);
        }
        let wanted = if backlog >= tolerated {
            let steps = f64::from(self.levels.end() - self.usual);
            let raised = ((backlog - tolerated) / self.part * steps) as i32;
            self.usual.saturating_add(raised).saturating_add(1).min(*self.levels.end())
        } else {
            self.least
        };
        // A backlog also shrinks while the store answers for several parts at once. If the line can run dry, nothing waits.
        let slowly = wanted < self.level && backlog >= self.part;
        // One level for each block: a processor that is free for a moment does not bring blocks that then take long.
        self.level = if slowly { self.level - 1 } else { wanted.min(self.level + 1) };
        self.before = flow;
        self.level
    }

    /// Measures the rate of the line while it certainly has something to send.
    fn measure(&mut self, flow: &Flow) {
        let passed = flow.now.saturating_sub(self.before.now).as_secs_f64();
        let sent = flow.sent.saturating_sub(self.before.sent);
        let backlog = self.before.packed.saturating_sub(self.before.sent) as f64;
        if passed > 0.0 && backlog >= self.part {
            let weight = 1.0 - (-passed / AVERAGED).exp();
            self.rate += weight * (sent as f64 / passed - self.rate);
        }
    }

    /// The line could send more: lowers `least` while the reader waits for the compressors for a third of its time, and raises it again
    /// to the default while it hardly does.
    fn watch_reader(&mut self, flow: Flow) {
        self.watched += 1;
        if self.watched < WATCHED {
            return;
        }
        let passed = flow.now.saturating_sub(self.watched_from.now);
        let waited = flow.compressing.saturating_sub(self.watched_from.compressing);
        if waited > passed / 3 {
            self.least = (self.least - 1).max(*self.levels.start());
        } else if waited < passed / 8 {
            self.least = (self.least + 1).min(self.usual);
        }
        (self.watched, self.watched_from) = (0, flow);
    }
}

/// The most compressors that work at a level above [`Codec::light`] at once. Each of them needs up to 18 MiB of memory.
const STRONG: usize = 4;

/// The level of a backup whose level follows the line.
pub struct AutoLevel {
    codec: Codec,
    meter: Meter,
    waits: Waits,
    /// The highest level of a worker's own compressor.
    own: i32,
    state: Mutex<State>,
}

struct State {
    control: LevelControl,
    /// The compressors for levels above `own` that are not in use.
    strong: Vec<LevelEncoder>,
    /// The sum of the levels of all blocks, each as often as the block has raw bytes.
    weighed: u128,
    raw: u64,
}

/// A compressor whose level changes.
struct LevelEncoder {
    encoder: Encoder,
    level: i32,
}

impl LevelEncoder {
    fn new(codec: Codec) -> Result<LevelEncoder> {
        Ok(LevelEncoder { encoder: codec.encoder()?, level: codec.level() })
    }

    fn encode(&mut self, level: i32, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if level != self.level {
            self.encoder.set_level(level)?;
            self.level = level;
        }
        self.encoder.encode(raw, out)
    }
}

impl AutoLevel {
    /// Begins at the codec's level. `meter` and `waits` are those of the data path, which has `compressors` threads that compress
    /// and sends up to `at_once` parts of `part_size` bytes at once.
    ///
    /// # Errors
    /// Returns an error if a compressor cannot be set up.
    pub fn new(
        codec: Codec,
        compressors: usize,
        (part_size, at_once): (u64, usize),
        meter: Meter,
        waits: Waits,
    ) -> Result<Arc<AutoLevel>> {
        let few = compressors <= STRONG;
        let strong = (0..if few { 0 } else { STRONG }).map(|_| LevelEncoder::new(codec));
        let strong = strong.collect::<Result<_>>()?;
        let control = LevelControl::new(codec, part_size, at_once);
        Ok(Arc::new(AutoLevel {
            codec,
            meter,
            waits,
            own: if few { *codec.levels().end() } else { codec.light() },
            state: Mutex::new(State { control, strong, weighed: 0, raw: 0 }),
        }))
    }

    /// Makes the compressor of a thread.
    ///
    /// # Errors
    /// Returns an error if it cannot be set up.
    pub fn encoder(self: &Arc<Self>) -> Result<Encode> {
        let (auto, mut own) = (self.clone(), LevelEncoder::new(self.codec)?);
        Ok(Box::new(move |raw, out| {
            let (level, strong) = auto.next(raw.len());
            let Some(mut strong) = strong else { return own.encode(level, raw, out) };
            let encoded = strong.encode(level, raw, out);
            auto.state().strong.push(strong);
            encoded
        }))
    }

    /// The mean level of all blocks, weighed by their raw bytes, in hundredths; the codec's level if there were no blocks.
    pub fn mean(&self) -> f64 {
        let state = self.state();
        match state.raw {
            0 => self.codec.level().into(),
            raw => (state.weighed as f64 * 100.0 / raw as f64).round() / 100.0,
        }
    }

    /// The level for the next block of this many raw bytes, with the shared compressor that it needs.
    fn next(&self, raw: usize) -> (i32, Option<LevelEncoder>) {
        let mut state = self.state();
        // Read under the lock, so that the figures of the threads are in order.
        let (spent, (packed, sent)) = (self.waits.spent(), self.meter.flow());
        let now = spent.mongodb + spent.compression + spent.store + spent.other;
        let flow = Flow { now, packed, sent, compressing: spent.compression };
        let mut level = state.control.next(flow);
        let strong = if level > self.own { state.strong.pop() } else { None };
        if strong.is_none() {
            level = level.min(self.own);
        }
        state.weighed += level.unsigned_abs() as u128 * raw as u128;
        state.raw += raw as u64;
        (level, strong)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
