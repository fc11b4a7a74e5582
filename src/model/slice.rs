//! Oplog slices, which `uzima-backup oplog` stores: the manifest of a slice, and its events.
//!
//! A chain is a sequence of slices without a gap: each slice starts with the entry at which the slice before it ended. A slice
//! exists if its `slice.json` exists. docs/format.md describes every field.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::clock;
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::model::manifest::HIDDEN;
use crate::model::optime::OpTime;
use crate::model::selection::{KnownSelection, SelectionAsked};

/// The version of the format of slices and events.
pub const FORMAT: u32 = 1;

/// The largest `slice.json` that is written or read, in bytes.
pub const LARGEST: u64 = 1 << 20;
/// The largest events object when it is decompressed, in bytes.
pub const LARGEST_EVENTS: u64 = 64 << 20;
/// The largest body of a slice when it is decompressed, in bytes: the size at which a slice is cut, and one more entry.
pub const LARGEST_BODY: u64 = CUT + (32 << 20);
/// A slice ends when it has this many bytes of entries.
pub const CUT: u64 = 256 << 20;
/// The most barriers that a slice lists: the first ones and the last one.
pub const BARRIERS: usize = 100;

/// The name of a chain: the id of its replica set, and the chain's start. It has no random part, so that two machines which
/// start the same chain write the same keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ChainId {
    /// The start comes first in the order: of two chains, the one that starts later is the newer one.
    pub start: OpTime,
    /// 24 hex digits.
    pub set_id: String,
}

impl ChainId {
    /// Returns `None` if `set_id` is not 24 hex digits.
    pub fn new(set_id: &str, start: OpTime) -> Option<ChainId> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (set_id.len() == 24 && set_id.bytes().all(hex)).then(|| ChainId { start, set_id: set_id.into() })
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.set_id, self.start.padded())
    }
}

impl FromStr for ChainId {
    type Err = String;

    fn from_str(text: &str) -> Result<ChainId, String> {
        let parts = text.split_once('-');
        let id = parts.and_then(|(set, start)| ChainId::new(set, OpTime::from_padded(start)?));
        id.ok_or_else(|| format!("{text:?} is not the name of a chain"))
    }
}

impl TryFrom<String> for ChainId {
    type Error = String;

    fn try_from(text: String) -> Result<ChainId, String> {
        text.parse()
    }
}

impl From<ChainId> for String {
    fn from(id: ChainId) -> String {
        id.to_string()
    }
}

/// An oplog entry by its time and content.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct EntryMark {
    pub at: OpTime,
    /// The term of the primary that wrote the entry.
    pub term: i64,
    /// BLAKE3 of the entry's BSON, hex. `None` in an encrypted slice, and where it was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

impl EntryMark {
    /// Returns true if both are the same entry. If a hash is missing, the time and the term decide: a replica set has no two
    /// entries of the same time and term.
    pub fn is(&self, other: &EntryMark) -> bool {
        let same_hash = self.blake3.as_ref().zip(other.blake3.as_ref()).is_none_or(|(a, b)| a == b);
        (self.at, self.term) == (other.at, other.term) && same_hash
    }

    /// The entry without a hash of its content.
    fn readable(&self) -> EntryMark {
        EntryMark { blake3: None, ..self.clone() }
    }
}

impl fmt::Display for EntryMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.at.fmt(f)
    }
}

