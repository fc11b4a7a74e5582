//! Ends without a return: a stack that is full, memory that is not there, abort(3). The thread in which it happens cannot
//! go on. It stays where it is, and a thread that waits for this sends the notices of a failed run and ends the process
//! with exit 1.
//!
//! A server causes the first with an answer nested a hundred thousand levels deep: MongoDB's driver (3.9.1) decodes
//! answers by recursion before this tool sees them.

use std::io::{self, Read};
use std::os::fd::IntoRawFd;
use std::panic;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::thread;

use crate::base::exit::Exit;

/// The pipe that wakes the reporter when a thread cannot go on; -1 without a reporter.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The reporter's thread id; -1 without a reporter.
static REPORTER: AtomicI32 = AtomicI32::new(-1);
/// A thread has woken the reporter.
static ENDING: AtomicBool = AtomicBool::new(false);
/// How long the notices may take, in seconds. The stopped thread may hold a lock that they need.
const LONGEST: u32 = 60;

/// Printed when the stack is full or a thread accesses memory that is not mapped.
const FAULT: &[u8] = b"error: broken off, because the stack is full or memory was accessed that is not there\n\
    next step: If this comes again, a server or a file has data that is nested too deeply: find out which; report \
    anything else\n";

/// Turns a full stack and abort(3) into an end with exit 1. A library that calls abort prints why, but not what to do.
pub fn faults_fail() {
    // SAFETY: the handlers make only async-signal-safe calls, and never return. Threads of Rust's standard library have a
    // second stack for handlers, which SA_ONSTACK asks for.
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
    end(b"error: broken off, as the line above says\nnext step: Free memory, or raise the limit (ulimit -v), where \
          it is short; report anything else\n");
}

extern "C" fn late(_: libc::c_int) {
    exit();
}

/// Has `report` called once if the process ends without a return, on a thread of its own. Its notices may take
/// [`LONGEST`].
///
/// # Errors
/// Returns an error if there is no thread or no pipe for it.
pub fn watch(report: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    thread::Builder::new().name("last words".into()).spawn(move || {
        // SAFETY: a call without pointers.
        REPORTER.store(unsafe { libc::gettid() }, SeqCst);
        if reader.read_exact(&mut [0]).is_ok() {
            // Without memory it may panic.
            let _ = panic::catch_unwind(panic::AssertUnwindSafe(report));
            exit();
        }
    })?;
    PIPE.store(writer.into_raw_fd(), SeqCst);
    Ok(())
}

/// Prints `text` and ends the process, after the notices if somebody waits for this. Needs no memory. If it is called again
/// because memory is not there, the notices cannot be sent either, and the process ends at once.
pub fn without_memory(text: &[u8]) -> ! {
    if ENDING.load(SeqCst) {
        exit();
    }
    end(text);
}

/// Prints `text` and ends the process, after the notices if somebody waits for this. Needs no memory.
fn end(text: &[u8]) -> ! {
    let pipe = PIPE.load(SeqCst);
    ENDING.store(true, SeqCst);
    // SAFETY: none of the calls needs memory, and the text outlives the first.
    unsafe {
        libc::write(2, text.as_ptr().cast(), text.len());
        // A fault in the reporter itself ends the process at once.
        if pipe < 0
            || REPORTER.load(SeqCst) == libc::gettid()
            || libc::write(pipe, [0_u8].as_ptr().cast(), 1) != 1
        {
            exit();
        }
        libc::alarm(LONGEST);
        loop {
            libc::pause();
        }
    }
}

fn exit() -> ! {
    // SAFETY: a call without pointers.
    unsafe { libc::_exit(Exit::Failed.code().into()) }
}
