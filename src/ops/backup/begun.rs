//! The upload of an attempt: begun, remembered, and ended one way or the other.

use std::sync::Arc;

use super::known::Known;
use super::{BackupOptions, Resources, upload};
use crate::base::error::{Error, Result};
use crate::catalog::layout;
use crate::model::id::BackupId;
use crate::model::manifest::TOOL;
use crate::mongo::notes::Notes;
use crate::store::leftovers;
use crate::store::leftovers::Marker;
use crate::store::{Upload, UploadSpec};

/// An upload that was begun.
pub struct Begun {
    /// The upload.
    pub upload: Arc<dyn Upload>,
    /// The size of its parts in bytes.
    pub part_size: u64,
    /// Tells the next run of this upload if this one is killed, or cannot abort it.
    marker: Option<Marker>,
}

impl Begun {
    /// Begins the upload of a backup's artifact.
    pub async fn begin(
        resources: &Resources,
        options: &BackupOptions,
        known: &Known,
        id: &BackupId,
        notes: &Notes,
    ) -> Result<Begun> {
        let store = &resources.store;
        let raw = known.description.raw_bytes;
        // Compressed again, it takes about what it takes on the server's disk; twice that is room enough.
        let most = raw.or(known.description.disk_bytes.map(|bytes| bytes.saturating_mul(2)));
        let part_size = upload::part_size(store.limits(), most)?;
        let last = known.before.as_deref().map(|m| (m.totals.raw_bytes, m.artifact.size));
        let spec = UploadSpec {
            key: layout::artifact(id, options.settings.format),
            part_size,
            estimate: upload::expected_size(raw, last),
            metadata: vec![
                ("backup-id".into(), id.to_string()),
                ("job".into(), options.settings.job.clone()),
                ("tool".into(), TOOL.into()),
            ],
            probe: false,
        };
        log::debug!("the artifact is {}, sent in parts of {part_size} bytes", spec.key);
        let upload = store.begin(&spec).await?;
        let marker = match &options.settings.state_dir {
            Some(state) => leftovers::remember(state, id.as_str(), &store.place(), &spec.key, upload.id()),
            None => Err(Error::failed("there is no state directory")),
        };
        let marker = marker.map_err(|e| {
            notes.add(format!("an upload that is killed will not be found by the next run: {}", e.chain()))
        });
        Ok(Begun { upload, part_size, marker: marker.ok() })
    }

    /// The upload is completed: nothing is left to remember.
    pub fn completed(&mut self) {
        if let Some(marker) = self.marker.take() {
            marker.forget();
        }
    }

    /// Ends the upload of an attempt that failed.
    pub async fn abort(&mut self) {
        match self.upload.abort().await {
            Ok(()) => self.completed(),
            Err(e) => {
                let then = if self.marker.is_some() { ", the next run will try again" } else { "" };
                log::warn!("the unfinished upload could not be removed{then}: {e}");
            }
        }
    }
}
