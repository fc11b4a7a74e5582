//! Writes the mark of a restore while the restore is at work.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::AbortHandle;

use super::MarksAtTarget;
use super::mark::{
    LoadMark, LoadState, MarkedNamespace, MarkedNamespaces, NOBODY, RestoredData, command_text,
};
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::process;
use crate::model::id::BackupId;
use crate::model::namespace::Type;
use crate::ops::restore::marks::{MarkFormat, encode};
use crate::ops::restore::namespaces::NamespaceKey;
use crate::ops::restore::options::MarkOptions;
use crate::restore_target::RestoreTarget;
use crate::restore_target::marks::{MARKS_NAME, view_identity};

/// The pause between two signs of life in the mark.
const BEAT: Duration = Duration::from_secs(15);
/// How long the last write may take when a restore ends early.
const RELEASING: Duration = Duration::from_secs(1);
/// A restore that is killed loses the knowledge that this many bytes of documents are complete, at most.
const UNWRITTEN: u64 = 16 << 20;
/// The most namespaces in a document of the mark.
const NAMESPACES: usize = 1_000;

/// The mark of a restore that is at work.
#[derive(Debug)]
pub(in crate::ops::restore) struct Marker {
    target: RestoreTarget,
    id: BackupId,
    from: String,
    data: RestoredData,
    command: Vec<String>,
    clock: Clock,
    run: ObjectId,
    /// The mark that this restore takes over.
    takes_over: Option<TakeOver>,
    /// Why nothing is marked any more.
    off: OnceLock<String>,
    queue: Mutex<Queue>,
    /// Held while a batch is written, so that the next batch has everything that was queued meanwhile.
    turn: tokio::sync::Mutex<()>,
    beat: Mutex<Option<AbortHandle>>,
    /// True if the mark belongs to another run, or was discarded.
    lost: Arc<AtomicBool>,
    /// True if the target has marks of other restores, which may be obsolete when this one has ended.
    others: bool,
}

/// The mark of the interrupted restore, and what stays of it.
#[derive(Debug, Clone)]
pub(super) struct TakeOver {
    pub id: BackupId,
    pub run: ObjectId,
    pub started_at: bson::DateTime,
    pub namespaces: Vec<MarkedNamespace>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Namespaces that were created or found empty, and are not in the mark yet.
    made: Vec<MadeNamespace>,
    /// Namespaces that became complete since the last batch, and their length in bytes.
    complete: Vec<MarkedNamespace>,
    bytes: u64,
    /// The identities of the namespaces in the mark, and whether the restore created them.
    known: BTreeMap<NamespaceKey, (String, bool)>,
    /// True if the first document was sent.
    begun: bool,
    /// True if the first document is at the target, even if nothing else is marked any more.
    written: bool,
    /// The error of a batch, which ends the restore.
    failed: Option<String>,
}

#[derive(Debug, Clone)]
struct MadeNamespace {
    key: NamespaceKey,
    created: bool,
}

impl Marker {
    pub(super) fn new(
        target: &RestoreTarget,
        options: &MarkOptions,
        from: String,
        data: RestoredData,
        takes_over: Option<TakeOver>,
        others: bool,
    ) -> Arc<Marker> {
        let id = takes_over.as_ref().map_or_else(|| options.id.clone(), |mark| mark.id.clone());
        let (off, queue, turn, beat, lost) = Default::default();
        Arc::new(Marker {
            target: target.clone(),
            id,
            from,
            data,
            command: options.command.clone(),
            clock: options.clock,
            run: ObjectId::new(),
            takes_over,
            off,
            queue,
            turn,
            beat,
            lost,
            others,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder panics")
    }

    /// Writes the first document, before the restore changes anything.
    ///
    /// # Errors
    /// Returns an error if the server is gone, or if another run goes on with the interrupted restore.
    pub(in crate::ops::restore) async fn begin(self: &Arc<Self>) -> Result<()> {
        self.lock().begun = true;
        match &self.takes_over {
            Some(mark) => self.take_over(mark).await?,
            None => {
                let now = bson::DateTime::from_millis(self.clock.now().timestamp_millis());
                let written = self.target.begin_mark(self.id.as_str(), encode(&self.mark(now))?).await;
                self.tolerate(written)?;
            }
        }
        if self.off.get().is_none() {
            self.lock().written = true;
            *self.beat.lock().expect("no holder panics") = Some(self.beat());
        }
        Ok(())
    }

    /// Renews the mark until it is aborted.
    fn beat(&self) -> AbortHandle {
        let (target, id, run, lost) =
            (self.target.clone(), self.id.clone(), self.run, Arc::clone(&self.lost));
        let beat = tokio::spawn(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                match target.change_mark(id.as_str(), run, rawdoc! {"run": run}).await {
                    Ok(true) => {}
                    Ok(false) => lost.store(true, SeqCst),
                    Err(error) => log::warn!("the mark of the restore was not renewed: {}", error.chain()),
                }
            }
        });
        beat.abort_handle()
    }

