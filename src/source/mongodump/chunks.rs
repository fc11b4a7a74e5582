//! What the child writes, read ahead by a thread, so that silence can be told from slowness of ours.

use std::io::{self, BufRead, Read};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::mongo::commands::QUIET;

/// How the child is watched.
#[derive(Debug, Clone)]
pub struct Watch {
    /// It hangs when it sends nothing for so long.
    pub stall: Duration,
    /// `host:port` of the server that it reads.
    pub server: String,
}

/// How much is read from its pipe at once.
const CHUNK: usize = 1 << 20;
/// How many of these may wait.
const AHEAD: usize = 4;

/// Its standard output.
pub struct Chunks {
    receiver: Receiver<io::Result<Chunk>>,
    /// Where buffers go to be filled again.
    spent: SyncSender<Vec<u8>>,
    current: Chunk,
    at: usize,
    watch: Watch,
    cancel: CancellationToken,
    stalled: bool,
}

/// A piece of the output: the first `len` bytes.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    len: usize,
}

impl Chunks {
    /// Begins to read a pipe.
    pub fn of(pipe: ChildStdout, watch: Watch, cancel: CancellationToken) -> Chunks {
        let (sender, receiver) = sync_channel(AHEAD);
        let (spent, spare) = sync_channel(AHEAD);
        read_chunks(pipe, sender, spare);
        Chunks { receiver, spent, current: Chunk::default(), at: 0, watch, cancel, stalled: false }
    }

    /// Whether the run was ended.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Whether nothing came for too long.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    fn next(&mut self) -> io::Result<Option<Chunk>> {
        let (began, Watch { stall, server }) = (Instant::now(), &self.watch);
        let mut told = false;
        loop {
            // Also while chunks arrive: on a busy machine reading the rest takes longer than a cancelled run may.
            if self.cancel.is_cancelled() {
                return Err(io::Error::other("the run was cancelled"));
            }
            match self.receiver.recv_timeout(Duration::from_millis(200)) {
                Ok(chunk) => return chunk.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if began.elapsed() >= *stall => {
                    self.stalled = true;
                    return Err(io::Error::other("mongodump sends nothing"));
                }
                Err(RecvTimeoutError::Timeout) if !told && began.elapsed() >= QUIET => {
                    told = true;
                    let (quiet, limit) = (QUIET.as_secs(), stall.as_secs());
                    log::warn!(
                        "mongodump has sent nothing of MongoDB at {server} for {quiet} s; it is waited for up to {limit} s"
                    );
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(out)?;
        self.consume(len);
        Ok(len)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len
            && let Some(chunk) = self.next()?
        {
            let spent = std::mem::replace(&mut self.current, chunk);
            self.at = 0;
            // When there are enough of them it is freed.
            let _ = self.spent.try_send(spent.bytes);
        }
        Ok(&self.current.bytes[self.at..self.current.len])
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

fn read_chunks(mut pipe: ChildStdout, chunks: SyncSender<io::Result<Chunk>>, spare: Receiver<Vec<u8>>) {
    // With a pipe's default of 64 KiB, the two sides wait for each other more. A failure is ignored.
    let _ = rustix::pipe::fcntl_setpipe_size(&pipe, CHUNK);
    thread::spawn(move || {
        loop {
            let mut bytes = spare.try_recv().unwrap_or_default();
            bytes.resize(CHUNK, 0);
            let message = match pipe.read(&mut bytes) {
                Ok(0) => return,
                Ok(len) => Ok(Chunk { bytes, len }),
                Err(e) => Err(e),
            };
            let last = message.is_err();
            if chunks.send(message).is_err() || last {
                return;
            }
        }
    });
}
