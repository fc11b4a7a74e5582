//! Keeps how far a restore is with each namespace. The record outlives the work, so that a restore that fails or is
//! cancelled can still say which namespaces it dropped and did not restore.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Options;
use super::offer::is_people;
use super::plan::Plan;
use super::remainder::{self, Remainder};
use crate::base::error::{Error, Kind};
use crate::base::units;
use crate::restore_target::Target;

/// How long a restore waits for answers after a failure: as long as any answer may take.
const AFTER_FAILURE: Duration = Duration::from_secs(600);
/// The most namespaces without a loss that a message names.
const NAMED: usize = 20;

/// How far the restore of a namespace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Nothing was done to it.
    Waiting,
    /// It is being created, and replaces nothing.
    Begun,
    /// The namespace that had its name at the target is dropped, or about to be dropped.
    Dropped,
    /// Its documents are there and counted.
    Filled,
    /// All of it is there, with its indexes.
    Done,
}

#[derive(Debug)]
struct Row {
    /// The name in the backup; `None` if only the oplog slice has it.
    from: Option<String>,
    state: State,
}

/// How far a restore is.
#[derive(Debug)]
pub struct Standing {
    target: Target,
    options: Options,
    rows: Mutex<BTreeMap<String, Row>>,
    /// Users and roles are to be merged, and were not yet.
    people: Mutex<bool>,
}

impl Standing {
    /// The standing of a restore that has not begun.
    pub(super) fn new(plan: &Plan, target: Target, options: Options) -> Arc<Standing> {
        let row = |from| Row { from, state: State::Waiting };
        let planned = plan.namespaces.iter().map(|one| (one.chosen.name(), row(Some(one.offer.name()))));
        let slice = plan.in_the_way.iter().map(|(db, name)| (format!("{db}.{name}"), row(None)));
        let rows = planned.chain(slice).collect();
        let people = Mutex::new(!plan.people.is_empty());
        Arc::new(Standing { target, options, rows: Mutex::new(rows), people })
    }

    /// Notes how far a namespace of the target is.
    pub(super) fn set(&self, name: &str, state: State) {
        if let Some(row) = self.rows.lock().expect("no holder panics").get_mut(name) {
            row.state = state;
        }
    }

    /// Notes that a namespace of the target is not complete, whether it was planned or only the slice has it.
    pub(super) fn lack(&self, name: &str) {
        if name.split_once('.').is_some_and(|(db, collection)| is_people(db, collection)) {
            *self.people.lock().expect("no holder panics") = true;
            return;
        }
        let mut rows = self.rows.lock().expect("no holder panics");
        rows.entry(name.into()).or_insert(Row { from: None, state: State::Begun }).state = State::Begun;
    }

    /// How far a namespace of the target is.
    pub(super) fn get(&self, name: &str) -> Option<State> {
        self.rows.lock().expect("no holder panics").get(name).map(|row| row.state)
    }

    /// Notes that users and roles are merged.
    pub(super) fn people_merged(&self) {
        *self.people.lock().expect("no holder panics") = false;
    }

    /// Marks the namespaces whose documents are there as done.
    pub(super) fn end(&self) {
        let mut rows = self.rows.lock().expect("no holder panics");
        rows.values_mut().filter(|row| row.state == State::Filled).for_each(|row| row.state = State::Done);
    }

    /// Returns the part of the plan that another restore must repeat.
    pub(super) fn remainder(&self) -> Remainder {
        let rows = self.rows.lock().expect("no holder panics");
        let (done, missing): (Vec<_>, Vec<_>) = rows.values().partition(|row| row.state == State::Done);
        let names = |rows: &[&Row]| rows.iter().filter_map(|row| row.from.clone()).collect();
        let slice = missing.iter().any(|row| row.from.is_none());
        let users = *self.people.lock().expect("no holder panics");
        Remainder { missing: names(&missing), done: names(&done), users, slice }
    }

    /// The flags that restore what is missing, in a sentence; `None` if nothing is.
    pub(super) fn advice(&self) -> Option<String> {
        remainder::advice(&self.options, &self.remainder())
    }

    /// Waits until no request of the restore is under way, and adds the state of the target to the error. Called when an
    /// error or a signal ended the restore; `left` is the time that is left after a signal.
    pub async fn stopped(&self, error: Error, left: Option<Duration>) -> Error {
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

    /// The state of the namespaces at the target, worst first.
    fn losses(&self) -> String {
        let rows = self.rows.lock().expect("no holder panics");
        let of =
            |state| rows.iter().filter(move |(_, row)| row.state == state).map(|(name, _)| name.as_str());
        let mut parts = Vec::new();
        let dropped: Vec<&str> = of(State::Dropped).collect();
        if !dropped.is_empty() {
            parts.push(format!("dropped and not restored: {}", dropped.join(", ")));
        }
        for (state, what) in [
            (State::Begun, "not complete"),
            (State::Filled, "restored without indexes and oplog"),
            (State::Waiting, "not begun"),
        ] {
            let names: Vec<&str> = of(state).collect();
            if !names.is_empty() {
                parts.push(format!("{what}: {}", few(&names)));
            }
        }
        if *self.people.lock().expect("no holder panics") {
            parts.push("users and roles were not restored".into());
        }
        match parts.is_empty() {
            true => "all namespaces are restored".into(),
            false => parts.join("; "),
        }
    }
}

/// `a, b and 3 others`.
pub fn few(names: &[&str]) -> String {
    let first = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        Some(more) => format!("{first} and {} more", units::count(more as u64)),
        None => first,
    }
}
