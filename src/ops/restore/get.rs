//! `get`: reads the documents of one namespace of a backup.
//!
//! Only the segments of the namespace are read, one after the other, and no further one after the last wanted document. Each
//! document is as it was when the backup read it. The oplog slice has the writes of that time, so it is read afterwards: the
//! report counts the documents that it changes.

use std::collections::HashSet;
use std::sync::Arc;

use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_128;

use super::origin::{RestoreOrigin, StoredBackup, read_blocking};
use super::replay::{follow_all, written_id};
use crate::base::error::{Error, Kind, Result};
use crate::base::suggest;
use crate::base::units::several;
use crate::dumpformat::oplog::script::ReplayStep;
use crate::dumpformat::query::Query;
use crate::model::namespace::Type;
use crate::model::tally::Tally;
use crate::restore_target::insert;

/// The most documents whose `_id`s are remembered until the oplog slice was read. A hash set of them takes 36 MiB.
const REMEMBERED: usize = 1 << 20;

/// The most `_id`s that a message lists.
const LISTED: usize = 10;

/// The documents that [`get`] reads.
#[derive(Debug, Clone)]
pub struct GetOptions {
    /// `database.collection`.
    pub namespace: String,
    /// `None` for all documents.
    pub query: Option<Query>,
    /// True if the query finds at most one document.
    pub by_id: bool,
    /// The most documents; `None` for all.
    pub limit: Option<u64>,
}

/// Receives documents.
pub trait TakeDocuments: Send {
    /// Takes a document. Returns false if no more are wanted.
    ///
    /// # Errors
    /// Returns an error if the document cannot be written, or is not BSON.
    fn take(&mut self, document: &RawDocument) -> Result<bool>;

    /// Hands on what was taken so far. Returns false if no more documents are wanted.
    ///
    /// # Errors
    /// Returns an error if the documents cannot be written.
    fn flush(&mut self) -> Result<bool>;
}

/// What [`get`] found.
#[derive(Debug, Default)]
pub struct GetReport {
    /// The number of documents that were handed on.
    pub documents: u64,
    /// What a person should look at.
    pub problems: Vec<String>,
    /// Facts about the documents.
    pub notes: Vec<String>,
    /// True if the receiver wanted no more documents.
    pub refused: bool,
}

/// Hands the documents of a namespace on to `take`, in the order of the backup.
///
/// # Errors
/// Returns a usage error if the backup does not have the namespace, or if it is a view. The error has the kind
/// [`Kind::Mismatch`] if the backup is damaged; the documents before the damage were handed on.
pub async fn get(
    backup: StoredBackup,
    options: GetOptions,
    mut take: Box<dyn TakeDocuments>,
) -> Result<GetReport> {
    let at = find(&backup, &options.namespace)?;
    let origin = RestoreOrigin::Stored(Arc::new(backup));
    read_blocking(move || {
        let RestoreOrigin::Stored(backup) = &origin else { return Ok(GetReport::default()) };
        let mut reading = Reading::new(&options, &mut *take);
        reading.read(backup, at)?;
        let mut report = GetReport {
            documents: reading.documents,
            refused: reading.refused,
            notes: notes(backup, at, &options),
            ..GetReport::default()
        };
        if !report.refused {
            let mut slice = SliceWrites::of(reading);
            slice.read(&origin)?;
            report.problems = slice.problems(backup);
            report.problems.extend(origin.problems_of_places());
        }
        Ok(report)
    })
    .await
}

/// The position of a namespace with documents.
fn find(backup: &StoredBackup, wanted: &str) -> Result<usize> {
    let entries = &backup.manifest.namespaces;
    let Some(at) = entries.iter().position(|entry| entry.name() == wanted) else {
        let names: Vec<String> = entries.iter().map(|entry| entry.name()).collect();
        let near = suggest::nearest(wanted, names.iter().map(String::as_str));
        let step = match near.is_empty() {
            true => "The backup has no namespaces".to_string(),
            false => format!("The nearest names are {}", near.join(", ")),
        };
        let what = format!("the backup {} has no namespace {wanted}", backup.manifest.id);
        return Err(Error::usage(what).hint(step));
    };
    match entries[at].kind {
        Type::View => Err(Error::usage(format!("{wanted} is a view, which has no documents"))
            .hint("Read the collection that the view is made of")),
        Type::Collection | Type::Timeseries => Ok(at),
    }
}

