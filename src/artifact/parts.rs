//! How the stored stream is cut into the equal parts of a multi-part upload.
//!
//! [`Parts`] can reserve room for content that is known only later. A part is ready as soon as it is full and no room in it is
//! reserved. A part with an open [`Slot`] waits in memory and the following parts overtake it. At most two parts wait, because
//! one slot is open at a time and it is far smaller than a part.

use std::collections::BTreeMap;
use std::ops::Range;

use blake3::Hash;
use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc64Nvme;

use super::pack::{Buffers, Lent};
use super::tree_hash::TreeHash;
use crate::store::Whole;

/// A finished part.
#[derive(Debug, PartialEq, Eq)]
pub struct ArtifactPart {
    /// The part's place in the object, from 0.
    pub index: u32,
    pub body: Bytes,
}

/// Reserved room, which must be filled.
#[derive(Debug)]
#[must_use = "a part with an unfilled slot is never sent"]
pub(super) struct Slot(pub(super) Range<u64>);

/// Cuts a stream of bytes into parts of `size` bytes.
pub(super) struct Parts {
    size: u64,
    /// The index of the part that is being filled.
    index: u32,
    buffers: Buffers,
    current: Lent,
    open: Option<Range<u64>>,
    /// Full parts in which room is reserved.
    waiting: BTreeMap<u32, Lent>,
    /// The CRC-64/NVME and length of each part.
    sums: Vec<(u64, u64)>,
    /// `None` if the BLAKE3 of the stream is not wanted.
    tree: Option<TreeHash>,
    pub(super) ready: Vec<ArtifactPart>,
}

impl Parts {
    /// Up to `spare` buffers of uploaded parts are kept for later parts.
    pub(super) fn new(size: u64, spare: usize) -> Parts {
        assert!(size >= 64 * 1024, "a part is larger than any slot");
        let buffers = Buffers::new(spare, size as usize);
        Parts {
            size,
            index: 0,
            current: buffers.take(),
            buffers,
            open: None,
            waiting: BTreeMap::new(),
            sums: Vec::new(),
            tree: None,
            ready: Vec::new(),
        }
    }

    /// From now on, the BLAKE3 of the stream is computed as well. Nothing was appended yet.
    pub(super) fn hash(&mut self) {
        self.tree = Some(TreeHash::default());
    }

    /// The BLAKE3 of the finished stream, if it was computed.
    pub(super) fn blake3(&self, whole: &Whole) -> Option<Hash> {
        self.tree.as_ref().map(|tree| tree.finish(whole.size))
    }

    pub(super) fn offset(&self) -> u64 {
        u64::from(self.index) * self.size + self.current.bytes.len() as u64
    }

    /// The size of the full parts in which room is reserved.
    pub(super) fn held(&self) -> u64 {
        self.waiting.len() as u64 * self.size
    }

    pub(super) fn append(&mut self, mut bytes: &[u8]) {
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

    /// # Panics
    /// Panics if a slot is open already.
    pub(super) fn reserve(&mut self, len: usize) -> Slot {
        assert!(self.open.is_none(), "one slot is open at a time");
        let start = self.offset();
        let mut slot = Slot(start..start);
        self.extend(&mut slot, len);
        slot
    }

    /// Makes the open slot longer.
    ///
    /// # Panics
    /// Panics if anything was appended behind the slot.
    pub(super) fn extend(&mut self, slot: &mut Slot, len: usize) {
        assert_eq!(slot.0.end, self.offset(), "the slot is at the end");
        slot.0.end += len as u64;
        self.open = Some(slot.0.clone());
        self.append(&vec![0; len]);
    }

    /// Fills a slot. The parts that waited for it become ready.
    ///
    /// # Panics
    /// Panics if `bytes` does not have the slot's length.
    pub(super) fn fill(&mut self, slot: Slot, bytes: &[u8]) {
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
            self.release(index, body);
        }
    }

    /// Ends the stream: the last parts become ready. Returns the size and checksum of the whole.
    ///
    /// # Panics
    /// Panics if a slot is still open.
    pub(super) fn finish(&mut self) -> Whole {
        assert!(self.open.is_none(), "every slot is filled before the end");
        if !self.current.bytes.is_empty() || self.index == 0 {
            let body = self.next_buffer();
            self.release(self.index, body);
            self.index += 1;
        }
        let mut whole = Whole { size: 0, crc64nvme: 0, parts: self.index };
        for (crc, len) in &self.sums {
            whole.crc64nvme = crc_fast::checksum_combine(Crc64Nvme, whole.crc64nvme, *crc, *len);
            whole.size += len;
        }
        whole
    }

    /// Returns the filled buffer and puts an empty one in its place.
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
            _ => self.release(index, body),
        }
    }

    fn release(&mut self, index: u32, body: Lent) {
        let at = index as usize;
        if self.sums.len() <= at {
            self.sums.resize(at + 1, (0, 0));
        }
        self.sums[at] = (crc_fast::checksum(Crc64Nvme, &body.bytes), body.bytes.len() as u64);
        if let Some(tree) = &mut self.tree {
            tree.add(u64::from(index) * self.size, &body.bytes);
        }
        self.ready.push(ArtifactPart { index, body: Bytes::from_owner(body) });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 64 * 1024;

    fn join(mut parts: Vec<ArtifactPart>) -> Vec<u8> {
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
    fn later_parts_overtake_the_part_that_waits() {
        let mut parts = Parts::new(SIZE, 6);
        parts.append(&[1; 10]);
        let slot = parts.reserve(535);
        parts.append(&vec![2; 3 * SIZE as usize]);
        let early: Vec<u32> = parts.ready.iter().map(|p| p.index).collect();
        assert_eq!(early, [1, 2]);
        parts.fill(slot, &[9; 535]);
        let whole = parts.finish();
        let all = join(parts.ready);
        assert_eq!(&all[10..545], &[9; 535]);
        assert_eq!(whole.size, all.len() as u64);
        assert_eq!(whole.crc64nvme, crc_fast::checksum(Crc64Nvme, &all));
    }

    #[test]
    fn an_empty_stream_is_one_empty_part() {
        let mut parts = Parts::new(SIZE, 6);
        let whole = parts.finish();
        assert_eq!((parts.ready.len(), whole.size, whole.parts), (1, 0, 1));
    }

    proptest! {
        #[test]
        fn any_sequence_gives_the_same_bytes_and_checksum(
            steps in prop::collection::vec((any::<bool>(), 1usize..60_000, any::<u8>()), 0..40)
        ) {
            let mut parts = Parts::new(SIZE, 6);
            parts.hash();
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
                got.extend(std::mem::take(&mut parts.ready));
            }
            if let Some((slot, bytes)) = open.take() {
                parts.fill(slot, &bytes);
            }
            let whole = parts.finish();
            got.extend(std::mem::take(&mut parts.ready));
            let all = join(got);
            prop_assert_eq!(whole.crc64nvme, crc_fast::checksum(Crc64Nvme, &all));
            prop_assert_eq!(parts.blake3(&whole), Some(blake3::hash(&all)));
            prop_assert!(all == want);
        }
    }
}
