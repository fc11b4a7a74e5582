use proptest::prelude::*;

use super::*;
use crate::artifact::seal::seal;
use crate::base::keys::Recipients;
use crate::base::keys::testing::{identities, pair};

fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// The first byte of the chunks of a file.
fn begin(file: &[u8]) -> usize {
    AgeHeader::parse(file).unwrap().length + NONCE
}

/// Where the chunks of a file begin and end.
fn chunks(file: &[u8]) -> Vec<Range<usize>> {
    let starts = (begin(file)..file.len()).step_by(SEALED);
    starts.map(|start| start..file.len().min(start + SEALED)).collect()
}

/// Puts the chunks in another order behind the header.
fn rearranged(file: &[u8], order: &[usize]) -> Vec<u8> {
    let all = chunks(file);
    let mut out = file[..begin(file)].to_vec();
    order.iter().for_each(|n| out.extend_from_slice(&file[all[*n].clone()]));
    out
}

#[test]
fn every_changed_byte_of_a_small_file_is_found() {
    let (text, recipients) = pair();
    let keys = identities(&text);
    let file = seal(&recipients, b"a small file").unwrap();
    for at in 0..file.len() {
        for bit in [1, 0x80] {
            let mut changed = file.clone();
            changed[at] ^= bit;
            assert!(unseal(&changed, &keys).is_err(), "byte {at}");
        }
    }
    assert_eq!(unseal(&file, &keys).unwrap(), b"a small file");
}

#[test]
fn changes_at_and_beside_the_borders_of_chunks_are_found() {
    let (text, recipients) = pair();
    let keys = identities(&text);
    let file = seal(&recipients, &content(3 * CHUNK + 100)).unwrap();
    let borders: Vec<usize> = chunks(&file).iter().flat_map(|chunk| [chunk.start, chunk.end]).collect();
    for border in borders {
        for at in [border.saturating_sub(TAG + 1), border - TAG, border - 1, border, border + 1] {
            let mut changed = file.clone();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 0x10;
                assert!(unseal(&changed, &keys).is_err(), "byte {at}");
            }
        }
        for at in border - 1..=border + 1 {
            if at < file.len() {
                assert!(unseal(&file[..at], &keys).is_err(), "cut off at {at}");
            }
        }
    }
    for at in 0..begin(&file) + TAG + 2 {
        assert!(unseal(&file[..at], &keys).is_err(), "cut off at {at}");
    }
    assert!(unseal(&[&file[..], &[0]].concat(), &keys).is_err(), "a byte too many");
}

#[test]
fn moved_repeated_missing_and_foreign_chunks_are_found() {
    let (text, recipients) = pair();
    let keys = identities(&text);
    for len in [4 * CHUNK, 3 * CHUNK + 100] {
        let [file, other] = [1, 2].map(|_| seal(&recipients, &content(len)).unwrap());
        assert_eq!(rearranged(&file, &[0, 1, 2, 3]), file);
        for order in [
            &[1, 0, 2, 3][..],
            &[0, 2, 1, 3],
            &[0, 1, 3, 2],
            &[0, 0, 1, 2, 3],
            &[0, 1, 2, 2, 3],
            &[0, 1, 2, 3, 3],
            &[1, 2, 3],
            &[0, 2, 3],
            &[0, 1, 2],
            &[0, 1],
            &[3],
        ] {
            assert!(unseal(&rearranged(&file, order), &keys).is_err(), "{order:?}");
        }
        for n in 0..4 {
            let mut mixed = file.clone();
            mixed[chunks(&file)[n].clone()].copy_from_slice(&other[chunks(&other)[n].clone()]);
            assert!(unseal(&mixed, &keys).is_err(), "chunk {n} of another file");
        }
        let header = [&other[..begin(&other)], &file[begin(&file)..]].concat();
        assert!(unseal(&header, &keys).is_err(), "the header of another file");
        let nonce = begin(&file) - NONCE..begin(&file);
        let mut mixed = file.clone();
        mixed[nonce.clone()].copy_from_slice(&other[nonce]);
        assert!(unseal(&mixed, &keys).is_err(), "the nonce of another file");
    }
}

#[test]
fn a_file_opens_with_the_right_key_only() {
    let (text, recipients) = pair();
    let (stranger, others) = pair();
    let file = seal(&recipients, b"secret").unwrap();
    assert_eq!(unseal(&file, &identities(&stranger)), Err(Unopened::NoKey));
    let ten: String = (0..9).map(|_| pair().0).chain([text.clone()]).collect();
    assert_eq!(unseal(&file, &identities(&ten)).unwrap(), b"secret");
    let lines = format!("{recipients:?}{others:?}");
    let both: Vec<String> = lines
        .split(|c: char| !c.is_alphanumeric())
        .filter(|w| w.starts_with("age1"))
        .map(Into::into)
        .collect();
    let both = Recipients::parse(&both).unwrap().unwrap();
    let file = seal(&both, b"for two").unwrap();
    for key in [text, stranger] {
        assert_eq!(unseal(&file, &identities(&key)).unwrap(), b"for two");
    }
}

#[test]
fn only_headers_of_version_1_are_read() {
    let (text, recipients) = pair();
    let keys = identities(&text);
    let file = seal(&recipients, b"x").unwrap();
    let damaged = |file: &[u8]| match unseal(file, &keys) {
        Err(Unopened::Damaged(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(damaged(b"").contains("does not begin"));
    assert!(damaged(b"dump").contains("does not begin"));
    let newer = [b"age-encryption.org/v2\n", &file[22..]].concat();
    assert!(damaged(&newer).contains("does not begin"));
    assert!(damaged(b"age-encryption.org/v1\n--- AAAA\n0123456789abcdef").contains("header"));
    // A header never ends.
    let endless = [&b"age-encryption.org/v1\n"[..], &b"-> X25519 AAAA\n\n".repeat(10_000)].concat();
    assert!(damaged(&endless).contains("header"));
    // A stanza of another kind is left out, as the specification says, but the MAC covers it.
    let text = String::from_utf8_lossy(&file[22..]).into_owned();
    let at = 22 + text.find("---").unwrap();
    let more = [&file[..at], b"-> unknown arg\nAAAA\n", &file[at..]].concat();
    assert!(damaged(&more).contains("changed"));
}

proptest! {
    #[test]
    fn any_range_equals_the_part_of_the_whole(
        len in 1usize..250_000, a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>()
    ) {
        let (text, recipients) = pair();
        let plain = content(len);
        let file = seal(&recipients, &plain).unwrap();
        let opener = Opener::new(&file, file.len() as u64, &identities(&text)).unwrap();
        prop_assert_eq!(opener.plain_size(), len as u64);
        let (a, b) = (a.index(len), b.index(len));
        let range = a.min(b) as u64..a.max(b) as u64 + 1;
        let stored = opener.stored(&range);
        prop_assert!(stored.end - stored.start <= range.end - range.start + 2 * SEALED as u64 + 64);
        let bytes = file[stored.start as usize..stored.end as usize].to_vec();
        let read = opener.open(&range, bytes.clone()).unwrap();
        prop_assert!(read == plain[range.start as usize..range.end as usize]);
        // A shorter answer of the store is an error.
        prop_assert!(opener.open(&range, bytes[..bytes.len() - 1].to_vec()).is_err());
        let end = opener.stored(&opener.end());
        prop_assert_eq!(end.end, file.len() as u64);
        let last = opener.open(&opener.end(), file[end.start as usize..].to_vec()).unwrap();
        prop_assert_eq!(last.len() as u64, opener.end().end - opener.end().start);
    }
}
