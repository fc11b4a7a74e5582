//! `restore --continue`: goes on with a restore that was interrupted.
//!
//! A restore writes a [`mark`] at its target before it makes anything, and removes it when it ends with a report. The mark of an
//! interrupted restore says which namespaces that restore made. Only these are dropped without `--drop`, if they are still the same
//! namespaces, and those of them that were complete stay.

mod mark;
mod marker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{RawDocumentBuf, rawdoc};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::marks::{MarkFormat, Marks, understood};
use super::namespaces::{NamespaceKey, Planned, Resumed, full_name};
use super::options::RestoreOptions;
use super::origin::RestoreOrigin;
use crate::base::error::{Error, Kind, Result};
use crate::base::process;
use crate::model::namespace::Type;
use crate::restore_target::RestoreTarget;
use crate::restore_target::marks::{Identities, MARKS_NAME, is_of_view};
pub use mark::LoadState;
use mark::{MarkedNamespace, MarkedNamespaces, NOBODY, RestoredData, WholeMark};
pub(super) use marker::Marker;
use marker::TakeOver;

/// A mark without a sign of life for this long, in seconds, belongs to an interrupted restore: several signs are missing.
const DEAD: i64 = Duration::from_secs(60).as_secs() as i64;
/// The most marks in a message.
const NAMED: usize = 3;

/// The part of a plan that is about the marks of restores.
#[derive(Debug, Default)]
pub(super) struct MarkPlan {
    /// The mark of this restore; `None` if it cannot be continued.
    pub marker: Option<Arc<Marker>>,
    /// Namespaces that the interrupted restore made and this one does not fill, with their identities. They are dropped first.
    pub beside: Vec<(NamespaceKey, String)>,
    /// True if the interrupted restore may have created namespaces in its replay that it did not mark yet.
    pub replayed: bool,
    /// The id of an interrupted restore that is the same as this one, if its namespaces exist and `--continue` is not given.
    pub interrupted: Option<String>,
}

/// The interrupted restore that a plan or a report continues.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ContinuedFacts {
    /// The interrupted restore's own id.
    pub id: String,
    /// The names at the target of the namespaces that stay because they were complete.
    pub kept: Vec<String>,
    /// The names of the namespaces that the interrupted restore made and that are dropped.
    pub dropped: Vec<String>,
}

/// All marks of a target, and the namespaces that exist there.
struct MarksAtTarget {
    marks: Vec<WholeMark>,
    /// Ids whose mark has no first document any more.
    orphans: BTreeSet<String>,
    found: BTreeMap<String, Identities>,
    /// Databases of the marks that the server did not list, and why.
    unlisted: BTreeMap<String, String>,
    /// The time of the target.
    now: i64,
}

impl MarksAtTarget {
    async fn look(target: &RestoreTarget, documents: &[RawDocumentBuf]) -> Result<MarksAtTarget> {
        let marks = WholeMark::all(documents);
        let added: Vec<MarkedNamespaces> = understood(documents, MarkFormat::Namespaces);
        let orphans =
            added.iter().map(|added| &added.of).filter(|of| marks.iter().all(|one| one.mark.id != **of));
        let orphans = orphans.map(ToString::to_string).collect();
        let (mut found, mut unlisted) = (BTreeMap::new(), BTreeMap::new());
        // The names come from documents that anybody may have written.
        let databases: BTreeSet<&str> = marks.iter().flat_map(WholeMark::databases).collect();
        let listed = stream::iter(databases).map(async |db| (db, target.all_identities(db).await));
        let mut listed = listed.buffer_unordered(target.pace.namespaces);
        while let Some((db, identities)) = listed.next().await {
            match identities {
                Ok(identities) => drop(found.insert(db.to_string(), identities)),
                Err(error) if error.kind() == Kind::Refused => {
                    log::warn!("{}", error.chain());
                    unlisted.insert(db.to_string(), error.chain());
                }
                Err(error) => return Err(error),
            }
        }
        drop(listed);
        let now = if marks.is_empty() { 0 } else { target.seconds().await? };
        Ok(MarksAtTarget { marks, orphans, found, unlisted, now })
    }

    /// Returns true if the restore of a mark may be at work.
    fn is_at_work(&self, mark: &WholeMark) -> bool {
        let mark = &mark.mark;
        let gone =
            mark.pid == NOBODY || u32::try_from(mark.pid).is_ok_and(|pid| process::is_gone(pid, &mark.space));
        // A mark from the future was written before the target's clock was set back.
        !gone && (self.now - mark.changed_at.timestamp_millis() / 1000).abs() < DEAD
    }

    fn existing(&self, mark: &WholeMark) -> Vec<MarkedNamespace> {
        mark.existing(&self.found)
    }

