//! Records the state of each namespace during a restore. The record outlives the restore, so that a failed or
//! cancelled restore can report which namespaces it dropped and did not restore.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::namespaces::{is_users_or_roles, name_list};
use super::options::RestoreOptions;
use super::plan::RestorePlan;
use super::remedy::{self, Remainder};
use crate::base::error::{Error, Kind};
use crate::restore_target::RestoreTarget;

/// How long a restore waits for answers after a failure: the longest wait for any answer.
const AFTER_FAILURE: Duration = Duration::from_secs(600);
/// The most names in a message, for namespaces without a loss.
const NAMED: usize = 20;

/// The state of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NamespaceState {
    /// Unchanged.
    Waiting,
    /// It is being created, and replaces nothing.
    Begun,
    /// The target's namespace of the same name is dropped, or about to be dropped.
    Dropped,
    /// Its documents are restored and counted.
    Filled,
    /// Complete, with its indexes.
    Done,
}

#[derive(Debug)]
struct ProgressRow {
    /// The name in the backup; `None` if only the oplog slice has it.
    from: Option<String>,
    state: NamespaceState,
}

/// The states of all namespaces of a restore.
#[derive(Debug)]
pub(crate) struct RestoreProgress {
    target: RestoreTarget,
    options: RestoreOptions,
    rows: Mutex<BTreeMap<String, ProgressRow>>,
    /// True if users and roles still have to be merged.
    users_missing: Mutex<bool>,
}

impl RestoreProgress {
    pub(super) fn new(
        plan: &RestorePlan,
        target: RestoreTarget,
        options: RestoreOptions,
    ) -> Arc<RestoreProgress> {
        let row = |from| ProgressRow { from, state: NamespaceState::Waiting };
        let planned = plan.namespaces.iter().map(|one| (one.chosen.name(), row(Some(one.source.name()))));
        let slice = plan.in_the_way.iter().map(|(db, name)| (format!("{db}.{name}"), row(None)));
        let rows = planned.chain(slice).collect();
        let users_missing = Mutex::new(!plan.users_and_roles.is_empty());
        Arc::new(RestoreProgress { target, options, rows: Mutex::new(rows), users_missing })
    }

    /// Sets the state of a namespace of the target.
    pub(super) fn set(&self, name: &str, state: NamespaceState) {
        if let Some(row) = self.rows.lock().expect("no holder panics").get_mut(name) {
            row.state = state;
        }
    }

    /// Marks a namespace of the target as incomplete, whether it was planned or only the slice has it.
    pub(super) fn lack(&self, name: &str) {
        if name.split_once('.').is_some_and(|(db, collection)| is_users_or_roles(db, collection)) {
            *self.users_missing.lock().expect("no holder panics") = true;
            return;
        }
        let mut rows = self.rows.lock().expect("no holder panics");
        rows.entry(name.into()).or_insert(ProgressRow { from: None, state: NamespaceState::Begun }).state =
            NamespaceState::Begun;
    }

    pub(super) fn get(&self, name: &str) -> Option<NamespaceState> {
        self.rows.lock().expect("no holder panics").get(name).map(|row| row.state)
    }

    pub(super) fn users_merged(&self) {
        *self.users_missing.lock().expect("no holder panics") = false;
    }

    /// Marks the namespaces whose documents are restored as done.
    pub(super) fn end(&self) {
        let mut rows = self.rows.lock().expect("no holder panics");
        rows.values_mut()
            .filter(|row| row.state == NamespaceState::Filled)
            .for_each(|row| row.state = NamespaceState::Done);
    }

    /// The parts that another restore must repeat.
    pub(super) fn remainder(&self) -> Remainder {
        let rows = self.rows.lock().expect("no holder panics");
        let (done, missing): (Vec<_>, Vec<_>) =
            rows.values().partition(|row| row.state == NamespaceState::Done);
        let names = |rows: &[&ProgressRow]| rows.iter().filter_map(|row| row.from.clone()).collect();
        let slice = missing.iter().any(|row| row.from.is_none());
        let users = *self.users_missing.lock().expect("no holder panics");
        Remainder { missing: names(&missing), done: names(&done), users, slice }
    }

    /// The flags that restore the rest, as a sentence; `None` if nothing is missing.
    pub(super) fn advice(&self) -> Option<String> {
        remedy::advice(&self.options, &self.remainder())
    }

    /// Waits until no request of the restore is under way, and adds the state of the target to the error.
    /// Called after an error or a signal ended the restore; `left` is the time that is left after a signal.
    pub(super) async fn stopped(&self, error: Error, left: Option<Duration>) -> Error {
        let settled = self.target.settle(left.unwrap_or(AFTER_FAILURE)).await;
        let mut steps: Vec<String> = error.next_step().map(str::to_string).into_iter().collect();
        if self.target.is_untouched() {
            steps.push("Nothing was changed at the target".into());
            return error.hint(steps.join(". "));
        }
        if !settled {
            steps.push(format!(
                "MongoDB at {} has not answered the last request, and may still carry it out",
                self.target.address
            ));
        }
        steps.push(format!("The target holds a part of the backup: {}", self.losses()));
        match error.kind() {
            // The backup is damaged, so the same restore would fail again.
            Kind::Mismatch => steps.push("The next restore needs --drop".into()),
            _ => steps.extend(self.advice()),
        }
        error.hint(steps.join(". "))
    }

    /// The state of the namespaces at the target, losses first.
    fn losses(&self) -> String {
        let rows = self.rows.lock().expect("no holder panics");
        let of =
            |state| rows.iter().filter(move |(_, row)| row.state == state).map(|(name, _)| name.as_str());
        let mut parts = Vec::new();
        let dropped: Vec<&str> = of(NamespaceState::Dropped).collect();
        if !dropped.is_empty() {
            parts.push(format!("dropped and not restored: {}", dropped.join(", ")));
        }
        for (state, what) in [
            (NamespaceState::Begun, "not complete"),
            (NamespaceState::Filled, "restored without indexes and oplog"),
            (NamespaceState::Waiting, "not begun"),
        ] {
            let names: Vec<&str> = of(state).collect();
            if !names.is_empty() {
                parts.push(format!("{what}: {}", name_list(&names, NAMED)));
            }
        }
        if *self.users_missing.lock().expect("no holder panics") {
            parts.push("users and roles were not restored".into());
        }
        match parts.is_empty() {
            true => "all namespaces are restored".into(),
            false => parts.join("; "),
        }
    }
}
