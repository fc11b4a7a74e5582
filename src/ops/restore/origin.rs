//! The origin of the restored data: a backup in a store, or a dump.
//!
//! A backup's index says where each namespace is, so that only the chosen namespaces are read. The index has options
//! and indexes as BSON. The index of version 0.1.0 does not; then they are read from the parts of the artifact that can
//! contain them: in a tar between the documents, in an archive at its beginning. Everything is compared with the manifest.

mod continuation;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use bson::RawDocumentBuf;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;

use super::dump::{ArchiveSurvey, Dump};
use super::filter::ReplayFilter;
use super::namespaces::{BackupNamespace, NamespaceKey, is_ordinary, is_users_or_roles};
use super::options::{RestoreOptions, Users};
use crate::artifact::read::replicas::{Replica, Replicas};
use crate::artifact::read::segment::{self, StoredArtifact};
use crate::artifact::read::{self, match_metadata, regions};
use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::base::keys::Identities;
use crate::base::progress::Meter;
use crate::base::suggest::escaped;
use crate::base::units;
use crate::catalog::choose;
use crate::config::choices::{Container, Format};
use crate::dumpformat::demux::Demux;
use crate::dumpformat::oplog::script::Script;
use crate::dumpformat::{metadata, names};
use crate::model::id::BackupId;
use crate::model::index::{Index, Segment};
use crate::model::manifest::{Manifest, NamespaceEntry};
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::model::tally::Tally;
use crate::restore_target::users_and_roles::UsersAndRoles;
use crate::store::Store;
pub(super) use continuation::Continuation;

/// The most differences that a message lists.
const SHOWN: usize = 5;

/// The number of ranges that are read at once.
const RANGES: usize = 8;

/// The versions of the users' format (SCRAM), which is the same in all servers since 3.0.
const AUTH_SCHEMA: [i64; 2] = [3, 5];

/// The alternatives to a damaged backup.
const ANOTHER: &str = "another backup (`uzima-backup list`), or an intact copy of this backup";

/// Runs a blocking read on a thread of its own.
pub(crate) async fn read_blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let ended = |_| Error::failed("a reader ended unexpectedly");
    tokio::task::spawn_blocking(read).await.map_err(ended)?
}

/// The origin of the restored data: a backup in a store, or a dump.
#[derive(Debug, Clone)]
pub enum RestoreOrigin {
    Stored(Arc<StoredBackup>),
    /// A dump without a manifest.
    Dump(Arc<Dump>),
}

impl RestoreOrigin {
    /// The namespaces of the backup.
    pub(super) fn contents(&self) -> Result<Vec<BackupNamespace>> {
        match self {
            RestoreOrigin::Stored(stored) => {
                stored.manifest.namespaces.iter().map(BackupNamespace::of).collect()
            }
            RestoreOrigin::Dump(dump) => Ok(dump.contents()),
        }
    }

    /// The namespaces that a restore without a filter restores as collections and views, in the order of their names.
    ///
    /// # Errors
    /// Returns an error if the manifest has a hash that cannot be understood.
    pub fn restorable(&self) -> Result<Vec<BackupNamespace>> {
        let mut contents = self.contents()?;
        contents.retain(|one| is_ordinary(&one.db, &one.collection) && one.db != "config");
        contents.sort_by_key(BackupNamespace::name);
        Ok(contents)
    }

    /// Options and indexes of the namespaces at these positions.
    pub(super) async fn describe(&self, wanted: &BTreeSet<usize>) -> Result<BTreeMap<usize, Namespace>> {
        match self {
            RestoreOrigin::Stored(stored) => stored.describe(wanted).await,
            RestoreOrigin::Dump(dump) => {
                Ok(wanted.iter().map(|at| (*at, dump.namespaces[*at].clone())).collect())
            }
        }
    }

    /// Passes every document of a namespace to `each`, in order. Blocks the thread.
    pub(super) fn scan(&self, at: usize, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self {
            RestoreOrigin::Stored(stored) => stored.scan(at, each).map(drop),
            RestoreOrigin::Dump(dump) => dump.scan(at, each),
        }
    }