    fn mark(&self, started_at: bson::DateTime) -> LoadMark {
        LoadMark {
            id: self.id.clone(),
            format: MarkFormat::Load as u32,
            from: self.from.clone(),
            data: self.data.clone(),
            command: self.command.clone(),
            started_at,
            changed_at: started_at,
            run: self.run,
            pid: std::process::id().into(),
            space: process::space(),
            state: LoadState::Loading,
        }
    }

    /// Makes the mark of an interrupted restore the mark of this one. Until the last step, an interruption leaves the old state.
    async fn take_over(&self, mark: &TakeOver) -> Result<()> {
        let own = self.mark(mark.started_at);
        let taken = rawdoc! {"run": self.run, "pid": own.pid, "space": own.space.as_str()};
        if !self.target.change_mark(self.id.as_str(), mark.run, taken).await? {
            let what = format!("another run goes on with the restore {}, or discarded it", self.id);
            return Err(
                Error::failed(what).hint("Nothing was changed. `uzima-backup restore --kept` shows it")
            );
        }
        let mut kept = Vec::new();
        for namespaces in mark.namespaces.chunks(NAMESPACES) {
            kept.push(self.write(namespaces, false).await?);
        }
        self.target.remove_added(self.id.as_str(), &kept).await?;
        let loading = rawdoc! {
            "state": "loading", "data": encode(&own.data)?, "command": strings(&own.command), "from": own.from.as_str(),
        };
        if !self.change(loading).await? {
            return Err(self.taken());
        }
        let known = |one: &MarkedNamespace| (one.key(), (one.identity.clone(), one.created));
        self.lock().known = mark.namespaces.iter().map(known).collect();
        Ok(())
    }

    /// Sets fields of the first document. Returns false if it is not this run's any more.
    async fn change(&self, set: RawDocumentBuf) -> Result<bool> {
        if self.off.get().is_some() {
            return Ok(true);
        }
        self.target.change_mark(self.id.as_str(), self.run, set).await
    }

    fn taken(&self) -> Error {
        Error::failed(format!("another run took over the restore {}, or discarded it", self.id))
            .hint("Look at `uzima-backup restore --kept`")
    }

    /// Goes on without the mark if the server refuses it.
    fn tolerate(&self, written: Result<()>) -> Result<()> {
        match written {
            Err(error) if error.kind() == Kind::Refused => {
                let why = error.chain();
                log::warn!("{why}");
                let _ = self.off.set(why);
                Ok(())
            }
            written => written,
        }
    }

    /// Writes that these namespaces belong to the restore. Returns the document's `_id`.
    async fn write(&self, namespaces: &[MarkedNamespace], quick: bool) -> Result<ObjectId> {
        let added = MarkedNamespaces {
            id: ObjectId::new(),
            format: MarkFormat::Namespaces as u32,
            of: self.id.clone(),
            namespaces: namespaces.to_vec(),
        };
        self.target.insert_mark(encode(&added)?, quick).await?;
        Ok(added.id)
    }

