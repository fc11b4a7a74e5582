//! Finds the flags that restore the rest: before a restore, everything that the target can take; after it, everything
//! that is still missing. The record of a restore has the state of each namespace. It outlives the restore, so that a failed
//! or cancelled restore can report which namespaces it dropped and did not restore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::continued::Marker;
use super::filter::{Rename, RestoreFilter};
use super::namespaces::{is_users_or_roles, name_list};
use super::options::{RestoreOptions, Users};
use crate::base::error::{Error, Kind};
use crate::base::escape::quoted;
use crate::base::suggest::escaped;
use crate::restore_target::RestoreTarget;

/// How long a restore waits for answers after a failure: the longest wait for any answer.
const AFTER_FAILURE: Duration = Duration::from_secs(600);
/// The most names in a message, for namespaces without a loss.
const NAMED: usize = 20;
/// The most namespaces that a command line names.
const FLAGS: usize = 50;

/// A part of a plan that the target cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The namespace, index, role or other part, by its name at the target.
    pub what: String,
    /// The reason, with the server's message if the server was asked.
    pub why: String,
    pub remedy: Remedy,
    /// True if only the oplog slice needs it, so that without a replay nothing has to be left out.
    pub of_slice: bool,
}

impl Obstacle {
    /// Returns true for an index: the documents can be restored without it.
    pub fn is_index(&self) -> bool {
        matches!(self.remedy, Remedy::LeaveIndex(_))
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// How a restore leaves out a part that the target cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Leave out these namespaces of the backup.
    Exclude(BTreeSet<String>),
    /// Leave out this index, `database.collection.index` with the names of the backup.
    LeaveIndex(String),
    NoUsers,
    NoReplay,
}

/// Changes to a command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// The flags and values to add, one word each.
    pub add: Vec<String>,
    /// The flags to remove.
    pub without: Vec<&'static str>,
}

/// The flags that restore the rest; `None` if nothing is left, or nothing has to be left out. `wanted` are the
/// chosen namespaces and `renames` the renames in the oplog slice (from, to), by their names in the backup.
/// `users` is true if users or roles would be restored.
pub(super) fn flags(
    obstacles: &[Obstacle],
    options: &RestoreOptions,
    wanted: &BTreeSet<String>,
    users: bool,
    renames: &[(String, String)],
) -> Option<Flags> {
    let no_replay = obstacles.iter().any(|one| one.remedy == Remedy::NoReplay);
    let obstacles: Vec<&Obstacle> = obstacles.iter().filter(|one| !(no_replay && one.of_slice)).collect();
    let no_users = obstacles.iter().any(|one| one.remedy == Remedy::NoUsers);
    let mut excluded: BTreeSet<&str> = BTreeSet::new();
    for one in &obstacles {
        if let Remedy::Exclude(names) = &one.remedy {
            excluded.extend(names.iter().map(String::as_str));
        }
    }
    if no_replay {
        // Without a replay, no flag is needed for a namespace that only the slice has, and its pattern would
        // match nothing.
        excluded.retain(|name| wanted.contains(*name));
    }
    // A rename is only replayed if both names are restored.
    let renames = if no_replay { &[] } else { renames };
    let mut before = usize::MAX;
    while excluded.len() != std::mem::replace(&mut before, excluded.len()) {
        for (from, to) in renames {
            if excluded.contains(from.as_str()) || excluded.contains(to.as_str()) {
                excluded.extend([from.as_str(), to.as_str()]);
            }
        }
    }
    if obstacles.is_empty() || wanted.iter().all(|name| excluded.contains(name.as_str())) {
        return None;
    }
    let mut flags = Flags::default();
    let whole = whole_databases(&obstacles, wanted);
    let of_whole = |name: &&&str| whole.iter().any(|db| name.starts_with(&format!("{db}.")));
    whole.iter().for_each(|db| flags.add("--ns-exclude", &format!("{}.*", escaped(db))));
    excluded.iter().filter(|name| !of_whole(name)).for_each(|name| flags.add("--ns-exclude", &escaped(name)));
    for one in &obstacles {
        if let Remedy::LeaveIndex(name) = &one.remedy
            && !excluded.iter().any(|of| name.starts_with(&format!("{of}.")))
        {
            flags.add("--no-index", &escaped(name));
        }
    }
    if no_replay {
        flags.add.push("--no-replay".into());
        flags.without.extend(options.at.map(|_| "--at"));
    }
    let filters = !excluded.is_empty() && options.filter.is_empty();
    match options.users {
        Users::Always if no_users => {
            flags.add.push("--no-users".into());
            flags.without.push("--users");
        }
        Users::Unfiltered if no_users => flags.add.push("--no-users".into()),
        // With a filter, users are only restored with --users.
        Users::Unfiltered if filters && users => flags.add.push("--users".into()),
        _ => {}
    }
    Some(flags)
}