    /// The first database of a mark that the server did not list, and why.
    fn unlisted<'a>(&'a self, mark: &'a WholeMark) -> Option<(&'a str, &'a str)> {
        mark.databases().into_iter().find_map(|db| Some((db, self.unlisted.get(db)?.as_str())))
    }

    /// Refuses to go on with a restore, or to discard it, if it is not known which of its namespaces exist.
    fn refuse_unlisted(&self, mark: &WholeMark, user: (&str, &str)) -> Result<()> {
        let Some((db, why)) = self.unlisted(mark) else { return Ok(()) };
        let id = &mark.mark.id;
        let what = format!("the restore {id} made namespaces in {db:?}, which cannot be listed: {why}");
        let (user, of) = user;
        Err(Error::failed(what).hint(format!(
            "Nothing was changed. The user needs the right listCollections there: \
             db.getSiblingDB({of:?}).grantRolesToUser({user:?}, [{{role: \"readWrite\", db: {db:?}}}])"
        )))
    }

    /// The newest mark of the restore that brings this data.
    fn newest(&self, data: &RestoredData) -> Option<&WholeMark> {
        let fits = self.marks.iter().filter(|one| data.differs(&one.mark.data).is_none());
        fits.max_by_key(|one| (one.mark.started_at, one.mark.id.clone()))
    }

    /// The marks that may be removed when the restore of this data has ended: those of the same restore, whose namespaces it filled
    /// again, and those of which nothing is left.
    fn obsolete(&self, data: &RestoredData) -> Vec<String> {
        let is = |one: &&WholeMark| {
            let same = data.differs(&one.mark.data).is_none();
            // A view of the same definition may be that of another restore, and has no data.
            let gone = self.existing(one).iter().all(|made| is_of_view(&made.identity));
            let known = self.unlisted(one).is_none();
            known && !self.is_at_work(one) && (same || gone && !one.databases().is_empty())
        };
        let ids = self.marks.iter().filter(is).map(|one| one.mark.id.to_string());
        ids.chain(self.orphans.iter().cloned()).collect()
    }
}

/// Plans the mark of a restore, and with `--continue` what happens to the namespaces that the interrupted restore made. Adds a note
/// to `notes` if the restore cannot be continued. `by_replay` has the namespaces that the replay may create.
///
/// # Errors
/// Returns a usage error if no interrupted restore is the same as this one, and an error if it may be at work.
pub(super) async fn plan(
    origin: &RestoreOrigin,
    target: &RestoreTarget,
    options: &RestoreOptions,
    namespaces: &mut [Planned],
    by_replay: &BTreeSet<NamespaceKey>,
    in_the_way: &mut Vec<NamespaceKey>,
    notes: &mut Vec<String>,
) -> Result<(MarkPlan, Option<ContinuedFacts>)> {
    let Some(wanted) = &options.mark else {
        if options.sifts() {
            refuse_interrupted(target, namespaces).await?;
        }
        return Ok(Default::default());
    };
    if !options.continues && !target.may_mark().await? {
        let step = target.grant_of_marks();
        notes.push(format!(
            "if this restore is interrupted, it cannot be continued, because the user may not write to {MARKS_NAME}: {step}"
        ));
        return Ok(Default::default());
    }
    let documents = match target.marks().await {
        Err(error) if error.kind() == Kind::Refused && !options.continues => {
            notes.push(format!("if this restore is interrupted, it cannot be continued: {}", error.chain()));
            return Ok(Default::default());
        }
        documents => documents.map_err(|error| error.of_kind(Kind::Failed))?,
    };
    let data = RestoredData::of(origin, options)?;
    let there = MarksAtTarget::look(target, &documents).await?;
    let fits = there.newest(&data);
    if !options.continues {
        let mut of_both: BTreeSet<NamespaceKey> = namespaces
            .iter()
            .filter(|planned| planned.existing.is_some())
            .map(|planned| planned.chosen.key())
            .collect();
        of_both.extend(in_the_way.iter().cloned());
        let made_by = |mark: &&WholeMark| there.existing(mark).iter().any(|one| of_both.contains(&one.key()));
        let interrupted = fits.filter(made_by).map(|mark| mark.mark.id.to_string());
        let others = !documents.is_empty();
        let marker = Marker::new(target, wanted, origin.place(), data.clone(), None, others);
        return Ok((MarkPlan { marker: Some(marker), interrupted, ..MarkPlan::default() }, None));
    }
    let Some(fits) = fits else { return Err(none_fits(target, &there.marks, &data)) };
    if there.is_at_work(fits) {
        return Err(at_work(fits));
    }
    there.refuse_unlisted(fits, target.user_and_db())?;
    let filled: BTreeSet<NamespaceKey> = namespaces.iter().map(|planned| planned.chosen.key()).collect();
    let mut made = there.existing(fits);
    // Anybody may have written the mark: the same restore makes only these namespaces.
    made.retain(|one| {
        let key = one.key();
        let known = filled.contains(&key) || by_replay.contains(&key);
        if !known {
            log::warn!("{:?} stays, although the mark of {} names it", full_name(&key), fits.mark.id);
        }
        known
    });
    let mut facts = ContinuedFacts { id: fits.mark.id.to_string(), kept: Vec::new(), dropped: Vec::new() };
    let mut stays = made.clone();
    for (one, stays) in made.iter().zip(&mut stays) {
        let Some(planned) = namespaces.iter_mut().find(|planned| planned.chosen.key() == one.key()) else {
            stays.complete = None;
            continue;
        };
        if planned.source.kind == Type::View && planned.existing.is_some_and(|existing| existing.same) {
            // It has no documents, and stays as it is.
            continue;
        }
        let resumed = resume(planned, one, fits.mark.state);
        match resumed {
            Resumed::Kept { .. } => facts.kept.push(planned.chosen.name()),
            Resumed::Again { .. } => {
                stays.complete = None;
                facts.dropped.push(planned.chosen.name());
            }
        }
        planned.resumed = Some(resumed);
    }
    let beside = made.iter().filter(|one| one.created && !filled.contains(&one.key()));
    let beside: Vec<_> = beside.map(|one| (one.key(), one.identity.clone())).collect();
    in_the_way.retain(|key| !beside.iter().any(|(beside, _)| beside == key));
    facts.dropped.extend(beside.iter().map(|(key, _)| full_name(key)));
    let takes_over = TakeOver {
        id: fits.mark.id.clone(),
        run: fits.mark.run,
        started_at: fits.mark.started_at,
        namespaces: stays,
    };
    let others = there.marks.len() > 1 || !there.orphans.is_empty();
    let marker = Marker::new(target, wanted, origin.place(), data, Some(takes_over), others);
    let replayed = fits.mark.state == LoadState::Replaying;
    Ok((MarkPlan { marker: Some(marker), beside, replayed, interrupted: None }, Some(facts)))
}

