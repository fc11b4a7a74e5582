//! `restore --swap`: fills new collections beside the live ones, and moves them in when everything is loaded, counted, replayed and
//! indexed. What was live is kept under another name, and `--undo` moves it back.
//!
//! A swap is a restore under other names ([`Swap::begin`] makes its options), and moves after it ([`Swap::move_in`]). The names are in
//! the same database, because a rename within a database is one operation. All moves are one `applyOps` where the rights allow, so that
//! nobody sees a moment without the collection. A [`mark`](RestoreMark) at the target says what each step is about to do.

mod aside;
mod mark;

use std::collections::BTreeSet;
use std::time::Duration;

pub use aside::{AsideReport, KeptCollection, KeptReport, KeptRestore, Marks};
use chrono::{DateTime, Utc};
use mark::{FORMAT, HexUuids, MarkedCollection, MarkedExpiry, RestoreMark, in_hex};
pub use mark::{SwapSide, SwapState};

use super::filter::{self, RestoreFilter};
use super::namespaces::{BackupNamespace, NamespaceKey};
use super::options::{RestoreOptions, Users};
use super::origin::RestoreOrigin;
use super::report::{NamespaceOutcome, RestoreReport, SwapReport, SwappedCollection};
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::base::suggest::escaped;
use crate::config::selection::LOADED_PREFIX;
use crate::model::namespace::{SERVERS_OWN, Type};
use crate::restore_target::RestoreTarget;
use crate::restore_target::aside::{Move, Moved};

