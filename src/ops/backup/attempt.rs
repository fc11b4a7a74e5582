//! One attempt at a backup, from the first question to the manifest.

mod manifest_builder;

use chrono::{DateTime, Utc};

use manifest_builder::Checked;

use super::changes::{self, Change};
use super::pipeline::{self, Layout, Reader};
use super::preflight::Preflight;
use super::upload::{self, ArtifactUpload};
use super::{BackupOptions, BackupReport, Resources};
use crate::artifact::writer::{ArtifactSpec, WrittenArtifact, recovery_text};
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::catalog::{self, compare, layout};
use crate::config::choices::EngineChoice;
use crate::dumpformat::Sink;
use crate::model::id::BackupId;
use crate::model::index;
use crate::model::index::{Index, NamespaceDescription};
use crate::model::manifest;
use crate::model::manifest::COLLAPSED;
use crate::model::manifest::TOOL;
use crate::model::versions::newer;
use crate::mongo::notes::Notes;
use crate::source::describe::{self, Uuids};
use crate::source::engine::{self, ChosenEngine};
use crate::source::native::{self, Gone, ReadOptions};
use crate::source::snapshot;

/// An attempt that has its id, and nothing else yet.
pub struct Attempt {
    id: BackupId,
    started: DateTime<Utc>,
    /// How it differs from the options, after attempts that failed.
    other: Otherwise,
}

/// How an attempt differs from the options.
#[derive(Debug, Clone, Default)]
pub struct Otherwise {
    /// Why it does not use the consistency that was asked for.
    pub consistency: Option<String>,
    /// Why it does not read with the engine that was asked for.
    pub engine: Option<String>,
    /// Collections that are renamed or replaced while they are read do not end it: it keeps the documents read so far.
    pub tolerant: bool,
    /// Warnings that the backup is less than was asked for.
    pub less: Vec<String>,
}

/// What an attempt found out about its server before it read anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// It began an oplog slice.
    pub slice: bool,
    /// The server can be read as of one instant.
    pub snapshot: bool,
}

impl Attempt {
    /// Begins one now.
    pub fn new(resources: &Resources) -> Attempt {
        let started = resources.clock.now();
        Attempt { id: (resources.new_id)(started), started, other: Otherwise::default() }
    }

    /// The id of the backup that it makes.
    pub fn id(&self) -> &BackupId {
        &self.id
    }

    /// The same attempt with these differences from the options.
    pub fn otherwise(self, other: Otherwise) -> Attempt {
        Attempt { other, ..self }
    }

    /// Tries once; `seen` is filled in as soon as the server is known.
    pub async fn run(
        self,
        resources: &Resources,
        options: &BackupOptions,
        notes: &Notes,
        seen: &mut Seen,
    ) -> Result<BackupReport> {
        let Attempt { id, started, other } = self;
        let mut engine = resources.cancel.or(engine::choose(&options.settings)).await?;
        // Nothing is begun yet: whoever ends the run here waits for nobody.
        let mut known = resources.cancel.or(Preflight::run(resources, options, notes)).await?;
        // mongodump finds out only when it reaches the collection, and does not name the role.
        if engine.mongodump.is_some() {
            let proof = describe::prove_readable(&known.server, &known.description.namespaces);
            resources.cancel.or(proof).await?;
        }
        let topology = known.server.hello.topology;
        *seen = Seen {
            slice: known.consistency.oplog.is_some(),
            snapshot: snapshot::refused(topology, &known.version).is_none(),
        };
        if let Some(why) = other.consistency {
            known.consistency.why = why;
        }
        if let Some(why) = other.engine {
            engine.why = why;
        }
        let mut less = other.less;
        less.extend(newer(&known.version));
        less.extend(known.description.warnings.iter().cloned());
        if let Some(db) = known.description.unlistable.first().filter(|_| engine.mongodump.is_some()) {
            let why = format!(
                "mongodump cannot list the collections of {db}, where a view has an invalid definition"
            );
            if options.settings.engine == EngineChoice::Mongodump {
                less.push(format!("read with the native engine, because {why}"));
            }
            engine = ChosenEngine::native(why);
        }
        log::info!(
            "backing up {} of {} ({}) with the {} engine: {}",
            units::several(known.description.namespaces.len() as u64, "namespace"),
            known.server.hello.address,
            options.settings.job,
            engine.name(),
            engine.why
        );
        let entries = known.description.namespaces.len() + usize::from(known.consistency.oplog.is_some());
        resources.meter.expect(known.description.raw_bytes, entries as u64);
        let upload = ArtifactUpload::begin(resources, options, &known, &id, notes).await?;
        let tolerant = other.tolerant;
        let gone = Gone::default();
        let mut work = Work { resources, options, notes, id, engine, known, upload, tolerant, gone, less };
        let checked = match work.write(started).await {
            Ok(checked) => checked,
            Err(error) => {
                work.upload.abort().await;
                return Err(error);
            }
        };
        work.upload.completed();
        match work.commit(&checked, started).await {
            Ok(report) => {
                work.known.server.close().await;
                Ok(report)
            }
            Err(error) => {
                work.remove_body().await;
                Err(error)
            }
        }
    }
}

