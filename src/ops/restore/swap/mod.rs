//! `restore --swap`: fills new collections beside the live ones, and moves them in when everything is loaded, counted, replayed and
//! indexed. What was live is kept under another name, and `--undo` moves it back.
//!
//! A swap is a restore under other names ([`Swap::begin`] makes its options), and moves after it ([`Swap::move_in`]). The names are in
//! the same database, because a rename within a database is one operation. All moves are one `applyOps` where the rights allow, so that
//! no client of the primary sees a moment without the collection. A [`mark`](RestoreMark) at the target says what each step is about to do.

mod aside;
mod mark;
mod staging;

use std::collections::BTreeSet;
use std::time::Duration;

pub use aside::{AsideReport, KeptCollection, KeptRestore};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use mark::{HexUuids, MarkedCollection, MarkedExpiry, RestoreMark, in_hex};
pub use mark::{SwapSide, SwapState};
pub(super) use staging::Staging;

use super::filter::{self, RestoreFilter};
use super::marks::{MarkFormat, Marks, encode};
use super::namespaces::{BackupNamespace, NamespaceKey};
use super::options::{RestoreOptions, Users};
use super::origin::RestoreOrigin;
use super::report::{RestoreReport, SwapReport, SwappedCollection};
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::base::suggest::escaped;
use crate::config::selection::LOADED_PREFIX;
use crate::model::namespace::{SERVERS_OWN, Type};
use crate::restore_target::RestoreTarget;
use crate::restore_target::aside::{Expiry, Move, Moved};

/// How often moves are tried. Between two tries, another client can create a collection with the live name.
const TRIES: usize = 5;
/// A mark in the state `Moving` that is older than this belongs to a run that was killed: a move waits at most a second for each lock.
const DEAD: Duration = Duration::from_secs(60);
/// How long a restore that failed may take to drop what it filled.
const ABANDONING: Duration = Duration::from_secs(5);
/// The reason if a lock prevents a move.
const BLOCKED: &str = "a transaction or another long operation of the server holds a lock on them";

/// A swap that is under way.
#[derive(Debug)]
pub struct Swap {
    marks: Marks,
    mark: RestoreMark,
    notes: Vec<String>,
}

impl Swap {
    /// Looks at the target, proves that collections can be moved there, and makes the options with which the new collections are
    /// filled. Changes nothing that stays. `target` is a connection of its own.
    ///
    /// # Errors
    /// Returns an error if the backup has no collection that can be swapped, if the target has something else under such a name, or if
    /// the user may not move collections or read marks.
    pub async fn begin(
        origin: &RestoreOrigin,
        target: RestoreTarget,
        options: RestoreOptions,
        id: String,
        clock: Clock,
    ) -> Result<(Swap, RestoreOptions)> {
        let contents = origin.contents()?;
        let chosen = options.filter.choose(&contents, &BTreeSet::new())?;
        let (mut keys, mut left) = (Vec::<NamespaceKey>::new(), Vec::new());
        for one in &chosen {
            match fault(&contents[one.at]) {
                None => keys.push(one.key()),
                Some(why) => left.push((one.name(), why)),
            }
        }
        if keys.is_empty() {
            let why: Vec<String> = left.iter().map(|(name, why)| format!("{name} is {why}")).collect();
            return Err(Error::usage(format!("--swap has nothing to move in: {}", why.join(", ")))
                .hint("Restore these with --drop, or beside with --ns-from and --ns-to"));
        }
        let marks = Marks { target, clock };
        let databases: BTreeSet<&str> = keys.iter().map(|(db, _)| db.as_str()).collect();
        refuse_others(&marks.target, &databases, &keys).await?;
        for interrupted in marks.read(MarkFormat::Swap).await? {
            marks.refuse_young(&interrupted)?;
        }
        rehearse(&marks.target, &databases, &options.token).await?;
        let uuids = in_hex(marks.target.uuids_in(databases.into_iter()).await?);
        let collections = keys.into_iter().map(|key| MarkedCollection {
            earlier: uuids.get(&key).cloned(),
            ..MarkedCollection::new(key.0, key.1)
        });
        let now = marks.now();
        let mark = RestoreMark {
            format: MarkFormat::Swap as u32,
            from: origin.place(),
            started_at: now,
            changed_at: now,
            state: SwapState::Loading,
            staging: false,
            live: SwapSide::Earlier,
            collections: collections.collect(),
            id,
        };
        let mut filter = options.filter.clone();
        beside(&mut filter, &mark.id, &left)?;
        let mut options =
            RestoreOptions { filter, users: Users::Never, drop: false, exact: false, ..options };
        options.swap = Some(mark.id.clone());
        options.left_by_swap = left.into_iter().map(|(name, why)| left_text(&name, why)).collect();
        Ok((Swap { marks, mark, notes: Vec::new() }, options))
    }

