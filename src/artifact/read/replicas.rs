//! The stores that have the same objects, byte for byte. A restore reads an object that one of them does not give whole from the next
//! one, and reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::store::Store;

/// The longest cause in a problem, in characters.
const LONGEST_CAUSE: usize = 300;

/// The store of a place, with the place's name in the settings.
#[derive(Debug, Clone)]
pub struct Replica {
    pub name: String,
    pub store: Arc<dyn Store>,
}

/// Stores with the same objects, in the order in which they are read. Clones share what they found out.
#[derive(Debug, Clone)]
pub struct Replicas {
    /// Never empty.
    stores: Arc<Vec<Replica>>,
    found: Arc<Found>,
}

/// The faults of the stores.
#[derive(Debug, Default)]
struct Found {
    /// The stores that did not answer, by their positions. They are asked last.
    silent: Vec<AtomicBool>,
    /// By the store's position and the object.
    faults: Mutex<BTreeMap<(usize, String), ObjectFault>>,
    /// Problems that were known before the first read.
    before: Vec<String>,
}

/// An object that a store did not give whole, and another store did.
#[derive(Debug)]
struct ObjectFault {
    cause: String,
    /// Where the parts that were read elsewhere begin.
    parts: BTreeSet<u64>,
    /// The name of the other place.
    from: String,
}

impl Replicas {
    /// The stores of several places with the same objects. `before` are problems with other places, for the report.
    ///
    /// # Panics
    /// Panics if there is no store.
    pub fn new(stores: Vec<Replica>, before: Vec<String>) -> Replicas {
        assert!(!stores.is_empty(), "there is a store");
        let silent = stores.iter().map(|_| AtomicBool::new(false)).collect();
        let found = Found { silent, before, ..Found::default() };
        Replicas { stores: Arc::new(stores), found: Arc::new(found) }
    }

    /// The store that is read first.
    pub fn first(&self) -> &Arc<dyn Store> {
        &self.stores[0].store
    }

    pub fn are_several(&self) -> bool {
        self.stores.len() > 1
    }

    /// The attempts to read the part of an object that begins at byte `part`. Stores that do not answer, and those that did not give
    /// this part whole before, are asked last.
    pub fn attempts<'a>(&'a self, object: &'a str, part: u64) -> Attempts<'a> {
        let is_bad = |at: &usize| {
            let faults = self.faults();
            let fault = faults.get(&(*at, object.to_string()));
            self.found.silent[*at].load(Relaxed) || fault.is_some_and(|fault| fault.parts.contains(&part))
        };
        let (bad, good): (Vec<usize>, Vec<usize>) = (0..self.stores.len()).partition(is_bad);
        let order = good.into_iter().chain(bad).rev().collect();
        Attempts { replicas: self, object, part, order, current: 0, failed: Vec::new() }
    }

    /// Reads from the first store from which `read` succeeds.
    ///
    /// # Errors
    /// Returns the error of the only store, or one that names the errors of all stores. A wrong key is an error at once.
    pub async fn read<T>(
        &self,
        object: &str,
        part: u64,
        read: impl AsyncFn(&Replica) -> Result<T>,
    ) -> Result<T> {
        let mut attempts = self.attempts(object, part);
        while let Some(replica) = attempts.next_store() {
            match read(replica).await {
                Ok(value) => {
                    attempts.succeeded(replica);
                    return Ok(value);
                }
                Err(error) => attempts.failed(error)?,
            }
        }
        Err(attempts.error())
    }

    /// The places that were not used, and the objects that were read from another place.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.found.before.clone();
        for ((at, object), fault) in &*self.faults() {
            let ObjectFault { cause, parts, from } = fault;
            let more = match parts.len() as u64 {
                0 | 1 => String::new(),
                n => format!(" (and {})", units::several(n - 1, "more part")),
            };
            problems.push(format!(
                "the place {} did not give {object} whole, so it was read from the place {from}{more}: {cause}",
                self.stores[*at].name
            ));
        }
        problems
    }

    fn faults(&self) -> MutexGuard<'_, BTreeMap<(usize, String), ObjectFault>> {
        self.found.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Arc<dyn Store>> for Replicas {
    fn from(store: Arc<dyn Store>) -> Replicas {
        Replicas::new(vec![Replica { name: String::new(), store }], Vec::new())
    }
}

/// The attempts to read something, one for each store.
pub struct Attempts<'a> {
    replicas: &'a Replicas,
    object: &'a str,
    part: u64,
    /// The positions of the stores that were not tried yet, the next one last.
    order: Vec<usize>,
    /// The position of the store that is tried.
    current: usize,
    failed: Vec<(usize, Error)>,
}

