//! How many commands are under way at once, by the time that an answer takes.
//!
//! A server that is near is busy with a few commands. A server that is far away would wait for most of the time: restoring a small
//! collection takes about seven commands after each other.

use std::time::Duration;

/// The number of namespaces at once for a server that is near. Measured with a replica set on one machine: with two, small collections
/// take 1.7 times as long, because each insert waits for a majority.
const NEAR_NAMESPACES: usize = 4;
/// The MiB of documents in inserts at once for a server that is near: it is busy with four, and the fifth is on its way.
const NEAR_INSERTS: usize = 6;
/// A server that answers within this time, in milliseconds, is near, or the machine is busy.
const NEAR_MS: f64 = 2.0;
/// Namespaces more for each further millisecond of the round trip, until [`MOST_NAMESPACES`].
const NAMESPACES_PER_MS: f64 = 2.0;
const MOST_NAMESPACES: usize = 48;
/// MiB of documents more for each further millisecond of the round trip: a server inserts one in about 4 ms. Each is in memory up to
/// four times while it is sent, and a restore must not need more than 256 MiB.
const INSERTS_PER_MS: f64 = 0.25;
const MOST_INSERTS: usize = 10;

/// Commands beside small namespaces and inserts of 1 MiB, such as the renewal of a mark.
const OTHERS: usize = 8;
/// The number of connections that a restore uses at most. The driver's default is 10.
pub(super) const CONNECTIONS: u32 = (MOST_NAMESPACES + MOST_INSERTS + OTHERS) as u32;
/// The number of connections that are made at once: each takes several round trips. The driver's default is 2.
pub(super) const CONNECTING: u32 = 16;

/// The number of commands at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Namespaces that are created, filled with few documents, counted, indexed or tried.
    pub namespaces: usize,
    /// Bytes of documents in inserts.
    pub inserts: usize,
}

impl Pace {
    /// The pace for a server that is near.
    pub(super) const NEAR: Pace = Pace { namespaces: NEAR_NAMESPACES, inserts: NEAR_INSERTS << 20 };

    /// The pace for a server that answers after this time.
    pub(super) fn of(round_trip: Duration) -> Pace {
        let ms = (round_trip.as_secs_f64() * 1e3 - NEAR_MS).max(0.0);
        let more = |near: usize, per_ms: f64, most: usize| (near + (ms * per_ms) as usize).min(most);
        Pace {
            namespaces: more(NEAR_NAMESPACES, NAMESPACES_PER_MS, MOST_NAMESPACES),
            inserts: more(NEAR_INSERTS, INSERTS_PER_MS, MOST_INSERTS) << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_commands_at_once_grows_with_the_round_trip_and_is_bounded() {
        assert_eq!(Pace::of(Duration::ZERO), Pace::NEAR);
        for (ms, namespaces, inserts) in [(1, 4, 6), (2, 4, 6), (20, 40, 10), (50, 48, 10), (100_000, 48, 10)]
        {
            let pace = Pace::of(Duration::from_millis(ms));
            assert_eq!(pace, Pace { namespaces, inserts: inserts << 20 }, "{ms} ms");
        }
    }
}
