//! The commit of a slice: its objects, and then the manifest, of which an encrypted slice shows only a part.

use super::Capture;
use super::pack::PackedSlice;
use super::start::Position;
use super::upload::{Commit, SentParts, SliceUpload};
use crate::artifact::sealed::SealedBegin;
use crate::base::error::Result;
use crate::model::manifest::TOOL;
use crate::model::slice::{self, EntryMark, EventsFile, SliceEncryption, SliceManifest};
use crate::mongo::server::Server;

impl Capture<'_> {
    /// The complete manifest of a slice whose objects are still to be stored.
    pub(super) fn manifest(
        &self,
        server: &Server,
        version: String,
        at: &Position,
        end: EntryMark,
        packed: &PackedSlice,
        sealed: Option<&SealedBegin>,
    ) -> SliceManifest {
        let encryption = |sealed: &SealedBegin| SliceEncryption {
            header_length: if packed.entries > 0 { sealed.header_length() } else { 0 },
            recipients: sealed.recipients().to_vec(),
            selection_mark: self.selection.mark.clone().unwrap_or_default(),
        };
        SliceManifest {
            format: slice::FORMAT,
            job: self.settings.job.clone(),
            chain: at.chain.clone(),
            start: at.start,
            after: at.after.clone(),
            end,
            tool: TOOL.into(),
            host: self.settings.host.clone(),
            stored_at: self.clock.now(),
            member: server.hello.address.clone(),
            version,
            set_name: server.hello.set_name.clone(),
            selection: self.selection.asked.clone().unwrap_or_default(),
            encryption: sealed.map(encryption),
            entries: packed.entries,
            raw_bytes: packed.raw_bytes,
            read_entries: packed.read_entries,
            body: None,
            events: None,
            barriers: packed.barriers.clone(),
            gap: at.gap.clone(),
            signature: None,
        }
    }

    /// Stores a slice. Returns its complete manifest, or `None` if another run stored a slice with the same start.
    pub(super) async fn store_slice(
        &self,
        upload: &SliceUpload<'_>,
        mut manifest: SliceManifest,
        packed: &PackedSlice,
        sent: Option<SentParts>,
        sealed: Option<&SealedBegin>,
    ) -> Result<Option<SliceManifest>> {
        let objects = async {
            manifest.body = upload.complete(packed, sent).await?;
            if let (Some(sealed), Some(body)) = (sealed, &manifest.body) {
                sealed.prove(self.store, &body.key).await?;
            }
            let mut events = packed.events.clone();
            if sealed.is_some() {
                // The complete manifest is bounded as well.
                manifest.encode()?;
                let empty = || EventsFile { format: slice::FORMAT, ..EventsFile::default() };
                events.get_or_insert_with(empty).slice = Some(Box::new(manifest.clone()));
            }
            if let Some(events) = &events {
                manifest.events = Some(upload.events(events).await?);
            }
            if let Some(error) = self.cancel.error() {
                return Err(error);
            }
            manifest.signature = self.signing.as_ref().map(|_| upload.signature());
            let encoded = match sealed {
                None => manifest.encode()?,
                Some(_) => manifest.readable().encode()?,
            };
            if let Some(signing) = &self.signing {
                upload.sign(&encoded, signing).await?;
            }
            Ok(encoded)
        };
        let encoded = match objects.await {
            Ok(encoded) => encoded,
            Err(error) => {
                upload.remove().await;
                return Err(error);
            }
        };
        // If the commit fails, the manifest may still reach the store, so the objects that it names stay.
        match upload.commit(encoded).await? {
            Commit::Done => {
                log::debug!(
                    "the slice {} of {} exists: its manifest was written",
                    manifest.start,
                    manifest.chain
                );
                Ok(Some(manifest))
            }
            Commit::Lost => {
                upload.remove().await;
                Ok(None)
            }
        }
    }
}
