//! Memory that is not there: Rust ends such a process by SIGABRT, which is no exit code of ours and
//! writes a core. This allocator says so and ends with exit 1; the next run removes what was left.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::exit::Exit;

/// The system's allocator, for which a failure is the end of the process.
pub struct Strict;

// SAFETY: everything is the system allocator's own; a null pointer is never handed on.
unsafe impl GlobalAlloc for Strict {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        there(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        there(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        there(unsafe { System.realloc(pointer, layout, size) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn there(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        let text =
            b"error: there is not enough memory\nnext step: Free some, or raise the limit (ulimit -v)\n";
        // SAFETY: both calls need no memory, and the buffer outlives the first.
        unsafe {
            libc::write(2, text.as_ptr().cast(), text.len());
            libc::_exit(Exit::Failed.code().into());
        }
    }
    pointer
}
