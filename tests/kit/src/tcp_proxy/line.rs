//! A long or narrow line: bytes arrive later, and no more than some each second.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// The line between a client and a server. The default neither delays nor limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Line {
    /// The time that a byte is under way in one direction: half of the round trip.
    pub delay: Duration,
    /// Bytes per second in each direction, of all connections together. `None` is no limit.
    pub rate: Option<u64>,
}

/// The most pieces of one direction of a connection that are under way.
const UNDER_WAY: usize = 64;

/// One direction of a line, which all connections share.
pub(super) struct Lane {
    line: Line,
    /// When the line has sent everything so far.
    free: Mutex<Instant>,
}

impl Lane {
    pub fn new(line: Line) -> Lane {
        Lane { line, free: Mutex::new(Instant::now()) }
    }

    /// Waits until the line has sent this many bytes more, and returns when they arrive at the other end.
    fn send(&self, bytes: usize) -> Instant {
        let now = Instant::now();
        let Some(rate) = self.line.rate else { return now + self.line.delay };
        let sent = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            *free = now.max(*free) + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free
        };
        // The sender waits as well, so that a narrow line does not look like a large buffer.
        thread::sleep(sent.saturating_duration_since(now));
        sent + self.line.delay
    }
}

/// Takes pieces, each with the time at which it arrives.
type Pieces = SyncSender<(Instant, Vec<u8>)>;

/// Writes pieces to a socket when they arrive.
pub(super) struct Carrier<'a> {
    lane: &'a Lane,
    to: &'a TcpStream,
    /// The thread that holds pieces back. `None` if the line has no delay.
    late: Option<(Pieces, ScopedJoinHandle<'a, ()>)>,
    spare: Receiver<Vec<u8>>,
}

impl<'a> Carrier<'a> {
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        lane: &'scope Lane,
        to: &'scope TcpStream,
    ) -> Carrier<'scope> {
        let (used, spare) = sync_channel(UNDER_WAY);
        let late = (!lane.line.delay.is_zero()).then(|| {
            let (pieces, arriving) = sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
            let thread = scope.spawn(move || {
                let mut to = to;
                for (due, piece) in arriving {
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    if to.write_all(&piece).is_err() {
                        return;
                    }
                    let _ = used.try_send(piece);
                }
            });
            (pieces, thread)
        });
        Carrier { lane, to, late, spare }
    }

    /// Sends a piece. Returns false if the other end takes nothing any more.
    pub fn carry(&self, piece: &[u8]) -> bool {
        let due = self.lane.send(piece.len());
        match &self.late {
            None => {
                let mut to = self.to;
                to.write_all(piece).is_ok()
            }
            Some((pieces, _)) => {
                let mut copy = self.spare.try_recv().unwrap_or_default();
                copy.clear();
                copy.extend_from_slice(piece);
                pieces.send((due, copy)).is_ok()
            }
        }
    }

    /// Waits until everything has arrived.
    pub fn finish(self) {
        if let Some((pieces, thread)) = self.late {
            drop(pieces);
            let _ = thread.join();
        }
    }
}