    pub(super) fn has_slice(&self) -> bool {
        match self {
            RestoreOrigin::Stored(stored) => {
                stored.manifest.consistency.oplog.is_some() || stored.continuation.is_some()
            }
            RestoreOrigin::Dump(dump) => dump.has_oplog(),
        }
    }

    /// The slices that continue the backup to a point in time.
    pub(super) fn continuation(&self) -> Option<&Continuation> {
        match self {
            RestoreOrigin::Stored(stored) => stored.continuation.as_ref(),
            RestoreOrigin::Dump(_) => None,
        }
    }

    /// The id of the backup; `None` for a dump.
    pub fn backup_id(&self) -> Option<&BackupId> {
        self.manifest().map(|manifest| &manifest.id)
    }

    /// The last optime that is replayed, if slices continue the backup.
    pub fn point(&self) -> Option<OpTime> {
        self.continuation().map(Continuation::last)
    }

    /// The times between which the slices have every entry, if they are known.
    fn slice_bounds(&self) -> Option<(OpTime, OpTime)> {
        let own = self.manifest()?.consistency.oplog.as_ref().map(|slice| (slice.start, slice.end));
        match self.continuation() {
            Some(slices) => Some((own.map_or(slices.start(), |own| own.0), slices.last())),
            None => own,
        }
    }

    /// The script of a replay.
    pub(super) fn script(&self, names: ReplayFilter, connected: Vec<String>) -> Script<ReplayFilter> {
        let script = Script::new(names, connected, self.slice_bounds());
        let script = match self {
            // Reading a dump again takes as long as the whole restore.
            RestoreOrigin::Dump(_) => script,
            RestoreOrigin::Stored(_) => script.reading_again(Box::new(self.clone())),
        };
        match self.continuation() {
            Some(slices) => script.exact_after(slices.instant(), slices.contained),
            None => script,
        }
    }

    /// Passes every entry of the oplog slices to `each`, in order. Blocks the thread. Returns an error of the
    /// kind `Mismatch` if a slice is damaged.
    pub(super) fn scan_slice(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self {
            RestoreOrigin::Stored(stored) => stored.scan_entries(each),
            RestoreOrigin::Dump(dump) => dump.scan_oplog(each),
        }
    }

    /// `None` for a dump.
    pub(super) fn manifest(&self) -> Option<&Manifest> {
        match self {
            RestoreOrigin::Stored(stored) => Some(&stored.manifest),
            RestoreOrigin::Dump(_) => None,
        }
    }

    /// The backup and its place, for messages.
    pub(super) fn place(&self) -> String {
        match self {
            RestoreOrigin::Stored(stored) => {
                format!("backup {} in {}", stored.manifest.id, stored.object.places.first().place())
            }
            RestoreOrigin::Dump(dump) => dump.path.display().to_string(),
        }
    }

    /// The problems of the places that the backup was read from.
    pub(super) fn problems_of_places(&self) -> Vec<String> {
        match self {
            RestoreOrigin::Stored(stored) => stored.object.places.problems(),
            RestoreOrigin::Dump(_) => Vec::new(),
        }
    }

    /// Notes about the dump, and warnings of the backup.
    pub(super) fn notes_and_warnings(&self) -> (Vec<String>, Vec<String>) {
        match self {
            RestoreOrigin::Stored(stored) => (Vec::new(), stored.manifest.warnings.clone()),
            RestoreOrigin::Dump(dump) => (dump.notes.clone(), Vec::new()),
        }
    }

    /// Reads users and roles, if they are to be restored: of a whole server, or of single databases
    /// (`mongodump --db X --dumpDbUsersAndRoles`).
    pub(super) async fn users_and_roles(
        &self,
        contents: &[BackupNamespace],
        options: &RestoreOptions,
    ) -> Result<Vec<UsersAndRoles>> {
        let mut all = Vec::new();
        if !options.wants_users() {
            return Ok(all);
        }
        for (db, places) in places(contents) {
            let read = async |kind: &str| match places.get(kind) {
                Some(at) => self.documents(*at, contents[*at].name()).await,
                None => Ok(Vec::new()),
            };
            let (users, roles) = (read("system.users").await?, read("system.roles").await?);
            if !(users.is_empty() && roles.is_empty()) {
                check_schema(&read("system.version").await?)?;
                all.push(UsersAndRoles { db: db.into(), users, roles });
            }
        }
        if all.is_empty() && options.users == Users::Always {
            return Err(Error::usage("the backup contains no users and no roles").hint(
                "Only backups of a whole server and dumps by mongodump --dumpDbUsersAndRoles contain them; leave --users out",
            ));
        }
        Ok(all)
    }