    /// Finishes the moves of interrupted swaps, and marks that the new collections are being filled.
    ///
    /// # Errors
    /// Returns an error if the moves cannot be finished or the mark cannot be written. Then nothing was filled.
    pub async fn mark(&mut self) -> Result<()> {
        self.notes.extend(self.marks.finish_interrupted().await?);
        self.mark.changed_at = self.marks.now();
        self.marks.target.write_mark(encode(&self.mark)?, true).await.map(drop)
    }

    /// Drops what was filled after a restore that failed. Returns the error with what is left.
    async fn abandon(mut self, error: Error) -> Error {
        let id = self.mark.id.clone();
        // The server may be gone, or the run was ended by a signal.
        let dropped = tokio::time::timeout(ABANDONING, self.marks.drop_loaded(&mut self.mark)).await;
        let mut steps = vec!["No live collection was changed".to_string()];
        if !matches!(dropped, Ok(Ok(()))) {
            steps.push(format!("`uzima-backup restore --discard {id}` drops what was loaded"));
        }
        steps.extend(error.next_step().map(str::to_string));
        error.hint(steps.join(". "))
    }

    /// Moves the new collections in if the restore filled them completely; else drops them.
    ///
    /// # Errors
    /// Returns the error of the restore, the errors of [`Swap::move_in`], or an error if anything differs from the backup.
    pub async fn complete(mut self, restored: Result<RestoreReport>) -> Result<RestoreReport> {
        let mut report = match restored {
            Ok(report) => report,
            Err(error) => return Err(self.abandon(error).await),
        };
        match report.conclude() {
            Ok(Exit::Done | Exit::NeedsLook) => {}
            Ok(_) => {
                let problems = report.outcomes.iter().flat_map(|outcome| &outcome.problems);
                let replayed = report.replayed.iter().flat_map(|replayed| &replayed.problems);
                let problems: Vec<String> =
                    problems.chain(replayed).chain(&report.problems).map(ToString::to_string).collect();
                let what =
                    format!("the restored collections differ from the backup: {}", problems.join("; "));
                return Err(self.abandon(Error::failed(what)).await);
            }
            Err(error) => return Err(self.abandon(error).await),
        }
        if let Err(error) = self.take_uuids(&report).await {
            return Err(self.abandon(error).await);
        }
        self.move_in(&mut report).await?;
        Ok(report)
    }

    /// Finds out which collections were filled, and which ones are live now: an application may have re-created them.
    async fn take_uuids(&mut self, report: &RestoreReport) -> Result<()> {
        self.marks.adopt(&mut self.mark).await?;
        let uuids = self.marks.uuids(&self.mark).await?;
        let gone = report.replayed.iter().flat_map(|replayed| &replayed.gone).collect::<BTreeSet<_>>();
        for one in &mut self.mark.collections {
            let loaded = mark::loaded(&self.mark.id, &one.name);
            one.restored = one.at(&loaded, &uuids).map(str::to_string);
            one.earlier = one.at(&one.name, &uuids).map(str::to_string);
            if one.restored.is_none() && !gone.contains(&format!("{}.{loaded}", one.db)) {
                let what = format!("{}.{loaded}, which was filled, does not exist any more", one.db);
                return Err(Error::failed(what));
            }
        }
        Ok(())
    }

