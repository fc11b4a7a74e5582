//! Reading artifacts: the index, and the regions of the artifact that it describes.
//!
//! The index of a backup says where each segment begins and ends in the artifact. Headers and metadata lie
//! between the segments. [`segment`] reads both; `verify`, `restore` and `drill` share this code. The positions are those of the
//! content: an encrypted artifact is decrypted by ranges ([`unseal`](super::unseal)).

pub mod held;
pub mod replicas;
mod runs;
pub mod segment;
pub mod slice;

use std::ops::Range;

use bson::RawDocumentBuf;
use bytes::Bytes;

use super::age_header::{LARGEST_HEADER, NONCE, Unopened};
use super::unseal::{Opener, unseal};
use crate::base::error::{Error, Kind, Result};
use crate::base::keys::Identities;
use crate::base::units::bytes;
use crate::dumpformat::extjson::Json;
use crate::model::index::{self, Index, Segment};
use crate::model::manifest::{Manifest, NamespaceEntry};
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::store::{self, Store};

/// The largest segment in bytes, stored and raw. The writer closes a segment at 64 MiB raw, and the last
/// block of documents can exceed this by the longest document.
const LARGEST_SEGMENT: u64 = 128 << 20;
/// The longest region without a segment, in stored bytes.
const LARGEST_GAP: u64 = 128 << 20;

/// A contiguous range of the artifact: a segment, or the headers and metadata between two segments.
#[derive(Debug, Clone)]
pub struct Region {
    /// In bytes of the artifact.
    pub range: Range<u64>,
    /// `None` for headers and metadata.
    pub segment: Option<Segment>,
    /// The name of the segment's namespace. For headers and metadata, the name of the next segment's
    /// namespace.
    pub namespace: Option<String>,
    /// If the segment belongs to the oplog slice: the slice's start (exclusive) and end (inclusive).
    pub slice: Option<(OpTime, OpTime)>,
}

/// Reads the bytes of the index, and compares them with the manifest. The inner error names the fault of the index.
///
/// # Errors
/// Returns an error if the store cannot be read.
pub async fn fetch_index(store: &dyn Store, manifest: &Manifest) -> Result<Result<Bytes, String>> {
    let object = &manifest.index;
    let bytes = match store.get(&object.key, index::LARGEST).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind == store::StoreErrorKind::NotFound => {
            return Ok(Err(format!("{} is missing", object.key)));
        }
        Err(e) if e.kind == store::StoreErrorKind::Damaged => return Ok(Err(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    if bytes.len() as u64 != object.size || blake3::hash(&bytes).to_hex().as_str() != object.blake3 {
        return Ok(Err(format!("{} does not have the size and the BLAKE3 in the manifest", object.key)));
    }
    Ok(Ok(bytes))
}

/// Reads the index of a backup and checks it against the manifest. Returns the index and the complete manifest, which an encrypted
/// index contains. The inner error names the fault of the index.
///
/// # Errors
/// Returns an error if the store cannot be read. The error has the kind [`Kind::Key`] if the backup is encrypted, and no identity
/// of `keys` decrypts it.
pub async fn load_index(
    store: &dyn Store,
    manifest: &Manifest,
    keys: Option<&Identities>,
) -> Result<Result<(Index, Manifest), String>> {
    let key = &manifest.index.key;
    let mut bytes = match fetch_index(store, manifest).await? {
        Ok(bytes) => bytes,
        Err(what) => return Ok(Err(what)),
    };
    if manifest.encryption.is_some() {
        let encrypted = Encrypted::of_backup(manifest);
        bytes = match unseal(&bytes, encrypted.needed(keys)?) {
            Ok(plain) => plain.into(),
            Err(why) => return encrypted.unopened(why, key, keys).map(Err),
        };
    }
    let decoded = Index::decode(&bytes).map_err(|e| e.chain()).and_then(|mut index| {
        if index.id != manifest.id.as_str() {
            return Err(format!("{key} belongs to the backup {}", index.id));
        }
        let manifest = complete(&mut index, manifest)?;
        check_index(&index, &manifest).map(|()| (index, manifest))
    });
    Ok(decoded)
}

/// Takes the complete manifest of an encrypted backup out of its index.
fn complete(index: &mut Index, manifest: &Manifest) -> Result<Manifest, String> {
    if manifest.encryption.is_none() {
        return Ok(manifest.clone());
    }
    let whole = index.manifest.take().ok_or("the encrypted index has no manifest")?;
    let whole = Manifest { index: manifest.index.clone(), ..*whole };
    match whole.readable() == *manifest {
        true => Ok(whole),
        false => {
            Err("the manifest was changed after the backup: it differs from the one in the encrypted index"
                .into())
        }
    }
}

/// An encrypted backup or oplog slice, for messages about its key.
struct Encrypted<'a> {
    /// For example `the backup …`.
    name: String,
    /// The fingerprints of the recipients.
    recipients: &'a [String],
}

impl<'a> Encrypted<'a> {
    fn of_backup(manifest: &'a Manifest) -> Encrypted<'a> {
        let recipients = manifest.encryption.as_ref().map(|encryption| encryption.recipients.as_slice());
        Encrypted { name: format!("the backup {}", manifest.id), recipients: recipients.unwrap_or_default() }
    }

    /// The identities, which must be there.
    fn needed<'k>(&self, keys: Option<&'k Identities>) -> Result<&'k Identities> {
        keys.ok_or_else(|| {
            let what = format!("{} is encrypted, and no identity file is named", self.name);
            Error::new(Kind::Key, what).hint(format!(
                "Name the file with the secret key of one of its recipients ({}) in --identity or BACKUP_IDENTITY_FILE",
                self.recipients.join(", ")
            ))
        })
    }

    /// The fault of an age file.
    ///
    /// # Errors
    /// Returns an error of the kind [`Kind::Key`] if the identities do not belong to a recipient.
    fn unopened(&self, why: Unopened, key: &str, keys: Option<&Identities>) -> Result<String> {
        let ours = |keys: &&Identities| {
            self.recipients.iter().any(|recipient| keys.fingerprints().contains(recipient))
        };
        match (why, keys) {
            (Unopened::Damaged(why), _) => Ok(format!("{key} cannot be decrypted: {why}")),
            (Unopened::NoKey, Some(keys)) if !ours(&keys) => {
                let what = format!("no identity in {} decrypts {}", keys.path().display(), self.name);
                Err(Error::new(Kind::Key, what).hint(format!(
                    "The recipients are {}, and the file has the key of {}. Name another file in --identity or \
                     BACKUP_IDENTITY_FILE",
                    self.recipients.join(", "),
                    keys.fingerprints().join(", ")
                )))
            }
            (Unopened::NoKey, _) => {
                Ok(format!("{key} cannot be decrypted: its header is damaged, or belongs to another file"))
            }
        }
    }
}