    /// Marks a namespace before its first document is inserted. Namespaces that are marked at the same time share a document.
    ///
    /// # Errors
    /// Returns an error if the server is gone, or the mark is not this run's any more.
    pub(in crate::ops::restore) async fn made(&self, key: &NamespaceKey, created: bool) -> Result<()> {
        if self.off.get().is_some() {
            return Ok(());
        }
        if self.lost.load(SeqCst) {
            return Err(self.taken());
        }
        self.lock().made.push(MadeNamespace { key: key.clone(), created });
        let _turn = self.turn.lock().await;
        let (made, complete) = {
            let mut queue = self.lock();
            if let Some(why) = &queue.failed {
                return Err(Error::failed(why.clone()));
            }
            if queue.made.is_empty() || self.off.get().is_some() {
                // Another task wrote it.
                return Ok(());
            }
            queue.bytes = 0;
            (std::mem::take(&mut queue.made), std::mem::take(&mut queue.complete))
        };
        let written = self.tolerate(self.write_made(made, complete).await);
        if let Err(error) = &written {
            self.lock().failed = Some(error.chain());
        }
        written
    }

    async fn write_made(&self, made: Vec<MadeNamespace>, mut marked: Vec<MarkedNamespace>) -> Result<()> {
        let mut by_database: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
        for MadeNamespace { key, created } in &made {
            by_database.entry(&key.0).or_default().insert(&key.1, *created);
        }
        let identified = stream::iter(by_database).map(async |(db, names)| {
            let wanted: Vec<&str> = names.keys().copied().collect();
            let identities = self.target.identities(db, &wanted).await?;
            Ok::<_, Error>((db, names, identities))
        });
        let mut identified = identified.buffer_unordered(self.target.pace.namespaces);
        while let Some((db, names, identities)) = identified.try_next().await? {
            for (name, identity) in identities {
                let created = names[name.as_str()];
                let (db, key) = (db.to_string(), (db.to_string(), name.clone()));
                self.lock().known.insert(key, (identity.clone(), created));
                marked.push(MarkedNamespace { db, name, identity, created, complete: None });
            }
        }
        for namespaces in marked.chunks(NAMESPACES) {
            self.write(namespaces, true).await?;
        }
        Ok(())
    }

    /// Marks that a namespace gets another name, before it is renamed.
    pub(in crate::ops::restore) async fn renamed(
        &self,
        from: &NamespaceKey,
        to: &NamespaceKey,
    ) -> Result<()> {
        if self.off.get().is_some() {
            return Ok(());
        }
        let Some(identity) = self.target.identity(&from.0, &from.1).await? else { return Ok(()) };
        let created = self.lock().known.get(from).is_none_or(|(_, created)| *created);
        let (db, name) = to.clone();
        let marked = MarkedNamespace { db, name, identity, created, complete: None };
        self.tolerate(self.write(&[marked], true).await.map(drop))
    }

    /// Marks that all documents of a namespace are there and counted. It may be written with later namespaces.
    pub(in crate::ops::restore) async fn complete(
        &self,
        key: &NamespaceKey,
        kind: Type,
        documents: u64,
        raw_bytes: u64,
    ) -> Result<()> {
        if kind == Type::View || self.off.get().is_some() {
            return Ok(());
        }
        let due = {
            let mut queue = self.lock();
            let Some((identity, created)) = queue.known.get(key).cloned() else { return Ok(()) };
            let ((db, name), complete) = (key.clone(), Some(documents as i64));
            queue.complete.push(MarkedNamespace { db, name, identity, created, complete });
            queue.bytes += raw_bytes;
            queue.bytes >= UNWRITTEN
        };
        if due { self.flush(true).await } else { Ok(()) }
    }

    /// Writes which namespaces are complete.
    async fn flush(&self, quick: bool) -> Result<()> {
        let complete = {
            let mut queue = self.lock();
            queue.bytes = 0;
            std::mem::take(&mut queue.complete)
        };
        for namespaces in complete.chunks(NAMESPACES) {
            self.tolerate(self.write(namespaces, quick).await.map(drop))?;
        }
        Ok(())
    }

