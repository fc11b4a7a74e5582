//! The beginning of an encrypted object, which is read back before a manifest names the object.

use super::age_header::NONCE;
use super::seal::Sealing;
use crate::base::error::{Error, Result};
use crate::base::keys::Recipients;
use crate::store::{Store, StoreErrorKind};

/// The beginning of an encrypted object: an artifact, or an object of an oplog slice.
#[derive(Debug)]
pub struct SealedBegin {
    /// The header and the nonce behind it.
    header: Vec<u8>,
    /// The fingerprints of the recipients.
    recipients: Vec<String>,
}

impl SealedBegin {
    /// Makes the key of one object; `None` without recipients.
    pub fn new(recipients: Option<&Recipients>) -> Result<Option<(Sealing, SealedBegin)>> {
        let Some(recipients) = recipients else { return Ok(None) };
        let sealing = Sealing::new(recipients)?;
        let begin = SealedBegin { header: sealing.header().to_vec(), recipients: recipients.fingerprints() };
        Ok(Some((sealing, begin)))
    }

    /// The length of the header in bytes, without the nonce.
    pub fn header_length(&self) -> u64 {
        (self.header.len() - NONCE) as u64
    }

    /// The fingerprints of the recipients.
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// Checks that the stored object really begins with this header.
    ///
    /// # Errors
    /// Returns an error if it does not, or if the store cannot be read.
    pub async fn prove(&self, store: &dyn Store, key: &str) -> Result<()> {
        prove_begin(store, key, &self.header).await
    }
}

/// Checks that a stored object begins with these bytes of an age file.
///
/// # Errors
/// Returns an error if it does not, or if the store cannot be read.
pub async fn prove_begin(store: &dyn Store, key: &str, begin: &[u8]) -> Result<()> {
    let stored = match store.get_range(key, 0..begin.len() as u64).await {
        // The bucket puts the object into an archive at once, where nobody can read it.
        Err(e) if e.kind == StoreErrorKind::Archived => return Ok(()),
        stored => stored?,
    };
    match stored == begin {
        true => Ok(()),
        false => Err(Error::failed(format!("{key} does not begin with the header of its encryption"))
            .hint("Find out what changes objects in this place: nothing of this run is used")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keys::testing::pair;
    use crate::config::store::DirOptions;
    use crate::store::dir::DirStore;

    #[tokio::test]
    async fn an_object_that_begins_with_other_bytes_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirStore::new(DirOptions::new(folder.path().join("store"))).unwrap();
        assert!(SealedBegin::new(None).unwrap().is_none());
        let (sealing, begin) = SealedBegin::new(Some(&pair().1)).unwrap().unwrap();
        assert_eq!(
            (begin.header_length() as usize, begin.recipients().len()),
            (sealing.header().len() - NONCE, 1)
        );
        let mut bytes = [sealing.header(), &[7; 100]].concat();
        store.create("good", bytes.clone().into()).await.unwrap();
        begin.prove(&store, "good").await.unwrap();
        bytes[50] ^= 1;
        store.create("changed", bytes.clone().into()).await.unwrap();
        store.create("short", bytes[..60].to_vec().into()).await.unwrap();
        for key in ["changed", "short", "missing"] {
            begin.prove(&store, key).await.unwrap_err();
        }
    }
}