/// Refuses to write documents to collections that an interrupted restore made: its mark stays, so that `--discard` or `--continue`
/// would drop them later.
async fn refuse_interrupted(target: &RestoreTarget, namespaces: &[Planned]) -> Result<()> {
    let documents = match target.marks().await {
        // Without the right to read marks, nothing is known about them.
        Err(error) if error.kind() == Kind::Refused => {
            log::info!("{}", error.chain());
            return Ok(());
        }
        documents => documents?,
    };
    let there = MarksAtTarget::look(target, &documents).await?;
    let existing = namespaces.iter().filter(|planned| planned.existing.is_some());
    let existing: BTreeSet<NamespaceKey> = existing.map(|planned| planned.chosen.key()).collect();
    for mark in &there.marks {
        let mut made = there.existing(mark).into_iter().filter(|made| !is_of_view(&made.identity));
        let Some(made) = made.find(|made| existing.contains(&made.key())) else { continue };
        if there.is_at_work(mark) {
            return Err(at_work(mark));
        }
        let (name, id) = (full_name(&made.key()), &mark.mark.id);
        let command = mark.mark.command_text();
        return Err(Error::failed(format!("{name} was made by the interrupted restore {id}")).hint(format!(
            "Nothing was changed. `{command}` goes on with that restore; `uzima-backup restore --discard {id}` drops the collections \
             that it made"
        )));
    }
    Ok(())
}

/// What happens to a namespace that the interrupted restore filled.
fn resume(planned: &Planned, marked: &MarkedNamespace, state: LoadState) -> Resumed {
    let existing = planned.existing.filter(|existing| existing.same);
    let counted = existing.and_then(|existing| existing.documents);
    let complete = marked.complete.and_then(|documents| u64::try_from(documents).ok());
    let stays = state == LoadState::Loading
        && marked.created
        && planned.source.kind != Type::View
        && complete.is_some_and(|documents| documents <= planned.source.documents);
    match counted.filter(|counted| stays && complete == Some(*counted)) {
        Some(documents) => Resumed::Kept { documents },
        None => Resumed::Again { identity: marked.identity.clone(), created: marked.created },
    }
}

fn none_fits(target: &RestoreTarget, marks: &[WholeMark], data: &RestoredData) -> Error {
    let why = |one: &WholeMark| {
        let why = data.differs(&one.mark.data).unwrap_or_default();
        format!("{} does not fit: {why}", one.mark.id)
    };
    let mut lines: Vec<String> = marks.iter().rev().take(NAMED).map(why).collect();
    if let Some(more @ 1..) = marks.len().checked_sub(NAMED) {
        lines.push(format!("and {more} more"));
    }
    let address = &target.address;
    let (what, step) = match lines.is_empty() {
        true => (
            format!("no restore into {address} was interrupted"),
            "Restore without --continue. A restore that ended with a report left no mark, and its report said what was missing",
        ),
        false => (
            format!(
                "no restore into {address} that was interrupted is the same as this one: {}",
                lines.join("; ")
            ),
            "`uzima-backup restore --kept` shows the command that goes on with each",
        ),
    };
    Error::usage(what).hint(step)
}