/// What reads the documents into a sink. Blocks.
type Documents = Box<dyn FnOnce(&mut dyn Sink) -> Result<()> + Send>;

/// An attempt under way.
pub struct Work<'a> {
    /// What it works with.
    pub resources: &'a Resources,
    /// What was asked for.
    pub options: &'a BackupOptions,
    /// What happened on the way.
    pub notes: &'a Notes,
    /// The backup's id.
    pub id: BackupId,
    /// What reads.
    pub engine: ChosenEngine,
    /// The server and what it holds.
    pub known: Preflight,
    /// The upload.
    pub upload: ArtifactUpload,
    /// As in [`Otherwise`].
    pub tolerant: bool,
    /// The collections that the native engine did not find.
    pub gone: Gone,
    /// As in [`Otherwise`].
    pub less: Vec<String>,
}

impl Work<'_> {
    /// Reads and uploads; asks the source whether it belongs together; completes the upload.
    async fn write(&self, started: DateTime<Utc>) -> Result<Checked> {
        let options = self.options;
        let slice = self.known.consistency.oplog.is_some();
        let spec = ArtifactSpec {
            format: options.settings.format,
            server_version: self.known.version.clone(),
            tool_version: TOOL.into(),
            started: started.timestamp().max(0) as u64,
            recovery: recovery_text(
                self.id.as_str(),
                options.settings.format,
                &self.known.version,
                TOOL,
                slice,
            ),
        };
        let layout = Layout {
            spec,
            part_size: self.upload.part_size,
            uploads: upload::concurrency(options.settings.uploads, self.upload.part_size),
            compressors: options.settings.compressors,
            check: options.settings.check_compression,
        };
        let (meter, cancel) = (self.resources.meter.clone(), &self.resources.cancel);
        let parts = &self.upload.parts;
        let (written, bounds) = pipeline::run(layout, self.reader(), parts, meter, cancel).await?;
        self.resources.meter.doing("asking the server once more".into());
        let changes = cancel.or(self.belongs_together(&written)).await?;
        self.resources.meter.doing("completing the upload".into());
        log::debug!("all was read and sent, {} bytes in {} parts", written.whole.size, written.whole.parts);
        parts.complete(&written.whole).await?;
        Ok(Checked { written, bounds, changes })
    }

    /// Asks the source whether everything was read within one life of its server; returns the changes of collections.
    async fn belongs_together(&self, written: &WrittenArtifact) -> Result<Vec<(usize, Change)>> {
        let server = &self.known.server;
        server.prove_unchanged().await?;
        let mut after = describe::uuids(server, &self.options.settings.selection).await?;
        let known = &self.known.description;
        if self.known.consistency.oplog.is_some() {
            // Drops are in the slice, what is made anew is there from its first document on, and a rename
            // ended the run where the slice was read.
            after.retain(|key, uuid| known.uuids.get(key) == Some(uuid));
            changes::left_out(&known.namespaces, &written.namespaces, &after)?;
            return Ok(Vec::new());
        }
        changes::left_out(&known.namespaces, &written.namespaces, &after)?;
        let found = changes::changed(&written.namespaces, &self.watched(), &after, &self.gone);
        if !self.tolerant {
            changes::only_drops(&written.namespaces, &found)?;
        }
        Ok(found)
    }

    /// The collections whose reading a drop or a rename can have spoilt: what was read as of one instant was
    /// there, or its reading failed.
    fn watched(&self) -> Uuids {
        let known = &self.known.description;
        if self.known.consistency.at.is_none() {
            return known.uuids.clone();
        }
        let apart = known.namespaces.iter().filter(|n| snapshot::apart(n));
        let keys = apart.map(|n| (n.db.clone(), n.data_collection().to_string()));
        keys.filter_map(|key| known.uuids.get(&key).cloned().map(|uuid| (key, uuid))).collect()
    }

    /// What reads the documents, and behind them the oplog slice.
    fn reader(&self) -> Reader {
        let read = self.documents();
        let Some(slice) = self.known.consistency.oplog.clone() else {
            return Box::new(|sink| read(sink).map(|()| None));
        };
        let (server, notes) = (self.known.server.clone(), self.notes.clone());
        let (selection, cancel) =
            (self.options.settings.selection.clone(), self.resources.cancel.token().clone());
        Box::new(move |sink| slice.around(&server, &selection, &notes, &cancel, sink, read).map(Some))
    }

    fn documents(&self) -> Documents {
        let (server, notes) = (self.known.server.clone(), self.notes.clone());
        let cancel = self.resources.cancel.token().clone();
        let description = &self.known.description;
        match &self.engine.mongodump {
            Some(mongodump) => {
                let (mongodump, selection) = (mongodump.clone(), self.options.settings.selection.clone());
                let namespaces = description.namespaces.clone();
                Box::new(move |sink| mongodump.read(&server, &selection, namespaces, &notes, &cancel, sink))
            }
            None => {
                let (at, tolerant) = (self.known.consistency.at, self.tolerant);
                let reading = ReadOptions { at, tolerant, gone: self.gone.clone() };
                let (namespaces, uuids) = (description.namespaces.clone(), description.uuids.clone());
                Box::new(move |sink| {
                    native::read(&server, &namespaces, &uuids, &reading, &notes, &cancel, sink)
                })
            }
        }
    }

    /// Writes index and manifest.
    async fn commit(&self, checked: &Checked, started: DateTime<Utc>) -> Result<BackupReport> {
        let (store, cancel) = (&*self.resources.store, &self.resources.cancel);
        for line in store.retries() {
            self.notes.add(line);
        }
        let mut manifest = manifest_builder::manifest(self, checked, started);
        let before = self.known.before.as_deref();
        if let Some(why) = before.and_then(|before| compare::collapsed(before, &manifest)) {
            manifest.warnings.push(format!("{COLLAPSED}{why}"));
        }
        let digest = manifest::content_digest(&manifest.encode()?)
            .map_err(|e| Error::failed("cannot hash the manifest").caused_by(e))?;
        let index = Index {
            format: index::FORMAT,
            id: self.id.to_string(),
            segments: checked.written.segments.clone(),
            namespaces: checked.written.namespaces.iter().map(NamespaceDescription::new).collect(),
            manifest_blake3: Some(digest),
        };
        manifest.index = cancel.or(catalog::put_index(store, &self.id, &index)).await?;
        if let Some(error) = cancel.error() {
            return Err(error);
        }
        catalog::commit(store, &manifest).await?;
        log::debug!("the manifest is written: the backup {} exists", self.id);
        for warning in &manifest.warnings {
            log::warn!("{warning}");
        }
        let place = store.place();
        let slash = if place.ends_with('/') { "" } else { "/" };
        let place = format!("{place}{slash}{}", manifest.artifact.key);
        Ok(BackupReport::new(manifest, place))
    }

    /// Removes a body that has no manifest, and its index. While it is in doubt whether the manifest
    /// arrived, body and index stay: a manifest without them would be a backup that does not restore.
    async fn remove_body(&self) {
        match self.resources.store.head(&layout::manifest(&self.id)).await {
            Ok(None) => {}
            Ok(Some(_)) => return log::warn!("the backup {} may exist: its manifest is there", self.id),
            Err(e) => return log::warn!("what was uploaded for the failed backup stays as an orphan: {e}"),
        }
        for key in [layout::index(&self.id), layout::artifact(&self.id, self.options.settings.format)] {
            if let Err(e) = self.resources.store.delete(&key).await {
                log::warn!("what was uploaded for the failed backup stays as an orphan: {e}");
            }
        }
    }
}