    async fn documents(&self, at: usize, name: String) -> Result<Vec<RawDocumentBuf>> {
        let origin = self.clone();
        let read = read_blocking(move || {
            let mut out = Vec::new();
            origin.scan(at, &mut |document| out.push(document.to_vec()))?;
            Ok(out)
        });
        let damaged = |why: String| Error::new(Kind::Mismatch, format!("{name} is damaged")).caused_by(why);
        let parse = |bytes: Vec<u8>| {
            let document = RawDocumentBuf::from_bytes(bytes).map_err(|e| damaged(e.to_string()))?;
            bounds::check_depth(&document).map_err(damaged)?;
            Ok(document)
        };
        read.await?.into_iter().map(parse).collect()
    }
}

/// The positions of the collections with users and roles, by database (`""` for the whole server) and kind.
fn places(contents: &[BackupNamespace]) -> BTreeMap<&str, BTreeMap<&str, usize>> {
    let mut places: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (at, source) in contents.iter().enumerate() {
        let (db, kind) = match source.collection.strip_prefix("$admin.") {
            Some(kind) => (source.db.as_str(), kind),
            None if is_users_or_roles(&source.db, &source.collection) => ("", source.collection.as_str()),
            None => continue,
        };
        places.entry(db).or_default().insert(kind, at);
    }
    places
}

/// Checks that a server since 3.0 understands the users.
fn check_schema(versions: &[RawDocumentBuf]) -> Result<()> {
    let schema = versions.iter().find(|v| v.get_str("_id").is_ok_and(|id| id == "authSchema"));
    let version = schema.and_then(|schema| match schema.get("currentVersion") {
        Ok(Some(bson::RawBsonRef::Int32(n))) => Some(i64::from(n)),
        Ok(Some(bson::RawBsonRef::Int64(n))) => Some(n),
        Ok(Some(bson::RawBsonRef::Double(n))) => Some(n as i64),
        _ => None,
    });
    // Servers from 8.1 on store no authSchema document. Their users have the format of all servers since 3.0
    // (SERVER-83663).
    match version.or(schema.is_none().then_some(5)) {
        Some(version) if AUTH_SCHEMA.contains(&version) => Ok(()),
        version => {
            Err(Error::failed(format!("the backup's users have an unknown format (authSchema {version:?})"))
                .hint("Restore without them: --no-users"))
        }
    }
}

/// A backup in a store, opened for reading.
#[derive(Debug)]
pub struct StoredBackup {
    pub manifest: Manifest,
    index: Index,
    format: Format,
    pub object: StoredArtifact,
    /// The slices that lead to a point in time; `None` for the backup alone.
    pub(super) continuation: Option<Continuation>,
}

