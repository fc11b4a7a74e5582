//! The threads that carry bytes, and the reset of connections.

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::line::Carrier;
use super::{Direction, Mode, Shared, Verdict};

/// The two ends of a connection.
pub(super) struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// The connection was reset. Neither direction may end in the normal way any more.
    dead: AtomicBool,
}

/// Accepts connections until the proxy is dropped.
pub(super) fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let refuse = shared.mode.lock().unwrap_or_else(PoisonError::into_inner).mode == Mode::Refuse;
        let Ok(server) = TcpStream::connect_timeout(&shared.target, Duration::from_secs(5)) else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let connection = Arc::new(Connection { client, server, dead: AtomicBool::new(false) });
        if refuse {
            connection.reset();
            continue;
        }
        {
            let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|connection| Arc::strong_count(connection) > 1);
            open.push(Arc::clone(&connection));
        }
        for direction in [Direction::Up, Direction::Down] {
            let (shared, connection) = (Arc::clone(shared), Arc::clone(&connection));
            std::thread::spawn(move || pump(&connection, direction, &shared));
        }
    }
}

fn pump(connection: &Connection, direction: Direction, shared: &Shared) {
    let (from, to) = match direction {
        Direction::Up => (&connection.client, &connection.server),
        Direction::Down => (&connection.server, &connection.client),
    };
    std::thread::scope(|scope| {
        let carrier = Carrier::start(scope, &shared.lanes[direction as usize], to);
        if let Some(reset) = carry_all(connection, direction, shared, from, &carrier) {
            if reset {
                connection.reset();
            }
            return;
        }
        carrier.finish();
        if !connection.dead.load(Ordering::SeqCst) {
            let _ = to.shutdown(Shutdown::Write);
        }
    });
}

/// Carries bytes until the direction ends in the normal way. `Some` if it ends in another way: true if the connection is to be
/// reset.
fn carry_all(
    connection: &Connection,
    direction: Direction,
    shared: &Shared,
    mut from: &TcpStream,
    carrier: &Carrier<'_>,
) -> Option<bool> {
    let mut buffer = vec![0; shared.piece];
    loop {
        let len = match from.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(len) => len,
        };
        let (pass, end) = match shared.verdict(direction, len) {
            Verdict::Pass(len) => (len, false),
            Verdict::Truncate(len) => (len, true),
            Verdict::Cut(len) => {
                carrier.carry(&buffer[..len]);
                return Some(true);
            }
            // The connection stays open but is not read any more, so the sender's window fills up.
            Verdict::Stall => {
                while !shared.stopped.load(Ordering::SeqCst) && !connection.dead.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Some(false);
            }
        };
        // The bytes are counted before they are sent, so that a receiver finds them counted.
        shared.bytes[direction as usize].fetch_add(pass as u64, Ordering::SeqCst);
        if !carrier.carry(&buffer[..pass]) || end {
            return None;
        }
    }
}

impl Connection {
    /// Ends both directions with a reset, as a crashed router or peer does.
    pub fn reset(&self) {
        self.dead.store(true, Ordering::SeqCst);
        for stream in [&self.client, &self.server] {
            // This wakes the thread that reads from the stream: Linux does not disconnect a socket that is being read.
            let _ = stream.shutdown(Shutdown::Read);
            let done = (0..50).any(|_| {
                let done = disconnect(stream);
                if !done {
                    std::thread::sleep(Duration::from_millis(1));
                }
                done
            });
            if !done {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

/// Connects a socket to no address (`AF_UNSPEC`). Linux then sends a reset to its peer.
fn disconnect(stream: &TcpStream) -> bool {
    use std::os::fd::AsRawFd;
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let len = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and `len` is the length of the address.
    unsafe { libc::connect(stream.as_raw_fd(), &raw const nowhere, len) == 0 }
}