    /// Moves the new collections in, and those that were live aside. Puts the live names into the report.
    ///
    /// # Errors
    /// Returns an error if not all could be moved. Then those that were live are live again, unless the error says otherwise.
    async fn move_in(mut self, report: &mut RestoreReport) -> Result<()> {
        let (marks, mark) = (&self.marks, &mut self.mark);
        marks.exchange(mark, SwapSide::Restored).await?;
        // The collections are exchanged. What fails now is only reported.
        self.notes.extend(marks.stop_expiry(mark).await);
        let uuids = marks.uuids(mark).await.unwrap_or_default();
        let name = |one: &MarkedCollection| one.aside(&mark.id, SwapSide::Earlier, &uuids);
        let gone = mark.collections.iter().filter(|one| one.restored.is_none());
        let gone =
            gone.map(|one| format!("{} did not exist at that time, and was moved aside", one.full_name()));
        self.notes.extend(gone);
        let collections = mark.collections.iter().map(|one| SwappedCollection {
            namespace: one.full_name(),
            kept: name(one).map(|name| format!("{}.{name}", one.db)),
        });
        let collections = collections.collect();
        self.notes.extend(strangers(mark, 0));
        rename_results(report, &mark.id);
        report.warnings.append(&mut self.notes);
        report.swap = Some(SwapReport { id: mark.id.clone(), collections });
        marks.target.close().await;
        Ok(())
    }
}

impl Marks {
    fn now(&self) -> bson::DateTime {
        millis(self.clock.now())
    }

    async fn uuids(&self, mark: &RestoreMark) -> Result<HexUuids> {
        let databases: BTreeSet<&str> = mark.collections.iter().map(|one| one.db.as_str()).collect();
        Ok(in_hex(self.target.uuids_in(databases.into_iter()).await?))
    }

    /// Adds the collections to a mark that only the oplog created, under the names of new collections.
    async fn adopt(&self, mark: &mut RestoreMark) -> Result<()> {
        let databases = self.target.databases(true).await?.unwrap_or_default();
        let uuids = self.target.uuids_in(databases.iter().map(String::as_str)).await?;
        let prefix = mark::loaded(&mark.id, "");
        for (db, name) in uuids.into_keys() {
            let Some(name) = name.strip_prefix(&prefix) else { continue };
            if !mark.collections.iter().any(|one| one.db == db && one.name == name) {
                mark.collections.push(MarkedCollection::new(db, name.into()));
            }
        }
        Ok(())
    }

    /// Drops the collections that a restore filled and did not move in, and its mark.
    async fn drop_loaded(&self, mark: &mut RestoreMark) -> Result<()> {
        self.adopt(mark).await?;
        let drops = stream::iter(&mark.collections)
            .map(async |one| self.target.drop_namespace(&one.db, &mark::loaded(&mark.id, &one.name)).await);
        drops.buffer_unordered(self.target.pace.namespaces).try_collect::<()>().await?;
        self.target.remove_mark(&mark.id).await
    }

    /// Writes a mark with a new state. A mark that is gone is not written again.
    async fn write(&self, mark: &mut RestoreMark, state: SwapState) -> Result<()> {
        (mark.state, mark.changed_at) = (state, self.now());
        match self.target.write_mark(encode(mark)?, false).await? {
            true => Ok(()),
            false => Err(Error::failed(format!("another run discarded the restore {}", mark.id))),
        }
    }

    /// Lets another run use a mark at once whose moves this run could not end.
    async fn release(&self, mark: &mut RestoreMark) {
        mark.changed_at = bson::DateTime::from_millis(0);
        if let Ok(document) = encode(mark) {
            let _ = self.target.write_mark(document, false).await;
        }
    }

