//! Counts and hash sums of documents.

use std::ops::AddAssign;

use xxhash_rust::xxh3::xxh3_128;

use crate::base::error::{Error, Result};

/// The number, length and hash sum of some documents, for example of one namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    pub documents: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
    /// The space that the documents take in the artifact, in bytes. 0 if they were not read from an artifact
    /// as a whole.
    pub stored_bytes: u64,
    /// The sum, modulo 2^128, of the documents' XXH3-128 hashes (seed 0). It does not depend on their order.
    /// It distinguishes a restored collection from a different one; the BLAKE3 of each segment protects against
    /// tampering.
    pub sum: u128,
}

impl Tally {
    /// Counts one document.
    pub fn of(document: &[u8]) -> Tally {
        Tally { documents: 1, raw_bytes: document.len() as u64, stored_bytes: 0, sum: xxh3_128(document) }
    }

    /// Counts concatenated BSON documents.
    ///
    /// # Errors
    /// Returns an error if the lengths of the documents do not add up to the length of `raw`.
    pub fn of_all(raw: &[u8]) -> Result<Tally> {
        let (mut rest, mut tally) = (raw, Tally::default());
        while !rest.is_empty() {
            let len = rest.first_chunk::<4>().map(|b| i32::from_le_bytes(*b) as usize);
            let Some((document, after)) = len.filter(|l| *l >= 5).and_then(|len| rest.split_at_checked(len))
            else {
                return Err(Error::failed("a document's length does not fit its bytes"));
            };
            tally += Tally::of(document);
            rest = after;
        }
        Ok(tally)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.documents += more.documents;
        self.raw_bytes += more.raw_bytes;
        self.stored_bytes += more.stored_bytes;
        self.sum = self.sum.wrapping_add(more.sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_does_not_depend_on_the_order() {
        let [a, b] = [1, 2].map(|n| vec![12, 0, 0, 0, 0x10, b'a', 0, n, 0, 0, 0, 0]);
        let sum = Tally::of_all(&[a.clone(), b.clone()].concat()).unwrap();
        assert_eq!((sum.documents, sum.raw_bytes), (2, 24));
        assert_eq!(sum, Tally::of_all(&[b.clone(), a].concat()).unwrap());
        assert_ne!(sum, Tally::of_all(&[b.clone(), b].concat()).unwrap());
    }

    #[test]
    fn lengths_that_do_not_fit_are_an_error() {
        for raw in [&b"\x05\0\0\0"[..], b"\x04\0\0\0\0", b"\xff\xff\xff\xff\0", b"\x0c\0\0\0\0", b"\0"] {
            assert!(Tally::of_all(raw).is_err(), "{raw:?}");
        }
    }
}
