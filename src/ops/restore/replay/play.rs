//! The replay itself: the slice is read once more, and its steps are taken at the target, in their order.

use std::collections::BTreeMap;

use bson::RawDocumentBuf;
use tokio::sync::mpsc::{self, Sender};

use super::action::{Action, Form};
use super::catalog::{Catalog, Key};
use super::names::Named;
use super::script::{Read, Script};
use super::skip::{self, Skip};
use super::survey::{Steps, through};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::ops::restore::origin::Origin;
use crate::ops::restore::problem::{Problem, Trouble};
use crate::restore_target::Target;
use crate::restore_target::batch::BATCH;
use crate::restore_target::insert::Place;

/// So many writes go in one command.
const WRITES: usize = 1000;
/// How many steps wait.
const WAITING: usize = 8;

/// What a server says of the creation of what is there (NamespaceExists), and of a change of what is gone or was
/// changed further since (NamespaceNotFound, InvalidOptions): `applyOps` forgives the same.
const CREATED: [i32; 1] = [48];
const CHANGED: [i32; 2] = [26, 72];

/// What was replayed.
#[derive(Debug, Default)]
pub struct Played {
    /// What was read.
    pub read: Read,
    /// How many operations were carried out.
    pub operations: u64,
    /// The namespaces with their indexes, as they are in the end.
    pub catalog: Catalog,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

/// Replays the slice; `catalog` has the namespaces that were restored before. Operations on namespaces in `skip` are left
/// out, and a namespace whose operation fails is added to `skip`.
pub async fn play(
    origin: &Origin,
    script: Script,
    target: &Target,
    catalog: Catalog,
    skip: &mut Skip,
    meter: &Meter,
) -> Result<Played> {
    meter.doing("replaying the oplog".into());
    let (sender, mut steps) = mpsc::channel(WAITING);
    // Without the feeder, which ends the player's work by its own end.
    let reading = async { through(origin, script, Feeder(sender)).await.map(|(script, _)| script.read) };
    let mut player =
        Player { target, catalog, skip, batch: Batch::default(), missing: BTreeMap::new(), operations: 0 };
    let playing = async {
        while let Some(action) = steps.recv().await {
            player.take(action).await?;
        }
        // The reader goes on to the slice's end, and then says whether it was whole.
        drop(steps);
        player.flush().await
    };
    // The player's error is the cause of the reader's.
    let (read, played) = tokio::join!(reading, playing);
    played?;
    let read = read?;
    let lost = |(db, name): &Key| {
        let what = format!("{db}.{name} is not in the backup: what was written to it is missing");
        Trouble::Documents.told(what)
    };
    let problems = player.missing.keys().map(lost).collect();
    Ok(Played { read, operations: player.operations, catalog: player.catalog, problems })
}

/// Hands steps to the player.
struct Feeder(Sender<Action>);

impl Steps for Feeder {
    fn take(&mut self, action: Action) -> Result<()> {
        self.0.blocking_send(action).map_err(|_| Error::aftermath("nobody takes the steps of the replay"))
    }
}

/// Writes that wait to go together.
#[derive(Default)]
struct Batch {
    operations: Vec<RawDocumentBuf>,
    places: Vec<Named>,
    bytes: usize,
}

struct Player<'a> {
    target: &'a Target,
    catalog: Catalog,
    skip: &'a mut Skip,
    batch: Batch,
    /// Written to, but not there: dropped before it was read, if the slice goes on to say so. With its database
    /// in the backup.
    missing: BTreeMap<Key, String>,
    operations: u64,
}