fn notes(backup: &StoredBackup, at: usize, options: &GetOptions) -> Vec<String> {
    let (entry, mut notes) = (&backup.manifest.namespaces[at], Vec::new());
    if entry.kind == Type::Timeseries {
        notes.push(format!(
            "{} is a time series: its documents are buckets of measurements",
            options.namespace
        ));
    }
    if options.query.is_some() && backup.has_collation(at) {
        notes.push(format!(
            "{} has a collation, which the filter does not use: texts are compared byte by byte",
            options.namespace
        ));
    }
    notes
}

/// The state of reading the documents.
struct Reading<'a> {
    options: &'a GetOptions,
    take: &'a mut dyn TakeDocuments,
    documents: u64,
    /// True if no more documents are needed.
    ended: bool,
    refused: bool,
    failure: Option<Error>,
    /// The hashes of the `_id`s of the documents; `None` if there were too many.
    ids: Option<HashSet<u128>>,
}

impl<'a> Reading<'a> {
    fn new(options: &'a GetOptions, take: &'a mut dyn TakeDocuments) -> Reading<'a> {
        Reading {
            options,
            take,
            documents: 0,
            ended: false,
            refused: false,
            failure: None,
            ids: Some(HashSet::new()),
        }
    }

    /// Reads segment after segment until the last wanted document. Blocks the thread.
    fn read(&mut self, backup: &StoredBackup, at: usize) -> Result<()> {
        let (handle, mut tally) = (Handle::current(), Tally::default());
        for segment in backup.segments(at) {
            let name = &self.options.namespace;
            tally += backup.object.read(&segment, name, &handle, &mut |run| self.run(&run.documents))?;
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.ended {
                return Ok(());
            }
        }
        match backup.compare(at, Some(&tally)) {
            None => Ok(()),
            Some(what) => Err(Error::new(Kind::Mismatch, what)),
        }
    }

    /// Takes a run of documents, unless an earlier one was the last.
    fn run(&mut self, documents: &[u8]) {
        for raw in insert::split(documents).unwrap_or_default() {
            if !self.ended {
                self.document(raw).unwrap_or_else(|failure| self.fail(failure));
            }
        }
        if !self.ended {
            match self.take.flush() {
                Ok(wants_more) => self.end_if(!wants_more, true),
                Err(failure) => self.fail(failure),
            }
        }
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        let name = &self.options.namespace;
        let damaged = |why: String| Error::new(Kind::Mismatch, format!("{name} is damaged")).caused_by(why);
        let document = RawDocument::from_bytes(raw).map_err(|e| damaged(e.to_string()))?;
        if let Some(query) = &self.options.query
            && !query.matches(document).map_err(|e| damaged(e.to_string()))?
        {
            return Ok(());
        }
        let wants_more = self.take.take(document)?;
        self.end_if(!wants_more, true);
        if self.refused {
            return Ok(());
        }
        self.documents += 1;
        self.remember(document);
        let limit = if self.options.by_id { Some(1) } else { self.options.limit };
        self.end_if(limit.is_some_and(|limit| self.documents >= limit), false);
        if self.ended {
            let wants_more = self.take.flush()?;
            self.end_if(!wants_more, true);
        }
        Ok(())
    }

    fn remember(&mut self, document: &RawDocument) {
        if let (Some(ids), Ok(Some(id))) = (&mut self.ids, document.get("_id")) {
            ids.insert(hash_of(id));
            if ids.len() > REMEMBERED {
                self.ids = None;
            }
        }
    }

    fn end_if(&mut self, ends: bool, refused: bool) {
        self.ended |= ends;
        self.refused |= ends && refused;
    }

    fn fail(&mut self, failure: Error) {
        self.failure = Some(failure);
        self.ended = true;
    }
}

/// The hash of an `_id` with its type.
fn hash_of(id: RawBsonRef<'_>) -> u128 {
    let mut document = RawDocumentBuf::new();
    document.append(bson::raw::cstr!(""), id);
    xxh3_128(document.as_bytes())
}