fn at_work(mark: &WholeMark) -> Error {
    let what = format!("the restore {} is at work, or was killed within the last minute", mark.mark.id);
    Error::failed(what).hint("Try again in a minute. Nothing was changed")
}

/// A restore that was interrupted, or is at work.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InterruptedRestore {
    /// The restore's own id, for `--discard`.
    pub id: String,
    /// The backup or dump.
    pub from: String,
    pub started_at: DateTime<Utc>,
    pub state: LoadState,
    /// True if the restore gave a sign of life within the last minute.
    pub at_work: bool,
    /// The command that goes on with it.
    pub command: String,
    /// The namespaces that it made and that still exist.
    pub namespaces: Vec<InterruptedNamespace>,
}

/// A namespace that an interrupted restore made.
#[derive(Debug, JsonSchema, Serialize)]
pub struct InterruptedNamespace {
    pub namespace: String,
    /// The number of documents by the server's metadata; null if the user may not count them.
    pub documents: Option<u64>,
    /// True if all documents were there and counted.
    pub complete: bool,
}

impl Marks {
    async fn loads(&self) -> Result<MarksAtTarget> {
        MarksAtTarget::look(&self.target, &self.documents().await?).await
    }

    /// Lists the restores that were interrupted, or are at work.
    pub(super) async fn interrupted(&self) -> Result<Vec<InterruptedRestore>> {
        let there = self.loads().await?;
        let mut restores = Vec::new();
        for one in &there.marks {
            let mut namespaces = Vec::new();
            for made in there.existing(one) {
                let documents = match is_of_view(&made.identity) {
                    true => Some(0),
                    false => self.target.count(&made.db, &made.name).await?,
                };
                let complete = made.complete.is_some() && one.mark.state == LoadState::Loading;
                namespaces.push(InterruptedNamespace {
                    namespace: full_name(&made.key()),
                    documents,
                    complete,
                });
            }
            let started_at = one.mark.started_at.timestamp_millis();
            restores.push(InterruptedRestore {
                id: one.mark.id.to_string(),
                from: one.mark.from.clone(),
                started_at: DateTime::from_timestamp_millis(started_at).unwrap_or_default(),
                state: one.mark.state,
                at_work: there.is_at_work(one),
                command: one.mark.command_text(),
                namespaces,
            });
        }
        Ok(restores)
    }

    /// Drops what an interrupted restore made, and forgets it. Returns the dropped namespaces, and notes about those that stay; `None`
    /// if there is no such restore.
    pub(super) async fn discard_interrupted(&self, id: &str) -> Result<Option<(Vec<String>, Vec<String>)>> {
        let there = self.loads().await?;
        let Some(mark) = there.marks.iter().find(|one| one.mark.id.as_str() == id) else { return Ok(None) };
        if there.is_at_work(mark) {
            return Err(at_work(mark));
        }
        there.refuse_unlisted(mark, self.target.user_and_db())?;
        // No other run can take the mark over from now on.
        let own =
            rawdoc! {"run": ObjectId::new(), "pid": i64::from(std::process::id()), "space": process::space()};
        if !self.target.change_mark(id, mark.mark.run, own).await? {
            return Err(at_work(mark));
        }
        let (mut dropped, mut notes) = (Vec::new(), Vec::new());
        for one in there.existing(mark) {
            let name = full_name(&one.key());
            if !one.created {
                notes.push(format!("{name} stays with its documents: it existed before, without documents"));
            } else if self.target.drop_identified(&one.db, &one.name, &one.identity).await? {
                dropped.push(name);
            }
        }
        self.target.remove_mark(id).await?;
        Ok(Some((dropped, notes)))
    }

    /// The error of `--undo` for the id of an interrupted restore; `None` if there is no such restore.
    pub(super) async fn refuse_undo(&self, id: &str) -> Result<Option<Error>> {
        let marks = WholeMark::all(&self.documents().await?);
        let Some(one) = marks.iter().find(|one| one.mark.id.as_str() == id) else { return Ok(None) };
        let what = format!("the restore {id} was no swap and was interrupted: there is nothing to move back");
        let step = format!(
            "Nothing was changed. `{}` goes on with it; --discard {id} drops what it made",
            one.mark.command_text()
        );
        Ok(Some(Error::failed(what).hint(step)))
    }
}