/// The databases whose chosen namespaces, at least two, are all left out for one reason.
fn whole_databases<'a>(obstacles: &[&'a Obstacle], wanted: &BTreeSet<String>) -> BTreeSet<&'a str> {
    let mut whole = BTreeSet::new();
    for one in obstacles {
        let Remedy::Exclude(names) = &one.remedy else { continue };
        let databases: BTreeSet<&str> =
            names.iter().filter_map(|name| Some(name.split_once('.')?.0)).collect();
        for db in databases {
            let start = format!("{db}.");
            let mut of = wanted.iter().filter(|name| name.starts_with(&start)).peekable();
            let several = names.iter().filter(|name| name.starts_with(&start)).count() > 1;
            if several && of.peek().is_some() && of.all(|name| names.contains(name)) {
                whole.insert(db);
            }
        }
    }
    whole
}

impl Flags {
    fn add(&mut self, flag: &str, value: &str) {
        self.add.extend([flag.to_string(), value.to_string()]);
    }

    /// The next step, without its first word and without a full stop.
    pub(super) fn words(&self) -> String {
        let add: Vec<String> = self.add.iter().map(|word| quoted(word)).collect();
        let without = match self.without.is_empty() {
            true => String::new(),
            false => format!(", without its own {},", self.without.join(", ")),
        };
        format!("same command{without} with {} restores the rest", add.join(" "))
    }
}

/// The flags that restore the rest, as a sentence; `None` if nothing is missing. `missing` are the incomplete
/// and `done` the complete namespaces, by their names in the backup. `slice` is true if a namespace is
/// incomplete that only the oplog slice has: no flag selects it.
fn advice(
    options: &RestoreOptions,
    missing: &[String],
    done: &[String],
    users: bool,
    slice: bool,
) -> Option<String> {
    if missing.is_empty() && !users && !slice {
        return None;
    }
    let whole = slice || done.is_empty() && (users || !options.wants_users());
    // There are too many names for a command line, or no flag selects them: everything is restored again.
    if whole || missing.len().min(done.len()) > FLAGS {
        return Some("Then the same command with --drop restores the rest".into());
    }
    let mut flags = Flags::default();
    // With only exclusions, the command keeps its own patterns.
    let excludes = missing.is_empty() || missing.len() > FLAGS;
    if missing.is_empty() && !done.is_empty() {
        flags.add("--ns-exclude", "*");
    } else if excludes {
        done.iter().for_each(|name| flags.add("--ns-exclude", &escaped(name)));
    } else {
        missing.iter().for_each(|name| flags.add("--ns-include", &escaped(name)));
        let RestoreFilter { include, exclude, .. } = &options.filter;
        flags.without.extend((!include.is_empty()).then_some("--ns-include"));
        flags.without.extend((!exclude.is_empty()).then_some("--ns-exclude"));
    }
    // A pattern that matches no namespace would be refused.
    let fits = |rename: &&Rename| missing.iter().any(|name| rename.apply(name).is_some());
    let renames: Vec<&Rename> = options.filter.rename.iter().filter(fits).collect();
    if renames.len() < options.filter.rename.len() {
        flags.without.extend(["--ns-from", "--ns-to"]);
        for rename in renames {
            flags.add("--ns-from", &rename.from_text);
            flags.add("--ns-to", &rename.to_text);
        }
    }
    if !missing.is_empty() {
        flags.add.push("--drop".into());
    }
    match (users, options.users) {
        (true, Users::Always) | (false, Users::Never | Users::Unfiltered) => {}
        (true, _) => flags.add.push("--users".into()),
        (false, Users::Always) => flags.without.push("--users"),
    }
    flags.without.extend(options.exact.then_some("--exact"));
    Some(format!("Then the {}", flags.words()))
}

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
    marker: Option<Arc<Marker>>,
    state: Mutex<ProgressState>,
}