/// The writes of the oplog slice to the namespace.
struct SliceWrites<'a> {
    options: &'a GetOptions,
    documents: u64,
    /// True if the namespace was not read to its end.
    ended: bool,
    ids: Option<HashSet<u128>>,
    changed: HashSet<u128>,
    /// The first of the changed documents, by their `_id`s in Extended JSON.
    listed: Vec<String>,
    /// The number of writes to documents that were not handed on.
    others: u64,
    /// The slice drops, creates or renames the namespace.
    reshaped: bool,
    /// The reason why the slice could not be followed to its end.
    unread: Option<String>,
}

impl<'a> SliceWrites<'a> {
    fn of(reading: Reading<'a>) -> SliceWrites<'a> {
        let Reading { options, documents, ended, ids, .. } = reading;
        let (changed, listed, others, reshaped, unread) = Default::default();
        SliceWrites { options, documents, ended, ids, changed, listed, others, reshaped, unread }
    }

    /// Reads the slice, if the backup has one with entries. Blocks the thread.
    ///
    /// # Errors
    /// Returns an error if the slice is damaged or cannot be read.
    fn read(&mut self, origin: &RestoreOrigin) -> Result<()> {
        let slice = origin.manifest().and_then(|manifest| manifest.consistency.oplog.as_ref());
        if slice.is_none_or(|slice| slice.entries == 0) {
            return Ok(());
        }
        self.unread = follow_all(origin, &mut |step| self.step(&step), &mut |_| {})?;
        Ok(())
    }

    fn step(&mut self, step: &ReplayStep) -> Result<()> {
        let name = &self.options.namespace;
        match step {
            ReplayStep::Write { to, operation, .. } if to.backup_name() == *name => self.write(operation),
            ReplayStep::Write { .. } | ReplayStep::Index { .. } | ReplayStep::Modify { .. } => {}
            ReplayStep::DropAll { from_db, views: false } => {
                self.reshaped |= name.split_once('.').is_some_and(|(db, _)| db == from_db);
            }
            step => {
                self.reshaped |= step.namespaces().iter().any(|named| named.backup_name() == *name);
            }
        }
        Ok(())
    }

    fn write(&mut self, operation: &RawDocument) {
        let id = written_id(operation).unwrap_or(RawBsonRef::Null);
        let hash = hash_of(id);
        if self.ids.as_ref().is_some_and(|ids| ids.contains(&hash)) {
            if self.changed.insert(hash) && self.listed.len() < LISTED {
                self.listed.push(insert::id_text(id));
            }
        } else if self.is_wanted(id) {
            self.others += 1;
        }
    }

    /// Returns false for a document that another `_id` was asked for.
    fn is_wanted(&self, id: RawBsonRef<'_>) -> bool {
        let id = rawdoc! {"_id": RawBson::from(id)};
        let matches = |query: &Query| query.matches(&id).unwrap_or(true);
        !self.options.by_id || self.options.query.as_ref().is_none_or(matches)
    }

    fn problems(&self, backup: &StoredBackup) -> Vec<String> {
        let (name, mut problems) = (&self.options.namespace, Vec::new());
        let at = backup.manifest.consistency.at.map(|at| format!(" at {}", at.second())).unwrap_or_default();
        let instant = format!("`restore` replays the slice and gives the state of one instant{at}");
        if !self.changed.is_empty() {
            let more = self.changed.len() - self.listed.len();
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            problems.push(format!(
                "the oplog slice of the backup changes {} of the {} (_id {}{more}), which are as they were when the backup read \
                 them: {instant}",
                self.changed.len(),
                several(self.documents, "printed document"),
                self.listed.join(", "),
            ));
        }
        let whole = !self.ended;
        if self.others > 0 && self.ids.is_none() {
            problems.push(format!(
                "the oplog slice of the backup has {} to documents of {name}, and more than {REMEMBERED} documents were printed, so \
                 it is not known which of them it changes: {instant}",
                several(self.others, "write")
            ));
        } else if self.others > 0 && whole {
            problems.push(format!(
                "the oplog slice of the backup has {} to documents of {name} that were not printed, and they may match \
                 afterwards: {instant}",
                several(self.others, "write")
            ));
        }
        if self.reshaped {
            problems.push(format!(
                "the oplog slice of the backup creates, drops or renames {name}, and the printed documents are as they were when the \
                 backup read them: {instant}"
            ));
        }
        if let Some(why) = &self.unread {
            problems.push(format!(
                "it is not known which documents the oplog slice of the backup changes: {why}"
            ));
        }
        problems
    }
}