    /// Makes the collections of a side live. If that is impossible, the others stay live.
    async fn exchange(&self, mark: &mut RestoreMark, want: SwapSide) -> Result<()> {
        let (why, cause) = match self.reach(mark, want).await {
            Ok(Moved::All) => return Ok(()),
            Ok(Moved::Blocked) => (BLOCKED, None),
            Err(error) => ("a command failed", Some(error)),
        };
        let failed = |what: String| match &cause {
            Some(cause) => Error::failed(what).caused_by(cause.chain()),
            None => Error::failed(what),
        };
        let id = mark.id.clone();
        if let Ok(Moved::All) = self.reach(mark, want.other()).await {
            self.stop_expiry(mark).await;
            return Err(failed(format!("the collections were not moved: {why}")).hint(format!(
                "No live collection was changed. The others are kept: end long operations (db.currentOp()), then \
                 `uzima-backup restore --undo {id}` moves them in, or --discard {id} drops them"
            )));
        }
        self.release(mark).await;
        let names: Vec<String> = mark.collections.iter().map(MarkedCollection::full_name).collect();
        let what =
            format!("some of the collections were moved, and some were not: {why}: {}", names.join(", "));
        Err(failed(what).hint(format!(
            "Each is whole under one of its names (`uzima-backup restore --kept`). End long operations (db.currentOp()), stop the \
             application that writes to them, then `uzima-backup restore --undo {id}` moves all of them back"
        )))
    }

