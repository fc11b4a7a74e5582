//! The objects of a backup besides its artifact. They are made once, so that they are the same in all places.

use bytes::Bytes;

use super::layout;
use crate::artifact::seal::seal;
use crate::base::error::{Error, Result};
use crate::base::keys::Recipients;
use crate::base::minisign::SigningKey;
use crate::model::index::Index;
use crate::model::manifest::{IndexObject, Manifest};
use crate::store::{Store, StoreResult};

/// The objects of a backup besides its artifact, in the order in which they are written. The manifest is the last one.
#[derive(Debug, Clone)]
pub struct BackupObjects(Vec<(String, Bytes)>);

impl BackupObjects {
    /// Encodes the objects, and describes the index in the manifest. The index is encrypted if there are recipients, and the
    /// manifest is signed if there is a key. `recovery` is the text for people who restore an encrypted backup without this tool.
    ///
    /// # Errors
    /// Returns an error if an object is too large.
    pub fn encode(
        manifest: &mut Manifest,
        index: &Index,
        recovery: Option<String>,
        recipients: Option<&Recipients>,
        signing: Option<&SigningKey>,
    ) -> Result<BackupObjects> {
        let id = manifest.id.clone();
        let mut objects: Vec<(String, Bytes)> = Vec::new();
        objects.extend(recovery.map(|text| (layout::recovery(&id), text.into())));
        let (key, plain) = (layout::index(&id, recipients.is_some()), index.encode()?);
        let bytes = match recipients {
            Some(recipients) => seal(recipients, &plain)?,
            None => plain,
        };
        let (size, blake3) = (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string());
        manifest.index = IndexObject { key: key.clone(), size, blake3 };
        objects.push((key, bytes.into()));
        let (key, bytes) = (layout::manifest(&id), manifest.encode()?);
        if let Some(signing) = signing {
            let signature = signing.sign(&bytes, &format!("manifest of the backup {id}"));
            objects.push((layout::signature(&key), signature.into()));
        }
        objects.push((key, bytes.into()));
        Ok(BackupObjects(objects))
    }

    /// Writes the objects but the manifest.
    pub async fn put_beside(&self, store: &dyn Store) -> StoreResult<()> {
        for (key, bytes) in &self.0[..self.0.len() - 1] {
            store.create(key, bytes.clone()).await?;
        }
        Ok(())
    }

    /// Writes the manifest. With this, the backup exists.
    pub async fn commit(&self, store: &dyn Store) -> Result<()> {
        let (key, bytes) = self.0.last().ok_or_else(|| Error::failed("there is no manifest"))?;
        Ok(store.create(key, bytes.clone()).await?)
    }
}
