//! Trials: the target's own answers show whether it accepts a namespace, an index, a view's pipeline, a role or an update
//! of the oplog, before anything is dropped.
//!
//! A collection is created empty under a random name, and dropped again. The names begin with [`PREFIX`] and hold
//! the target's time, so that a later run recognises and removes the trials of a killed run. Roles and updates are
//! tried without writing anything: `updateRole` of a role that does not exist checks the privileges first, and an
//! update of a document that does not exist is read before the document is looked for (seen on 4.4.2 to 6.0.27).

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};

use super::apply::NO_COMMAND;
use super::insist::Sent;
use super::rights::{Act, Need};
use super::shape::{EXISTS, NOT_FOUND};
use super::{Target, shape};
use crate::base::error::Result;
use crate::config::selection::TRIAL_PREFIX as PREFIX;
use crate::model::namespace::Namespace;
use crate::mongo::errors;
use crate::mongo::errors::Class;

/// The database in which collections are tried. The role `restore` may not drop a database, but one without
/// collections is not listed.
pub const DATABASE: &str = "uzima_backup_trial";
/// Trials older than this, in seconds, were left by a run that was killed.
const LEFT: i64 = 60;

/// How long a run waits for the last command before it removes its trials.
const SETTLE: Duration = Duration::from_secs(2);

/// RoleNotFound: the privileges were accepted.
const NO_ROLE: i32 = 31;
/// The server read the update and found no document to update.
const NOT_UPDATED: i32 = 8;
/// Codes that say nothing about the trial itself: LockTimeout, LockBusy, MaxTimeMSExpired, WriteConcernFailed,
/// WriteConflict, ConflictingOperationInProgress, LockFailed, ExceededMemoryLimit, OutOfDiskSpace.
const NO_ANSWER: [i32; 9] = [24, 46, 50, 64, 112, 117, 107, 146, 14031];

/// The target's answer to a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The target accepts it.
    Accepted,
    /// The target refuses it, with these words.
    Refused(String),
    /// The user has no right to try it.
    Forbidden,
}

/// The trials of a run that were not removed yet: database and name.
#[derive(Debug, Default)]
pub struct Trials {
    made: Mutex<BTreeSet<(String, String)>>,
    count: AtomicU64,
}

/// Names for the trials of a run.
#[derive(Debug)]
pub struct Naming {
    begin: String,
}

impl Target {
    /// Names for trials; `token` is a few random letters and digits.
    pub async fn trial_names(&self, token: &str) -> Result<Naming> {
        let now = self.seconds().await?;
        Ok(Naming { begin: format!("{PREFIX}{now:x}_{token}_") })
    }

    /// The target's clock, in seconds since 1970.
    async fn seconds(&self) -> Result<i64> {
        let hello = self.insist("admin", || rawdoc! {"hello": 1}).await.answer;
        let hello = hello.map_err(|e| self.explain("cannot ask for the time", e))?;
        let now = hello.get_datetime("localTime").map(|now| now.timestamp_millis() / 1000);
        Ok(now.unwrap_or_default())
    }

    /// A name that no collection has.
    pub fn trial_name(&self, names: &Naming) -> String {
        format!("{}{}", names.begin, self.trials.count.fetch_add(1, SeqCst))
    }

    /// Returns true if the user may create, index and drop collections of any name in a database.
    pub async fn may_try(&self, db: &str) -> Result<bool> {
        let any = (db.to_string(), PREFIX.to_string());
        let needs: Vec<Need> = [Act::Create, Act::Index, Act::Drop].map(|act| (act, any.clone())).into();
        Ok(self.lacking(&needs).await?.is_empty())
    }

    /// Creates a namespace with the options of `namespace`, which stays until [`Target::end_trial`].
    pub async fn try_create(&self, namespace: &Namespace, db: &str, name: &str) -> Result<Answer> {
        let command = shape::create(namespace, name, self.version);
        self.trials.made.lock().expect("no holder panics").insert((db.into(), name.into()));
        let Sent { answer, again } = self.insist(db, || command.clone()).await;
        let answer = answer.map(|_| ());
        // If the command was sent twice, the first one may have arrived.
        let answer = match answer {
            Err(e) if again && errors::code(&e) == Some(EXISTS) => Ok(()),
            answer => answer,
        };
        self.judge(answer, &format!("cannot try to create a collection in {db}"))
    }

    /// Builds an index on a trial.
    pub async fn try_indexes(&self, specs: &[RawDocumentBuf], db: &str, name: &str) -> Result<Answer> {
        let mut array = RawArrayBuf::new();
        specs.iter().for_each(|spec| array.push(spec.clone()));
        let command = rawdoc! {"createIndexes": name, "indexes": array};
        let answer = self.insist(db, || command.clone()).await.answer.map(|_| ());
        self.judge(answer, &format!("cannot try to build an index in {db}"))
    }