impl StoredBackup {
    /// Opens the backup of a manifest, with the identities for an encrypted one. The manifest must be the same in all places.
    ///
    /// # Errors
    /// Returns an error if no place has an index and an artifact that match the manifest. The error has the kind [`Kind::Key`] if no
    /// identity decrypts the backup.
    pub async fn open(
        places: impl Into<Replicas>,
        manifest: Manifest,
        keys: Option<&Identities>,
    ) -> Result<StoredBackup> {
        let places = places.into();
        let mismatch = |what: String| {
            Error::new(Kind::Mismatch, format!("the backup {}: {what}", manifest.id)).hint(
                "Restore another backup (`uzima-backup list`), or bring the file back from a copy; a bucket may keep older \
                 versions of it",
            )
        };
        let key = manifest.artifact.key.clone();
        let thawed = async |one: &Replica| choose::refuse_archived(&*one.store, &manifest.id).await;
        places.read(&key, 0, thawed).await?;
        let format: Format = manifest.artifact.format.parse().map_err(mismatch)?;
        let load = async |one: &Replica| {
            read::load_index(&*one.store, &manifest, keys).await?.map_err(|what| {
                let error = mismatch(what);
                let step = error.next_step().unwrap_or_default();
                let read = choose::inspect_artifact_step(&*one.store, &key);
                let step = format!(
                    "{step}. Without the index, {read} shows the artifact's content and whether it is complete"
                );
                error.hint(step)
            })
        };
        let (index, manifest) = places.read(&manifest.index.key, 0, load).await?;
        let find = async |one: &Replica| match one.store.head(&key).await? {
            // A place without the artifact is not asked for its segments.
            None => Err(mismatch(format!("{key} is missing")).of_kind(Kind::Missing)),
            Some(object) if object.size != manifest.artifact.size => {
                let (has, wanted) =
                    (units::several(object.size, "byte"), units::count(manifest.artifact.size));
                Err(mismatch(format!("{key} has {has}, not {wanted}")).of_kind(Kind::Missing))
            }
            Some(_) => Ok(()),
        };
        places.read(&key, 0, find).await.map_err(|error| match error.kind() {
            Kind::Missing => error.of_kind(Kind::Mismatch),
            _ => error,
        })?;
        let open =
            async |one: &Replica| read::open_artifact(&*one.store, &manifest, keys).await?.map_err(mismatch);
        let opener = places.read(&key, 0, open).await?;
        let (codec, large) = (format.codec, segment::large_documents());
        let object = StoredArtifact { places, key, codec, opener, large };
        Ok(StoredBackup { index, format, object, manifest, continuation: None })
    }

    async fn describe(&self, wanted: &BTreeSet<usize>) -> Result<BTreeMap<usize, Namespace>> {
        let StoredBackup { manifest, index, .. } = self;
        if wanted.is_empty() || !index.namespaces.is_empty() {
            return wanted.iter().map(|at| Ok((*at, described(index, manifest, *at)?))).collect();
        }
        let describe = async |one: &Replica| self.describe_from(&one.store, wanted).await;
        self.object.places.read(&self.object.key, 0, describe).await
    }

    /// Reads options and indexes from the artifact, for an index that does not have them.
    async fn describe_from(
        &self,
        store: &Arc<dyn Store>,
        wanted: &BTreeSet<usize>,
    ) -> Result<BTreeMap<usize, Namespace>> {
        let StoredBackup { manifest, index, .. } = self;
        let between = between(manifest, index);
        let found = match self.format.container {
            Container::Archive => {
                // An archive describes all namespaces at its beginning. Without documents, the beginning is the
                // whole artifact.
                let first = between.first().map(|(range, _)| range.clone()).unwrap_or_default();
                announced(&self.object.raw(store, first).await?)?
            }
            Container::Tar => {
                // A namespace's metadata comes right before its documents.
                let (near, far): (Vec<_>, Vec<_>) = between
                    .into_iter()
                    .partition(|(_, next)| next.is_some_and(|next| wanted.contains(&next)));
                let mut found = self.entries(store, near).await?;
                if !wanted.iter().all(|at| found.contains_key(&key(&manifest.namespaces[*at]))) {
                    found.extend(self.entries(store, far).await?);
                }
                found
            }
        };
        let mut out = BTreeMap::new();
        for at in wanted {
            let entry = &manifest.namespaces[*at];
            let namespace = found.get(&key(entry)).ok_or_else(|| wrong(entry, "is missing"))?;
            out.insert(*at, match_metadata(namespace, entry).map_err(|what| wrong(entry, &what))?);
        }
        Ok(out)
    }

