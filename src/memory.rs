//! Memory that is not there: Rust ends such a process by SIGABRT, which is no exit code of ours and
//! writes a core. This allocator says so and ends with exit 1; the next run removes what was left.

use std::alloc::{GlobalAlloc, Layout, System};

use crate::crash::end;

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

/// Keeps what is given back for the next time, up to a bound. By default glibc returns a batch or a block of
/// 1 MiB to the kernel as soon as it is free, and the kernel clears its pages when they are asked for again:
/// 2 % of a backup's time.
pub fn keep() {
    // SAFETY: calls without pointers, made before there are other threads.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

fn there(pointer: *mut u8) -> *mut u8 {
    if pointer.is_null() {
        end(b"error: there is not enough memory\nnext step: Free some, or raise the limit (ulimit -v)\n");
    }
    pointer
}
