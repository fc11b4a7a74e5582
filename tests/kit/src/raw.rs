//! BSON by hand, for what no typed API will write: bad UTF-8, duplicate keys, retired types, lying lengths.

use anyhow::{Result, bail};
use bson::{RawDocumentBuf, doc};
use mongodb::{Client, Database};

/// The server's limit for one command body is 16 MiB + 16 KiB; one document of 16 MiB goes alone.
const BATCH_BYTES: usize = 15 << 20;
const BATCH_DOCUMENTS: usize = 50_000;

/// One element: type byte, key (as bytes, without its NUL), value.
pub fn element(kind: u8, key: &[u8], value: impl AsRef<[u8]>) -> Vec<u8> {
    [&[kind], key, &[0], value.as_ref()].concat()
}

/// A document of those elements.
pub fn document<E: AsRef<[u8]>>(elements: &[E]) -> Vec<u8> {
    let length: usize = elements.iter().map(|e| e.as_ref().len()).sum::<usize>() + 5;
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&(length as i32).to_le_bytes());
    elements.iter().for_each(|e| out.extend_from_slice(e.as_ref()));
    out.push(0);
    out
}

/// The value of a string element; the bytes need not be UTF-8.
pub fn string(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&(bytes.len() as i32 + 1).to_le_bytes(), bytes, &[0]].concat()
}

/// The value of a binary element.
pub fn binary(subtype: u8, bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_le_bytes(), &[subtype][..], bytes].concat()
}

/// Inserts the documents byte by byte as they are. In a set of several members this waits for a majority.
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
        element(3, b"writeConcern", document(&[element(2, b"w", string("majority"))])),
    ]);
    let answer = database.run_raw_command(RawDocumentBuf::from_bytes(command)?).await?;
    if answer.get_i32("n")? as usize != documents.len() {
        let errors = answer.get_array("writeErrors").ok().and_then(|errors| errors.first());
        bail!("{}.{collection}: not all documents were inserted: {errors:?}", database.name());
    }
    Ok(())
}

/// Drops the databases, which is no error where they do not exist.
pub async fn drop_databases(client: &Client, names: &[&str]) -> Result<()> {
    for name in names {
        client.database(name).run_command(doc! { "dropDatabase": 1 }).await?;
    }
    Ok(())
}
