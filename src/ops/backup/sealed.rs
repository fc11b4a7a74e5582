//! The encryption of one attempt's artifact.

use crate::artifact::seal::Sealing;
use crate::base::error::{Error, Result};
use crate::config::JobSettings;
use crate::model::manifest::Encryption;
use crate::store::{Store, StoreErrorKind};

/// The beginning of an encrypted artifact.
pub(super) struct SealedBegin {
    /// The header and the nonce behind it.
    header: Vec<u8>,
    header_length: u64,
    /// The fingerprints of the recipients.
    recipients: Vec<String>,
}

impl SealedBegin {
    /// Makes the key of one artifact; `None` without recipients.
    pub fn new(settings: &JobSettings) -> Result<Option<(Sealing, SealedBegin)>> {
        let Some(recipients) = &settings.recipients else { return Ok(None) };
        let sealing = Sealing::new(recipients)?;
        let begin = SealedBegin {
            header: sealing.header().to_vec(),
            header_length: sealing.header_length(),
            recipients: recipients.fingerprints(),
        };
        Ok(Some((sealing, begin)))
    }

    /// The description of the encryption for the manifest. `content_size` is the length of the artifact before its encryption.
    pub fn encryption(&self, content_size: u64) -> Encryption {
        Encryption { header_length: self.header_length, content_size, recipients: self.recipients.clone() }
    }

    /// Checks that the stored artifact really begins with this header.
    ///
    /// # Errors
    /// Returns an error if it does not, or if the store cannot be read.
    pub async fn prove(&self, store: &dyn Store, key: &str) -> Result<()> {
        let stored = match store.get_range(key, 0..self.header.len() as u64).await {
            // The bucket puts the artifact into an archive at once, where nobody can read it.
            Err(e) if e.kind == StoreErrorKind::Archived => return Ok(()),
            stored => stored?,
        };
        match stored == self.header {
            true => Ok(()),
            false => Err(Error::failed(format!("{key} does not begin with the header of its encryption"))
                .hint("Find out what changes objects in this place: nothing of this backup is used")),
        }
    }
}
