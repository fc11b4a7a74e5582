//! One attempt at a backup, from the first question to the manifest.

use std::sync::Arc;

use super::engine::{self, Engine};
use super::pipeline::{self, Layout, Reader};
use super::{Options, Report, Resources, changes, upload};
use crate::artifact::format::Format;
use crate::artifact::index::{self, Index};
use crate::artifact::manifest::{self, Manifest};
use crate::artifact::recovery;
use crate::artifact::writer::{Spec, Written};
use crate::catalog::id::BackupId;
use crate::catalog::{self, Entry, collapse, layout};
use crate::error::{Error, Kind, Result};
use crate::leftovers;
use crate::source::describe::{self, Description};
use crate::source::native;
use crate::source::notes::Notes;
use crate::source::patience;
use crate::source::server::Server;
use crate::store::{Upload, UploadSpec};

/// Name and version of the tool, as it signs what it writes.
pub const TOOL: &str = concat!("uzima-backup ", env!("CARGO_PKG_VERSION"));

pub async fn run(resources: &Resources, options: &Options, notes: &Notes) -> Result<Report> {
    let started = (resources.now)();
    let engine = engine::choose(options)?;
    // Nothing is begun yet: whoever ends the run here waits for nobody.
    let known = resources.cancel.or(Known::find(resources, options)).await?;
    let Known { server, version, set_id, description, before } = known;
    log::info!(
        "backing up {} namespaces of {} ({}) with the {} engine: {}",
        description.namespaces.len(),
        server.hello.address,
        options.job,
        engine.name(),
        engine.why
    );
    resources.meter.expect(description.raw_bytes, description.namespaces.len() as u64);

    let id = (resources.new_id)(started);
    let spec = Spec {
        format: options.format,
        server_version: version.clone(),
        tool_version: TOOL.into(),
        started: started.timestamp().max(0) as u64,
        recovery: recovery::text(id.as_str(), options.format, &version, TOOL),
    };
    let part_size = upload::part_size(resources.store.limits(), description.raw_bytes)?;
    let upload_spec = UploadSpec {
        key: layout::artifact(&id, options.format),
        part_size,
        estimate: upload::expected_size(
            description.raw_bytes,
            before.as_deref().map(|m| (m.totals.raw_bytes, m.artifact.size)),
        ),
        metadata: vec![
            ("backup-id".into(), id.to_string()),
            ("job".into(), options.job.clone()),
            ("tool".into(), TOOL.into()),
        ],
    };
    log::debug!("the artifact is {}, sent in parts of {part_size} bytes", upload_spec.key);
    let upload = resources.store.begin(&upload_spec).await?;
    // It tells the next run of this upload if this one is killed, or cannot abort it.
    let marker = match &options.state_dir {
        Some(state) => {
            leftovers::remember(state, id.as_str(), &resources.store.place(), &upload_spec.key, upload.id())
        }
        None => Err(Error::failed("there is no state directory")),
    }
    .map_err(|e| {
        notes.add(format!("an upload that is killed will not be found by the next run: {}", e.chain()))
    })
    .ok();

    let work = Work {
        resources,
        options,
        notes,
        id,
        engine,
        server,
        description,
        version,
        set_id,
        upload,
        spec,
        part_size,
    };
    let written = match work.write().await {
        Ok(written) => written,
        Err(error) => {
            match (work.upload.abort().await, marker) {
                (Ok(()), Some(marker)) => marker.forget(),
                (Ok(()), None) => {}
                (Err(e), Some(_)) => {
                    log::warn!("the unfinished upload could not be removed, the next run will try again: {e}")
                }
                (Err(e), None) => log::warn!("the unfinished upload could not be removed: {e}"),
            }
            return Err(error);
        }
    };
    if let Some(marker) = marker {
        marker.forget();
    }
    match work.commit(&written, started, before.as_deref()).await {
        Ok(report) => {
            work.server.close().await;
            Ok(report)
        }
        Err(error) => {
            work.remove_body().await;
            Err(error)
        }
    }
}

/// What is asked before anything is begun.
struct Known {
    server: Arc<Server>,
    version: String,
    set_id: Option<String>,
    description: Description,
    /// The newest backup of the job, to compare with.
    before: Option<Box<Manifest>>,
}

impl Known {
    async fn find(resources: &Resources, options: &Options) -> Result<Known> {
        let server = Arc::new(Server::connect(&options.mongo_uri).await?.patient(options.stall));
        let version = server.version().await?;
        let description = describe::describe(&server, &options.selection).await?;
        refuse_empty(&description, &server, options)?;
        let before = last_of_job(resources, options).await?;
        let set_id = server.replica_set_id().await;
        Ok(Known { server, version, set_id, description, before })
    }
}