/// Finds the key of an encrypted artifact, and proves its length by its last chunk. Returns `None` if it is not encrypted. The
/// inner error names the fault of the artifact.
///
/// # Errors
/// Returns an error if the store cannot be read, and as [`load_index`] if no identity decrypts the backup.
pub async fn open_artifact(
    store: &dyn Store,
    manifest: &Manifest,
    keys: Option<&Identities>,
) -> Result<Result<Option<Opener>, String>> {
    let Some(encryption) = &manifest.encryption else { return Ok(Ok(None)) };
    let encrypted = Encrypted::of_backup(manifest);
    let (keys, key, size) = (encrypted.needed(keys)?, &manifest.artifact.key, manifest.artifact.size);
    let begin = encryption.header_length.min(LARGEST_HEADER as u64) + NONCE as u64;
    let header = store.get_range(key, 0..begin.min(size)).await?;
    let opener = match Opener::new(&header, size, keys) {
        Ok(opener) => opener,
        Err(why) => return encrypted.unopened(why, key, Some(keys)).map(Err),
    };
    let end = opener.end();
    let last = store.get_range(key, opener.stored(&end)).await?;
    Ok(match opener.open(&end, last.into()) {
        Err(why) => Err(format!("{key} cannot be decrypted: {why}")),
        Ok(_) if opener.plain_size() != encryption.content_size => {
            Err(format!("{key} does not have the length in the manifest after its decryption"))
        }
        Ok(_) => Ok(Some(opener)),
    })
}

