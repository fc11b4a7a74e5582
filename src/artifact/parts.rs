//! Cutting one long stream into the equal parts of a multi-part upload, with room kept for content
//! that becomes known only later.
//!
//! A part leaves as soon as it is full and nothing in it is still owed. A part with an open
//! [`Slot`] waits in memory, and the later ones pass it: at most two parts wait, because one slot is
//! open at a time and it is far smaller than a part.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc64Nvme;

use super::buffers::{Buffers, Lent};
use crate::store::Whole;

/// A finished part.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place in the object, from 0.
    pub index: u32,
    /// Its bytes.
    pub body: Bytes,
}

/// Room that was kept and must be filled.
#[derive(Debug)]
#[must_use = "a part with an unfilled slot never leaves"]
pub struct Slot(Range<u64>);

/// The cutter.
pub struct Parts {
    size: u64,
    index: u32,
    buffers: Buffers,
    current: Lent,
    open: Option<Range<u64>>,
    waiting: BTreeMap<u32, Lent>,
    sums: Vec<(u64, u64)>,
    ready: Vec<Part>,
}

impl Parts {
    /// Cuts into parts of `size` bytes.
    pub fn new(size: u64) -> Parts {
        assert!(size >= 64 * 1024, "a part is larger than any slot");
        // The one being filled, two that wait, two on their way; the uploads' own come back one by one.
        let buffers = Buffers::new(6, size as usize);
        Parts {
            size,
            index: 0,
            current: buffers.take(),
            buffers,
            open: None,
            waiting: BTreeMap::new(),
            sums: Vec::new(),
            ready: Vec::new(),
        }
    }

    /// Bytes so far: the offset of what comes next.
    pub fn offset(&self) -> u64 {
        u64::from(self.index) * self.size + self.current.bytes.len() as u64
    }

