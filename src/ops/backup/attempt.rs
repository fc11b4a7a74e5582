//! One attempt at a backup, from the preflight to the manifest.

mod changes;
mod draft;

use std::time::Duration;

use chrono::{DateTime, Utc};

use self::changes::{Change, changed, left_out, only_drops};
use self::draft::draft;
use super::data_path::{self, ArtifactUpload, Reader};
use super::place::{BackupPlace, BackupPlaceRow};
use super::preflight::Preflight;
use super::tries::{AttemptPlan, Seen};
use super::{AttemptId, BackupOptions, BackupReport, Resources};
use crate::artifact::seal::Sealing;
use crate::artifact::sealed::SealedBegin;
use crate::artifact::writer::{ArtifactSpec, WrittenArtifact, recovery_text};
use crate::base::error::{Error, Result};
use crate::base::heap::on_heap;
use crate::base::minisign::SigningKey;
use crate::base::progress::Phase;
use crate::base::units;
use crate::base::waits::{Waits, WaitsFor};
use crate::catalog::objects::BackupObjects;
use crate::catalog::{CatalogOptions, compare, layout, slowdown};
use crate::config::choices::EngineChoice;
use crate::dumpformat::Sink;
use crate::model::id::BackupId;
use crate::model::index::{self, Index, NamespaceDescription};
use crate::model::manifest::{self, COLLAPSED, Encryption, Manifest, TOOL};
use crate::model::selection::SelectionAsked;
use crate::model::timing::DataTiming;
use crate::model::versions::newer;
use crate::source::describe::{self, Uuids};
use crate::source::engine::{self, ChosenEngine};
use crate::source::native::{self, Gone, ReadOptions};
use crate::source::oplog::{self, SliceBounds};
use crate::source::snapshot;
use crate::store::mirror::LaneEnd;
use crate::store::{Store, Upload};

