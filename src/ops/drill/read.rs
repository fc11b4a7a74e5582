//! Reading back what was restored.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_128;

use super::Resources;
use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::config::selection::Selection;
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::ops::restore::Stored;
use crate::ops::restore::sinks::Survey;
use crate::source::{describe, native};

/// What is there: namespaces, and the sum of the documents of each.
#[derive(Default)]
pub struct Copies {
    rows: BTreeMap<(String, String), (Namespace, Tally)>,
    /// The hashes of the documents where documents expire.
    expiring: BTreeMap<(String, String), HashSet<u128>>,
}

impl Copies {
    /// What is there under this name.
    pub fn get(&self, db: &str, collection: &str) -> Option<(&Namespace, &Tally)> {
        let found = self.rows.get(&(db.to_string(), collection.to_string()));
        found.map(|(namespace, tally)| (namespace, tally))
    }

    /// The hashes of the documents that are there, if the server deletes them when they are old enough.
    pub fn expiring(&self, db: &str, collection: &str) -> Option<&HashSet<u128>> {
        self.expiring.get(&(db.to_string(), collection.to_string()))
    }
}

/// Whether the server deletes documents of it on its own.
fn expires(namespace: &Namespace) -> bool {
    let mut all = namespace.indexes.iter().chain([&namespace.options]);
    all.any(|document| document.get("expireAfterSeconds").is_ok_and(|value| value.is_some()))
}

/// Sums everything up, and keeps the hashes where documents expire.
#[derive(Default)]
struct Reader {
    survey: Survey,
    hashes: Vec<Option<HashSet<u128>>>,
    at: usize,
}

impl Sink for Reader {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        self.hashes = namespaces.iter().map(|n| expires(n).then(HashSet::new)).collect();
        self.survey.prelude(namespaces)
    }

    fn begin(&mut self, at: usize) -> Result<()> {
        self.at = at;
        self.survey.begin(at)
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        if let Some(hashes) = &mut self.hashes[self.at] {
            hashes.insert(xxh3_128(raw));
        }
        self.survey.document(raw)
    }

    fn end(&mut self) -> Result<()> {
        self.survey.end()
    }
}

/// Looks at these namespaces of a server as a backup would, and reads the documents of those with `true`.
pub async fn all(
    uri: &Secret,
    wanted: &BTreeMap<(String, String), bool>,
    resources: &Resources<'_>,
) -> Result<Copies> {
    let databases: BTreeSet<String> = wanted.keys().map(|(db, _)| db.clone()).collect();
    if databases.is_empty() {
        return Ok(Copies::default());
    }
    let server = Arc::new(Server::connect(uri, &resources.patience).await?);
    let selection = Selection { databases: databases.into_iter().collect(), ..Selection::default() };
    let described = describe::describe(&server, &selection).await?;
    let mut copies = Copies::default();
    let mut read = Vec::new();
    for namespace in described.namespaces {
        let key = (namespace.db.clone(), namespace.collection.clone());
        match wanted.get(&key) {
            Some(true) => read.push(namespace),
            Some(false) => {
                copies.rows.insert(key, (namespace, Tally::default()));
            }
            None => {}
        }
    }
    resources.meter.doing("comparing what was restored".into());
    let (reading, cancel) = (Arc::clone(&server), resources.cancel.token().clone());
    let read = tokio::task::spawn_blocking(move || {
        let mut reader = Reader::default();
        native::read(
            &reading,
            &read,
            &described.uuids,
            &native::Reading::default(),
            &Notes::default(),
            &cancel,
            &mut reader,
        )?;
        Ok::<_, Error>(reader)
    });
    let Reader { survey, hashes, .. } =
        read.await.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
    server.close().await;
    for ((namespace, tally), hashes) in survey.namespaces.into_iter().zip(survey.tallies).zip(hashes) {
        let key = (namespace.db.clone(), namespace.collection.clone());
        copies.expiring.extend(hashes.map(|hashes| (key.clone(), hashes)));
        copies.rows.insert(key, (namespace, tally));
    }
    Ok(copies)
}

/// The sum of a namespace's documents in the backup without the first so many.
pub async fn last(stored: &Arc<Stored>, at: usize, skipped: u64) -> Result<Tally> {
    let mut seen = 0;
    sum(stored, at, move |_| {
        seen += 1;
        seen > skipped
    })
    .await
}

/// The sum of those of a namespace's documents in the backup that have these hashes.
pub async fn among(stored: &Arc<Stored>, at: usize, hashes: HashSet<u128>) -> Result<Tally> {
    sum(stored, at, move |document| hashes.contains(&xxh3_128(document))).await
}

async fn sum(
    stored: &Arc<Stored>,
    at: usize,
    mut counts: impl FnMut(&[u8]) -> bool + Send + 'static,
) -> Result<Tally> {
    let (stored, handle) = (Arc::clone(stored), Handle::current());
    let read = tokio::task::spawn_blocking(move || {
        let mut sum = Tally::default();
        stored.scan(at, &handle, &mut |document| {
            if counts(document) {
                sum += Tally::of(document);
            }
        })?;
        Ok::<_, Error>(sum)
    });
    read.await.map_err(|_| Error::failed("a reader ended unexpectedly"))?
}