/// A slice: `slice.json`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SliceManifest {
    pub format: u32,
    pub job: String,
    pub chain: ChainId,
    /// The slice contains entries after this optime.
    pub start: OpTime,
    /// The entry at `start`, which is the `end` of the slice before. `None` in the first slice of a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<EntryMark>,
    /// The last entry that was read, whether or not the slice contains it.
    pub end: EntryMark,
    /// The name and version of the program.
    pub tool: String,
    /// The machine that stored the slice.
    pub host: String,
    /// When the slice was stored.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub stored_at: DateTime<Utc>,
    /// `host:port` of the member that was read.
    pub member: String,
    /// The version of this member.
    pub version: String,
    /// The name of the replica set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_name: Option<String>,
    /// The namespaces whose entries the slice contains. Empty in the readable manifest of an encrypted slice.
    pub selection: SelectionAsked,
    /// `None` if body and events are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<SliceEncryption>,
    /// The number of entries in the body.
    pub entries: u64,
    /// The length of these entries in bytes.
    pub raw_bytes: u64,
    /// The number of entries that were read.
    pub read_entries: u64,
    /// The entries. `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<SliceBody>,
    /// The events. `None` if there are none. An encrypted slice always has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<SliceEvents>,
    /// The changes that no restore can repeat, in order: the first ones, and the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub barriers: Vec<Barrier>,
    /// Only in the first slice of a chain: why the chain did not continue an earlier chain or begin at a backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<OplogGap>,
    /// The key of the signature of this manifest. `None` if it is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The object with the entries of a slice.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SliceBody {
    /// The key, relative to the root of the store.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// CRC-64/NVME of the object, 16 hex digits.
    pub crc64nvme: String,
    /// BLAKE3 of the object, hex.
    pub blake3: String,
    /// BLAKE3 of the decompressed entries, hex. `None` in the readable manifest of an encrypted slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_blake3: Option<String>,
}

/// The encryption of a slice: body and events are age files, see docs/format.md.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SliceEncryption {
    /// The length of the body's age header in bytes. 0 without a body.
    pub header_length: u64,
    /// The fingerprints of the recipients, as in the manifest of a backup.
    pub recipients: Vec<String>,
    /// Two slices or backups of a replica set have the same selection if they have the same mark. The mark shows nothing about
    /// the selection.
    pub selection_mark: String,
}

/// The object with the events of a slice.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SliceEvents {
    /// The key, relative to the root of the store.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// BLAKE3 of the object, hex.
    pub blake3: String,
}

/// A change that no restore can repeat. A restore to a time before it is possible; a restore to a later time needs a backup
/// that was made after it.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Barrier {
    pub at: OpTime,
    /// `encrypted` in the readable manifest of an encrypted slice.
    pub why: String,
}

impl Barrier {
    /// The reason in words.
    pub fn reason(&self) -> &str {
        match self.why.as_str() {
            HIDDEN => {
                "a change that no restore can repeat. Its description is encrypted: `uzima-backup timeline --identity FILE` shows it"
            }
            why => why,
        }
    }
}

/// Writes that no slice contains: those between `from` and the chain's start.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct OplogGap {
    /// The end of the chain before, or the instant of the backup at which the chain should have begun.
    pub from: OpTime,
    pub why: String,
}

/// The events of a slice: `events-<random>.json.zst`.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct EventsFile {
    pub format: u32,
    /// The writes of each minute and namespace, in order.
    pub minutes: Vec<MinuteWrites>,
    /// The changes of namespaces and indexes, in order.
    pub changes: Vec<NamespaceChange>,
    /// The complete manifest of an encrypted slice, without `events`. The manifest in the store is its
    /// [readable](SliceManifest::readable) part. `None` if the slice is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<Box<SliceManifest>>,
}

/// The writes to a namespace within a minute.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct MinuteWrites {
    /// The start of the minute, in Unix seconds.
    pub minute: u32,
    /// `database.collection`; for a time series its own name, and buckets are counted.
    pub ns: String,
    pub inserts: u64,
    pub updates: u64,
    pub deletes: u64,
}

/// A change of a namespace or its indexes.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NamespaceChange {
    pub at: OpTime,
    /// The command, for example `drop`, `dropDatabase`, `renameCollection`, `createIndexes` or `dropIndexes`.
    pub command: String,
    /// `database.collection`, or the database of `dropDatabase`.
    pub ns: String,
    /// The new name of a renamed collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The names of the indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<String>,
    /// Approximately how many documents a dropped or replaced collection had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
}