    /// Adds bytes at the end.
    pub fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let current = &mut self.current.bytes;
            if current.capacity() == 0 {
                current.reserve_exact(self.size as usize);
            }
            let room = self.size as usize - current.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            current.extend_from_slice(now);
            bytes = rest;
            if current.len() as u64 == self.size {
                self.close_current();
            }
        }
    }

    /// Keeps room for `len` bytes at the end.
    ///
    /// # Panics
    /// If a slot is open already, or `len` does not fit into a part.
    pub fn reserve(&mut self, len: usize) -> Slot {
        assert!(self.open.is_none(), "one slot is open at a time");
        assert!((len as u64) < self.size, "a slot is smaller than a part");
        let start = self.offset();
        self.open = Some(start..start + len as u64);
        self.append(&vec![0; len]);
        Slot(start..start + len as u64)
    }

    /// Fills a slot; the parts that waited for it leave.
    ///
    /// # Panics
    /// If `bytes` does not have the slot's length.
    pub fn fill(&mut self, slot: Slot, bytes: &[u8]) {
        assert_eq!(slot.0.end - slot.0.start, bytes.len() as u64, "a slot is filled to the byte");
        let mut at = slot.0.start;
        let mut rest = bytes;
        while !rest.is_empty() {
            let index = (at / self.size) as u32;
            let within = (at % self.size) as usize;
            let part =
                if index == self.index { Some(&mut self.current) } else { self.waiting.get_mut(&index) };
            let part = part.expect("a part with an open slot waits");
            let len = rest.len().min(self.size as usize - within);
            part.bytes[within..within + len].copy_from_slice(&rest[..len]);
            rest = &rest[len..];
            at += len as u64;
        }
        self.open = None;
        for (index, body) in std::mem::take(&mut self.waiting) {
            self.leave(index, body);
        }
    }

    /// The parts that can leave now.
    pub fn take(&mut self) -> Vec<Part> {
        std::mem::take(&mut self.ready)
    }

    /// Ends the stream: the last parts, and the size and checksum of the whole.
    ///
    /// # Panics
    /// If a slot is still open.
    pub fn finish(mut self) -> (Vec<Part>, Whole) {
        assert!(self.open.is_none(), "every slot is filled before the end");
        if !self.current.bytes.is_empty() || self.index == 0 {
            let body = self.next_buffer();
            self.leave(self.index, body);
            self.index += 1;
        }
        let mut whole = Whole { size: 0, crc64nvme: 0, parts: self.index };
        for (crc, len) in &self.sums {
            whole.crc64nvme = crc_fast::checksum_combine(Crc64Nvme, whole.crc64nvme, *crc, *len);
            whole.size += len;
        }
        (self.ready, whole)
    }

    /// The buffer that was being filled; an empty one takes its place.
    fn next_buffer(&mut self) -> Lent {
        std::mem::replace(&mut self.current, self.buffers.take())
    }

    fn close_current(&mut self) {
        let body = self.next_buffer();
        let end = u64::from(self.index) * self.size + self.size;
        let index = self.index;
        self.index += 1;
        match &self.open {
            Some(open) if open.start < end && open.end > end - self.size => {
                self.waiting.insert(index, body);
            }
            _ => self.leave(index, body),
        }
    }

    fn leave(&mut self, index: u32, body: Lent) {
        let at = index as usize;
        if self.sums.len() <= at {
            self.sums.resize(at + 1, (0, 0));
        }
        self.sums[at] = (crc_fast::checksum(Crc64Nvme, &body.bytes), body.bytes.len() as u64);
        self.ready.push(Part { index, body: Bytes::from_owner(body) });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 64 * 1024;

    fn join(mut parts: Vec<Part>) -> Vec<u8> {
        parts.sort_by_key(|p| p.index);
        for (i, part) in parts.iter().enumerate() {
            assert_eq!(part.index as usize, i);
            assert!(
                i + 1 == parts.len() || part.body.len() as u64 == SIZE,
                "all parts but the last are equal"
            );
        }
        parts.into_iter().flat_map(|p| p.body.to_vec()).collect()
    }

    #[test]
    fn later_parts_pass_the_one_that_waits() {
        let mut parts = Parts::new(SIZE);
        parts.append(&[1; 10]);
        let slot = parts.reserve(535);
        parts.append(&vec![2; 3 * SIZE as usize]);
        let early: Vec<u32> = parts.ready.iter().map(|p| p.index).collect();
        assert_eq!(early, [1, 2]);
        parts.fill(slot, &[9; 535]);
        let (rest, whole) = parts.finish();
        let all = join(rest);
        assert_eq!(&all[10..545], &[9; 535]);
        assert_eq!(whole.size, all.len() as u64);
        assert_eq!(whole.crc64nvme, crc_fast::checksum(Crc64Nvme, &all));
    }

    #[test]
    fn an_empty_stream_is_one_empty_part() {
        let (parts, whole) = Parts::new(SIZE).finish();
        assert_eq!((parts.len(), whole.size, whole.parts), (1, 0, 1));
    }

    proptest! {
        #[test]
        fn any_sequence_gives_the_same_bytes_and_checksum(
            steps in prop::collection::vec((any::<bool>(), 1usize..60_000, any::<u8>()), 0..40)
        ) {
            let mut parts = Parts::new(SIZE);
            let mut want = Vec::new();
            let mut open: Option<(Slot, Vec<u8>)> = None;
            let mut got = Vec::new();
            for (is_slot, len, byte) in steps {
                if is_slot {
                    if let Some((slot, bytes)) = open.take() {
                        parts.fill(slot, &bytes);
                    }
                    let len = len % 2000 + 1;
                    open = Some((parts.reserve(len), vec![byte; len]));
                    want.extend(vec![byte; len]);
                } else {
                    parts.append(&vec![byte; len]);
                    want.extend(vec![byte; len]);
                }
                prop_assert!(parts.waiting.len() <= 2);
                prop_assert_eq!(parts.offset(), want.len() as u64);
                got.extend(parts.take());
            }
            if let Some((slot, bytes)) = open.take() {
                parts.fill(slot, &bytes);
            }
            let (rest, whole) = parts.finish();
            got.extend(rest);
            let all = join(got);
            prop_assert_eq!(whole.crc64nvme, crc_fast::checksum(Crc64Nvme, &all));
            prop_assert!(all == want);
        }
    }
}