    /// Changes a trial by this command, whose first value is the trial's name.
    pub async fn try_change(&self, command: &RawDocument, db: &str) -> Result<Answer> {
        let answer = self.insist(db, || command.to_owned()).await.answer.map(|_| ());
        self.judge(answer, &format!("cannot try to change a collection in {db}"))
    }

    /// Returns true if the target is known to read updates with this `$v` (seen on 4.4.2 to 6.0.27; MongoDB 8.0 accepts
    /// `$v: 1` again).
    pub fn knows_update(&self, version: i32) -> bool {
        match version {
            1 => self.version.0 != 7,
            2 => self.version.0 >= 5,
            _ => false,
        }
    }

    /// Applies an update with this `$v` to a document that a trial does not have.
    pub async fn try_update(&self, version: i32, db: &str, name: &str) -> Result<Answer> {
        let change = match version {
            2 => rawdoc! {"$v": 2, "diff": {"u": {"a": 1}}},
            version => rawdoc! {"$v": version, "$set": {"a": 1}},
        };
        let update = rawdoc! {"op": "u", "ns": format!("{db}.{name}"), "o2": {"_id": 0}, "o": change};
        let mut command = rawdoc! {"applyOps": [update], "allowAtomic": false};
        // Servers from 8.1 on do not upsert, and refuse the option.
        if self.version < super::Version(8, 1, 0) {
            command.append(cstr!("alwaysUpsert"), false);
        }
        match self.insist("admin", || command.clone()).await.answer {
            Err(e) if errors::code(&e) == Some(NOT_UPDATED) => Ok(Answer::Accepted),
            // A mongos has no applyOps: `Target::may_apply` says so, and what to do.
            Err(e) if errors::code(&e) == Some(NO_COMMAND) => Ok(Answer::Forbidden),
            answer => self.judge(answer.map(|_| ()), "cannot try an update of the oplog"),
        }
    }

    /// Asks whether the target knows the privileges and allows them in a role of this database. Writes nothing, because no
    /// role has the name `name`.
    pub async fn try_role(&self, role: &RawDocument, db: &str, name: &str) -> Result<Answer> {
        let list = |key: &str| role.get_array(key).map(|list| list.to_owned()).unwrap_or_default();
        let command = rawdoc! {
            "updateRole": name,
            "privileges": list("privileges"),
            "authenticationRestrictions": list("authenticationRestrictions"),
        };
        match self.insist(db, || command.clone()).await.answer {
            Err(e) if errors::code(&e) == Some(NO_ROLE) => Ok(Answer::Accepted),
            answer => self.judge(answer.map(|_| ()), "cannot try a role"),
        }
    }

    /// Removes a trial.
    pub async fn end_trial(&self, db: &str, name: &str) -> Result<()> {
        let command = rawdoc! {"drop": name};
        match self.insist(db, || command.clone()).await.answer {
            Err(e) if errors::code(&e) != Some(NOT_FOUND) => {
                return Err(
                    self.explain(&format!("cannot drop {db}.{name}, an empty collection of a trial"), e)
                );
            }
            _ => {}
        }
        self.trials.made.lock().expect("no holder panics").remove(&(db.into(), name.into()));
        Ok(())
    }

    /// Removes the trials of a run that ended early, after the last command has its answer.
    pub async fn end_trials(&self) {
        self.settle(SETTLE).await;
        let left = self.trials.made.lock().expect("no holder panics").clone();
        for (db, name) in left {
            if let Err(error) = self.end_trial(&db, &name).await {
                log::warn!("{}", error.chain());
            }
        }
    }

    /// Removes the trials that killed runs left in a database; `names` are the names of its collections.
    pub async fn sweep_trials(&self, db: &str, names: impl Iterator<Item = &str>) -> Result<()> {
        let mut now = None;
        for name in names.filter(|name| name.starts_with(PREFIX)) {
            let now = match now {
                Some(now) => now,
                None => *now.insert(self.seconds().await?),
            };
            let at = name[PREFIX.len()..].split('_').next().and_then(|at| i64::from_str_radix(at, 16).ok());
            if at.is_some_and(|at| now - at > LEFT) {
                self.end_trial(db, name).await?;
                log::info!("removed {db}.{name}, which a restore left behind when it was killed");
            }
        }
        Ok(())
    }

    fn judge(&self, answer: mongodb::error::Result<()>, doing: &str) -> Result<Answer> {
        let Err(error) = answer else { return Ok(Answer::Accepted) };
        match (errors::classify(&error), errors::code(&error)) {
            (Class::Unauthorized, _) => Ok(Answer::Forbidden),
            (Class::Login | Class::Interrupted, _) | (_, None) => Err(self.explain(doing, error)),
            (_, Some(code)) if NO_ANSWER.contains(&code) => Err(self.explain(doing, error)),
            _ => Ok(Answer::Refused(errors::tidy(&error))),
        }
    }
}