/// The end of a `slice.json`: this, the BLAKE3 of everything before it as 64 hex digits, and [`SUM_END`].
const SUM: &[u8] = b",\n  \"sum\": \"";
const SUM_END: &[u8] = b"\"\n}\n";

/// `slice.json` with its checksum, for the schema.
#[derive(JsonSchema)]
pub struct StoredSlice {
    #[serde(flatten)]
    _slice: SliceManifest,
    /// BLAKE3 of all bytes of the file before the comma in front of this field, hex.
    #[serde(rename = "sum")]
    _sum: String,
}

/// Splits a `slice.json` into the part that its checksum covers, and the checksum. Returns `None` if it has none.
fn split_sum(json: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = json.strip_suffix(SUM_END)?;
    let (content, sum) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
    Some((content.strip_suffix(SUM)?, sum))
}

impl SliceManifest {
    /// Encodes the manifest as indented JSON with a checksum of itself, because nothing else proves at which entry it ends.
    ///
    /// # Errors
    /// Returns an error if the JSON is larger than [`LARGEST`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::failed("cannot write the manifest of an oplog slice").caused_by(e))?;
        // The last field takes the place of the end of the object.
        json.truncate(json.len() - b"\n}".len());
        let sum = blake3::hash(&json).to_hex();
        json.extend_from_slice(&[SUM, sum.as_bytes(), SUM_END].concat());
        if json.len() as u64 > LARGEST {
            let (size, most) = (units::bytes(json.len() as u64), units::bytes(LARGEST));
            let text =
                format!("the manifest of an oplog slice has {size}, but at most {most} can be read back");
            return Err(Error::failed(text).hint("Choose fewer and shorter patterns (include, exclude)"));
        }
        Ok(json)
    }

    /// Decodes a manifest.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a manifest, have a format that only a newer version knows, were changed, or
    /// contradict themselves.
    pub fn decode(bytes: &[u8]) -> Result<SliceManifest, String> {
        let slice: SliceManifest = decode(bytes)?;
        let is_sound = |(content, sum): (&[u8], &[u8])| blake3::hash(content).to_hex().as_bytes() == sum;
        if !split_sum(bytes).is_some_and(is_sound) {
            return Err("it was changed: its checksum differs from its content".into());
        }
        match slice.contradiction() {
            Some(why) => Err(why.into()),
            None => Ok(slice),
        }
    }

    fn contradiction(&self) -> Option<&'static str> {
        let hex = |text: &String| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let bodies = self.body.iter().flat_map(|body| [Some(&body.blake3), body.raw_blake3.as_ref()]);
        let events = self.events.iter().map(|events| Some(&events.blake3));
        let marks = self.after.iter().chain([&self.end]).map(|mark| mark.blake3.as_ref());
        let is_encrypted = self.encryption.is_some();
        let lacks_hash =
            self.end.blake3.is_none() || self.body.as_ref().is_some_and(|body| body.raw_blake3.is_none());
        let wrong = [
            (self.end.at <= self.start, "it ends before it starts"),
            (
                self.after.as_ref().is_some_and(|mark| mark.at != self.start),
                "the entry before it is not at its start",
            ),
            (
                self.start < self.chain.start || (self.start == self.chain.start) != self.after.is_none(),
                "its start does not fit its chain",
            ),
            (
                (self.entries > 0) != self.body.is_some() || self.raw_bytes > LARGEST_BODY,
                "its counts do not fit its body",
            ),
            (!bodies.chain(events).chain(marks).flatten().all(hex), "it has a hash that is not hexadecimal"),
            (!is_encrypted && lacks_hash, "it lacks a hash"),
            (is_encrypted && self.events.is_none(), "it is encrypted, and has no events object"),
            (!self.barriers.is_sorted_by_key(|barrier| barrier.at), "its barriers are out of order"),
        ];
        wrong.into_iter().find(|(wrong, _)| *wrong).map(|(_, why)| why)
    }

    /// Returns true if this slice starts with the entry at which `before` ended.
    pub fn continues(&self, before: &SliceManifest) -> bool {
        let follows = self.after.as_ref().is_some_and(|after| after.is(&before.end));
        self.chain == before.chain && self.job == before.job && follows
    }

    /// The manifest of an encrypted slice as everybody may read it: everything that the operation of backups needs, without
    /// names of namespaces and hashes of entries. The complete manifest is in the events object.
    pub fn readable(&self) -> SliceManifest {
        let hidden = |barrier: &Barrier| Barrier { at: barrier.at, why: HIDDEN.into() };
        SliceManifest {
            after: self.after.as_ref().map(EntryMark::readable),
            end: self.end.readable(),
            selection: SelectionAsked::default(),
            body: self.body.clone().map(|body| SliceBody { raw_blake3: None, ..body }),
            barriers: self.barriers.iter().map(hidden).collect(),
            ..self.clone()
        }
    }

    /// Returns true for the readable manifest of an encrypted slice.
    pub fn hides_details(&self) -> bool {
        self.encryption.is_some() && self.end.blake3.is_none()
    }

    /// The selection, for comparisons.
    pub fn known_selection(&self) -> KnownSelection {
        KnownSelection {
            asked: (!self.hides_details()).then(|| self.selection.clone()),
            mark: self.encryption.as_ref().map(|encryption| encryption.selection_mark.clone()),
        }
    }
}