impl Player<'_> {
    async fn take(&mut self, action: Action) -> Result<()> {
        if !matches!(action, Action::Write { .. } | Action::Index { .. }) {
            self.flush().await?;
        }
        if self.skip.takes(&action) {
            return Ok(());
        }
        self.operations += u64::from(action.is_one());
        let (named, done) = match &action {
            Action::Write { .. } | Action::Index { .. } => (None, Ok(())),
            Action::Create { to, form, view, .. } => {
                self.missing.remove(&to.key());
                (Some(to), self.create(to, form, *view).await)
            }
            Action::Modify { to, form } => (Some(to), self.make(to, form, &CHANGED).await.map(drop)),
            // What the target has under a name that the backup never had is somebody else's.
            Action::Drop(named) if self.catalog.has(&named.key()) => {
                (Some(named), self.drop_one(&named.key()).await)
            }
            Action::Drop(named) => {
                self.missing.remove(&named.key());
                (Some(named), Ok(()))
            }
            Action::DropAll { from_db, views } => {
                for key in self.catalog.of_database(from_db, *views) {
                    let name = format!("{}.{}", key.0, key.1);
                    if self.skip.has(&name) {
                        continue;
                    }
                    match self.drop_one(&key).await {
                        Err(error) if error.kind() == Kind::Refused => self.skip.fail(name, &error),
                        done => done?,
                    }
                }
                self.missing.retain(|_, db| *views || db != from_db);
                (None, Ok(()))
            }
            Action::Rename { from, to, command } => {
                let renamed = self.rename(from, command).await;
                if let Err(error) = renamed.as_ref()
                    && error.kind() == Kind::Refused
                {
                    self.skip.fail(skip::name(from), error);
                }
                (Some(to), renamed)
            }
        };
        match (named, done) {
            (Some(named), Err(error)) if error.kind() == Kind::Refused => {
                self.skip.fail(skip::name(named), &error);
                return Ok(());
            }
            (_, done) => done?,
        }
        self.catalog.follow(&action);
        match action {
            Action::Write { to, operation } => self.write(to, operation).await,
            _ => Ok(()),
        }
    }

    async fn write(&mut self, to: Named, operation: RawDocumentBuf) -> Result<()> {
        if self.missing.contains_key(&to.key()) {
            return Ok(());
        }
        if Target::would_fill(&operation) {
            self.flush().await?;
            return self.write_filled(to, operation).await;
        }
        self.batch.bytes += operation.as_bytes().len();
        self.batch.operations.push(operation);
        self.batch.places.push(to);
        if self.batch.operations.len() == WRITES || self.batch.bytes >= BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes a document that the server would change, and puts it right.
    async fn write_filled(&mut self, to: Named, operation: RawDocumentBuf) -> Result<()> {
        let operations = [operation];
        self.send(&operations, std::slice::from_ref(&to)).await?;
        if self.missing.contains_key(&to.key()) || self.skip.leaves_out(&to) {
            return Ok(());
        }
        let place = Place { db: to.db.clone(), collection: to.stored(), buckets: to.buckets, raw: false };
        match self.target.unfill(&place, &operations[0]).await {
            Err(error) if error.kind() == Kind::Refused => {
                self.skip.fail(skip::name(&to), &error);
                Ok(())
            }
            done => done,
        }
    }

    /// Sends what waits. One of 16 MiB goes alone: a command may be 16 KiB longer, and no more.
    async fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let alone = batch.operations.iter().rposition(|o| o.as_bytes().len() >= BATCH).unwrap_or(0);
        let ((before, rest), (places_before, places)) =
            (batch.operations.split_at(alone), batch.places.split_at(alone));
        self.send(before, places_before).await?;
        self.send(rest, places).await
    }

    /// Applies writes. If the server refuses a write, its namespace fails; the other writes go on.
    async fn send(&mut self, operations: &[RawDocumentBuf], places: &[Named]) -> Result<()> {
        let (mut operations, mut places) = (operations.to_vec(), places.to_vec());
        while !operations.is_empty() {
            let applied = self.target.apply(&operations).await?;
            for at in applied.left_out {
                let place = &places[at];
                self.missing.insert(place.key(), place.from_db.clone());
            }
            let Some((at, error)) = applied.refused else { return Ok(()) };
            self.skip.fail(skip::name(&places[at]), &error);
            let rest = operations.drain(..).zip(places.drain(..)).skip(at + 1);
            (operations, places) = rest.filter(|(_, place)| !self.skip.leaves_out(place)).unzip();
        }
        Ok(())
    }

    /// Creates a namespace, or leaves the one that is there: the backup may have read it after the slice created it. A view
    /// is replaced.
    async fn create(&self, to: &Named, form: &Form, view: bool) -> Result<()> {
        if view {
            self.target.drop_namespace(&to.db, &to.collection).await?;
        }
        if self.make(to, form, &CREATED).await? || self.is_there(to).await? {
            return Ok(());
        }
        let name = skip::name(to);
        let what = format!("cannot create {name}: the server answered that it exists, but does not list it");
        Err(Error::new(Kind::Refused, what).hint(format!("Restore {name} once more, and alone")))
    }

    /// Carries out a change. Returns false if the server refused it with one of the codes `fine`.
    async fn make(&self, to: &Named, form: &Form, fine: &[i32]) -> Result<bool> {
        match form {
            Form::Operation(operation) => {
                let applied = self.target.apply(std::slice::from_ref(operation)).await?;
                applied.refused.map_or(Ok(true), |(_, error)| Err(error))
            }
            Form::Command(command) => {
                let doing = format!("cannot replay a change of {}", skip::name(to));
                self.target.command(&to.db, command, &doing, fine).await
            }
        }
    }

    async fn is_there(&self, named: &Named) -> Result<bool> {
        let there = self.target.collections(&named.db).await?;
        Ok(there.iter().any(|row| row.get_str("name").is_ok_and(|name| name == named.collection)))
    }

    async fn drop_one(&mut self, key: &Key) -> Result<()> {
        self.missing.remove(key);
        self.target.drop_namespace(&key.0, &key.1).await
    }

    async fn rename(&self, from: &Named, command: &RawDocumentBuf) -> Result<()> {
        let name = skip::name(from);
        if self.is_there(from).await? && self.catalog.has(&from.key()) {
            return self
                .target
                .command("admin", command, &format!("cannot rename {name}"), &[])
                .await
                .map(drop);
        }
        let what = format!("the oplog renames {name}, which is not there");
        Err(Error::new(Kind::Refused, what).hint(
            "A dump that was taken while a collection was renamed cannot be replayed: restore it with --no-replay",
        ))
    }
}