/// Checks that the segments of the index lie within the artifact, one after the other, and that its options
/// and indexes have the digests in the manifest.
///
/// # Errors
/// Returns an error that names the fault of the index.
pub fn check_index(index: &Index, manifest: &Manifest) -> Result<(), String> {
    let mut end = 0;
    let size = manifest.content_size();
    for segment in &index.segments {
        let from = segment.offset;
        let wrong = |what: &str| format!("the index has a segment at byte {from} {what}");
        if segment.length > LARGEST_SEGMENT || segment.raw_bytes > LARGEST_SEGMENT {
            return Err(wrong(&format!("that is larger than {}", bytes(LARGEST_SEGMENT))));
        }
        if from.saturating_sub(end) > LARGEST_GAP {
            let most = bytes(LARGEST_GAP);
            return Err(format!("the index has no segment in the {most} before byte {from}"));
        }
        if from < end || segment.length == 0 {
            return Err(wrong("that is empty or overlaps another one"));
        }
        if manifest.name(segment.namespace).is_none() {
            return Err(wrong("of a namespace that the manifest does not list"));
        }
        let behind = from.checked_add(segment.length).filter(|end| *end <= size);
        end = behind.ok_or_else(|| wrong("that ends after the end of the artifact"))?;
    }
    if size.saturating_sub(end) > LARGEST_GAP {
        return Err(format!("the index has no segment in the {} after byte {end}", bytes(LARGEST_GAP)));
    }
    if let (Some(at), Some(slice)) = (manifest.consistency.at, &manifest.consistency.oplog)
        && (at != slice.end || slice.start > slice.end)
    {
        return Err(format!(
            "the manifest contradicts itself: the oplog slice runs from {} to {}, but the backup's instant is {at}",
            slice.start, slice.end
        ));
    }
    // Version 0.1.0 wrote no options and indexes.
    if !index.namespaces.is_empty() && index.namespaces.len() != manifest.namespaces.len() {
        return Err("the index and the manifest list different numbers of namespaces".into());
    }
    for (described, entry) in index.namespaces.iter().zip(&manifest.namespaces) {
        let name = entry.name();
        let (options, indexes) =
            described.documents().map_err(|why| format!("the index is damaged at {name}: {why}"))?;
        if let Some(what) = entry.differs(&options, &indexes) {
            return Err(format!(
                "the {what} of {name} in the index do not match the digests in the manifest"
            ));
        }
    }
    Ok(())
}

/// Divides the artifact into regions, from the first byte to the last. The index must have passed
/// [`check_index`].
pub fn regions(index: &Index, manifest: &Manifest) -> Vec<Region> {
    let bounds = manifest.consistency.oplog.as_ref().map(|slice| (slice.start, slice.end));
    let between = |range, namespace| Region { range, segment: None, namespace, slice: None };
    let (mut regions, mut at) = (Vec::new(), 0);
    for segment in &index.segments {
        let namespace = manifest.name(segment.namespace);
        if segment.offset > at {
            regions.push(between(at..segment.offset, namespace.clone()));
        }
        at = segment.offset + segment.length;
        let slice = bounds.filter(|_| manifest.slice_place() == Some(segment.namespace));
        regions.push(Region { range: segment.offset..at, segment: Some(segment.clone()), namespace, slice });
    }
    if manifest.content_size() > at {
        regions.push(between(at..manifest.content_size(), None));
    }
    regions
}

/// Compares a namespace that was parsed from `metadata.json` with the digests in the manifest. If the text
/// can be read in more than one way, the digests decide: the result has exactly the options and indexes of
/// the backup.
///
/// # Errors
/// Returns an error that names the difference.
pub fn match_metadata(namespace: &Namespace, entry: &NamespaceEntry) -> Result<Namespace, String> {
    if entry.differs(&namespace.options, &namespace.indexes).is_none() {
        return Ok(namespace.clone());
    }
    let is = |document: &RawDocumentBuf, digest: &str| {
        blake3::hash(document.as_bytes()).to_hex().as_str() == digest
    };
    let read = |json: &Json, digest: &str| json.read_as(&|document| is(document, digest));
    let differ = |what: &str| format!("does not match the {what} in the manifest");
    let json = Json::parse(&namespace.metadata).map_err(|why| format!("is damaged: {why}"))?;
    let options = match json.get("options") {
        Some(options) => read(options, &entry.options_blake3),
        None => Some(RawDocumentBuf::new()).filter(|none| is(none, &entry.options_blake3)),
    };
    let options = options.ok_or_else(|| differ("options"))?;
    let indexes = match json.get("indexes") {
        Some(Json::Array(rows)) if rows.len() == entry.indexes.len() => {
            rows.iter().zip(&entry.indexes).map(|(row, index)| read(row, &index.blake3)).collect()
        }
        _ => None,
    };
    let indexes = indexes.ok_or_else(|| differ("indexes"))?;
    Ok(Namespace { options, indexes, ..namespace.clone() })
}