/// How often moves are tried. Between two tries, another client can create a collection with the live name.
const TRIES: usize = 5;
/// A mark that says that collections are moved and is older than this is of a run that was killed. A move waits at most a second for
/// each lock.
const DEAD: Duration = Duration::from_secs(60);
/// The step for a move that a lock prevents.
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
    /// filled. Finishes the moves of interrupted swaps. `target` is a connection of its own.
    ///
    /// # Errors
    /// Returns an error if the backup has no collection that can be swapped, if the target has something else under such a name, or if
    /// the user may not move collections or write marks.
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
        let notes = marks.finish_interrupted().await?;
        rehearse(&marks.target, &databases, &options.token).await?;
        let uuids = in_hex(marks.target.uuids_in(databases.into_iter()).await?);
        let collections = keys.into_iter().map(|key| MarkedCollection {
            earlier: uuids.get(&key).cloned(),
            db: key.0,
            name: key.1,
            restored: None,
            expiries: Vec::new(),
            strangers: Vec::new(),
        });
        let now = marks.now();
        let mark = RestoreMark {
            format: FORMAT,
            from: origin.place(),
            started_at: now,
            changed_at: now,
            state: SwapState::Loading,
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
        Ok((Swap { marks, mark, notes }, options))
    }

    /// Marks that the new collections are being filled.
    ///
    /// # Errors
    /// Returns an error if the mark cannot be written. Then nothing was changed.
    pub async fn mark(&mut self) -> Result<()> {
        self.marks.write(&mut self.mark, SwapState::Loading).await
    }

    /// Drops what was filled after a restore that failed. Returns the error with what is left.
    async fn abandon(self, error: Error) -> Error {
        let mut left = Vec::new();
        for one in &self.mark.collections {
            let name = mark::loaded(&self.mark.id, &one.name);
            if self.marks.target.drop_namespace(&one.db, &name).await.is_err() {
                left.push(format!("{}.{name}", one.db));
            }
        }
        let live = "No live collection was changed";
        if left.is_empty() && self.marks.target.remove_mark(&self.mark.id).await.is_ok() {
            return error.hint(live);
        }
        error.hint(format!("{live}. `uzima-backup restore --discard {}` drops what was loaded", self.mark.id))
    }

    /// Moves the new collections in if the restore filled them completely; else drops them.
    ///
    /// # Errors
    /// Returns the error of the restore, the errors of [`Swap::move_in`], or an error if anything differs from the backup.
    pub async fn complete(self, restored: Result<RestoreReport>) -> Result<RestoreReport> {
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
        self.move_in(&mut report).await?;
        Ok(report)
    }

    /// Moves the new collections in, and those that were live aside. Puts the live names into the report.
    ///
    /// # Errors
    /// Returns an error if not all could be moved. Then those that were live are live again, unless the error says otherwise.
    async fn move_in(mut self, report: &mut RestoreReport) -> Result<()> {
        let (marks, mark) = (&self.marks, &mut self.mark);
        let uuids = marks.uuids(mark).await?;
        for one in &mut mark.collections {
            one.restored = one.at(&mark::loaded(&mark.id, &one.name), &uuids).map(str::to_string);
            // It may have been re-created while the new one was filled.
            one.earlier = one.at(&one.name, &uuids).map(str::to_string);
        }
        // The oplog dropped these.
        mark.collections.retain(|one| one.restored.is_some());
        marks.exchange(mark, SwapSide::Restored).await?;
        self.notes.extend(marks.stop_expiry(mark).await?);
        let uuids = marks.uuids(mark).await?;
        let name = |one: &MarkedCollection| one.aside(&mark.id, SwapSide::Earlier, &uuids);
        let collections = mark.collections.iter().map(|one| SwappedCollection {
            namespace: one.full_name(),
            kept: name(one).map(|name| format!("{}.{name}", one.db)),
        });
        let collections = collections.collect();
        self.notes.extend(strangers(mark));
        for outcome in &mut report.outcomes {
            rename_outcome(outcome, &mark.id);
        }
        report.warnings.append(&mut self.notes.clone());
        report.swap = Some(SwapReport { id: mark.id.clone(), collections, notes: self.notes });
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

    async fn write(&self, mark: &mut RestoreMark, state: SwapState) -> Result<()> {
        (mark.state, mark.changed_at) = (state, self.now());
        let document = bson::serialize_to_raw_document_buf(mark);
        self.target
            .write_mark(document.map_err(|e| Error::failed("cannot encode the mark").caused_by(e))?)
            .await
    }

    /// Makes the collections of a side live. If a lock prevents it, the others stay live.
    async fn exchange(&self, mark: &mut RestoreMark, want: SwapSide) -> Result<()> {
        match self.reach(mark, want).await {
            Ok(Moved::All) => return Ok(()),
            Ok(Moved::Blocked) => {}
            Err(error) => {
                let step = format!(
                    "`uzima-backup restore --kept` shows where each collection is, and --undo {} moves them back",
                    mark.id
                );
                return Err(error.of_kind(Kind::Failed).hint(step));
            }
        }
        match self.reach(mark, want.other()).await {
            Ok(Moved::All) => {
                let what = format!("the collections were not moved: {BLOCKED}");
                Err(Error::failed(what).hint(format!(
                    "No live collection was changed. The others are kept: end the operation (db.currentOp()), then \
                     `uzima-backup restore --undo {id}` moves them in, or --discard {id} drops them",
                    id = mark.id
                )))
            }
            _ => {
                let names: Vec<String> = mark.collections.iter().map(MarkedCollection::full_name).collect();
                let what = format!(
                    "some of the collections were moved, and some were not: {BLOCKED}: {}",
                    names.join(", ")
                );
                Err(Error::failed(what).hint(format!(
                    "Each is whole under one of its names. End the operation (db.currentOp()), then `uzima-backup restore --undo {}` \
                     moves all of them back",
                    mark.id
                )))
            }
        }
    }

    /// Moves collections until those of a side are live, and says so in the mark.
    async fn reach(&self, mark: &mut RestoreMark, want: SwapSide) -> Result<Moved> {
        mark.live = want;
        self.write(mark, SwapState::Moving).await?;
        for _ in 0..TRIES {
            let uuids = self.uuids(mark).await?;
            let id = mark.id.clone();
            let strange: Vec<&mut MarkedCollection> =
                mark.collections.iter_mut().filter(|one| one.has_stranger(&uuids)).collect();
            if !strange.is_empty() {
                strange.into_iter().for_each(|one| one.name_stranger(&id));
                self.write(mark, SwapState::Moving).await?;
            }
            let moves: Result<Vec<Vec<Move>>, String> =
                mark.collections.iter().map(|one| one.moves(&id, want, &uuids)).collect();
            let moves = moves.map_err(Error::failed)?.concat();
            if moves.is_empty() {
                self.write(mark, SwapState::Settled).await?;
                return Ok(Moved::All);
            }
            match self.target.move_all(&moves).await {
                Ok(Moved::Blocked) => return Ok(Moved::Blocked),
                Ok(Moved::All) => {}
                // Another client may have created a collection in between: the next look shows it.
                Err(error) if error.kind() == Kind::Refused => log::debug!("{}", error.chain()),
                Err(error) => return Err(error),
            }
        }
        Err(Error::failed(
            "the collections could not be moved: another client creates collections with their names",
        )
        .hint("Stop the application that writes to them"))
    }

    /// Stops the expiry of documents in the collections that are aside, and lets that of the live ones go on. Returns a note for each
    /// collection whose expiry cannot be changed.
    async fn stop_expiry(&self, mark: &mut RestoreMark) -> Result<Vec<String>> {
        let (uuids, id, live) = (self.uuids(mark).await?, mark.id.clone(), mark.live);
        let mut notes = Vec::new();
        for at in 0..mark.collections.len() {
            let one = &mark.collections[at];
            let (db, name) = (one.db.clone(), one.name.clone());
            let going: Vec<MarkedExpiry> =
                one.expiries.iter().filter(|expiry| expiry.of == live).cloned().collect();
            for expiry in going {
                if let Err(error) = self.target.expire(&db, &name, &expiry.expiry(), true).await {
                    notes.push(format!("the documents of {db}.{name} do not expire: {}", error.chain()));
                }
            }
            let one = &mut mark.collections[at];
            one.expiries.retain(|expiry| expiry.of != live);
            let Some(aside) = one.aside(&id, live.other(), &uuids) else { continue };
            let found = match self.target.expiries(&db, &aside).await {
                Ok(found) => found,
                Err(error) => {
                    notes.push(format!("documents of {db}.{aside} may expire: {}", error.chain()));
                    continue;
                }
            };
            let marked = found.iter().map(|expiry| MarkedExpiry {
                of: live.other(),
                index: expiry.index.clone(),
                seconds: expiry.seconds,
            });
            one.expiries.extend(marked);
            if !found.is_empty() {
                // The seconds are known before they are changed.
                self.write(mark, SwapState::Settled).await?;
            }
            for expiry in &found {
                if let Err(error) = self.target.expire(&db, &aside, expiry, false).await {
                    notes.push(format!("documents of {db}.{aside} may expire: {}", error.chain()));
                }
            }
        }
        self.write(mark, SwapState::Settled).await?;
        Ok(notes)
    }

    /// Finishes the moves that interrupted runs began. Returns a note for each.
    async fn finish_interrupted(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for mut mark in self.read().await? {
            if mark.state != SwapState::Moving {
                continue;
            }
            self.refuse_young(&mark)?;
            let want = mark.live;
            self.exchange(&mut mark, want).await?;
            notes.extend(self.stop_expiry(&mut mark).await?);
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

/// A note for each collection of another client that was moved aside.
fn strangers(mark: &RestoreMark) -> Vec<String> {
    let note = |one: &MarkedCollection, name: &str| {
        format!(
            "another client created {} while it was moved; what was written to that collection is in {}.{name}",
            one.full_name(),
            one.db
        )
    };
    mark.collections.iter().flat_map(|one| one.strangers.iter().map(move |name| note(one, name))).collect()
}

/// Gives a result the name under which its collection is live.
fn rename_outcome(outcome: &mut NamespaceOutcome, id: &str) {
    outcome.to = outcome.to.replacen(&mark::loaded(id, ""), "", 1);
}
