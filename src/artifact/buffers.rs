//! Reusable buffers.
//!
//! Blocks and parts are so large that the allocator would request each from the kernel and return it, and the
//! kernel would clear every page. Measured with 1 GB of incompressible documents, this took half of the
//! client's CPU time.

use std::sync::{Arc, Mutex};

/// A stock of spare buffers of about the same size.
#[derive(Debug, Clone)]
pub(super) struct Buffers(Arc<Stock>);

#[derive(Debug)]
struct Stock {
    spare: Mutex<Vec<Vec<u8>>>,
    /// At most this many buffers are kept.
    count: usize,
    /// Larger buffers are not kept: a rare huge document must not stay in memory.
    largest: usize,
}

impl Buffers {
    /// Keeps up to `count` buffers of at most `largest` bytes each.
    pub(super) fn new(count: usize, largest: usize) -> Buffers {
        Buffers(Arc::new(Stock { spare: Mutex::new(Vec::new()), count, largest }))
    }

    /// Returns an empty buffer; a spare one, if there is any.
    pub(super) fn take(&self) -> Lent {
        let spare = self.0.spare.lock().expect("no holder panics").pop();
        Lent { bytes: spare.unwrap_or_default(), from: self.0.clone() }
    }
}

/// A buffer that returns to its stock when it is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    pub bytes: Vec<u8>,
    from: Arc<Stock>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.bytes.capacity() == 0 || self.bytes.capacity() > self.from.largest {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut spare = self.from.spare.lock().expect("no holder panics");
        if spare.len() < self.from.count {
            spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_empty_and_huge_ones_are_freed() {
        let buffers = Buffers::new(1, 100);
        let mut first = buffers.take();
        first.bytes.extend_from_slice(&[1; 50]);
        let place = first.bytes.as_ptr();
        drop((first, buffers.take()));
        let again = buffers.take();
        assert!(again.bytes.is_empty() && again.bytes.as_ptr() == place);
        let mut huge = buffers.take();
        huge.bytes.extend_from_slice(&[1; 1000]);
        drop(huge);
        assert_eq!(buffers.take().bytes.capacity(), 0);
    }
}