/// An attempt under way.
struct Work<'a> {
    resources: &'a Resources,
    options: &'a Options,
    notes: &'a Notes,
    id: BackupId,
    engine: Engine,
    server: Arc<Server>,
    description: Description,
    version: String,
    set_id: Option<String>,
    upload: Arc<dyn Upload>,
    spec: Spec,
    part_size: u64,
}

/// What was written, and what is wrong with it.
struct Checked {
    written: Written,
    dropped: Vec<usize>,
}

impl Work<'_> {
    /// Reads and uploads; asks the source whether it belongs together; completes the upload.
    async fn write(&self) -> Result<Checked> {
        let layout = Layout {
            spec: self.spec.clone(),
            part_size: self.part_size,
            uploads: upload::concurrency(self.options.uploads, self.part_size),
            compressors: self.options.compressors,
            check: self.options.check_compression,
        };
        let cancel = self.resources.cancel.token();
        let written =
            pipeline::run(layout, self.reader(), &self.upload, self.resources.meter.clone(), cancel).await?;
        let dropped = self.resources.cancel.or(self.belongs_together(&written)).await?;
        log::debug!("all was read and sent, {} bytes in {} parts", written.whole.size, written.whole.parts);
        self.upload.complete(&written.whole).await?;
        Ok(Checked { written, dropped })
    }

    /// Asks the source whether all that was read is of one server's life; what was dropped meanwhile.
    async fn belongs_together(&self, written: &Written) -> Result<Vec<usize>> {
        let now = self.server.hello_now(self.server.client()).await.map_err(|e| {
            let waited = patience::waited(&e);
            let error = self.server.explain("cannot ask for the member's state at the end", e);
            // Another member may have taken over, which only a new run can read.
            if waited { error.of_kind(Kind::Restart) } else { error }
        })?;
        if let Some(what) = self.server.changed(&now) {
            return Err(Error::restart(format!("{what} during the run")));
        }
        let after = describe::uuids(&self.server, &self.options.selection).await?;
        changes::dropped(&written.namespaces, &self.description.uuids, &after)
    }

    fn reader(&self) -> Reader {
        let (server, notes) = (self.server.clone(), self.notes.clone());
        let cancel = self.resources.cancel.token().clone();
        match &self.engine.mongodump {
            Some(mongodump) => {
                let (mongodump, selection) = (mongodump.clone(), self.options.selection.clone());
                Box::new(move |sink| mongodump.read(&server, &selection, &notes, &cancel, sink))
            }
            None => {
                let (namespaces, uuids) =
                    (self.description.namespaces.clone(), self.description.uuids.clone());
                Box::new(move |sink| native::read(&server, &namespaces, &uuids, &notes, &cancel, sink))
            }
        }
    }

    /// Writes index and manifest.
    async fn commit(
        &self,
        checked: &Checked,
        started: chrono::DateTime<chrono::Utc>,
        before: Option<&Manifest>,
    ) -> Result<Report> {
        let store = &*self.resources.store;
        let index = Index {
            format: index::FORMAT,
            id: self.id.to_string(),
            segments: checked.written.segments.clone(),
        };
        let index = self.resources.cancel.or(catalog::put_index(store, &self.id, &index)).await?;
        let mut manifest = self.manifest(checked, started, index);
        if let Some(why) = before.and_then(|before| collapse::collapsed(before, &manifest)) {
            manifest.warnings.push(format!("collapsed: {why}"));
        }
        if let Some(error) = self.resources.cancel.error() {
            return Err(error);
        }
        catalog::commit(store, &manifest).await?;
        log::debug!("the manifest is written: the backup {} exists", self.id);
        for warning in &manifest.warnings {
            log::warn!("{warning}");
        }
        Ok(Report { place: format!("{}{}", with_slash(store.place()), manifest.artifact.key), manifest })
    }

    fn manifest(
        &self,
        checked: &Checked,
        started: chrono::DateTime<chrono::Utc>,
        index: manifest::Object,
    ) -> Manifest {
        let (hello, written) = (&self.server.hello, &checked.written);
        let namespaces = entries(written, &checked.dropped);
        let warnings = checked
            .dropped
            .iter()
            .map(|at| format!("dropped while it was read: {}", written.namespaces[*at]));
        let strings =
            |patterns: &[crate::source::pattern::Pattern]| patterns.iter().map(|p| p.to_string()).collect();
        Manifest {
            format: manifest::FORMAT,
            id: self.id.clone(),
            job: self.options.job.clone(),
            tool: TOOL.into(),
            host: self.options.host.clone(),
            started_at: started,
            finished_at: (self.resources.now)(),
            source: manifest::Source {
                topology: hello.topology,
                member: hello.address.clone(),
                version: self.version.clone(),
                set_name: hello.set_name.clone(),
                set_id: self.set_id.clone(),
            },
            engine: self.engine.entry(),
            consistency: manifest::Consistency {
                achieved: "none".into(),
                why: "this version reads each collection at its own time".into(),
            },
            selection: manifest::SelectionAsked {
                databases: self.options.selection.databases.clone(),
                include: strings(&self.options.selection.include),
                exclude: strings(&self.options.selection.exclude),
            },
            artifact: self.artifact(written, self.options.format),
            index,
            totals: manifest::Totals {
                namespaces: namespaces.len() as u64,
                documents: namespaces.iter().map(|n| n.documents).sum(),
                raw_bytes: namespaces.iter().map(|n| n.raw_bytes).sum(),
            },
            namespaces,
            warnings: warnings.collect(),
            notes: self.notes.lines(),
        }
    }

    fn artifact(&self, written: &Written, format: Format) -> manifest::Artifact {
        manifest::Artifact {
            key: layout::artifact(&self.id, format),
            format: format.to_string(),
            level: format.codec.level(),
            size: written.whole.size,
            crc64nvme: format!("{:016x}", written.whole.crc64nvme),
            part_size: self.part_size,
        }
    }

    /// Removes a body that has no manifest, and its index. While it is in doubt whether the manifest
    /// arrived, body and index stay: a manifest without them would be a backup that does not restore.
    async fn remove_body(&self) {
        match self.resources.store.head(&layout::manifest(&self.id)).await {
            Ok(None) => {}
            Ok(Some(_)) => return log::warn!("the backup {} may exist: its manifest is there", self.id),
            Err(e) => return log::warn!("what was uploaded for the failed backup stays as an orphan: {e}"),
        }
        for key in [layout::index(&self.id), layout::artifact(&self.id, self.options.format)] {
            if let Err(e) = self.resources.store.delete(&key).await {
                log::warn!("what was uploaded for the failed backup stays as an orphan: {e}");
            }
        }
    }
}