impl<'a> Attempts<'a> {
    /// The next store. Each attempt ends with [`succeeded`](Attempts::succeeded) or [`failed`](Attempts::failed).
    pub fn next_store(&mut self) -> Option<&'a Replica> {
        self.current = self.order.pop()?;
        Some(&self.replicas.stores[self.current])
    }

    /// Notes the faults of the stores that were tried before.
    pub fn succeeded(self, replica: &Replica) {
        let mut faults = self.replicas.faults();
        for (at, error) in self.failed {
            let fault = faults.entry((at, self.object.to_string())).or_insert_with(|| {
                log::warn!("{} is read from the place {}: {}", self.object, replica.name, error.chain());
                ObjectFault {
                    cause: units::brief_text(&error.chain(), LONGEST_CAUSE),
                    parts: BTreeSet::new(),
                    from: replica.name.clone(),
                }
            });
            fault.parts.insert(self.part);
        }
    }

    /// Takes the error of the store that was tried last.
    ///
    /// # Errors
    /// Returns the error if no other store can do better: there is only one, or the key is wrong.
    pub fn failed(&mut self, error: Error) -> Result<()> {
        let helps =
            error.is_of_store() || matches!(error.kind(), Kind::Mismatch | Kind::Failed | Kind::Missing);
        if !self.replicas.are_several() || !helps {
            return Err(error);
        }
        // Every further read would wait for a store that does not answer.
        if error.kind() != Kind::Mismatch {
            self.replicas.found.silent[self.current].store(true, Relaxed);
        }
        self.failed.push((self.current, error));
        Ok(())
    }

    /// The error after all stores failed.
    pub fn error(mut self) -> Error {
        if self.failed.is_empty() {
            return Error::failed(format!("{} was not read", self.object));
        }
        let stores = &self.replicas.stores;
        let of = |(at, error): &(usize, Error)| format!("{}: {}", stores[*at].name, error.chain());
        let causes: Vec<String> = self.failed.iter().map(of).collect();
        let (_, first) = self.failed.swap_remove(0);
        let what = format!("no place has {} whole: {}", self.object, causes.join("; "));
        let error = Error::new(first.kind(), what);
        first.next_step().map(str::to_string).into_iter().fold(error, Error::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::store::DirOptions;
    use crate::store::DirStore;

    fn replicas(folder: &tempfile::TempDir, names: &[&str]) -> Replicas {
        let replica = |name: &&str| {
            let store = DirStore::new(DirOptions::new(folder.path().join(name))).unwrap();
            Replica { name: name.to_string(), store: Arc::new(store) }
        };
        Replicas::new(names.iter().map(replica).collect(), Vec::new())
    }

    /// Reads from `places`, where only the store with the name `good` succeeds. Returns the names of the stores that were tried.
    async fn read(places: &Replicas, part: u64, good: &str, kind: Kind) -> (Result<()>, Vec<String>) {
        let tried = Mutex::new(Vec::new());
        let reading = places.read("a/dump.tar.gz", part, async |replica| {
            tried.lock().unwrap().push(replica.name.clone());
            match replica.name == good {
                true => Ok(()),
                false => Err(Error::new(kind, "some bytes differ").hint("Look")),
            }
        });
        let read = reading.await;
        (read, tried.into_inner().unwrap())
    }

    #[tokio::test]
    async fn a_fault_is_named_once_for_each_object_and_a_faulty_part_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let places = replicas(&folder, &["first", "offsite", "third"]);
        for (part, tried) in [(0, &["first", "offsite"][..]), (7, &["first", "offsite"]), (7, &["offsite"])] {
            let (read, names) = read(&places, part, "offsite", Kind::Mismatch).await;
            assert!(read.is_ok() && names == tried, "{names:?}");
        }
        assert_eq!(
            places.problems(),
            [
                "the place first did not give a/dump.tar.gz whole, so it was read from the place offsite (and 1 more part): \
              some bytes differ"
            ]
        );
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_asked_last_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let places = replicas(&folder, &["first", "offsite"]);
        let (_, names) = read(&places, 0, "offsite", Kind::Failed).await;
        assert_eq!(names, ["first", "offsite"]);
        let (_, names) = read(&places, 7, "offsite", Kind::Failed).await;
        assert_eq!(names, ["offsite"]);
        let (_, names) = read(&places, 9, "first", Kind::Mismatch).await;
        assert_eq!(names, ["offsite", "first"]);
    }

    #[tokio::test]
    async fn a_wrong_key_and_the_fault_of_the_only_store_are_errors_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (read, names) = {
            let places = replicas(&folder, &["first", "offsite"]);
            let found = self::read(&places, 0, "offsite", Kind::Key).await;
            assert!(places.problems().is_empty());
            found
        };
        assert_eq!((read.unwrap_err().to_string(), names.len()), ("some bytes differ".into(), 1));
        let (read, _) = self::read(&replicas(&folder, &["first"]), 0, "", Kind::Mismatch).await;
        assert_eq!(read.unwrap_err().to_string(), "some bytes differ");
        let (read, names) =
            self::read(&replicas(&folder, &["first", "offsite"]), 0, "", Kind::Mismatch).await;
        let error = read.unwrap_err();
        assert_eq!((names.len(), error.kind(), error.next_step()), (2, Kind::Mismatch, Some("Look")));
        assert!(
            error.to_string().contains("first: some bytes differ; offsite: some bytes differ"),
            "{error}"
        );
    }
}
