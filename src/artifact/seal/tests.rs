use std::collections::BTreeSet;
use std::io::Read;
use std::sync::{Arc, Mutex};

use crc_fast::CrcAlgorithm::Crc64Nvme;
use proptest::prelude::*;

use super::*;
use crate::artifact::parts::ArtifactPart;
use crate::artifact::unseal::{Opener, unseal};
use crate::base::keys::testing::{identities, pair};

/// The size of the parts in these tests.
const PART: u64 = 64 << 10;

/// The nonces of all chunks that were sealed, with the number of their key.
type Sealed = Arc<Mutex<BTreeSet<(usize, [u8; 12])>>>;

/// Refuses to seal two chunks with one nonce of one key.
struct Recording {
    key: usize,
    inner: Box<dyn SealChunk>,
    sealed: Sealed,
}

impl SealChunk for Recording {
    fn seal(&mut self, nonce: [u8; 12], chunk: &mut Vec<u8>) {
        assert!(self.sealed.lock().unwrap().insert((self.key, nonce)), "the nonce {nonce:?} was used twice");
        self.inner.seal(nonce, chunk);
    }
}

fn recorded(sealing: Sealing, key: usize, sealed: &Sealed) -> Sealing {
    let cipher = Box::new(Recording { key, inner: sealing.cipher, sealed: sealed.clone() });
    Sealing { cipher, ..sealing }
}

fn join(mut parts: Vec<ArtifactPart>) -> Vec<u8> {
    parts.sort_by_key(|part| part.index);
    let (last, equal) = parts.split_last().unwrap();
    assert!(equal.iter().all(|part| part.body.len() as u64 == PART) && last.index as usize == equal.len());
    parts.iter().flat_map(|part| part.body.to_vec()).collect()
}

/// Decrypts with the decryptor of the crate `age`.
fn by_age(file: &[u8], identity: &str) -> Vec<u8> {
    let key: age::x25519::Identity = identity.lines().last().unwrap().parse().unwrap();
    let mut plain = Vec::new();
    let decryptor = age::Decryptor::new(file).unwrap();
    let key: &dyn age::Identity = &key;
    decryptor.decrypt(std::iter::once(key)).unwrap().read_to_end(&mut plain).unwrap();
    plain
}

/// Writes a stream of these steps, each a slot or plain bytes with a length and a byte. Returns the file and its plaintext.
fn write(steps: &[(bool, usize, u8)], sealing: Sealing) -> (Vec<u8>, Vec<u8>) {
    let mut sealed = SealedParts::new(sealing, Parts::new(PART, 6));
    let (mut want, mut got) = (Vec::new(), Vec::new());
    let mut open: Option<(Slot, Vec<u8>)> = None;
    for (is_slot, len, byte) in steps {
        let content: Vec<u8> = (0..*len).map(|n| byte.wrapping_add(n as u8)).collect();
        if *is_slot {
            if let Some((slot, bytes)) = open.take() {
                sealed.fill(slot, &bytes);
            }
            open = Some((sealed.reserve(*len), content.clone()));
        } else {
            sealed.append(&content);
        }
        want.extend(content);
        assert_eq!(sealed.offset(), want.len() as u64);
        // A slot of at most a chunk lies in two chunks, so two wait, and the parts with them.
        assert!(sealed.waiting.len() <= 2, "{}", sealed.waiting.len());
        got.append(&mut sealed.parts.ready);
    }
    if let Some((slot, bytes)) = open.take() {
        sealed.fill(slot, &bytes);
    }
    let whole = sealed.finish();
    got.append(&mut sealed.parts.ready);
    let file = join(got);
    assert_eq!(whole.size, file.len() as u64);
    assert_eq!(whole.crc64nvme, crc_fast::checksum(Crc64Nvme, &file));
    (file, want)
}

#[test]
fn a_chunk_with_a_slot_waits_and_later_chunks_are_sealed() {
    let (_, recipients) = pair();
    let sealed = Sealed::default();
    let sealing = recorded(Sealing::new(&recipients).unwrap(), 0, &sealed);
    let mut parts = SealedParts::new(sealing, Parts::new(PART, 6));
    parts.append(&[1; CHUNK - 100]);
    let slot = parts.reserve(535);
    parts.append(&vec![2; 3 * CHUNK]);
    let numbers = || sealed.lock().unwrap().iter().map(|(_, nonce)| nonce[10]).collect::<Vec<_>>();
    assert_eq!((numbers(), parts.waiting.len()), (vec![2, 3], 2));
    parts.fill(slot, &[9; 535]);
    assert_eq!(numbers(), [0, 1, 2, 3]);
    parts.finish();
    assert_eq!(numbers(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_full_chunk_waits_until_another_byte_follows() {
    let (text, recipients) = pair();
    for chunks in [1, 2] {
        let (file, want) = write(&[(false, chunks * CHUNK, 3)], Sealing::new(&recipients).unwrap());
        assert_eq!(by_age(&file, &text), want);
        assert_eq!(unseal(&file, &identities(&text)).unwrap(), want);
    }
    let (file, _) = write(&[], Sealing::new(&recipients).unwrap());
    assert!(by_age(&file, &text).is_empty() && unseal(&file, &identities(&text)).unwrap().is_empty());
}

#[test]
fn small_objects_of_every_length_around_a_chunk_can_be_read() {
    let (text, recipients) = pair();
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 200_000] {
        let plain: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let file = seal(&recipients, &plain).unwrap();
        assert_eq!(by_age(&file, &text), plain, "{len}");
        assert_eq!(unseal(&file, &identities(&text)).unwrap(), plain, "{len}");
    }
}

/// A second attempt at a backup begins a new file.
#[test]
fn every_attempt_has_a_key_of_its_own() {
    let (text, recipients) = pair();
    let content = [(false, 10, 1)];
    let [(a, want), (b, _)] = [(); 2].map(|()| write(&content, Sealing::new(&recipients).unwrap()));
    assert_eq!(a.len(), b.len());
    let ours = |file: &[u8]| Opener::new(file, file.len() as u64, &identities(&text)).unwrap();
    let body = |file: &[u8]| file[file.len() - want.len() - TAG..].to_vec();
    let whole = 0..want.len() as u64;
    assert_eq!(ours(&a).open(&whole, body(&a)).unwrap(), want);
    assert!(ours(&a).open(&whole, body(&b)).is_err() && body(&a) != body(&b));
}

proptest! {
    #[test]
    fn any_sequence_is_sealed_once_and_can_be_read(
        attempts in prop::collection::vec(
            prop::collection::vec((any::<bool>(), 1usize..60_000, any::<u8>()), 0..20), 1..3)
    ) {
        let (text, recipients) = pair();
        let sealed = Sealed::default();
        for (n, steps) in attempts.iter().enumerate() {
            let (file, want) = write(steps, recorded(Sealing::new(&recipients).unwrap(), n, &sealed));
            let mut nonces: Vec<[u8; 12]> =
                sealed.lock().unwrap().iter().filter(|(key, _)| *key == n).map(|(_, nonce)| *nonce).collect();
            nonces.sort();
            let chunks = want.len().div_ceil(CHUNK).max(1) as u64;
            let all: Vec<[u8; 12]> = (0..chunks).map(|at| chunk_nonce(at, at + 1 == chunks)).collect();
            prop_assert_eq!(nonces, all);
            prop_assert!(by_age(&file, &text) == want);
            prop_assert!(unseal(&file, &identities(&text)).unwrap() == want);
        }
    }
}