    /// Marks that the oplog is replayed from now on, so that no namespace can stay after an interruption. Does so even if the server
    /// refused a later document of the mark.
    ///
    /// # Errors
    /// Returns an error if the server is gone, if the mark is not this run's any more, or if the server neither changes nor removes it.
    pub(in crate::ops::restore) async fn replaying(&self) -> Result<()> {
        if !self.lock().written {
            return Ok(());
        }
        let state = rawdoc! {"state": "replaying"};
        match self.target.change_mark(self.id.as_str(), self.run, state).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.taken()),
            // Without this state, complete namespaces would stay although the replay changed them.
            Err(error) if error.kind() == Kind::Refused => {
                self.tolerate(Err(error))?;
                self.remove().await?;
                self.lock().written = false;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the mark if it is this run's.
    async fn remove(&self) -> Result<()> {
        match self.target.remove_mark_of(self.id.as_str(), self.run).await? {
            true => Ok(()),
            false => Err(self.taken()),
        }
    }

    fn stop_beat(&self) {
        if let Some(beat) = self.beat.lock().expect("no holder panics").take() {
            beat.abort();
        }
    }

    /// Removes the mark, and the obsolete ones. Returns a warning if that is impossible.
    pub(in crate::ops::restore) async fn end(&self) -> Option<String> {
        self.stop_beat();
        if !self.lock().begun {
            return None;
        }
        let obsolete = if self.others { self.obsolete().await } else { Ok(Vec::new()) };
        let obsolete = obsolete.unwrap_or_else(|error| {
            log::warn!("the marks of earlier restores were not removed: {}", error.chain());
            Vec::new()
        });
        let removed = self.target.remove_mark_of(self.id.as_str(), self.run).await;
        let obsolete: Vec<&str> = obsolete.iter().map(String::as_str).collect();
        if !obsolete.is_empty()
            && let Err(error) = self.target.remove_marks(&obsolete).await
        {
            log::warn!("the marks of earlier restores were not removed: {}", error.chain());
        }
        let error = match removed {
            Ok(true) => return None,
            Ok(false) => return self.lock().written.then(|| self.taken().chain()),
            Err(error) => error,
        };
        self.lock().written.then(|| {
            format!(
                "the mark of this restore stays in {MARKS_NAME}, and `restore --discard {id}` would drop what was restored: remove the \
                 documents with the _id or the field \"of\" {id:?} there ({})",
                error.chain(),
                id = self.id.as_str()
            )
        })
    }

    /// The marks of which nothing is left now that this restore has ended.
    async fn obsolete(&self) -> Result<Vec<String>> {
        let there = MarksAtTarget::look(&self.target, &self.target.marks().await?).await?;
        let mut obsolete = there.obsolete(&self.data);
        obsolete.retain(|id| *id != self.id.as_str());
        Ok(obsolete)
    }

    /// Marks a view before it is created: its identity is its definition.
    pub(in crate::ops::restore) async fn defines(
        &self,
        key: &NamespaceKey,
        options: &RawDocument,
    ) -> Result<()> {
        if self.off.get().is_some() {
            return Ok(());
        }
        let ((db, name), identity) = (key.clone(), view_identity(options));
        let marked = MarkedNamespace { db, name, identity, created: true, complete: None };
        self.tolerate(self.write(&[marked], true).await.map(drop))
    }

    /// Lets another run go on with this restore at once, after it ended early. Returns the command for that, or `None` if the restore
    /// has no mark. `settled`: every request was answered; `untouched`: nothing was changed.
    pub(in crate::ops::restore) async fn release(&self, settled: bool, untouched: bool) -> Option<String> {
        self.stop_beat();
        if !self.lock().begun {
            return None;
        }
        let nothing = untouched && self.takes_over.is_none();
        let releasing = async {
            if nothing {
                return self.remove().await;
            }
            self.flush(false).await?;
            if settled {
                self.change(rawdoc! {"pid": NOBODY}).await?;
            }
            Ok(())
        };
        // The server may be gone, or the run was ended by a signal.
        let _ = tokio::time::timeout(RELEASING, releasing).await;
        (!nothing && self.off.get().is_none()).then(|| command_text(&self.command))
    }

    /// The restore's own id.
    pub(in crate::ops::restore) fn id(&self) -> &BackupId {
        &self.id
    }

    /// Why the restore cannot be continued, if the server refused the mark.
    pub(in crate::ops::restore) fn note(&self) -> Option<String> {
        self.off
            .get()
            .map(|why| format!("if it had been interrupted, it could not have been continued: {why}"))
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        self.stop_beat();
    }
}

fn strings(words: &[String]) -> bson::RawArrayBuf {
    words.iter().map(String::as_str).collect()
}