fn entries(written: &Written, dropped: &[usize]) -> Vec<manifest::NamespaceEntry> {
    let pairs = written.namespaces.iter().zip(&written.tallies).enumerate();
    pairs
        .map(|(at, (namespace, tally))| manifest::NamespaceEntry {
            db: namespace.db.clone(),
            collection: namespace.collection.clone(),
            kind: namespace.kind,
            uuid: namespace.uuid.clone(),
            options_blake3: blake3::hash(namespace.options.as_bytes()).to_hex().to_string(),
            indexes: namespace
                .indexes
                .iter()
                .map(|index| manifest::IndexEntry {
                    name: index.get_str("name").unwrap_or_default().to_string(),
                    blake3: blake3::hash(index.as_bytes()).to_hex().to_string(),
                })
                .collect(),
            documents: tally.documents,
            raw_bytes: tally.raw_bytes,
            stored_bytes: tally.stored_bytes,
            xxh3_sum: format!("{:032x}", tally.sum),
            dropped: dropped.contains(&at),
        })
        .collect()
}

/// A server that holds nothing of its users is more likely the wrong server.
fn refuse_empty(description: &Description, server: &Server, options: &Options) -> Result<()> {
    let of_users = |db: &str| db != "admin" && db != "config";
    let asked = options.selection.databases.iter().any(|db| !of_users(db));
    let counts = |db: &str| of_users(db) || (!asked && !options.selection.whole_server());
    if options.allow_empty || description.namespaces.iter().any(|n| counts(&n.db)) {
        return Ok(());
    }
    Err(Error::failed(format!("MongoDB at {} has no collections to back up", server.hello.address))
        .hint("Check that MONGO_URI names the right server; if it really is empty, use --allow-empty"))
}

/// The newest backup of the job, to compare with.
async fn last_of_job(resources: &Resources, options: &Options) -> Result<Option<Box<Manifest>>> {
    let store = &*resources.store;
    for id in catalog::ids(store).await? {
        match catalog::manifest(store, &id).await? {
            Entry::Backup(manifest) if manifest.job == options.job => return Ok(Some(manifest)),
            Entry::Backup(_) => {}
            Entry::Damaged { key, why, .. } => log::warn!("{key} cannot be understood: {why}"),
        }
    }
    Ok(None)
}

fn with_slash(place: String) -> String {
    if place.ends_with('/') { place } else { format!("{place}/") }
}
