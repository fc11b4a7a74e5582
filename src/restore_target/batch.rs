//! Cutting documents into batches, and the command of one, written out by hand: nothing is decoded.

use bson::RawDocumentBuf;

use super::Target;
use super::insert::Place;
use crate::base::error::{Error, Result};

/// A batch is about this long.
pub const BATCH: usize = 1 << 20;
/// The server takes no more documents in one command.
const DOCUMENTS: usize = 100_000;

/// The `insert` of a batch.
pub fn command(target: &Target, place: &Place, batch: &[&[u8]]) -> RawDocumentBuf {
    let total: usize = batch.iter().map(|d| d.len() + 8).sum();
    let mut out = Vec::with_capacity(total + 256);
    out.extend_from_slice(&[0; 4]);
    string(&mut out, "insert", &place.collection);
    boolean(&mut out, "ordered", false);
    // A bucket is checked by rules of its own, which an insert may not go round.
    if !place.buckets {
        boolean(&mut out, "bypassDocumentValidation", true);
    }
    if target.version.keeps_empty_timestamps() {
        boolean(&mut out, "bypassEmptyTsReplacement", true);
    }
    if place.raw {
        boolean(&mut out, "rawData", true);
    }
    element(&mut out, 3, "writeConcern");
    out.extend_from_slice(target.concern.as_bytes());
    element(&mut out, 4, "documents");
    let array = out.len();
    out.extend_from_slice(&[0; 4]);
    for (n, document) in batch.iter().enumerate() {
        element(&mut out, 3, &n.to_string());
        out.extend_from_slice(document);
    }
    out.push(0);
    close(&mut out, array);
    out.push(0);
    close(&mut out, 0);
    RawDocumentBuf::from_bytes(out).expect("the lengths were written last")
}

/// The documents that stand one after the other.
pub fn split(mut raw: &[u8]) -> Result<Vec<&[u8]>> {
    let mut out = Vec::new();
    while !raw.is_empty() {
        let len = raw.first_chunk::<4>().map(|b| i32::from_le_bytes(*b) as usize).filter(|len| *len >= 5);
        let (document, rest) = len
            .and_then(|len| raw.split_at_checked(len))
            .ok_or_else(|| Error::failed("a document's length does not fit its bytes"))?;
        out.push(document);
        raw = rest;
    }
    Ok(out)
}

/// Runs of documents that fit into a command each. A document of 16 MiB goes alone: the command's body may
/// be 16 KiB longer, and no more.
pub fn batches<'a, 'b>(documents: &'b [&'a [u8]]) -> impl Iterator<Item = &'b [&'a [u8]]> {
    let mut rest = documents;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(DOCUMENTS).take_while(|document| {
            let first = bytes == 0;
            bytes += document.len() + 8;
            first || bytes <= 2 * BATCH
        });
        let count = fits.count();
        let (batch, later) = rest.split_at(count);
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

fn element(out: &mut Vec<u8>, kind: u8, key: &str) {
    out.push(kind);
    out.extend_from_slice(key.as_bytes());
    out.push(0);
}

fn string(out: &mut Vec<u8>, key: &str, text: &str) {
    element(out, 2, key);
    out.extend_from_slice(&(text.len() as i32 + 1).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn boolean(out: &mut Vec<u8>, key: &str, value: bool) {
    element(out, 8, key);
    out.push(u8::from(value));
}

fn close(out: &mut [u8], at: usize) {
    let len = (out.len() - at) as i32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_document_once() {
        let large = vec![1; 3 << 20];
        let small = vec![2; 1 << 19];
        let documents: Vec<&[u8]> = vec![&small, &large, &small, &small, &small, &small, &large, &large];
        let lens: Vec<usize> = batches(&documents).map(<[_]>::len).collect();
        assert_eq!(lens, [1, 1, 3, 1, 1, 1]);
        let tiny = [0; 5];
        let many: Vec<&[u8]> = (0..DOCUMENTS + 1).map(|_| &tiny[..]).collect();
        let lens: Vec<usize> = batches(&many).map(<[_]>::len).collect();
        assert_eq!(lens, [DOCUMENTS, 1]);
        assert_eq!(batches(&[]).count(), 0);
    }

    #[test]
    fn broken_runs_are_refused() {
        let document = bson::rawdoc! {"a": 1}.into_bytes();
        let two = [document.clone(), document.clone()].concat();
        assert_eq!(split(&two).unwrap().len(), 2);
        assert!(split(&two[..two.len() - 1]).is_err() && split(&[0; 8]).is_err());
    }
}
