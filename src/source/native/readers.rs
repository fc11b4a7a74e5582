//! How many readers read at once, and how much each asks for: as much as the round trip to the server needs.

use std::time::Duration;

use super::cursor::FIRST_BATCH;
use crate::config::choices::ReadersChoice;

/// The number of readers, and what they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readers {
    /// The most readers of one collection at once.
    pub count: usize,
    /// The number of threads for them.
    pub threads: usize,
    /// The number of namespaces that are open at once, including the one that is being packed.
    pub namespaces: usize,
    /// The number of documents in the first batch of a collection.
    pub first_batch: u32,
    /// The size in bytes of the batches that are asked for. Larger batches are slower on a short line, and take more memory.
    pub batch: usize,
    /// The room in bytes for batches that are not packed yet.
    pub room: usize,
}

/// A server behind a shorter round trip is as good as on the same machine: other things take longer.
const NEAR: Duration = Duration::from_micros(1_500);
/// One reader more for each part of this length of the round trip.
const STEP: Duration = Duration::from_millis(4);
/// The most readers if nobody asks for a number.
const MOST: usize = 8;
/// The number of cores that one reader keeps busy with compression.
const CORES: usize = 8;

impl Readers {
    /// The readers for a server behind this round trip, on a machine with this number of cores. If one reader was asked for, it reads
    /// as near the server.
    pub fn choose(choice: ReadersChoice, round_trip: Duration, cores: usize) -> Readers {
        let far = round_trip >= NEAR && choice != ReadersChoice::Count(1);
        let for_cores = (cores / CORES).max(1);
        let for_line = if far { 1 + round_trip.div_duration_f64(STEP).ceil() as usize } else { 1 };
        let count = match choice {
            ReadersChoice::Auto => for_line.max(for_cores).min(MOST),
            ReadersChoice::Count(count) => count,
        };
        let batch = if far { 2 << 20 } else { 1 << 20 };
        Readers {
            count,
            threads: for_cores.min(count),
            // Thousands of tiny collections do not wait for a round trip each.
            namespaces: if far { 32 } else { 6 },
            // If many namespaces are open, less is asked of each, because its documents may be long.
            first_batch: if far { 16 } else { FIRST_BATCH },
            batch,
            room: (12 << 20) + (count - 1) * 2 * batch,
        }
    }

    /// The part of the room for the namespace that is being packed.
    pub fn reserved(&self) -> usize {
        (self.count - 1) * self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_and_many_cores_want_more_readers() {
        let readers = |millis: f64, cores| {
            let readers = Readers::choose(ReadersChoice::Auto, Duration::from_secs_f64(millis / 1e3), cores);
            (readers.count, readers.threads)
        };
        for (millis, cores, want) in [
            (0.1, 2, (1, 1)),
            (0.9, 4, (1, 1)),
            (1.5, 2, (2, 1)),
            (2.0, 2, (2, 1)),
            (20.0, 2, (6, 1)),
            (50.0, 2, (8, 1)),
            (5000.0, 2, (8, 1)),
            (0.1, 16, (2, 2)),
            (0.1, 256, (8, 8)),
            (20.0, 16, (6, 2)),
        ] {
            assert_eq!(readers(millis, cores), want, "{millis} ms, {cores} cores");
        }
        let asked = Readers::choose(ReadersChoice::Count(16), Duration::ZERO, 2);
        assert_eq!((asked.count, asked.threads, asked.batch), (16, 1, 1 << 20));
        let one = Readers::choose(ReadersChoice::Count(1), Duration::from_millis(50), 64);
        assert_eq!((one.count, one.threads, one.reserved()), (1, 1, 0));
    }

    #[test]
    fn each_reader_adds_at_most_8_mib() {
        for millis in [0, 1, 2, 20, 50, 400] {
            let room =
                |count| Readers::choose(ReadersChoice::Count(count), Duration::from_millis(millis), 2).room;
            for count in 2..=16 {
                assert!(room(count) - room(count - 1) <= 8 << 20);
            }
        }
    }
}