    /// The metadata files in ranges of a tar.
    async fn entries(
        &self,
        store: &Arc<dyn Store>,
        ranges: Vec<(Range<u64>, Option<usize>)>,
    ) -> Result<NamespacesByName> {
        let path = |n: &NamespaceEntry| format!("dump/{}", names::metadata_file(&n.db, &n.collection));
        let by_path: BTreeMap<String, &NamespaceEntry> =
            self.manifest.namespaces.iter().map(|entry| (path(entry), entry)).collect();
        let reads = stream::iter(ranges).map(|(range, _)| self.object.raw(store, range));
        let pieces: Vec<Vec<u8>> = reads.buffered(RANGES).try_collect().await?;
        let mut found = NamespacesByName::new();
        for (path, text) in pieces.iter().flat_map(|piece| files(piece)) {
            if let Some(entry) = by_path.get(&path) {
                let text = String::from_utf8(text).map_err(|_| wrong(entry, "is not UTF-8"))?;
                let namespace = metadata::parse(&entry.db, &entry.collection, &text);
                found.insert(key(entry), namespace.map_err(|e| e.of_kind(Kind::Mismatch))?);
            }
        }
        Ok(found)
    }

    /// Returns true if the options of a namespace, as the index has them, contain a collation.
    pub(super) fn has_collation(&self, at: usize) -> bool {
        let options = self.index.namespaces.get(at).and_then(|described| described.documents().ok());
        options.is_some_and(|(options, _)| options.get_document("collation").is_ok())
    }

    pub(crate) fn segments(&self, at: usize) -> Vec<Segment> {
        self.index.segments.iter().filter(|segment| segment.namespace == at).cloned().collect()
    }

