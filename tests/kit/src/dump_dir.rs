//! Brings a mongodump directory into a server as a person without mongorestore would: collections with their
//! options, documents as raw bytes with validators bypassed, indexes last.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use bson::{Bson, doc};
use mongodb::{Client, Database};

use crate::raw;

/// What was brought back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    pub collections: u64,
    pub documents: u64,
}

/// Restores every database folder below `dump` but `admin`, whose users belong to the old server.
pub async fn restore(client: &Client, dump: &Path) -> Result<Restored> {
    let mut restored = Restored::default();
    for database in std::fs::read_dir(dump)? {
        let database = database?;
        let name = database.file_name().into_string().ok().context("a database's name is not UTF-8")?;
        if name == "admin" || !database.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(database.path())? {
            let path = file?.path();
            if path.to_string_lossy().ends_with(".metadata.json") {
                restored.documents += collection(&client.database(&name), &path).await?;
                restored.collections += 1;
            }
        }
    }
    Ok(restored)
}

/// One collection by its metadata; the number of its documents.
async fn collection(database: &Database, metadata: &Path) -> Result<u64> {
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(metadata)?)?;
    let Bson::Document(metadata_document) = Bson::try_from(json)? else {
        anyhow::bail!("metadata is no object")
    };
    let name = metadata_document.get_str("collectionName")?;
    let options = metadata_document.get_document("options").cloned().unwrap_or_default();
    let timeseries = options.contains_key("timeseries");
    let collated = options.contains_key("collation");
    let mut create = doc! {"create": name};
    create.extend(options);
    database.run_command(create).await.with_context(|| format!("create {name}"))?;

    let stem = metadata.to_string_lossy().trim_end_matches(".metadata.json").to_owned();
    let file = if timeseries {
        let (folder, file) = stem.rsplit_once('/').context("a file in a folder")?;
        format!("{folder}/system.buckets.{file}.bson")
    } else {
        format!("{stem}.bson")
    };
    let mut documents = 0;
    if Path::new(&file).exists() {
        let target = if timeseries { format!("system.buckets.{name}") } else { name.to_owned() };
        documents = insert_all(database, &target, &std::fs::read(&file)?).await?;
    }
    let mut indexes = Vec::new();
    for index in metadata_document.get_array("indexes")?.iter().filter_map(Bson::as_document) {
        if index.get_str("name").is_ok_and(|name| name == "_id_") || index.contains_key("clustered") {
            continue;
        }
        let mut index = index.clone();
        // An index without a collation has the simple one, even where the collection has another.
        if collated && !index.contains_key("collation") {
            index.insert("collation", doc! {"locale": "simple"});
        }
        indexes.push(Bson::from(index));
    }
    if !indexes.is_empty() {
        database.run_command(doc! {"createIndexes": name, "indexes": indexes}).await?;
    }
    Ok(documents)
}

async fn insert_all(database: &Database, collection: &str, mut bytes: &[u8]) -> Result<u64> {
    let mut documents = Vec::new();
    while !bytes.is_empty() {
        let len = i32::from_le_bytes(*bytes.first_chunk::<4>().context("a document's length")?) as usize;
        ensure!((5..=bytes.len()).contains(&len), "a document's length is wrong");
        let (document, rest) = bytes.split_at(len);
        documents.push(document);
        bytes = rest;
    }
    raw::insert(database, collection, &documents).await?;
    Ok(documents.len() as u64)
}
