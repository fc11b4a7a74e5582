//! Tries at the target itself whether it accepts a namespace, an index, a view's pipeline, a role or an oplog
//! update, before anything is dropped.
//!
//! A collection is created empty under a random name, and dropped again. The names begin with [`PREFIX`] and
//! contain the target's time, so that a later run recognises and removes the trials of a killed run. Roles
//! and updates are tried without writing anything: `updateRole` for a role that does not exist checks the
//! privileges first, and an update of a document that does not exist is parsed before the document is looked
//! up (seen on 4.4.2 to 6.0.27).

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bson::raw::cstr;
use bson::{Document, RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};
use mongodb::error::Result as Answer;

use super::apply::NO_COMMAND;
use super::collections::{EXISTS, NOT_FOUND};
use super::rights::{NeededRight, Right};
use super::{RestoreTarget, collections};
use crate::base::error::Result;
use crate::config::selection::TRIAL_PREFIX as PREFIX;
use crate::model::namespace::Namespace;
use crate::mongo::commands::STALL;
use crate::mongo::errors::{self, Class};

/// The database for trials of collections. The role `restore` may not drop a database, but a database without
/// collections is not listed.
pub(crate) const DATABASE: &str = "uzima_backup_trial";
/// A trial older than this, in seconds, was left by a killed run.
const LEFT: i64 = 60;

/// The longest wait for the last command before a run removes its trials.
const SETTLE: Duration = Duration::from_secs(2);

/// RoleNotFound: the server accepted the privileges.
const NO_ROLE: i32 = 31;
/// The server parsed the update and found no document to update.
const NOT_UPDATED: i32 = 8;
/// Codes that are not about the tried object: LockTimeout, LockBusy, MaxTimeMSExpired, WriteConcernFailed,
/// WriteConflict, ConflictingOperationInProgress, LockFailed, ExceededMemoryLimit, OutOfDiskSpace.
const NO_ANSWER: [i32; 9] = [24, 46, 50, 64, 112, 117, 107, 146, 14031];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TrialAnswer {
    Accepted,
    /// The server's error message.
    Refused(String),
    /// The user may not try it.
    Forbidden,
}

/// The trials of a run that still exist: database and name.
#[derive(Debug, Default)]
pub(super) struct Trials {
    made: Mutex<BTreeSet<(String, String)>>,
    count: AtomicU64,
}

impl RestoreTarget {
    /// Makes the common beginning of a run's trial names. `token` is a few random letters and digits.
    pub(crate) async fn trial_prefix(&self, token: &str) -> Result<String> {
        Ok(format!("{PREFIX}{:x}_{token}_", self.seconds().await?))
    }

    /// The target's clock, in seconds since 1970.
    pub(crate) async fn seconds(&self) -> Result<i64> {
        let hello = self.insist("admin", rawdoc! {"hello": 1}).await;
        let hello = hello.map_err(|e| self.explain("cannot read the target's clock", e))?;
        let now = hello.get_datetime("localTime").map(|now| now.timestamp_millis() / 1000);
        Ok(now.unwrap_or_default())
    }

