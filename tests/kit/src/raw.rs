//! BSON written by hand, for documents that no typed API writes: bad UTF-8, duplicate keys, retired types, wrong lengths.

use anyhow::{Result, bail};
use bson::{RawDocumentBuf, doc};
use mongodb::{Client, Database};

/// The server's limit for a command body is 16 MiB + 16 KiB, so a document of 16 MiB is sent alone.
const BATCH_BYTES: usize = 15 << 20;
const BATCH_DOCUMENTS: usize = 50_000;

/// Makes an element: type byte, key (as bytes, without its NUL), value.
pub fn element(kind: u8, key: &[u8], value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[kind], key, &[0], value.as_ref()].concat()
}

/// Makes a document of these elements.
pub fn document<E: AsRef<[u8]>>(elements: &[E]) -> Vec<u8> {
    let length: usize = elements.iter().map(|e| e.as_ref().len()).sum::<usize>() + 5;
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&(length as i32).to_le_bytes());
    elements.iter().for_each(|e| out.extend_from_slice(e.as_ref()));
    out.push(0);
    out
}

/// Makes the value of a string element. The bytes may be invalid UTF-8.
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as i32 + 1).to_le_bytes(), bytes, &[0]].concat()
}

/// Makes the value of a binary element.
pub fn binary(subtype: u8, bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_le_bytes(), &[subtype][..], bytes].concat()
}

/// Inserts the documents without changing a byte. In a set of several members this waits for a majority.
pub async fn insert(database: &Database, collection: &str, documents: &[impl AsRef<[u8]>]) -> Result<()> {
    let mut rest = documents;
    while !rest.is_empty() {
        let mut bytes = 0;
        let count = rest
            .iter()
            .take(BATCH_DOCUMENTS)
            .take_while(|document| {
                bytes += document.as_ref().len() + 8;
                bytes <= BATCH_BYTES
            })
            .count()
            .max(1);
        let (batch, later) = rest.split_at(count);
        insert_batch(database, collection, batch).await?;
        rest = later;
    }
    Ok(())
}

async fn insert_batch(database: &Database, collection: &str, documents: &[impl AsRef<[u8]>]) -> Result<()> {
    let total: usize = documents.iter().map(|d| d.as_ref().len() + 9).sum();
    let mut array = Vec::with_capacity(total + 5);
    array.extend_from_slice(&[0; 4]);
    for (index, document) in documents.iter().enumerate() {
        array.push(3);
        array.extend_from_slice(index.to_string().as_bytes());
        array.push(0);
        array.extend_from_slice(document.as_ref());
    }
    array.push(0);
    let length = array.len() as i32;
    array[..4].copy_from_slice(&length.to_le_bytes());
    let command = document(&[
        element(2, b"insert", string(collection)),
        element(4, b"documents", array),
        // Bypass the validator, because old documents may break a newer validator.
        element(8, b"bypassDocumentValidation", [1]),
        element(3, b"writeConcern", document(&[element(2, b"w", string("majority"))])),
    ]);
    let answer = database.run_raw_command(RawDocumentBuf::from_bytes(command)?).await?;
    if answer.get_i32("n")? as usize != documents.len() {
        let errors = answer.get_array("writeErrors").ok().and_then(|errors| errors.first());
        bail!("{}.{collection}: not all documents were inserted: {errors:?}", database.name());
    }
    Ok(())
}

/// Drops the databases. It is no error if a database does not exist.
pub async fn drop_databases(client: &Client, names: &[&str]) -> Result<()> {
    for name in names {
        client.database(name).run_command(doc! { "dropDatabase": 1 }).await?;
    }
    Ok(())
}

/// One element of a document: type byte, key, value.
pub type Element<'a> = (u8, &'a [u8], &'a [u8]);

/// The elements of a document. Only their lengths are read: strings may be invalid UTF-8, and keys may repeat.
pub fn elements(document: &[u8]) -> Result<Vec<Element<'_>>> {
    let length = length_at(document)?;
    if length < 5 || length > document.len() || document[length - 1] != 0 {
        bail!("not a BSON document");
    }
    let mut rest = &document[4..length - 1];
    let mut out = Vec::new();
    while let Some((&kind, after)) = rest.split_first() {
        let key_length = cstring_length(after)?;
        let value = &after[key_length + 1..];
        let size = value_size(kind, value)?;
        if size > value.len() {
            bail!("an element is longer than its document");
        }
        out.push((kind, &after[..key_length], &value[..size]));
        rest = &value[size..];
    }
    Ok(out)
}

fn value_size(kind: u8, value: &[u8]) -> Result<usize> {
    Ok(match kind {
        6 | 10 | 127 | 255 => 0,
        8 => 1,
        16 => 4,
        1 | 9 | 17 | 18 => 8,
        7 => 12,
        19 => 16,
        2 | 13 | 14 => 4 + length_at(value)?,
        3 | 4 | 15 => length_at(value)?,
        5 => 5 + length_at(value)?,
        12 => 16 + length_at(value)?,
        11 => {
            let pattern = cstring_length(value)?;
            pattern + cstring_length(&value[pattern + 1..])? + 2
        }
        other => bail!("no BSON type {other}"),
    })
}

fn length_at(bytes: &[u8]) -> Result<usize> {
    match bytes.first_chunk::<4>() {
        Some(length) => Ok(usize::try_from(i32::from_le_bytes(*length))?),
        None => bail!("BSON ends early"),
    }
}

fn cstring_length(bytes: &[u8]) -> Result<usize> {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(length) => Ok(length),
        None => bail!("a key without an end"),
    }
}

/// The value at a path of keys, with its type.
pub fn get<'a>(document: &'a [u8], path: &[&str]) -> Option<(u8, &'a [u8])> {
    let (first, rest) = path.split_first()?;
    let (kind, _, value) = elements(document).ok()?.into_iter().find(|e| e.1 == first.as_bytes())?;
    if rest.is_empty() { Some((kind, value)) } else { get(value, rest) }
}

/// Converts the type and bytes of a value, or removes the value by returning `None`.
pub type Change<'a> = dyn Fn(u8, &[u8]) -> Option<(u8, Vec<u8>)> + 'a;

/// Replaces the value at a path by the result of `change`, or removes it (`None`). All other bytes stay the same. If
/// the path does not exist, nothing changes.
pub fn rewrite(document_bytes: &[u8], path: &[&str], change: &Change<'_>) -> Vec<u8> {
    let (Some((first, rest)), Ok(all)) = (path.split_first(), elements(document_bytes)) else {
        return document_bytes.to_vec();
    };
    let changed = all.into_iter().filter_map(|(kind, key, value)| {
        if key != first.as_bytes() {
            return Some(element(kind, key, value));
        }
        match (rest.is_empty(), kind) {
            (true, _) => change(kind, value).map(|(kind, value)| element(kind, key, value)),
            (false, 3 | 4) => Some(element(kind, key, rewrite(value, rest, change))),
            (false, _) => Some(element(kind, key, value)),
        }
    });
    document(&changed.collect::<Vec<_>>())
}
