//! The BLAKE3 of a file whose parts are hashed in any order.
//!
//! BLAKE3 is a tree of chunks of 1 KiB. A part is divided into subtrees, whose hashes are joined when all parts are known
//! (`blake3::hazmat`).

use std::collections::BTreeMap;
use std::ops::Range;

use blake3::hazmat::{
    ChainingValue, HasherExt, Mode, left_subtree_len, max_subtree_len, merge_subtrees_non_root,
    merge_subtrees_root,
};
use blake3::{CHUNK_LEN, Hash, Hasher};

/// Collects the subtrees of a file.
#[derive(Debug, Default)]
pub(super) struct TreeHash {
    /// By the position of their first byte.
    subtrees: BTreeMap<u64, (u64, ChainingValue)>,
    /// The hash of a file that is a single chunk or less.
    small: Option<Hash>,
}

impl TreeHash {
    /// Adds the bytes at `offset`, which is a multiple of 1 KiB. Only the last bytes of the file may end within a chunk.
    pub fn add(&mut self, mut offset: u64, mut bytes: &[u8]) {
        if offset == 0 && bytes.len() <= CHUNK_LEN {
            self.small = Some(blake3::hash(bytes));
        }
        while !bytes.is_empty() {
            let length = subtree(offset, bytes.len());
            let (now, rest) = bytes.split_at(length);
            let hash = Hasher::new().set_input_offset(offset).update(now).finalize_non_root();
            self.subtrees.insert(offset, (length as u64, hash));
            (offset, bytes) = (offset + length as u64, rest);
        }
    }

    /// Joins the subtrees of a file of `size` bytes.
    ///
    /// # Panics
    /// Panics if bytes are missing.
    pub fn finish(&self, size: u64) -> Hash {
        match &self.small {
            Some(hash) if size <= CHUNK_LEN as u64 => *hash,
            _ => {
                let middle = left_subtree_len(size);
                let (left, right) = (self.joined(0..middle), self.joined(middle..size));
                merge_subtrees_root(&left, &right, Mode::Hash)
            }
        }
    }

    fn joined(&self, range: Range<u64>) -> ChainingValue {
        let length = range.end - range.start;
        match self.subtrees.get(&range.start) {
            Some((whole, hash)) if *whole == length => *hash,
            _ => {
                assert!(length > CHUNK_LEN as u64, "every byte is hashed");
                let middle = range.start + left_subtree_len(length);
                let (left, right) = (self.joined(range.start..middle), self.joined(middle..range.end));
                merge_subtrees_non_root(&left, &right, Mode::Hash)
            }
        }
    }
}

/// The length of the largest subtree that begins at `offset` within `length` bytes, but is not the whole file.
fn subtree(offset: u64, length: usize) -> usize {
    if length <= CHUNK_LEN {
        return length;
    }
    // The largest power of two within the bytes, and less than all of them at the beginning of the file.
    let within = match offset {
        0 => left_subtree_len(length as u64),
        _ => 1 << (length as u64).ilog2(),
    };
    let most = max_subtree_len(offset).unwrap_or(u64::MAX);
    within.min(most) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashed(content: &[u8], part: usize, backwards: bool) -> Hash {
        let mut tree = TreeHash::default();
        let mut parts: Vec<(usize, &[u8])> = content.chunks(part).enumerate().collect();
        if backwards {
            parts.reverse();
        }
        if parts.is_empty() {
            parts.push((0, &[]));
        }
        parts.into_iter().for_each(|(n, bytes)| tree.add((n * part) as u64, bytes));
        tree.finish(content.len() as u64)
    }

    #[test]
    fn sizes_beside_chunks_and_powers_of_two_have_the_hash_of_the_whole() {
        let content: Vec<u8> = (0..200_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        for part in [1024, 3 * 1024, 64 * 1024] {
            for near in [0, 1024, 2048, 3072, 4096, 64 * 1024, 128 * 1024, 192 * 1024] {
                for size in near - 1_i64..=near + 1 {
                    let Ok(size) = usize::try_from(size) else { continue };
                    let content = &content[..size];
                    for backwards in [false, true] {
                        assert_eq!(
                            hashed(content, part, backwards),
                            blake3::hash(content),
                            "{size} in {part}"
                        );
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn parts_in_any_order_have_the_hash_of_the_whole(chunks in 1usize..80, size in 0usize..300_000, seed: u8) {
            let content: Vec<u8> = (0..size).map(|n| (n as u8).wrapping_mul(31) ^ seed ^ (n >> 8) as u8).collect();
            prop_assert_eq!(hashed(&content, chunks * 1024, seed % 2 == 0), blake3::hash(&content));
        }
    }
}
