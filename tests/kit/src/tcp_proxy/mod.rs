//! A TCP proxy that cuts, stalls and truncates connections, like a bad network between a client and a real server, or that is as
//! long and as narrow as a line to another place.
//!
//! It works on bytes and knows no protocol. Its mode can be changed while it runs, for new and for open
//! connections. It counts the bytes of both directions.

mod line;
mod pump;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use line::Lane;
pub use line::Line;
use pump::{Connection, accept};

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to connections. Bytes are counted in one direction since the mode was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All bytes pass.
    Pass,
    /// After this number of bytes, the connection that carries the next byte is reset in both directions.
    CutAfter(Direction, u64),
    /// After this number of bytes, nothing passes in this direction, and the connection stays open.
    StallAfter(Direction, u64),
    /// After this number of bytes, this direction ends as if its sender had finished.
    TruncateAfter(Direction, u64),
    /// New connections are closed at once, and open connections are reset.
    Refuse,
}

/// A running proxy. Dropping it closes all connections.
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    target: SocketAddr,
    mode: Mutex<State>,
    stopped: AtomicBool,
    connections: AtomicU64,
    bytes: [AtomicU64; 2],
    lanes: [Lane; 2],
    /// The most bytes that are carried at once.
    piece: usize,
    open: Mutex<Vec<Arc<Connection>>>,
}

struct State {
    mode: Mode,
    /// Bytes in the mode's direction since it was set.
    passed: u64,
    /// The number of connections that the mode may still hit; `None` for all.
    left: Option<u64>,
}

/// The treatment of bytes that arrived.
enum Verdict {
    Pass(usize),
    Stall,
    Cut(usize),
    Truncate(usize),
}

impl TcpProxy {
    /// Listens on a free port of 127.0.0.1 and passes everything to `target`.
    ///
    /// # Panics
    /// Panics if it cannot listen on the loopback interface.
    pub fn start(target: SocketAddr) -> TcpProxy {
        TcpProxy::start_line(target, Line::default())
    }

    /// As [`start`](TcpProxy::start), with the delay and the rate of `line`. The handshake of TCP is not delayed.
    ///
    /// # Panics
    /// Panics if it cannot listen on the loopback interface.
    pub fn start_line(target: SocketAddr, line: Line) -> TcpProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
        let address = listener.local_addr().expect("the port");
        let shared = Arc::new(Shared {
            target,
            mode: Mutex::new(State { mode: Mode::Pass, passed: 0, left: None }),
            stopped: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            bytes: [AtomicU64::new(0), AtomicU64::new(0)],
            lanes: [Lane::new(line), Lane::new(line)],
            // Small pieces pass a narrow line evenly, and large ones cost less.
            piece: if line.rate.is_some() || line.delay.is_zero() { 16 << 10 } else { 256 << 10 },
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || accept(&listener, &accepting));
        TcpProxy { address, shared, thread: Some(thread) }
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the mode of every connection.
    pub fn set(&self, mode: Mode) {
        self.set_for(mode, None);
    }

    /// Sets the mode of the first `connections` that it hits. The other connections pass.
    pub fn set_for_first(&self, connections: u64, mode: Mode) {
        self.set_for(mode, Some(connections));
    }

    fn set_for(&self, mode: Mode, left: Option<u64>) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = State { mode, passed: 0, left };
        if mode == Mode::Refuse {
            self.shared.reset_all();
        }
    }

    /// Resets every open connection now.
    pub fn cut(&self) {
        self.shared.reset_all();
    }

    /// The number of connections that were accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The number of bytes that passed in a direction so far.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.shared.bytes[direction as usize].load(Ordering::SeqCst)
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.shared.reset_all();
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn reset_all(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in open {
            connection.reset();
        }
    }

    fn verdict(&self, direction: Direction, len: usize) -> Verdict {
        let mut state = self.mode.lock().unwrap_or_else(PoisonError::into_inner);
        let (hit, limit) = match state.mode {
            Mode::CutAfter(d, n) | Mode::StallAfter(d, n) | Mode::TruncateAfter(d, n) => (d == direction, n),
            Mode::Pass | Mode::Refuse => (false, 0),
        };
        if !hit {
            return Verdict::Pass(len);
        }
        let before = state.passed;
        state.passed += len as u64;
        if state.passed <= limit {
            return Verdict::Pass(len);
        }
        let rest = usize::try_from(limit.saturating_sub(before)).unwrap_or(0).min(len);
        let verdict = match state.mode {
            Mode::CutAfter(..) => Verdict::Cut(rest),
            Mode::StallAfter(..) => Verdict::Stall,
            _ => Verdict::Truncate(rest),
        };
        if let Some(left) = &mut state.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                state.mode = Mode::Pass;
            } else {
                state.passed = 0;
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    use super::*;

    /// Starts a server that answers each byte with four bytes, a proxy before it, and a client.
    fn through(mode: Mode) -> (TcpProxy, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let proxy = TcpProxy::start(listener.local_addr().expect("the port"));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut byte = [0];
            while stream.read_exact(&mut byte).is_ok() && stream.write_all(&[byte[0]; 4]).is_ok() {}
        });
        proxy.set(mode);
        let client = TcpStream::connect(proxy.address()).expect("the proxy");
        client.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
        (proxy, client)
    }

    fn answer(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
        client.write_all(b"x")?;
        let mut answer = Vec::new();
        client.take(4).read_to_end(&mut answer).map(|_| answer)
    }

    #[test]
    fn bytes_pass_until_the_connection_is_cut() {
        let (proxy, mut client) = through(Mode::Pass);
        assert_eq!(answer(&mut client).expect("an answer"), b"xxxx");
        assert_eq!((proxy.bytes(Direction::Up), proxy.bytes(Direction::Down)), (1, 4));
        proxy.cut();
        let error = answer(&mut client).expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    /// A lower bound of a time holds on a busy machine, too.
    #[test]
    fn a_line_is_as_long_and_as_narrow_as_it_was_made() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let target = listener.local_addr().expect("the port");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a client");
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&[7; 50_000]).is_ok() {}
                });
            }
        });
        let delay = Duration::from_millis(40);
        for (rate, least) in [(None, 2 * delay), (Some(200_000), 2 * delay + Duration::from_millis(250))] {
            let proxy = TcpProxy::start_line(target, Line { delay, rate });
            let mut client = TcpStream::connect(proxy.address()).expect("the proxy");
            let begun = Instant::now();
            client.write_all(b"x").expect("a byte passes");
            let mut answer = vec![0; 50_000];
            client.read_exact(&mut answer).expect("the answer");
            assert!(answer.iter().all(|byte| *byte == 7));
            assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
        }
    }

    #[test]
    fn each_mode_ends_the_connection_in_its_way() {
        let (_proxy, mut client) = through(Mode::CutAfter(Direction::Down, 2));
        let error = answer(&mut client).expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let (_proxy, mut client) = through(Mode::TruncateAfter(Direction::Down, 2));
        assert_eq!(answer(&mut client).expect("an early end"), b"xx");
        let (_proxy, mut client) = through(Mode::StallAfter(Direction::Down, 2));
        let error = answer(&mut client).expect_err("silence");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }
}