    /// Moves collections until those of a side are live. The mark stays `Moving` until [`Marks::stop_expiry`].
    async fn reach(&self, mark: &mut RestoreMark, want: SwapSide) -> Result<Moved> {
        mark.live = want;
        self.write(mark, SwapState::Moving).await?;
        let (id, mut last) = (mark.id.clone(), None);
        for _ in 0..TRIES {
            let uuids = self.uuids(mark).await?;
            if name_strangers(mark, &uuids) {
                self.write(mark, SwapState::Moving).await?;
            }
            let moves: Result<Vec<Vec<Move>>, String> =
                mark.collections.iter().map(|one| one.moves(&id, want, &uuids)).collect();
            // A rename to a free live name fails if another client takes the name; `applyOps` would hide that collection.
            let (single, several): (Vec<_>, Vec<_>) =
                moves.map_err(Error::failed)?.into_iter().partition(|moves| moves.len() == 1);
            if single.is_empty() && several.iter().all(Vec::is_empty) {
                return Ok(Moved::All);
            }
            let moved = match self.target.move_all(&several.concat()).await {
                Ok(Moved::All) => self.target.move_each(&single.concat()).await,
                other => other,
            };
            match moved {
                Ok(Moved::Blocked) => return Ok(Moved::Blocked),
                Ok(Moved::All) => {}
                // Another client may have created a collection in between: the next look shows it.
                Err(error) if error.kind() == Kind::Refused => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        let what = "the collections could not be moved, perhaps because another client creates collections with their names";
        Err(match last {
            Some(last) => Error::failed(what).caused_by(last.chain()),
            None => Error::failed(what),
        })
    }

    /// Stops the expiry of documents in the collections that are aside, lets that of the live ones go on, and writes that all is
    /// settled. Returns a note for each failure.
    async fn stop_expiry(&self, mark: &mut RestoreMark) -> Vec<String> {
        let mut notes = Vec::new();
        let uuids = match self.uuids(mark).await {
            Ok(uuids) => uuids,
            Err(error) => return vec![format!("documents that are kept may expire: {}", error.chain())],
        };
        let (id, of) = (mark.id.clone(), mark.live.other());
        let found = stream::iter(&mark.collections).map(async |one| match one.aside(&id, of, &uuids) {
            Some(aside) => self.target.expiries(&one.db, &aside).await.map(|found| Some((aside, found))),
            None => Ok(None),
        });
        let found: Vec<_> = found.buffered(self.target.pace.namespaces).collect().await;
        for (at, found) in found.into_iter().enumerate() {
            notes.extend(self.go_on(&mut mark.collections[at], mark.live).await);
            let stopped = match found {
                Ok(Some((aside, found))) => self.stop(mark, at, &aside, &found).await,
                found => found.map(drop),
            };
            if let Err(error) = stopped {
                let name = mark.collections[at].full_name();
                notes.push(format!("documents that are kept of {name} may expire: {}", error.chain()));
            }
        }
        if let Err(error) = self.write(mark, SwapState::Settled).await {
            notes.push(format!(
                "the collections are exchanged, but the mark does not say so: {}",
                error.chain()
            ));
        }
        notes
    }

    /// Lets the documents of a live collection expire again.
    async fn go_on(&self, one: &mut MarkedCollection, live: SwapSide) -> Vec<String> {
        let (mut notes, mut left) = (Vec::new(), Vec::new());
        for expiry in std::mem::take(&mut one.expiries) {
            if expiry.of == live
                && let Err(error) = self.target.expire(&one.db, &one.name, &expiry.expiry(), true).await
            {
                let (name, seconds) = (one.full_name(), expiry.seconds);
                notes.push(format!("documents of {name} should expire after {seconds} s: {}", error.chain()));
                left.push(expiry);
            } else if expiry.of != live {
                left.push(expiry);
            }
        }
        one.expiries = left;
        notes
    }

    /// Stops the expiry of the documents that are kept of a collection, which is aside under this name.
    async fn stop(&self, mark: &mut RestoreMark, at: usize, aside: &str, found: &[Expiry]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let of = mark.live.other();
        let one = &mut mark.collections[at];
        let db = one.db.clone();
        let marked = found.iter().map(|expiry| MarkedExpiry {
            of,
            index: expiry.index.clone(),
            seconds: expiry.seconds,
        });
        one.expiries.extend(marked);
        // The seconds are known before they are changed.
        self.write(mark, SwapState::Moving).await?;
        for expiry in found {
            self.target.expire(&db, aside, expiry, false).await?;
        }
        Ok(())
    }

    /// Finishes the moves that interrupted runs began. Returns a note for each.
    async fn finish_interrupted(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for mut mark in self.read::<RestoreMark>(MarkFormat::Swap).await? {
            if mark.state != SwapState::Moving {
                continue;
            }
            self.refuse_young(&mark)?;
            let want = mark.live;
            self.exchange(&mut mark, want).await?;
            notes.extend(self.stop_expiry(&mut mark).await);
            let names: Vec<String> = mark.collections.iter().map(MarkedCollection::full_name).collect();
            notes.push(format!(
                "the restore {} was interrupted while it moved collections, and is finished now: {}",
                mark.id,
                names.join(", ")
            ));
        }
        Ok(notes)
    }

    /// Refuses to touch collections that another run may be moving now.
    fn refuse_young(&self, mark: &RestoreMark) -> Result<()> {
        let age = self.now().timestamp_millis() - mark.changed_at.timestamp_millis();
        if mark.state == SwapState::Moving && age < DEAD.as_millis() as i64 {
            let what = format!(
                "the restore {} is moving collections now, or was killed within the last minute",
                mark.id
            );
            return Err(Error::failed(what).hint("Try again in a minute. Nothing was changed"));
        }
        Ok(())
    }
}

fn millis(at: DateTime<Utc>) -> bson::DateTime {
    bson::DateTime::from_millis(at.timestamp_millis())
}

/// Why a namespace of a backup cannot be swapped.
fn fault(source: &BackupNamespace) -> Option<&'static str> {
    match source.kind {
        Type::View => Some("a view"),
        Type::Timeseries => Some("a time series, which servers do not rename"),
        Type::Collection if source.collection.starts_with("system.") => Some("a system collection"),
        Type::Collection if SERVERS_OWN.contains(&source.db.as_str()) => {
            Some("in a database of the server itself")
        }
        Type::Collection => None,
    }
}

fn left_text(name: &str, why: &str) -> String {
    format!("{name} is not restored, because it is {why}: restore it with --ns-include and --drop")
}

/// Changes a filter so that it restores under the names of new collections, without those in `left`.
fn beside(filter: &mut RestoreFilter, id: &str, left: &[(String, &str)]) -> Result<()> {
    let names = format!("$db$.{LOADED_PREFIX}{id}_$name$");
    filter.rename = filter::pairs(&["$db$.$name$".into()], &[names]).map_err(Error::failed)?;
    for (name, _) in left {
        filter.exclude.push(escaped(name).parse().map_err(|why: String| Error::failed(why))?);
    }
    Ok(())
}

/// Refuses a swap if something other than a collection has one of the live names.
async fn refuse_others(
    target: &RestoreTarget,
    databases: &BTreeSet<&str>,
    keys: &[NamespaceKey],
) -> Result<()> {
    for db in databases {
        for row in target.collections(db).await? {
            let (Ok(name), Ok(kind)) = (row.get_str("name"), row.get_str("type")) else { continue };
            if kind != "collection" && keys.iter().any(|key| key.0 == *db && key.1 == name) {
                return Err(Error::failed(format!(
                    "--swap cannot move {db}.{name} aside: it is a {kind} at the target"
                ))
                .hint("Nothing was changed. Leave it out with --ns-exclude, or replace it with --drop"));
            }
        }
    }
    Ok(())
}

/// Moves an empty collection in each database, as the swap will move others. `token` is a part of its name.
async fn rehearse(target: &RestoreTarget, databases: &BTreeSet<&str>, token: &str) -> Result<()> {
    let prefix = target.trial_prefix(token).await?;
    for db in databases {
        let rows = target.collections(db).await?;
        target.sweep_trials(db, rows.iter().filter_map(|row| row.get_str("name").ok())).await?;
        let one =
            Move { db: db.to_string(), from: target.trial_name(&prefix), to: target.trial_name(&prefix) };
        target.create_empty(db, &one.from).await?;
        let moved = target.move_all(std::slice::from_ref(&one)).await;
        for name in [&one.from, &one.to] {
            target.drop_namespace(db, name).await?;
        }
        match moved {
            Ok(Moved::All) => {}
            Ok(Moved::Blocked) => {
                return Err(Error::failed(format!("collections of {db} cannot be moved now: {BLOCKED}"))
                    .hint("Nothing was changed. End the operation (db.currentOp()), and try again"));
            }
            Err(error) => return Err(error.of_kind(Kind::Failed)),
        }
    }
    Ok(())
}

/// Gives names to the collections of other clients that have live names. Returns true if there is one.
fn name_strangers(mark: &mut RestoreMark, uuids: &HexUuids) -> bool {
    let id = mark.id.clone();
    let strange: Vec<&mut MarkedCollection> =
        mark.collections.iter_mut().filter(|one| one.has_stranger(uuids)).collect();
    let any = !strange.is_empty();
    strange.into_iter().for_each(|one| one.name_stranger(&id));
    any
}

/// A note for each collection of another client that was moved aside, apart from the first ones.
fn strangers(mark: &RestoreMark, known: usize) -> Vec<String> {
    let note = |one: &MarkedCollection, name: &str| {
        format!(
            "another client created {} while it was moved; what was written to that collection is in {}.{name}",
            one.full_name(),
            one.db
        )
    };
    let all = mark.collections.iter().flat_map(|one| one.strangers.iter().map(move |name| note(one, name)));
    all.skip(known).collect()
}

/// Gives the results the names under which the collections are live.
fn rename_results(report: &mut RestoreReport, id: &str) {
    let prefix = mark::loaded(id, "");
    let names = report.outcomes.iter_mut().map(|outcome| &mut outcome.to);
    let replayed =
        report.replayed.iter_mut().flat_map(|replayed| replayed.gone.iter_mut().chain(&mut replayed.came));
    names.chain(replayed).for_each(|name| *name = name.replacen(&prefix, "", 1));
}
