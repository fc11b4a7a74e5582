//! The probe, a small object that is written to the store and read back. All runs of a machine use the same key, and may
//! write, read and delete the probe at the same time. Its content has a hash, so that each run can check a probe of another.

use bytes::Bytes;

use crate::base::error::Result;
use crate::config::store::{ChecksumMode, S3Options};
use crate::store::checksum::crc64nvme;
use crate::store::{self, S3Store, Store, StoreErrorKind, UploadSpec, Whole};

const HEAD: &str = "a probe of `health`: ";
/// The largest probe that is read, in bytes.
const LARGEST: u64 = 4 << 10;
/// How often the probe is written. Each other run of this machine deletes it once.
const TRIES: u32 = 8;

/// Writes a probe and reads it back.
pub(super) async fn compare(store: &dyn Store, key: &str) -> Result<()> {
    let read = async || match store.get(key, LARGEST).await {
        Ok(body) => Ok(Some(body)),
        Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    let mut seen: Option<Bytes> = None;
    for _ in 0..TRIES {
        let body = new();
        store.put(key, body.clone()).await?;
        match (read().await?, &seen) {
            (Some(now), _) if now == body => return Ok(()),
            // Another run has replaced the probe. Its probe is complete, and it differs from the last one that was read, so
            // it does not come from a cache.
            (Some(now), Some(seen)) if now != *seen && is_whole(&now) => return Ok(()),
            (Some(now), _) => seen = Some(now),
            // Another run deleted the probe.
            (None, _) => {}
        }
    }
    let doing = format!("cannot use {key} in {}", store.place());
    Err(store::StoreError::new(
        StoreErrorKind::Damaged,
        doing,
        "the object that was read back is not the one that was written",
    )
    .hint(
        "Look for a cache or proxy between this machine and the store, or another tool that writes this key",
    )
    .into())
}

/// Makes the system calls of a backup in a directory: new folders, a locked file, direct writes, a rename that replaces
/// nothing, and an fsync of the folder. The file has a random name and is deleted.
pub(super) async fn upload(store: &dyn Store, key: &str) -> Result<()> {
    let key = format!("{key}.{:016x}", rand::random::<u64>());
    let uploaded = sent(store, &key).await;
    let deleted = store.delete(&key).await;
    uploaded?;
    Ok(deleted.map(drop)?)
}

/// Uploads a probe in parts with a backup's checksum and encryption. If a storage class or a retention period is set, also
/// begins and aborts an upload with them: a complete object would cost months of storage, or stay locked. `own` is true if
/// no other run uses the key.
///
/// # Errors
/// Returns the store's error. Its hint names another checksum if that works.
pub(super) async fn parts(store: &dyn Store, key: &str, own: bool, options: &S3Options) -> Result<()> {
    let mut tries = 1;
    loop {
        match sent(store, key).await {
            Ok(()) => break,
            // Another run of this machine may have written the key in between.
            Err(_) if !own && tries < TRIES => tries += 1,
            Err(error) => {
                let error = match working(key, options).await {
                    Some(mode) => error.hint(format!(
                        "Set S3_CHECKSUM={mode}: the service accepts multipart uploads with it, but not with {}",
                        options.checksum.name()
                    )),
                    None => error,
                };
                return Err(error.into());
            }
        }
    }
    if options.storage_class.is_some() || options.object_lock_days.is_some() {
        let upload = store.begin(&spec(store, key, false)).await?;
        upload.abort().await?;
    }
    Ok(())
}

fn spec(store: &dyn Store, key: &str, probe: bool) -> UploadSpec {
    UploadSpec {
        key: key.into(),
        part_size: store.limits().min_part.max(1 << 10),
        estimate: None,
        metadata: Vec::new(),
        probe,
    }
}

async fn sent(store: &dyn Store, key: &str) -> store::StoreResult<()> {
    let upload = store.begin(&spec(store, key, true)).await?;
    let body = new();
    let whole = Whole { size: body.len() as u64, crc64nvme: crc64nvme(&body), parts: 1 };
    let done = upload.put_part(0, body).await;
    match done {
        Ok(()) => upload.complete(&whole).await,
        Err(error) => {
            // An error of `abort` would only follow from the first error.
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

/// The strongest other checksum with which a multipart upload works.
async fn working(key: &str, options: &S3Options) -> Option<&'static str> {
    for checksum in [ChecksumMode::Crc32c, ChecksumMode::None] {
        let store = S3Store::connect(S3Options { checksum, ..options.clone() }).await.ok()?;
        if checksum != options.checksum && sent(&store, key).await.is_ok() {
            return Some(checksum.name());
        }
    }
    None
}

fn new() -> Bytes {
    let number = format!("{:032x}", rand::random::<u128>());
    format!("{HEAD}{number} {}\n", blake3::hash(number.as_bytes()).to_hex()).into()
}

fn is_whole(body: &[u8]) -> bool {
    let words = std::str::from_utf8(body).ok().and_then(|text| text.strip_prefix(HEAD)?.strip_suffix('\n'));
    let Some((number, hash)) = words.and_then(|words| words.split_once(' ')) else { return false };
    blake3::hash(number.as_bytes()).to_hex().as_str() == hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_probe_is_recognized() {
        let probe = new();
        assert!(is_whole(&probe) && new() != probe);
        assert!(!is_whole(b"") && !is_whole(&probe[1..]) && !is_whole(&probe[..probe.len() - 1]));
        for at in 0..probe.len() {
            let mut damaged = probe.to_vec();
            damaged[at] ^= 1;
            assert!(!is_whole(&damaged), "{at}");
        }
    }
}
