//! Messages of the wire protocol, as far as the proxy must understand them.

use std::io::{self, Read};

pub(super) const OP_REPLY: i32 = 1;
pub(super) const OP_QUERY: i32 = 2004;
pub(super) const OP_MSG: i32 = 2013;

const HEADER: usize = 16;
const LARGEST: usize = 64 << 20;

const CHECKSUM_PRESENT: u32 = 1;
const MORE_TO_COME: u32 = 1 << 1;
const EXHAUST_ALLOWED: u32 = 1 << 16;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub request_id: i32,
    pub response_to: i32,
    pub op: i32,
    /// The bytes after the header.
    pub body: Vec<u8>,
}

impl Message {
    /// Reads a message; `None` if the peer closed the connection between two messages.
    pub fn read(stream: &mut impl Read) -> io::Result<Option<Message>> {
        let mut header = [0; HEADER];
        if stream.read(&mut header[..1])? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut header[1..])?;
        let word =
            |at: usize| i32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = usize::try_from(word(0)).ok().filter(|n| (HEADER..=LARGEST).contains(n));
        let length = length.ok_or_else(|| io::Error::other("a message with an impossible length"))?;
        let mut body = vec![0; length - HEADER];
        stream.read_exact(&mut body)?;
        let mut message = Message { request_id: word(4), response_to: word(8), op: word(12), body };
        message.strip_flags();
        Ok(Some(message))
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.body.len());
        for word in [(HEADER + self.body.len()) as i32, self.request_id, self.response_to, self.op] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.body);
        out
    }

    /// Makes an answer to `request` with this document, as OP_REPLY or OP_MSG like the request.
    pub fn answer(request: &Message, document: &[u8]) -> Message {
        let (op, head) = match request.op {
            // responseFlags, cursorID, startingFrom, numberReturned.
            OP_QUERY => (OP_REPLY, [&[0; 16][..], &1_i32.to_le_bytes()].concat()),
            // flagBits, section kind 0.
            _ => (OP_MSG, vec![0; 5]),
        };
        let body = [&head, document].concat();
        Message { request_id: request.request_id, response_to: request.request_id, op, body }
    }

    /// Returns true if the sender does not wait for an answer.
    pub fn more_to_come(&self) -> bool {
        self.op == OP_MSG && self.flags() & MORE_TO_COME != 0
    }

    /// The range of the command or its answer in the body.
    pub fn document_range(&self) -> Option<std::ops::Range<usize>> {
        let start = match self.op {
            OP_MSG => return self.body_section(),
            OP_REPLY => 20,
            // flags, fullCollectionName, numberToSkip, numberToReturn.
            OP_QUERY => 4 + self.body.get(4..)?.iter().position(|&b| b == 0)? + 1 + 8,
            _ => return None,
        };
        Some(start..start + self.length_at(start)?)
    }

    pub fn document(&self) -> Option<&[u8]> {
        self.body.get(self.document_range()?)
    }

    pub fn set_document(&mut self, document: &[u8]) {
        if let Some(range) = self.document_range() {
            self.body.splice(range, document.iter().copied());
        }
    }

    /// Removes the checksum, which an edited message would not match, and the permission to answer a request many
    /// times, so that each request has one answer.
    fn strip_flags(&mut self) {
        if self.op != OP_MSG || self.body.len() < 9 {
            return;
        }
        let flags = self.flags();
        if flags & CHECKSUM_PRESENT != 0 {
            self.body.truncate(self.body.len() - 4);
        }
        let kept = flags & !(CHECKSUM_PRESENT | EXHAUST_ALLOWED);
        self.body[..4].copy_from_slice(&kept.to_le_bytes());
    }

    fn flags(&self) -> u32 {
        self.body.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// The section of kind 0 among those of kind 1.
    fn body_section(&self) -> Option<std::ops::Range<usize>> {
        let mut at = 4;
        loop {
            let kind = *self.body.get(at)?;
            let length = self.length_at(at + 1)?;
            match kind {
                0 => return Some(at + 1..at + 1 + length),
                _ => at += 1 + length,
            }
        }
    }

    fn length_at(&self, at: usize) -> Option<usize> {
        let bytes = self.body.get(at..)?.first_chunk::<4>()?;
        let length = usize::try_from(i32::from_le_bytes(*bytes)).ok()?;
        (length >= 5 && at + length <= self.body.len()).then_some(length)
    }
}