    /// Reads all documents of these namespaces, and compares them with index and manifest.
    ///
    /// # Errors
    /// Returns an error of the kind `Mismatch` that lists the differences.
    pub async fn check(&self, wanted: &BTreeSet<usize>, at_once: usize, meter: &Meter) -> Result<()> {
        let segments = self.index.segments.iter().filter(|segment| wanted.contains(&segment.namespace));
        let reads = segments.map(|segment| async move {
            let name = self.name(segment.namespace);
            meter.doing(name.clone());
            let (runs, mut taken) = mpsc::channel(1);
            let reading = self.object.segment(segment, name, Some(runs));
            let counting = async {
                while let Some(run) = taken.recv().await {
                    meter.add(0, run.documents.len() as u64);
                }
            };
            let (tally, ()) = tokio::join!(reading, counting);
            (segment, tally)
        });
        let mut answers = stream::iter(reads).buffer_unordered(at_once);
        let mut tallies: BTreeMap<usize, Tally> = BTreeMap::new();
        let (mut wrong, mut damaged) = (Vec::new(), BTreeSet::new());
        while let Some((segment, read)) = answers.next().await {
            match read {
                Ok(tally) => {
                    meter.add(tally.documents, 0);
                    *tallies.entry(segment.namespace).or_default() += tally;
                }
                Err(e) if e.kind() == Kind::Mismatch => {
                    damaged.insert(segment.namespace);
                    wrong.push(e.chain());
                }
                Err(e) => return Err(e),
            }
        }
        if wrong.is_empty() {
            for at in wanted {
                let differs = self.compare(*at, tallies.get(at));
                damaged.extend(differs.is_some().then_some(*at));
                wrong.extend(differs);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let more =
            if wrong.len() > SHOWN { format!("; and {} more", wrong.len() - SHOWN) } else { String::new() };
        wrong.truncate(SHOWN);
        Err(Error::new(Kind::Mismatch, format!("the backup {} is damaged", self.manifest.id))
            .hint(self.rest(&damaged, wanted.len()))
            .caused_by(wrong.join("; ") + &more))
    }

    /// The next step if these namespaces are damaged. `wanted` is the number of namespaces to be restored.
    pub(crate) fn rest(&self, damaged: &BTreeSet<usize>, wanted: usize) -> String {
        let but = |at: &usize| format!("--ns-exclude {}", quoted(&escaped(&self.name(*at))));
        match damaged.len() < wanted {
            true => format!(
                "The same command with {} restores the rest after checking it again. Or restore {ANOTHER}",
                damaged.iter().map(but).collect::<Vec<_>>().join(" ")
            ),
            false => format!("Restore {ANOTHER}"),
        }
    }

    /// The difference between a namespace's documents, as they were read, and the manifest.
    pub(crate) fn compare(&self, at: usize, read: Option<&Tally>) -> Option<String> {
        let (entry, none) = (&self.manifest.namespaces[at], Tally::default());
        let read = read.unwrap_or(&none);
        if (read.documents, read.raw_bytes) != (entry.documents, entry.raw_bytes) {
            return Some(format!(
                "{} has {} of {}, but the manifest says {} of {}",
                self.name(at),
                units::several(read.documents, "document"),
                units::several(read.raw_bytes, "byte"),
                units::count(entry.documents),
                units::count(entry.raw_bytes)
            ));
        }
        let same = format!("{:032x}", read.sum) == entry.xxh3_sum;
        (!same).then(|| format!("the hash of the documents of {} differs from the manifest", self.name(at)))
    }

    /// `db.collection` of a namespace, or the name of the slice.
    pub(crate) fn name(&self, at: usize) -> String {
        self.manifest.name(at).unwrap_or_default()
    }
}

/// A namespace by its description in the index.
fn described(index: &Index, manifest: &Manifest, at: usize) -> Result<Namespace> {
    let entry = &manifest.namespaces[at];
    let described = index.namespaces.get(at).ok_or_else(|| wrong(entry, "is missing in the index"))?;
    let (options, indexes) =
        described.documents().map_err(|why| wrong(entry, "is damaged in the index").caused_by(why))?;
    if let Some(what) = entry.differs(&options, &indexes) {
        return Err(wrong(entry, &format!("has different {what} in the index and in the manifest")));
    }
    let namespace = metadata::of(&entry.db, &entry.collection, options, indexes);
    Ok(Namespace { uuid: entry.uuid.clone(), ..namespace })
}

type NamespacesByName = BTreeMap<NamespaceKey, Namespace>;

fn key(entry: &NamespaceEntry) -> NamespaceKey {
    (entry.db.clone(), entry.collection.clone())
}

/// The ranges without documents, each with the namespace whose documents follow.
fn between(manifest: &Manifest, index: &Index) -> Vec<(Range<u64>, Option<usize>)> {
    let mut out: Vec<(Range<u64>, Option<usize>)> = Vec::new();
    let mut at = 0;
    for region in regions(index, manifest) {
        match region.segment {
            None => out.push((region.range.clone(), None)),
            Some(segment) => {
                if let Some((range, next)) = out.last_mut().filter(|(range, _)| range.end == at) {
                    debug_assert!(range.end == segment.offset);
                    *next = Some(segment.namespace);
                }
            }
        }
        at = region.range.end;
    }
    out
}

/// The complete files in a range of a tar. The range begins with the padding of the documents before it, and
/// ends with the header of the documents after it.
fn files(piece: &[u8]) -> Vec<(String, Vec<u8>)> {
    let begin = piece.iter().position(|byte| *byte != 0).unwrap_or(piece.len());
    let mut archive = tar::Archive::new(&piece[begin..]);
    let mut out = Vec::new();
    for entry in archive.entries().into_iter().flatten() {
        let Ok(mut entry) = entry else { break };
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        if entry.read_to_end(&mut content).is_err() || content.len() as u64 != entry.size() {
            break;
        }
        out.push((path, content));
    }
    out
}

/// The namespaces in an archive's prelude.
fn announced(raw: &[u8]) -> Result<NamespacesByName> {
    let mut survey = ArchiveSurvey::default();
    let read = Demux::new(raw).run(&|_| true, &mut survey);
    // The bytes usually end after the prelude, which is an error only if the prelude is incomplete.
    if survey.namespaces.is_empty() {
        read.map_err(|e| e.of_kind(Kind::Mismatch))?;
    }
    Ok(survey.namespaces.into_iter().map(|n| ((n.db.clone(), n.collection.clone()), n)).collect())
}

fn wrong(entry: &NamespaceEntry, what: &str) -> Error {
    Error::new(Kind::Mismatch, format!("the metadata of {}.{} {what}", entry.db, entry.collection))
}

#[cfg(test)]
mod tests;