/// Makes one attempt as `plan` says. Sets `seen` as soon as the server is known.
pub(super) async fn attempt(
    resources: &Resources,
    options: &BackupOptions,
    (id, started): AttemptId,
    plan: AttemptPlan,
    seen: &mut Seen,
) -> Result<BackupReport> {
    let signing = options.settings.signing.writing_key()?;
    resources.meter.enter(Phase::AskingServer);
    let mut engine = resources.cancel.or(engine::choose(&options.settings)).await?;
    // There is nothing to clean up yet, so a cancelled run ends at once.
    let mut known = resources.cancel.or(on_heap(|| Preflight::run(resources, options))).await?;
    // mongodump finds an unreadable collection only when it reaches it, and does not name the missing role.
    if engine.mongodump.is_some() {
        let proof = describe::prove_readable(&known.server, &known.description.namespaces);
        resources.cancel.or(proof).await?;
    }
    let topology = known.server.hello.topology;
    *seen = Seen {
        slice: known.consistency.oplog.is_some(),
        snapshot: snapshot::refused(topology, &known.version).is_none(),
    };
    if let Some(why) = plan.consistency_why {
        known.consistency.why = why;
    }
    if let Some(why) = plan.engine_why {
        engine.why = why;
    }
    let mut warnings = plan.warnings;
    warnings.extend(newer(&known.version));
    warnings.extend(known.description.warnings.iter().cloned());
    if let Some(db) = known.description.unlistable.first().filter(|_| engine.mongodump.is_some()) {
        let why =
            format!("mongodump cannot list the collections of {db}, where a view has an invalid definition");
        if options.settings.engine == EngineChoice::Mongodump {
            warnings.push(format!("read with the native engine, because {why}"));
        }
        engine = ChosenEngine::native(why);
    }
    if let Some(what) = super::part(&options.settings) {
        log::info!(
            "this backup is partial: it holds only a part of the job {}: {what}",
            options.settings.job
        );
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
    resources.meter.enter(Phase::AskingStore);
    let (sealing, sealed) = SealedBegin::new(options.settings.recipients.as_ref())?.unzip();
    let upload = ArtifactUpload::begin(resources, options, &known, &id).await?;
    resources.meter.expect(Phase::Reading, known.description.raw_bytes, entries as u64);
    let (tolerant, gone) = (plan.tolerant, Gone::default());
    let mut work = Work {
        resources,
        options,
        id,
        lead: 0,
        started,
        engine,
        known,
        upload,
        sealed,
        signing,
        tolerant,
        gone,
        warnings,
    };
    let checked = match work.write(sealing).await {
        Ok(checked) => checked,
        Err(error) => {
            work.upload.abort().await;
            return Err(error);
        }
    };
    match work.commit_somewhere(&checked).await {
        Ok((mut report, objects)) => {
            work.known.server.close().await;
            if work.resources.places.len() + work.resources.away.len() > 1 {
                report.places = work.finish_places(&objects).await;
            }
            report.problems.extend(report.places.iter().filter_map(BackupPlaceRow::problem));
            Ok(report)
        }
        Err(error) => {
            work.upload.abort().await;
            for at in work.wholes().await {
                work.lead = at;
                work.remove_body().await;
            }
            Err(error)
        }
    }
}

/// Reads the documents into a sink. Blocks.
type Documents = Box<dyn FnOnce(&mut dyn Sink) -> Result<()> + Send>;

/// How long one of several places may take to commit a backup before another one does.
const COMMITTING: Duration = Duration::from_secs(60);

/// The time limit for comparing the speed with earlier backups.
const COMPARING: Duration = Duration::from_secs(10);

/// An attempt after its preflight.
pub(super) struct Work<'a> {
    pub(super) resources: &'a Resources,
    pub(super) options: &'a BackupOptions,
    pub(super) id: BackupId,
    /// The place where the backup is committed first, among those of the resources.
    pub(super) lead: usize,
    started: DateTime<Utc>,
    engine: ChosenEngine,
    known: Preflight,
    pub(super) upload: ArtifactUpload,
    /// The first bytes of the encrypted artifact, and its encryption; `None` without recipients.
    sealed: Option<SealedBegin>,
    /// The key that signs the manifest.
    signing: Option<SigningKey>,
    tolerant: bool,
    /// The collections that the native engine did not find.
    gone: Gone,
    /// Warnings for the manifest.
    warnings: Vec<String>,
}

