//! The small object that is written to the store and read back. Its key is the same every time, and several
//! runs of one machine may write, read and delete it at once; so it says of itself that it is whole.

use bytes::Bytes;

use crate::error::Result;
use crate::store::checksum::crc64nvme;
use crate::store::{self, Kind, Store, UploadSpec, Whole};

/// How a probe begins.
const HEAD: &str = "a probe of `health`: ";

/// The largest probe that is read, in bytes.
const LARGEST: u64 = 4 << 10;

/// How often it is written: each other run of this machine deletes it once.
const TRIES: u32 = 8;

/// Writes a probe and reads it back.
pub async fn compare(store: &dyn Store, key: &str) -> Result<()> {
    let read = async || match store.get(key, LARGEST).await {
        Ok(body) => Ok(Some(body)),
        Err(e) if e.kind == Kind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    let before = read().await?;
    for _ in 0..TRIES {
        let body = new();
        store.put(key, body.clone()).await?;
        match read().await? {
            Some(now) if now == body => return Ok(()),
            // Another run wrote its own meanwhile: whole, and none that a cache kept.
            Some(now) if Some(&now) != before.as_ref() && is_whole(&now) => return Ok(()),
            // Another run deleted it, or it is not what was written.
            _ => {}
        }
    }
    let doing = format!("cannot use {key} in {}", store.place());
    Err(store::Error::new(Kind::Damaged, doing, "what was read back is not what was written")
        .hint("Look for a cache or proxy between this machine and the store, or another tool that writes this key")
        .into())
}

/// Makes the calls of a backup in a directory: new folders, a locked file, writes past the cache, a rename that replaces
/// nothing, and the folder written to disk. The file, which has a name of its own for each run, is deleted.
pub async fn upload(store: &dyn Store, key: &str) -> Result<()> {
    let key = format!("{key}.{:016x}", rand::random::<u64>());
    let (body, part_size) = (new(), store.limits().min_part.max(1 << 20));
    let spec = UploadSpec { key: key.clone(), part_size, estimate: None, metadata: Vec::new(), probe: true };
    let upload = store.begin(&spec).await?;
    let whole = Whole { size: body.len() as u64, crc64nvme: crc64nvme(&body), parts: 1 };
    let uploaded = match upload.put_part(0, body).await {
        Ok(()) => upload.complete(&whole).await,
        failed => failed,
    };
    if uploaded.is_err() {
        let _ = upload.abort().await;
    }
    let deleted = store.delete(&key).await;
    uploaded?;
    Ok(deleted.map(drop)?)
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
    fn a_probe_knows_whether_it_is_whole() {
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