impl EventsFile {
    /// Decodes decompressed events.
    ///
    /// # Errors
    /// Returns an error if the bytes are not events, or have a format that only a newer version knows.
    pub fn decode(bytes: &[u8]) -> Result<EventsFile, String> {
        decode(bytes)
    }

    /// Takes the complete manifest of an encrypted slice out of its events. `slice` is the manifest in the store.
    ///
    /// # Errors
    /// Returns an error if there is none, or if the manifest in the store is not its readable part.
    pub fn take_slice(&mut self, slice: &SliceManifest) -> Result<SliceManifest, String> {
        let whole = self.slice.take().ok_or("the encrypted events have no manifest of their slice")?;
        let whole =
            SliceManifest { events: slice.events.clone(), signature: slice.signature.clone(), ..*whole };
        if whole.readable() != *slice {
            let why =
                "the manifest of the slice was changed: it differs from the one in the encrypted events";
            return Err(why.into());
        }
        match whole.end.blake3.is_some() && whole.body.as_ref().is_none_or(|body| body.raw_blake3.is_some()) {
            true => Ok(whole),
            false => Err("the manifest in the encrypted events lacks a hash".into()),
        }
    }

    /// Returns the events if they are in order and within the times of the slice.
    ///
    /// # Errors
    /// Returns the contradiction.
    pub fn within(self, slice: &SliceManifest) -> Result<EventsFile, String> {
        let minutes = slice.start.t.saturating_sub(59)..=slice.end.at.t;
        let wrong = [
            (!self.minutes.is_sorted_by_key(|writes| writes.minute), "its minutes are not in order"),
            (
                !self.minutes.iter().all(|writes| minutes.contains(&writes.minute)),
                "it has minutes of other slices",
            ),
            (!self.changes.is_sorted_by_key(|change| change.at), "its changes are not in order"),
            (
                !self.changes.iter().all(|change| slice.start < change.at && change.at <= slice.end.at),
                "it has changes of other slices",
            ),
        ];
        match wrong.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(why.into()),
            None => Ok(self),
        }
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct FormatVersion {
        format: u32,
    }
    let version: FormatVersion = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if version.format != FORMAT {
        return Err(format!(
            "it has the format {}, but this version only knows {FORMAT}: use a newer uzima-backup",
            version.format
        ));
    }
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

#[cfg(test)]
pub(crate) mod tests;
