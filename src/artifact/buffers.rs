//! Buffers that are used again. Blocks and parts are large enough that the allocator would ask the
//! kernel for each and give it back, and the kernel would clear every page of it: measured on 1 GB of
//! documents that nothing compresses, half of the client's CPU time.

use std::sync::{Arc, Mutex};

/// A stock of buffers of about the same size.
#[derive(Debug, Clone)]
pub struct Buffers(Arc<Stock>);

#[derive(Debug)]
struct Stock {
    spare: Mutex<Vec<Vec<u8>>>,
    /// How many are kept.
    count: usize,
    /// Larger ones are not kept: rare huge documents must not stay in memory.
    largest: usize,
}

impl Buffers {
    /// Keeps up to `count` buffers of at most `largest` bytes each.
    pub fn new(count: usize, largest: usize) -> Buffers {
        Buffers(Arc::new(Stock { spare: Mutex::new(Vec::new()), count, largest }))
    }

    /// An empty buffer, one that was used before where there is one.
    pub fn take(&self) -> Lent {
        let spare = self.0.spare.lock().expect("no holder panics").pop();
        Lent { bytes: spare.unwrap_or_default(), from: self.0.clone() }
    }
}

/// A buffer that goes back when it is dropped.
#[derive(Debug)]
pub struct Lent {
    /// The bytes.
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
    fn buffers_come_back_empty_and_huge_ones_do_not() {
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
