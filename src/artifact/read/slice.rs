//! Reading the events of oplog slices, and opening encrypted slices.

use super::Encrypted;
use crate::artifact::age_header::{LARGEST_HEADER, NONCE};
use crate::artifact::unseal::{Opener, unseal};
use crate::base::error::Result;
use crate::base::keys::Identities;
use crate::base::units::{count, several};
use crate::config::choices::Codec;
use crate::model::slice::{EventsFile, LARGEST_EVENTS, SliceEncryption, SliceEvents, SliceManifest};
use crate::store::Store;

/// The codec of bodies and events. Decompression does not depend on the level.
pub const CODEC: Codec = Codec::Zstd { level: 3 };

/// A slice that can be read.
#[derive(Debug, Clone)]
pub struct OpenedSlice {
    /// The complete manifest.
    pub manifest: SliceManifest,
    /// Decrypts the body; `None` if it is not encrypted, or if there are no entries.
    pub opener: Option<Opener>,
}

/// The size limit for reading an events object, in bytes.
pub fn largest_events(events: &SliceEvents) -> u64 {
    events.size.min(LARGEST_EVENTS)
}

/// Compares an events object with the manifest of its slice. Returns the fault.
pub fn check_stored_events(events: &SliceEvents, bytes: &[u8]) -> Option<String> {
    if bytes.len() as u64 != events.size {
        let has = several(bytes.len() as u64, "byte");
        return Some(format!("it has {has}, but the manifest says {}", count(events.size)));
    }
    let same = blake3::hash(bytes).to_hex().as_str() == events.blake3;
    (!same).then(|| "the object does not have the BLAKE3 in the manifest".into())
}

/// Checks and decodes the events of a slice. Returns them with the complete manifest, which the events of an encrypted slice
/// contain. The inner error names the fault of the object.
///
/// # Errors
/// Returns an error of the kind [`Kind::Key`](crate::base::error::Kind::Key) if the slice is encrypted, and no identity of `keys`
/// decrypts it.
pub fn decode_events(
    slice: &SliceManifest,
    bytes: &[u8],
    keys: Option<&Identities>,
) -> Result<Result<(EventsFile, SliceManifest), String>> {
    let Some(events) = &slice.events else { return Ok(Ok((EventsFile::default(), slice.clone()))) };
    let named = |what: String| format!("{}: {what}", events.key);
    if let Some(what) = check_stored_events(events, bytes) {
        return Ok(Err(named(what)));
    }
    let opened = match &slice.encryption {
        None => None,
        Some(encryption) => {
            let encrypted = of_slice(slice, encryption);
            let keys = encrypted.needed(keys)?;
            match unseal(bytes, keys) {
                Ok(plain) => Some(plain),
                Err(why) => return encrypted.unopened(why, &events.key, Some(keys)).map(Err),
            }
        }
    };
    let decoded = CODEC.decode(opened.as_deref().unwrap_or(bytes), LARGEST_EVENTS).map_err(|e| e.chain());
    let decoded = decoded.and_then(|json| {
        let mut events = EventsFile::decode(&json)?.within(slice)?;
        let whole = match slice.encryption {
            Some(_) => events.take_slice(slice)?,
            None => slice.clone(),
        };
        Ok((events, whole))
    });
    Ok(decoded.map_err(named))
}

/// Opens a slice for reading: decrypts the complete manifest of an encrypted one, and finds the key of its body. The inner error
/// names the fault of the slice.
///
/// # Errors
/// Returns an error if the store does not answer. The error has the kind [`Kind::Key`](crate::base::error::Kind::Key) if the slice
/// is encrypted, and no identity of `keys` decrypts it.
pub async fn open_slice(
    store: &dyn Store,
    slice: &SliceManifest,
    keys: Option<&Identities>,
) -> Result<Result<OpenedSlice, String>> {
    let (Some(encryption), Some(events)) = (&slice.encryption, &slice.events) else {
        return Ok(Ok(OpenedSlice { manifest: slice.clone(), opener: None }));
    };
    let encrypted = of_slice(slice, encryption);
    let keys = encrypted.needed(keys)?;
    let bytes = match store.get(&events.key, largest_events(events)).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind.is_fault() => return Ok(Err(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    let manifest = match decode_events(slice, &bytes, Some(keys))? {
        Ok((_, manifest)) => manifest,
        Err(what) => return Ok(Err(what)),
    };
    let Some(body) = &manifest.body else { return Ok(Ok(OpenedSlice { manifest, opener: None })) };
    let begin = encryption.header_length.min(LARGEST_HEADER as u64) + NONCE as u64;
    let header = match store.get_range(&body.key, 0..begin.min(body.size)).await {
        Ok(header) => header,
        Err(e) if e.kind.is_fault() => return Ok(Err(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    match Opener::new(&header, body.size, keys) {
        Ok(opener) => Ok(Ok(OpenedSlice { manifest, opener: Some(opener) })),
        Err(why) => encrypted.unopened(why, &body.key, Some(keys)).map(Err),
    }
}

fn of_slice<'a>(slice: &SliceManifest, encryption: &'a SliceEncryption) -> Encrypted<'a> {
    let name = format!("the oplog slice that starts at {}", slice.start.second());
    Encrypted { name, recipients: &encryption.recipients }
}