impl Work<'_> {
    /// Reads and uploads, checks that the server and its collections stayed the same, and completes the upload.
    async fn write(&self, sealing: Option<Sealing>) -> Result<CheckedArtifact> {
        let (settings, version) = (&self.options.settings, &self.known.version);
        let slice = self.known.consistency.oplog.is_some();
        let spec = ArtifactSpec {
            format: settings.format,
            server_version: version.clone(),
            tool_version: TOOL.into(),
            started: self.started.timestamp().max(0) as u64,
            recovery: self.recovery_text(slice),
        };
        let &Resources { ref meter, ref cancel, clock, .. } = self.resources;
        let waits = Waits::new(move || (clock.now() - clock.started()).to_std().unwrap_or_default());
        let (written, bounds) = data_path::run(
            (spec, sealing, self.signing.is_some()),
            self.reader(),
            &self.upload,
            settings,
            meter,
            cancel,
            &waits,
        )
        .await?;
        meter.enter(Phase::Proving);
        let waiting = waits.begin(WaitsFor::Mongodb);
        let changes = cancel.or(self.prove_consistent(&written)).await?;
        drop(waiting);
        meter.enter(Phase::Completing);
        log::debug!("sent {} bytes in {} parts", written.whole.size, written.whole.parts);
        let waiting = waits.begin(WaitsFor::Store);
        self.upload.parts.complete(&written.whole).await?;
        drop(waiting);
        Ok(CheckedArtifact { written, bounds, changes, timing: waits.spent().into() })
    }

    fn recovery_text(&self, slice: bool) -> String {
        let (format, version) = (self.options.settings.format, &self.known.version);
        recovery_text(self.id.as_str(), format, version, TOOL, slice, self.sealed.is_some())
    }

    /// Checks that the server was not restarted while it was read. Returns the changes of collections.
    async fn prove_consistent(&self, written: &WrittenArtifact) -> Result<Vec<(usize, Change)>> {
        let server = &self.known.server;
        let (unchanged, after) =
            tokio::join!(server.prove_unchanged(), describe::uuids(server, &self.options.settings.selection));
        unchanged?;
        let mut after = after?;
        let known = &self.known.description;
        if self.known.consistency.oplog.is_some() {
            // The slice contains drops and all documents of recreated collections. A rename would have ended the
            // reading of the slice.
            after.retain(|key, uuid| known.uuids.get(key) == Some(uuid));
            left_out(&known.namespaces, &written.namespaces, &after)?;
            return Ok(Vec::new());
        }
        left_out(&known.namespaces, &written.namespaces, &after)?;
        let found = changed(&written.namespaces, &self.watched(), &after, &self.gone);
        if !self.tolerant {
            only_drops(&written.namespaces, &found)?;
        }
        Ok(found)
    }

    /// The collections whose documents a drop or a rename can affect. A collection that is read at a snapshot's instant is
    /// complete, or its reading fails.
    fn watched(&self) -> Uuids {
        let known = &self.known.description;
        if self.known.consistency.at.is_none() {
            return known.uuids.clone();
        }
        let apart = known.namespaces.iter().filter(|n| snapshot::apart(n));
        let keys = apart.map(|n| (n.db.clone(), n.data_collection().to_string()));
        keys.filter_map(|key| known.uuids.get(&key).cloned().map(|uuid| (key, uuid))).collect()
    }

    /// The work that reads the documents and then the oplog slice.
    fn reader(&self) -> Reader {
        let read = self.documents();
        let Some(slice) = self.known.consistency.oplog.clone() else {
            return Box::new(|sink| read(sink).map(|()| None));
        };
        let (server, notes) = (self.known.server.clone(), self.resources.notes.clone());
        let (selection, cancel) =
            (self.options.settings.selection.clone(), self.resources.cancel.token().clone());
        Box::new(move |sink| slice.around(&server, &selection, &notes, &cancel, sink, read).map(Some))
    }

    fn documents(&self) -> Documents {
        let (server, notes) = (self.known.server.clone(), self.resources.notes.clone());
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
                let readers = self.options.settings.readers;
                let reading = ReadOptions { at, tolerant, readers, gone: self.gone.clone() };
                let (namespaces, uuids) = (description.namespaces.clone(), description.uuids.clone());
                Box::new(move |sink| {
                    native::read(&server, &namespaces, &uuids, &reading, &notes, &cancel, sink)
                })
            }
        }
    }

    /// The place where the backup is committed first.
    pub(super) fn lead_place(&self) -> &BackupPlace {
        &self.resources.places[self.lead]
    }

    /// The places that have the whole artifact, the one that had it first before the others.
    async fn wholes(&self) -> Vec<usize> {
        let (mut wholes, first) = (Vec::new(), self.upload.parts.first());
        for at in first.into_iter().chain((0..self.resources.places.len()).filter(|at| Some(*at) != first)) {
            if matches!(self.upload.parts.ended(at).await, LaneEnd::Whole) {
                wholes.push(at);
            }
        }
        wholes
    }

    /// Writes index and manifest to the place that had the artifact first or, if that fails, to another one that has it.
    async fn commit_somewhere(&mut self, checked: &CheckedArtifact) -> Result<(BackupReport, BackupObjects)> {
        self.lead = self.upload.parts.first().unwrap_or(0);
        let (manifest, complete, objects) = self.objects(checked).await?;
        let mut outcome = self.commit(&objects).await;
        if outcome.as_ref().is_err_and(Error::is_of_store) && self.resources.places.len() > 1 {
            let failed = self.lead;
            for at in self.wholes().await.into_iter().filter(|at| *at != failed) {
                log::info!(
                    "the place {} cannot commit the backup, so another one does",
                    self.lead_place().name
                );
                self.lead = at;
                outcome = self.commit(&objects).await;
                if outcome.is_ok() {
                    break;
                }
            }
        }
        outcome?;
        log::debug!("the backup {} exists: its manifest was written", self.id);
        let warnings = &complete.as_deref().unwrap_or(&manifest).warnings;
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let place = self.lead_place().store.place();
        let slash = if place.ends_with('/') { "" } else { "/" };
        let place = format!("{place}{slash}{}", manifest.artifact.key);
        Ok((BackupReport::new(manifest, complete.as_deref(), place), objects))
    }

    /// Writes the small objects to the leading place. If there are others, it must not take long.
    async fn commit(&self, objects: &BackupObjects) -> Result<()> {
        if self.resources.places.len() == 1 {
            return self.commit_at_lead(objects).await;
        }
        let within = self.lead_place().catch_up.min(COMMITTING);
        tokio::time::timeout(within, self.commit_at_lead(objects)).await.unwrap_or_else(|_| {
            let place = self.lead_place().store.place();
            Err(Error::failed(format!("{place} did not answer within {}", units::duration(within)))
                .of_store())
        })
    }

    async fn commit_at_lead(&self, objects: &BackupObjects) -> Result<()> {
        let (store, cancel) = (&*self.lead_place().store, &self.resources.cancel);
        let beside = async {
            self.prove_sealed(store).await?;
            Ok(objects.put_beside(store).await?)
        };
        cancel.or(beside).await?;
        if let Some(error) = cancel.error() {
            return Err(error);
        }
        objects.commit(store).await?;
        self.know(store);
        Ok(())
    }

    /// Checks that an encrypted artifact in a store begins with its header.
    pub(super) async fn prove_sealed(&self, store: &dyn Store) -> Result<()> {
        match &self.sealed {
            Some(sealed) => {
                let (settings, encrypted) = (&self.options.settings, true);
                sealed.prove(store, &layout::artifact(&self.id, settings.format, encrypted)).await
            }
            None => Ok(()),
        }
    }

    /// Makes the small objects of the backup. Returns them with the manifest, and with the complete manifest of an encrypted
    /// backup.
    async fn objects(
        &self,
        checked: &CheckedArtifact,
    ) -> Result<(Manifest, Option<Box<Manifest>>, BackupObjects)> {
        for place in &self.resources.places {
            place.store.retries().into_iter().for_each(|line| self.resources.notes.add(line));
        }
        let mut manifest = draft(self, checked);
        manifest.encryption = self.encryption(checked).await;
        if let Some(before) = &self.known.before {
            compare_with(before, &mut manifest);
        }
        self.compare_speed(&mut manifest).await;
        let (mut complete, mut recovery) = (None, None);
        if self.sealed.is_some() {
            let readable = manifest.readable();
            complete = Some(Box::new(std::mem::replace(&mut manifest, readable)));
            recovery = Some(self.recovery_text(checked.written.slice.is_some()));
        }
        let digest = manifest::content_digest(&manifest.encode()?)
            .map_err(|e| Error::failed("cannot hash the manifest").caused_by(e))?;
        let mut index = Index {
            format: index::FORMAT,
            id: self.id.to_string(),
            segments: checked.written.segments.clone(),
            namespaces: checked.written.namespaces.iter().map(NamespaceDescription::new).collect(),
            manifest_blake3: Some(digest),
            manifest: complete,
        };
        let recipients = self.options.settings.recipients.as_ref();
        let objects =
            BackupObjects::encode(&mut manifest, &index, recovery, recipients, self.signing.as_ref())?;
        Ok((manifest, index.manifest.take(), objects))
    }

    /// The description of the encryption for the manifest; `None` without recipients.
    async fn encryption(&self, checked: &CheckedArtifact) -> Option<Encryption> {
        let sealed = self.sealed.as_ref()?;
        let selection = SelectionAsked::from(&self.options.settings.selection);
        let marking = oplog::selection_mark(&self.known.server, &selection);
        let selection_mark = self.resources.cancel.or(marking).await.unwrap_or_else(|e| {
            log::debug!("oplog slices cannot prove that they have the same selection: {}", e.chain());
            None
        });
        Some(Encryption {
            header_length: sealed.header_length(),
            content_size: checked.written.content_size,
            recipients: sealed.recipients().to_vec(),
            selection_mark,
        })
    }

    /// Adds a note if the backup was much slower than usual. The comparison never fails a backup.
    async fn compare_speed(&self, manifest: &mut Manifest) {
        let Resources { cancel, clock, .. } = self.resources;
        let store = &self.lead_place().store;
        let state_dir = self.options.settings.state_dir.clone();
        let reading = CatalogOptions::remembering(state_dir, clock.now(), &self.options.settings.signing);
        let found = cancel.or(slowdown::find(&**store, manifest, &reading));
        // A slow store must not delay the manifest of a complete backup for long.
        let found = tokio::time::timeout(COMPARING, found).await;
        match found.unwrap_or_else(|_| Err(Error::failed("the store took too long"))) {
            Ok(slow) => {
                manifest.notes.extend(slow.map(|slow| slow.to_string()).inspect(|note| log::info!("{note}")))
            }
            Err(e) => log::debug!("the speed could not be compared with earlier backups: {}", e.chain()),
        }
    }

    /// Deletes the artifact and the index of a backup without a manifest. If the manifest may have reached the store, they
    /// stay, because a manifest without them would be a backup that does not restore.
    async fn remove_body(&self) {
        let store = &self.lead_place().store;
        let stays = |e| log::warn!("the artifact of the failed backup stays as an orphan: {e}");
        match store.head(&layout::manifest(&self.id)).await {
            Ok(None) => {}
            Ok(Some(_)) => {
                return log::warn!("the backup {} may exist: its manifest is in the store", self.id);
            }
            Err(e) => return stays(e),
        }
        let (encrypted, format) = (self.sealed.is_some(), self.options.settings.format);
        let keys = [layout::index(&self.id, encrypted), layout::artifact(&self.id, format, encrypted)];
        let recovery = encrypted.then(|| layout::recovery(&self.id));
        let signature = self.signing.is_some().then(|| layout::signature(&layout::manifest(&self.id)));
        for key in signature.into_iter().chain(recovery).chain(keys) {
            store.delete(&key).await.map_or_else(stays, drop);
        }
    }
}

/// A complete artifact.
struct CheckedArtifact {
    written: WrittenArtifact,
    /// The times of its oplog slice.
    bounds: Option<SliceBounds>,
    /// Changes of collections while they were read, each with its place in the list of namespaces.
    changes: Vec<(usize, Change)>,
    timing: DataTiming,
}

/// Compares a new backup with the last good one of its job, and notes the differences that a person should know.
fn compare_with(before: &Manifest, manifest: &mut Manifest) {
    let known = before.encryption.is_none() && manifest.encryption.is_none();
    if known && !manifest.partial && before.selection != manifest.selection {
        manifest.notes.push(format!(
            "the selection changed since the backup {}, from {} to {}: only namespaces of both are compared",
            before.id, before.selection, manifest.selection
        ));
    }
    let found = compare::compare(before, manifest);
    match (found.collapsed, &found.losses) {
        (Some(why), _) => manifest.warnings.push(format!("{COLLAPSED}{why}")),
        (None, Some(losses)) => {
            let note = losses.note();
            log::info!("{note}");
            manifest.notes.push(note);
        }
        (None, None) => {}
    }
    manifest.losses = found.losses;
}