#[derive(Debug)]
struct ProgressState {
    /// The state of each namespace, by its name at the target.
    rows: BTreeMap<String, ProgressRow>,
    /// True if users and roles still have to be merged.
    users_missing: bool,
}

impl RestoreProgress {
    /// `names` are the names at the target of the planned namespaces, each with its name in the backup; `None`
    /// if only the oplog slice has it.
    pub(super) fn new(
        names: impl Iterator<Item = (String, Option<String>)>,
        users_missing: bool,
        target: RestoreTarget,
        options: RestoreOptions,
        marker: Option<Arc<Marker>>,
    ) -> Arc<RestoreProgress> {
        let row = |(name, from)| (name, ProgressRow { from, state: NamespaceState::Waiting });
        let state = Mutex::new(ProgressState { rows: names.map(row).collect(), users_missing });
        Arc::new(RestoreProgress { target, options, marker, state })
    }

    fn lock(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().expect("no holder panics")
    }

    pub(super) fn set(&self, name: &str, state: NamespaceState) {
        if let Some(row) = self.lock().rows.get_mut(name) {
            row.state = state;
        }
    }

    /// Marks a namespace of the target as incomplete, whether it was planned or only the slice has it.
    pub(super) fn lack(&self, name: &str) {
        let mut state = self.lock();
        if name.split_once('.').is_some_and(|(db, collection)| is_users_or_roles(db, collection)) {
            state.users_missing = true;
            return;
        }
        let new = ProgressRow { from: None, state: NamespaceState::Begun };
        state.rows.entry(name.into()).or_insert(new).state = NamespaceState::Begun;
    }

    pub(super) fn get(&self, name: &str) -> Option<NamespaceState> {
        self.lock().rows.get(name).map(|row| row.state)
    }

    pub(super) fn users_merged(&self) {
        self.lock().users_missing = false;
    }

