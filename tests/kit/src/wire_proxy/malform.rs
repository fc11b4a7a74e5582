//! Answers that break the protocol in one way each.

use super::message::Message;
use crate::load::Random;
use crate::raw;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The length in the message's header.
    MessageLength(i32),
    /// Another operation code.
    Opcode(i32),
    /// An answer to a request that nobody sent.
    ResponseTo,
    /// A header, and nothing after it.
    NoBody,
    /// The length of the answer's document.
    DocumentLength(i32),
    /// The document's last byte is not zero.
    NoDocumentEnd,
    /// The first element has a type that does not exist.
    ElementType(u8),
    /// The length of the first document in the batch (`cursor.firstBatch` or `nextBatch`).
    BatchDocumentLength(i32),
    /// `cursor` is a number.
    CursorIsNumber,
    /// `cursor` has no batch.
    NoBatch,
    /// The body is random bytes of the same length.
    Garbage(u64),
    /// A few random bits of the body are flipped.
    Flip(u64),
}

/// All malformed answers, for tests that try each.
pub const ALL: [Malformed; 15] = [
    Malformed::MessageLength(-1),
    Malformed::MessageLength(i32::MAX),
    Malformed::MessageLength(4),
    Malformed::Opcode(4711),
    Malformed::ResponseTo,
    Malformed::NoBody,
    Malformed::DocumentLength(-5),
    Malformed::DocumentLength(i32::MAX),
    Malformed::NoDocumentEnd,
    Malformed::ElementType(0x42),
    Malformed::BatchDocumentLength(-5),
    Malformed::BatchDocumentLength(i32::MAX),
    Malformed::CursorIsNumber,
    Malformed::NoBatch,
    Malformed::Garbage(1),
];

impl Malformed {
    /// Returns the bytes to send instead of the answer.
    pub(super) fn apply(self, mut answer: Message) -> Vec<u8> {
        match self {
            Malformed::MessageLength(length) => {
                let mut bytes = answer.bytes();
                bytes[..4].copy_from_slice(&length.to_le_bytes());
                return bytes;
            }
            Malformed::Opcode(op) => answer.op = op,
            Malformed::ResponseTo => answer.response_to = answer.response_to.wrapping_add(1),
            Malformed::NoBody => answer.body.clear(),
            Malformed::DocumentLength(length) => {
                if let Some(range) = answer.document_range() {
                    answer.body[range.start..range.start + 4].copy_from_slice(&length.to_le_bytes());
                }
            }
            Malformed::NoDocumentEnd => {
                if let Some(range) = answer.document_range() {
                    answer.body[range.end - 1] = 1;
                }
            }
            Malformed::ElementType(kind) => {
                if let Some(range) = answer.document_range() {
                    answer.body[range.start + 4] = kind;
                }
            }
            Malformed::BatchDocumentLength(length) => {
                let bad =
                    move |kind: u8, value: &[u8]| Some((kind, [&length.to_le_bytes(), &value[4..]].concat()));
                edit(&mut answer, |document| {
                    let first = raw::rewrite(document, &["cursor", "firstBatch", "0"], &bad);
                    raw::rewrite(&first, &["cursor", "nextBatch", "0"], &bad)
                });
            }
            Malformed::CursorIsNumber => edit(&mut answer, |document| {
                raw::rewrite(document, &["cursor"], &|_, _| Some((16, vec![7, 0, 0, 0])))
            }),
            Malformed::NoBatch => edit(&mut answer, |document| {
                let first = raw::rewrite(document, &["cursor", "firstBatch"], &|_, _| None);
                raw::rewrite(&first, &["cursor", "nextBatch"], &|_, _| None)
            }),
            Malformed::Garbage(seed) => answer.body = Random::new(seed).bytes(answer.body.len()),
            Malformed::Flip(seed) => {
                let mut random = Random::new(seed);
                for _ in 0..1 + random.below(4) {
                    let at = random.below(answer.body.len().max(1) as u64) as usize;
                    if let Some(byte) = answer.body.get_mut(at) {
                        *byte ^= 1 << random.below(8);
                    }
                }
            }
        }
        answer.bytes()
    }
}

fn edit(answer: &mut Message, change: impl Fn(&[u8]) -> Vec<u8>) {
    if let Some(changed) = answer.document().map(change) {
        answer.set_document(&changed);
    }
}
