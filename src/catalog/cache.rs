//! The cache of a place in the state directory: objects that did not change are not read again.
//!
//! The file is a zstd frame with a checksum: a line of JSON with the [`Header`], then a line for each object, with the
//! key, size and tag that the listing gave. An entry counts only for an object that is listed with all three, so an
//! object that was written again is read again. The file is replaced as a whole. One that is lost, damaged, too large,
//! of another version or of another place costs time only: it is made anew.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Summary;
use super::collapse::NamePool;
use super::known::PlaceFile;
use super::marks::{FailedRun, Pin};
use super::verdict::Verdict;
use crate::store;

/// The version of the file's format.
const FORMAT: u32 = 1;
/// The largest file that is read or written, in bytes.
const LARGEST: u64 = 64 << 20;
/// The longest line that is written or read, in bytes: about 200,000 namespaces.
const LONGEST_LINE: u64 = 16 << 20;
/// The most that a file may expand to, in bytes.
const EXPANDED: u64 = 1 << 30;

/// The first line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct CacheHeader {
    format: u32,
    /// Another version may understand what this one does not.
    tool: String,
    place: String,
}

/// What an object was understood as. What was not understood is read again each time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum CachedContent {
    /// A manifest.
    #[serde(with = "arc")]
    Backup(Arc<Summary>),
    /// The result of a verify.
    #[serde(with = "arc")]
    Verdict(Arc<Verdict>),
    /// `failed.json`, the record of a failed run.
    #[serde(with = "arc")]
    Failure(Arc<FailedRun>),
    /// A pin.
    Pin(Pin),
}

/// serde's own way needs its feature `rc`.
mod arc {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
struct CachedObject {
    key: String,
    size: u64,
    tag: String,
    what: CachedContent,
}

/// The objects of a place that were read before.
#[derive(Debug, Default)]
pub struct Cache {
    /// `None`: nothing is kept.
    file: Option<PlaceFile>,
    place: String,
    entries: HashMap<String, CachedObject>,
    shared: NamePool,
    changed: bool,
}

impl Cache {
    /// Reads what is known of the objects that `listed` gives by their keys; without a file, or with one that
    /// cannot be used, that is nothing.
    pub fn load<'a>(
        file: Option<PlaceFile>,
        place: &str,
        listed: impl Fn(&str) -> Option<&'a store::StoredObject>,
    ) -> Cache {
        let mut cache = Cache { file, place: place.into(), ..Cache::default() };
        let Some(file) = cache.file.clone() else { return cache };
        if let Err(e) = cache.fill(&file, listed) {
            if e.kind() != io::ErrorKind::NotFound {
                log::debug!("{} is made anew: {e}", file.display());
            }
            cache.entries.clear();
            cache.changed = true;
        }
        cache
    }

    fn fill<'a>(
        &mut self,
        file: &PlaceFile,
        listed: impl Fn(&str) -> Option<&'a store::StoredObject>,
    ) -> io::Result<()> {
        let refuse = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_string());
        let file = file.open()?;
        if file.metadata()?.len() > LARGEST {
            return Err(refuse("it is too large"));
        }
        let mut lines = BufReader::new(zstd::Decoder::new(file.take(LARGEST))?.take(EXPANDED));
        let mut line = Vec::new();
        let mut next = |line: &mut Vec<u8>| -> io::Result<bool> {
            line.clear();
            let read = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', line)?;
            if read > 0 && line.last() != Some(&b'\n') {
                return Err(refuse("a line has no end"));
            }
            Ok(read > 0)
        };
        if !next(&mut line)? || serde_json::from_slice::<CacheHeader>(&line)? != self.header() {
            return Err(refuse("it is of another version or place"));
        }
        while next(&mut line)? {
            /// What decides whether the rest is read.
            #[derive(Deserialize)]
            struct Name<'a> {
                #[serde(borrow)]
                key: std::borrow::Cow<'a, str>,
                size: u64,
                #[serde(borrow)]
                tag: std::borrow::Cow<'a, str>,
            }
            let name: Name<'_> = serde_json::from_slice(&line)?;
            let object = listed(&name.key);
            let same = |object: &store::StoredObject| {
                object.size == name.size && object.tag.as_deref() == Some(name.tag.as_ref())
            };
            if !object.is_some_and(same) {
                self.changed = true;
                continue;
            }
            let mut entry: CachedObject = serde_json::from_slice(&line)?;
            entry.what = self.sharing(entry.what);
            self.entries.insert(entry.key.clone(), entry);
        }
        Ok(())
    }

    fn header(&self) -> CacheHeader {
        CacheHeader { format: FORMAT, tool: env!("CARGO_PKG_VERSION").into(), place: self.place.clone() }
    }

    fn sharing(&mut self, what: CachedContent) -> CachedContent {
        match what {
            CachedContent::Backup(summary) => {
                let summary = Arc::unwrap_or_clone(summary);
                CachedContent::Backup(Arc::new(summary.map_namespaces(|named| self.shared.share(named))))
            }
            other => other,
        }
    }

    /// The cached content of a listed object, if its size and tag are still the same.
    pub fn get(&self, object: &store::StoredObject) -> Option<CachedContent> {
        // Whether it can be read now is no matter of what was read before.
        if object.archive.is_some() {
            return None;
        }
        let known = self.entries.get(&object.key)?;
        let same = known.size == object.size && object.tag.as_deref() == Some(&known.tag);
        same.then(|| known.what.clone())
    }

    /// Remembers what an object is; gives it back with shared memory.
    pub fn put(&mut self, object: &store::StoredObject, what: CachedContent) -> CachedContent {
        let what = self.sharing(what);
        if let Some(tag) = object.tag.clone().filter(|_| self.file.is_some()) {
            let (key, size) = (object.key.clone(), object.size);
            self.entries.insert(key.clone(), CachedObject { key, size, tag, what: what.clone() });
            self.changed = true;
        }
        what
    }

    /// Writes the file, if something is new. A failure costs the next run time, and no more.
    pub fn save(&mut self) {
        let Some(file) = self.file.clone().filter(|_| std::mem::take(&mut self.changed)) else { return };
        if let Err(e) = self.write(&file) {
            log::debug!("{} cannot be written: {e}", file.display());
        }
    }

    fn write(&self, file: &PlaceFile) -> io::Result<()> {
        let mut out = zstd::Encoder::new(Vec::new(), 1)?;
        out.include_checksum(true)?;
        let mut line = serde_json::to_vec(&self.header())?;
        line.push(b'\n');
        out.write_all(&line)?;
        for entry in self.entries.values() {
            line.clear();
            serde_json::to_writer(&mut line, entry)?;
            line.push(b'\n');
            if line.len() as u64 <= LONGEST_LINE {
                out.write_all(&line)?;
            }
        }
        let bytes = out.finish()?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::other("it would be too large"));
        }
        file.replace(&bytes)
    }
}