    /// Marks the namespaces whose documents are restored as done.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        let filled = state.rows.values_mut().filter(|row| row.state == NamespaceState::Filled);
        filled.for_each(|row| row.state = NamespaceState::Done);
    }

    /// The flags that restore the rest, as a sentence; `None` if nothing is missing.
    pub(super) fn advice(&self) -> Option<String> {
        let ProgressState { rows, users_missing } = &*self.lock();
        let (done, missing): (Vec<_>, Vec<_>) =
            rows.values().partition(|row| row.state == NamespaceState::Done);
        if self.options.merge {
            let again = "Then the same command inserts the rest";
            return (!missing.is_empty()).then(|| again.to_string());
        }
        let slice = missing.iter().any(|row| row.from.is_none());
        let names =
            |rows: &[&ProgressRow]| rows.iter().filter_map(|row| row.from.clone()).collect::<Vec<_>>();
        advice(&self.options, &names(&missing), &names(&done), *users_missing, slice)
    }

    /// Waits until no request of the restore is under way, and adds the state of the target to the error.
    /// Called after an error or a signal ended the restore; `left` is the time that is left after a signal.
    pub(super) async fn stopped(&self, error: Error, left: Option<Duration>) -> Error {
        let settled = self.target.settle(left.unwrap_or(AFTER_FAILURE)).await;
        let mut steps: Vec<String> = error.next_step().map(str::to_string).into_iter().collect();
        let untouched = self.target.is_untouched();
        let goes_on = match &self.marker {
            Some(marker) => marker.release(settled, untouched).await.map(|command| (marker.id(), command)),
            None => None,
        };
        if untouched {
            steps.push("Nothing was changed at the target".into());
            return error.hint(steps.join(". "));
        }
        if !settled {
            steps.push(format!(
                "MongoDB at {} has not answered the last request, and may still carry it out",
                self.target.address
            ));
        }
        if self.options.sifts() && self.is_waiting() {
            steps.push("No live collection was changed".into());
            return error.hint(steps.join(". "));
        }
        steps.push(format!("The target holds a part of the backup: {}", self.losses()));
        match (error.kind(), goes_on) {
            // The backup is damaged, so the same restore would fail again.
            (Kind::Mismatch, _) if self.options.merge => {}
            (Kind::Mismatch, Some((id, _))) => steps.push(format!(
                "`uzima-backup restore --discard {id}` drops what was restored; without that, the next restore needs --drop"
            )),
            (Kind::Mismatch, None) => steps.push("The next restore needs --drop".into()),
            (_, Some((_, command))) => {
                steps.push(format!("`{command}` goes on"));
                steps.extend(self.advice().map(|advice| advice.replacen("Then", "Or else", 1)));
            }
            (_, None) => steps.extend(self.advice()),
        }
        error.hint(steps.join(". "))
    }

    /// Returns true if nothing was begun.
    fn is_waiting(&self) -> bool {
        self.lock().rows.values().all(|row| row.state == NamespaceState::Waiting)
    }

    /// The state of the namespaces at the target, losses first.
    fn losses(&self) -> String {
        let ProgressState { rows, users_missing } = &*self.lock();
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
        if *users_missing {
            parts.push("users and roles were not restored".into());
        }
        match parts.is_empty() {
            true => "all namespaces are restored".into(),
            false => parts.join("; "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::restore::filter::pairs;

    fn obstacles(remedy: Remedy) -> Obstacle {
        Obstacle { what: String::new(), why: String::new(), remedy, of_slice: false }
    }

    fn exclude(name: &str) -> Obstacle {
        obstacles(Remedy::Exclude([name.to_string()].into()))
    }

    fn words(
        obstacles: &[Obstacle],
        options: &RestoreOptions,
        wanted: &[&str],
        renames: &[(String, String)],
    ) -> Option<String> {
        let wanted = wanted.iter().map(|name| name.to_string()).collect();
        flags(obstacles, options, &wanted, true, renames).map(|flags| format!("The {}", flags.words()))
    }

    #[test]
    fn the_flags_leave_out_the_parts_that_the_target_cannot_take() {
        let options = RestoreOptions::default();
        let wanted = ["a.x", "a.y*", "b.z"];
        for (obstacles, want) in [
            (vec![exclude("a.y*")], r"with --ns-exclude 'a.y\\*' --users restores"),
            (
                vec![exclude("a.x"), exclude("a.y*")],
                r"with --ns-exclude a.x --ns-exclude 'a.y\\*' --users restores",
            ),
            (
                vec![obstacles(Remedy::Exclude(["a.x", "a.y*"].map(String::from).into()))],
                "with --ns-exclude 'a.*' --users restores",
            ),
            (vec![exclude("b.z"), obstacles(Remedy::NoUsers)], "with --ns-exclude b.z --no-users restores"),
            (vec![obstacles(Remedy::NoReplay)], "with --no-replay restores"),
            (vec![obstacles(Remedy::LeaveIndex("a.x.i".into()))], "with --no-index a.x.i restores"),
            (
                vec![obstacles(Remedy::LeaveIndex("a.x.i".into())), exclude("a.x")],
                "with --ns-exclude a.x --users restores",
            ),
        ] {
            let words = words(&obstacles, &options, &wanted, &[]).unwrap();
            assert!(words.contains(&want.replace("\\\\", "\\")), "{words}");
        }
        assert_eq!(words(&[exclude("a.x")], &options, &["a.x"], &[]), None, "there is no rest");
        // Parts that only the slice needs require no flag without a replay.
        let index = Obstacle { of_slice: true, ..obstacles(Remedy::LeaveIndex("b.z.i".into())) };
        let change = Obstacle { of_slice: true, ..exclude("a.x") };
        let without_replay =
            words(&[index, change, obstacles(Remedy::NoReplay)], &options, &["a.x", "b.z"], &[]);
        assert_eq!(without_replay.as_deref(), Some("The same command with --no-replay restores the rest"));
        assert_eq!(words(&[], &options, &wanted, &[]), None);
        let renamed = [("b.z".to_string(), "a.x".to_string())];
        let both = words(&[exclude("a.x")], &options, &wanted, &renamed).unwrap();
        assert!(both.contains("--ns-exclude a.x --ns-exclude b.z"), "{both}");
    }

    #[test]
    fn flags_that_contradict_the_command_are_removed() {
        let options =
            RestoreOptions { users: Users::Always, at: "1:1".parse().ok(), ..RestoreOptions::default() };
        let both = [obstacles(Remedy::NoUsers), obstacles(Remedy::NoReplay)];
        let words = words(&both, &options, &["a.x"], &[]).unwrap();
        assert!(
            words.contains(", without its own --at, --users, with --no-replay --no-users restores"),
            "{words}"
        );
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn advised(options: &RestoreOptions, missing: &[&str], done: &[&str], users: bool) -> String {
        advice(options, &names(missing), &names(done), users, false).unwrap_or_default()
    }

    #[test]
    fn the_flags_name_the_missing_namespaces_and_nothing_else() {
        let plain = RestoreOptions::default();
        assert_eq!(advised(&plain, &[], &["a.b"], false), "");
        assert_eq!(
            advised(&plain, &["a.b*c", "a.it's"], &["a.d"], false),
            "Then the same command with --ns-include 'a.b\\*c' --ns-include 'a.it'\\''s' --drop restores the \
             rest"
        );
        let flags = |options: &RestoreOptions, missing: &[&str], users| {
            let text = advised(options, missing, &["a.d"], users);
            let (_, rest) = text.split_once("the same command").unwrap();
            rest.strip_suffix(" restores the rest").unwrap().to_string()
        };
        assert_eq!(flags(&plain, &["a.b"], true), " with --ns-include a.b --drop --users");
        assert_eq!(flags(&plain, &[], true), " with --ns-exclude '*' --users");
        let renamed = RestoreOptions {
            filter: RestoreFilter {
                include: vec!["a.*".parse().unwrap()],
                rename: pairs(&names(&["a.b", "a.d"]), &names(&["c.b", "c.d"])).unwrap(),
                ..RestoreFilter::default()
            },
            exact: true,
            users: Users::Always,
            ..RestoreOptions::default()
        };
        assert_eq!(
            flags(&renamed, &["a.b"], false),
            ", without its own --ns-include, --ns-from, --ns-to, --users, --exact, with --ns-include a.b \
             --ns-from a.b --ns-to c.b --drop"
        );
        let many: Vec<String> = (0..60).map(|n| format!("a.c{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(flags(&plain, &many, false), " with --ns-exclude a.d --drop");
        assert_eq!(advised(&plain, &many, &many, false), advised(&plain, &["a.b"], &[], true));
        assert!(advised(&plain, &["a.b"], &[], true).contains("command with --drop restores"));
    }
}
