//! Failures that the process cannot survive: stack overflow, abort(3), and lack of memory. The thread that
//! failed stops where it is. Another thread, which waits for this, sends the notices of a failed run and ends
//! the process with exit code 1.
//!
//! - A server can fill the stack with a reply that is nested a hundred thousand levels deep: MongoDB's driver
//!   (3.9.1) decodes replies by recursion before this tool sees them. Test: `hostile::deep` of the
//!   integration tests.
//! - Rust and glibc call abort(3) if there is no memory. Without the handler, SIGABRT kills the process: no
//!   notices are sent, and a core dump is written. Tests: `a_library_gives_up` and `little_of_everything` in
//!   `cli::hardship`.
//!
//! rustix has no signal handlers, so libc installs them.

use std::io::{self, Read};
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::panic;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};
use std::thread;

use rustix::stdio;
use rustix::thread::gettid;

use crate::base::exit::Exit;

/// The pipe that wakes the reporter when a thread cannot go on; -1 without a reporter.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The reporter's thread id; -1 without a reporter.
static REPORTER: AtomicI32 = AtomicI32::new(-1);
/// The longest time for the notices, in seconds. The stopped thread may hold a lock that they need.
const LONGEST: u32 = 60;

const FAULT: &[u8] = b"error: the process ended because of a stack overflow or an access to unmapped memory\n\
    next step: If this happens again, find the server or file whose data is nested too deeply; report any other cause\n";
const ABORT: &[u8] = b"error: the process was aborted, as the line above says\n\
    next step: Free memory, or raise the limit (ulimit -v), if there is too little; report any other cause\n";

/// Makes the process end with exit code 1 after a stack overflow or abort(3).
pub fn install() {
    // SAFETY: the handlers make only async-signal-safe calls, and never return. Threads of Rust's standard
    // library have a second stack for handlers, which SA_ONSTACK asks for.
    unsafe {
        for (signal, handler) in [
            (libc::SIGSEGV, faulted as extern "C" fn(libc::c_int)),
            (libc::SIGBUS, faulted),
            (libc::SIGABRT, aborted),
            (libc::SIGALRM, late),
        ] {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

extern "C" fn faulted(_: libc::c_int) {
    end(FAULT);
}

extern "C" fn aborted(_: libc::c_int) {
    end(ABORT);
}

extern "C" fn late(_: libc::c_int) {
    exit();
}

/// Calls `report` once, on a thread of its own, if the process fails and cannot survive the failure. Its
/// notices may take 60 s.
///
/// # Errors
/// Returns an error if the thread or its pipe cannot be created.
pub fn watch(report: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    thread::Builder::new().name("crash reporter".into()).spawn(move || {
        REPORTER.store(gettid().as_raw_nonzero().get(), SeqCst);
        if reader.read_exact(&mut [0]).is_ok() {
            // `report` may panic if there is no memory.
            let _ = panic::catch_unwind(panic::AssertUnwindSafe(report));
            exit();
        }
    })?;
    PIPE.store(writer.into_raw_fd(), SeqCst);
    Ok(())
}

/// Prints `text` and ends the process, after the notices if there is a reporter. Needs no memory.
fn end(text: &[u8]) -> ! {
    let _ = rustix::io::write(stdio::stderr(), text);
    let pipe = PIPE.load(SeqCst);
    // A fault in the reporter itself ends the process at once.
    if pipe < 0 || REPORTER.load(SeqCst) == gettid().as_raw_nonzero().get() {
        exit();
    }
    // SAFETY: the pipe stays open until the process ends.
    let woken = rustix::io::write(unsafe { BorrowedFd::borrow_raw(pipe) }, &[0]);
    if woken != Ok(1) {
        exit();
    }
    // SAFETY: calls without pointers, which rustix does not have.
    unsafe {
        libc::alarm(LONGEST);
        loop {
            libc::pause();
        }
    }
}

fn exit() -> ! {
    // SAFETY: a call without pointers. It runs no destructors, which may need memory; rustix does not have
    // it.
    unsafe { libc::_exit(Exit::Failed.code().into()) }
}