    /// Makes a name that no collection has.
    pub(crate) fn trial_name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.trials.count.fetch_add(1, SeqCst))
    }

    /// Returns the databases, of these, in which the user may create, index and drop any collection.
    pub(crate) async fn may_try<'a>(&self, databases: &BTreeSet<&'a str>) -> Result<BTreeSet<&'a str>> {
        let rights = |db: &&str| {
            [Right::Create, Right::Index, Right::Drop].map(|act| (act, (db.to_string(), PREFIX.into())))
        };
        let needs: Vec<NeededRight> = databases.iter().flat_map(rights).collect();
        let lacking = self.lacking(&needs).await?;
        let lacks = |db: &str| lacking.iter().any(|(_, (of, _))| of == db);
        Ok(databases.iter().copied().filter(|db| !lacks(db)).collect())
    }

    /// Creates an empty namespace with the options of `namespace`. It stays until
    /// [`RestoreTarget::end_trial`].
    pub(crate) async fn try_create(
        &self,
        namespace: &Namespace,
        db: &str,
        name: &str,
    ) -> Result<TrialAnswer> {
        let command = collections::create(namespace, name, self.version);
        self.trials.made.lock().expect("no holder panics").insert((db.into(), name.into()));
        let (answer, repeated) = self.insist_for(STALL, db, || command.clone()).await;
        // If the command was sent twice, the first one may have created it.
        let answer = match answer {
            Err(e) if repeated && errors::code(&e) == Some(EXISTS) => Ok(Document::new()),
            answer => answer,
        };
        self.judge(answer, &format!("cannot create an empty collection in {db} as a trial"))
    }

    /// Builds indexes on a trial collection.
    pub(crate) async fn try_indexes(
        &self,
        specs: &[RawDocumentBuf],
        db: &str,
        name: &str,
    ) -> Result<TrialAnswer> {
        let indexes: RawArrayBuf = specs.iter().cloned().collect();
        let answer = self.insist(db, rawdoc! {"createIndexes": name, "indexes": indexes}).await;
        self.judge(answer, &format!("cannot build an index in {db} as a trial"))
    }

    /// Runs a command on a trial collection; its first value is the collection's name.
    pub(crate) async fn try_change(&self, command: &RawDocument, db: &str) -> Result<TrialAnswer> {
        let answer = self.insist(db, command.to_owned()).await;
        self.judge(answer, &format!("cannot change a collection in {db} as a trial"))
    }

    /// Returns true if the target is known to apply updates with this `$v` (seen on 4.4.2 to 6.0.27; MongoDB
    /// 8.0 accepts `$v: 1` again).
    pub(crate) fn knows_update(&self, version: i32) -> bool {
        match version {
            1 => self.version.0 != 7,
            2 => self.version.0 >= 5,
            _ => false,
        }
    }

    /// Applies an update with this `$v` to a document that does not exist in a trial collection.
    pub(crate) async fn try_update(&self, version: i32, db: &str, name: &str) -> Result<TrialAnswer> {
        let change = match version {
            2 => rawdoc! {"$v": 2, "diff": {"u": {"a": 1}}},
            version => rawdoc! {"$v": version, "$set": {"a": 1}},
        };
        let update = rawdoc! {"op": "u", "ns": format!("{db}.{name}"), "o2": {"_id": 0}, "o": change};
        let mut command = rawdoc! {"applyOps": [update], "allowAtomic": false};
        // Servers from 8.1 on do not upsert, and refuse the option.
        if self.version < super::ServerVersion(8, 1, 0) {
            command.append(cstr!("alwaysUpsert"), false);
        }
        match self.insist("admin", command).await {
            Err(e) if errors::code(&e) == Some(NOT_UPDATED) => Ok(TrialAnswer::Accepted),
            // A mongos has no applyOps: [`RestoreTarget::may_apply`] reports it.
            Err(e) if errors::code(&e) == Some(NO_COMMAND) => Ok(TrialAnswer::Forbidden),
            answer => self.judge(answer, "cannot try an oplog update"),
        }
    }

    /// Checks that the target accepts the privileges of a role in this database. Writes nothing, because no
    /// role has the name `name`.
    pub(crate) async fn try_role(&self, role: &RawDocument, db: &str, name: &str) -> Result<TrialAnswer> {
        let list = |key: &str| role.get_array(key).map(|list| list.to_owned()).unwrap_or_default();
        let command = rawdoc! {
            "updateRole": name,
            "privileges": list("privileges"),
            "authenticationRestrictions": list("authenticationRestrictions"),
        };
        match self.insist(db, command).await {
            Err(e) if errors::code(&e) == Some(NO_ROLE) => Ok(TrialAnswer::Accepted),
            answer => self.judge(answer, "cannot try a role"),
        }
    }

    pub(crate) async fn end_trial(&self, db: &str, name: &str) -> Result<()> {
        match self.insist(db, rawdoc! {"drop": name}).await {
            Err(e) if errors::code(&e) != Some(NOT_FOUND) => {
                let doing = format_args!("cannot drop the empty trial collection {db}.{name}");
                return Err(self.explain(doing, e));
            }
            _ => {}
        }
        self.trials.made.lock().expect("no holder panics").remove(&(db.into(), name.into()));
        Ok(())
    }

    /// Removes the remaining trials of a run that ended early, after the last command is answered.
    pub(crate) async fn end_trials(&self) {
        self.settle(SETTLE).await;
        let left = self.trials.made.lock().expect("no holder panics").clone();
        for (db, name) in left {
            if let Err(error) = self.end_trial(&db, &name).await {
                log::warn!("{}", error.chain());
            }
        }
    }

    /// Removes the trials of killed runs from a database; `names` are the names of its collections.
    pub(crate) async fn sweep_trials(&self, db: &str, names: impl Iterator<Item = &str>) -> Result<()> {
        let mut now = None;
        for name in names.filter(|name| name.starts_with(PREFIX)) {
            let now = match now {
                Some(now) => now,
                None => *now.insert(self.seconds().await?),
            };
            let at = name[PREFIX.len()..].split('_').next().and_then(|at| i64::from_str_radix(at, 16).ok());
            if at.is_some_and(|at| now - at > LEFT) {
                self.end_trial(db, name).await?;
                log::info!("removed {db}.{name}, which a killed restore left behind");
            }
        }
        Ok(())
    }

    fn judge(&self, answer: Answer<Document>, doing: &str) -> Result<TrialAnswer> {
        let Err(error) = answer else { return Ok(TrialAnswer::Accepted) };
        match (errors::classify(&error), errors::code(&error)) {
            (Class::Unauthorized, _) => Ok(TrialAnswer::Forbidden),
            (Class::Login | Class::Interrupted, _) | (_, None) => Err(self.explain(doing, error)),
            (_, Some(code)) if NO_ANSWER.contains(&code) => Err(self.explain(doing, error)),
            _ => Ok(TrialAnswer::Refused(errors::tidy(&error))),
        }
    }
}
