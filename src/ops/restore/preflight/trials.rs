//! Tries the candidates at the target.
//!
//! Collections are tried in a scratch database. Views and time series are tried in their own database: the
//! first view or time series of a database leaves a `system.views` behind, which the role `restore` may not
//! drop (seen on 4.4.2 to 6.0.5). Roles and the format of the oplog's updates are tried without writing
//! anything.

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawDocumentBuf, rawdoc};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::{Candidate, PreflightResult, is_everyday, plain, refuse_database, staying, trial_key};
use crate::base::error::{Error, Result};
use crate::dumpformat::oplog::script::with_first;
use crate::model::namespace::{Namespace, SERVERS_OWN, Type};
use crate::model::server::Fcv;
use crate::ops::restore::namespaces::{NamespaceKey, TargetContents, full_name};
use crate::ops::restore::remedy::{Obstacle, Remedy};
use crate::ops::restore::replay::SliceSurvey;
use crate::ops::restore::views;
use crate::restore_target::trial::{self, TrialAnswer};
use crate::restore_target::users_and_roles::UsersAndRoles;
use crate::restore_target::{RestoreTarget, collections};

/// Options, and the feature compatibility version that introduced each.
const SINCE: [(&str, Fcv); 4] = [
    ("timeseries", Fcv { major: 5, minor: 0 }),
    ("clusteredIndex", Fcv { major: 5, minor: 3 }),
    ("changeStreamPreAndPostImages", Fcv { major: 6, minor: 0 }),
    ("encryptedFields", Fcv { major: 6, minor: 0 }),
];

pub(super) struct TrialRunner<'a> {
    target: &'a RestoreTarget,
    found: &'a TargetContents,
    pub result: PreflightResult,
    token: &'a str,
    prefix: OnceCell<String>,
    /// By database, true if the user may try collections.
    allowed: BTreeMap<String, bool>,
    /// The namespaces that were not tried, by database.
    pub forbidden: BTreeMap<String, Vec<String>>,
}

/// The refusals of a trial: of the namespace, of its changes, and of each index.
#[derive(Default)]
struct TrialResult {
    refused: Vec<String>,
    changes: Vec<String>,
    indexes: Vec<(RawDocumentBuf, String)>,
    forbidden: bool,
}

impl<'a> TrialRunner<'a> {
    pub(super) fn new(
        target: &'a RestoreTarget,
        token: &'a str,
        found: &'a TargetContents,
    ) -> TrialRunner<'a> {
        let (result, prefix, allowed, forbidden) = Default::default();
        TrialRunner { target, found, result, token, prefix, allowed, forbidden }
    }

    async fn name(&self) -> Result<String> {
        let prefix = self.prefix.get_or_try_init(|| self.target.trial_prefix(self.token)).await?;
        Ok(self.target.trial_name(prefix))
    }

    async fn may(&mut self, db: &str) -> Result<bool> {
        self.ask_about([db].into()).await?;
        Ok(self.allowed[db])
    }

    /// Asks for the user's rights in all these databases at once.
    async fn ask_about(&mut self, mut databases: BTreeSet<&str>) -> Result<()> {
        databases.retain(|db| !self.allowed.contains_key(*db));
        if !databases.is_empty() {
            let allowed = self.target.may_try(&databases).await?;
            self.allowed.extend(databases.iter().map(|db| (db.to_string(), allowed.contains(db))));
        }
        Ok(())
    }

    /// The database in which a collection for `db` is tried.
    async fn ground(&mut self, db: &str) -> Result<Option<String>> {
        // The server's own databases refuse options that others accept.
        let elsewhere = (!SERVERS_OWN.contains(&db)).then_some(trial::DATABASE);
        for ground in elsewhere.into_iter().chain([db]) {
            if self.may(ground).await? {
                return Ok(Some(ground.into()));
            }
        }
        Ok(None)
    }

    /// Creates a collection in each database that the target does not have. Removes the candidates in
    /// databases that it refuses.
    pub(super) async fn databases(&mut self, candidates: &mut Vec<Candidate>) -> Result<()> {
        let all = candidates.iter().map(|one| one.to.0.clone());
        let missing: BTreeSet<String> = all.filter(|db| !self.found.has_database(db)).collect();
        self.ask_about(missing.iter().map(String::as_str).collect()).await?;
        let runner = &*self;
        let tries = missing.into_iter().filter(|db| runner.allowed[db]);
        let tried = stream::iter(tries).map(|db| async move {
            let name = runner.name().await?;
            let answer = runner.target.try_create(&plain(), &db, &name).await?;
            runner.target.end_trial(&db, &name).await?;
            Ok::<_, Error>((db, answer))
        });
        let tried: Vec<_> = tried.buffer_unordered(runner.target.pace.namespaces).try_collect().await?;
        for (db, answer) in tried {
            if let TrialAnswer::Refused(why) = answer {
                self.result.obstacles.push(refuse_database(candidates, &db, why));
            }
        }
        Ok(())
    }

    pub(super) async fn namespaces(&mut self, candidates: &[Candidate]) -> Result<()> {
        // Views come last, one by one: each is tried on the trial of the view that it shows.
        let views: Vec<&Candidate> =
            candidates.iter().filter(|one| one.namespace.kind == Type::View).collect();
        let mut groups: BTreeMap<Vec<u8>, Vec<&Candidate>> = BTreeMap::new();
        for one in candidates.iter().filter(|one| one.namespace.kind != Type::View) {
            // A system collection is not created: its first document creates it.
            if !one.to.1.starts_with("system.") && !is_everyday(one) {
                groups.entry(trial_key(one)).or_default().push(one);
            }
        }
        let mut jobs = Vec::new();
        for group in groups.into_values() {
            let first = group[0];
            let ground = match first.namespace.kind {
                Type::Timeseries if self.may(&first.to.0).await? => Some(first.to.0.clone()),
                Type::Timeseries => None,
                _ => self.ground(&first.to.0).await?,
            };
            match ground {
                Some(ground) => jobs.push((ground, group)),
                None => group.iter().for_each(|one| self.forbid(one)),
            }
        }
        let runner = &*self;
        let tried = stream::iter(jobs).map(|(ground, group)| async move {
            let tried = runner.one(group[0], &ground).await?;
            Ok::<_, Error>((group, tried))
        });
        let tried: Vec<_> = tried.buffer_unordered(runner.target.pace.namespaces).try_collect().await?;
        for (group, tried) in tried {
            group.into_iter().for_each(|one| self.report(one, &tried));
        }
        self.views(views, &staying(candidates, self.found)).await?;
        let order: BTreeMap<String, usize> =
            candidates.iter().enumerate().map(|(at, one)| (full_name(&one.to), at)).rev().collect();
        self.result.obstacles.sort_by_key(|one| order.get(&one.what).copied().unwrap_or(usize::MAX));
        Ok(())
    }

    fn forbid(&mut self, one: &Candidate) {
        self.forbidden.entry(one.to.0.clone()).or_default().push(full_name(&one.to));
    }

    /// Adds the refusals of a trial to the result.
    fn report(&mut self, one: &Candidate, tried: &TrialResult) {
        if tried.forbidden {
            self.forbid(one);
        }
        let refused = tried.refused.iter().map(|why| one.exclude(self.because(one, &named(why, &one.to))));
        let changes = tried.changes.iter().map(|why| {
            let why = format!("a change to it in the oplog slice: {}", named(why, &one.to));
            Obstacle { of_slice: true, ..one.exclude(why) }
        });
        let own = collections::indexes(&one.namespace);
        let wanted = |spec: &RawDocumentBuf| one.indexes.contains(spec) || one.bucket_indexes.contains(spec);
        let indexes = tried.indexes.iter().filter(|(spec, _)| wanted(spec)).map(|(spec, why)| {
            let name = spec.get_str("name").unwrap_or("?");
            Obstacle {
                what: format!("the index '{name}' of {}", full_name(&one.to)),
                why: named(why, &one.to),
                remedy: Remedy::LeaveIndex(format!("{}.{name}", one.from)),
                of_slice: one.of_slice || !own.contains(spec),
            }
        });
        let obstacles: Vec<Obstacle> = refused.chain(changes).chain(indexes).collect();
        self.result.obstacles.extend(obstacles);
    }

    /// The server's message. If the namespace has an option that is newer than the target, the option and the
    /// version that introduced it come first.
    fn because(&self, one: &Candidate, words: &str) -> String {
        let has = |option: &str| matches!(one.namespace.options.get(option), Ok(Some(_)));
        let since = SINCE.iter().find(|(option, since)| has(option) && self.target.accepts() < *since);
        match since {
            Some((option, since)) => format!(
                "'{option}' needs MongoDB {since} or later, and the target is {}: {words}",
                self.target.version_text()
            ),
            None => words.into(),
        }
    }

    /// Creates a collection or time series with its indexes, and applies its changes.
    async fn one(&self, one: &Candidate, ground: &str) -> Result<TrialResult> {
        let name = self.name().await?;
        let mut tried = TrialResult::default();
        let words = |words: String| clean(&words, (ground, &name));
        match self.target.try_create(&one.namespace, ground, &name).await? {
            TrialAnswer::Accepted => {
                for change in &one.changes {
                    let command = with_first(change, &name, &[]);
                    if let TrialAnswer::Refused(why) = self.target.try_change(&command, ground).await? {
                        tried.changes.push(words(why));
                    }
                }
                for (specs, on) in
                    [(&one.indexes, name.clone()), (&one.bucket_indexes, format!("system.buckets.{name}"))]
                {
                    for (spec, why) in self.indexes(specs, ground, &on).await? {
                        tried.indexes.push((spec, words(why)));
                    }
                }
            }
            TrialAnswer::Refused(why) => tried.refused.push(words(why)),
            TrialAnswer::Forbidden => tried.forbidden = true,
        }
        self.target.end_trial(ground, &name).await?;
        Ok(tried)
    }

    /// The indexes that the target refuses, with its message.
    async fn indexes(
        &self,
        specs: &[RawDocumentBuf],
        ground: &str,
        on: &str,
    ) -> Result<Vec<(RawDocumentBuf, String)>> {
        let mut refused = Vec::new();
        if specs.is_empty() || self.target.try_indexes(specs, ground, on).await? == TrialAnswer::Accepted {
            return Ok(refused);
        }
        for spec in specs {
            let answer = self.target.try_indexes(std::slice::from_ref(spec), ground, on).await?;
            if let TrialAnswer::Refused(why) = answer {
                refused.push((spec.clone(), why));
            }
        }
        Ok(refused)
    }

    /// Tries the views, each on the trials of the views that it shows. Also tries the target's views that
    /// show one of them, because the server applies its limits for cycles, depth and collations to those,
    /// too.
    async fn views(&mut self, views: Vec<&Candidate>, staying: &[Candidate]) -> Result<()> {
        let (mut left, mut names) = (Vec::new(), BTreeMap::new());
        // The restored views that a refused trial is about.
        let mut causes: BTreeMap<NamespaceKey, Vec<&Candidate>> = BTreeMap::new();
        self.ask_about(views.iter().map(|one| one.to.0.as_str()).collect()).await?;
        for one in views {
            if self.may(&one.to.0).await? {
                // If the slice recreates a view, its last definition counts.
                let name = self.name().await?;
                names.insert(one.to.clone(), name.clone());
                causes.insert(one.to.clone(), vec![one]);
                left.push((one, name, views::shown(&one.namespace.options)));
            } else {
                self.forbid(one);
            }
        }
        let mut before = 0;
        while left.len() > std::mem::replace(&mut before, left.len()) {
            for one in staying.iter().filter(|one| !names.contains_key(&one.to)).collect::<Vec<_>>() {
                let shown = views::shown(&one.namespace.options);
                let of = shown.iter().filter_map(|shown| causes.get(&(one.to.0.clone(), shown.clone())));
                let of: Vec<&Candidate> = of.flatten().copied().collect();
                if !of.is_empty() {
                    let name = self.name().await?;
                    names.insert(one.to.clone(), name.clone());
                    causes.insert(one.to.clone(), of);
                    left.push((one, name, shown));
                }
            }
        }
        let mut made = Vec::new();
        while !left.is_empty() {
            // A view comes after the views that it shows. A cycle, which every server refuses, has no order.
            let waiting: BTreeSet<NamespaceKey> = left.iter().map(|(one, _, _)| one.to.clone()).collect();
            let waits = |(one, _, shown): &(&Candidate, String, BTreeSet<String>)| {
                let key = |name: &String| (one.to.0.clone(), name.clone());
                shown.iter().map(key).any(|key| key != one.to && waiting.contains(&key))
            };
            let (mut next, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|view| !waits(view));
            left = rest;
            let mut at_once = self.target.pace.namespaces;
            if next.is_empty() {
                next = std::mem::take(&mut left);
                at_once = 1;
            }
            let (target, names) = (self.target, &names);
            let tries = stream::iter(next).map(|(one, name, _)| async move {
                let db = &one.to.0;
                let other = |shown: &str| names.get(&(db.clone(), shown.to_string())).cloned();
                let options = views::showing(&one.namespace.options, &other);
                let namespace = Namespace { options, ..one.namespace.clone() };
                let answer = target.try_create(&namespace, db, &name).await?;
                Ok::<_, Error>((one, name, answer))
            });
            let answers: Vec<_> = tries.buffered(at_once).try_collect().await?;
            for (one, name, answer) in answers {
                let db = &one.to.0;
                made.push((db.clone(), name.clone()));
                let tried = match answer {
                    TrialAnswer::Accepted => continue,
                    TrialAnswer::Refused(why) => {
                        let others = names.iter().filter(|(_, trial)| **trial != name);
                        let mut why = others.fold(clean(&why, (db, &name)), |why, (to, trial)| {
                            why.replace(trial.as_str(), &to.1)
                        });
                        if staying.iter().any(|other| std::ptr::eq(other, one)) {
                            let (view, words) = (full_name(&one.to), named(&why, &one.to));
                            why = format!("the view {view} of the target shows it: {words}");
                        }
                        TrialResult { refused: vec![why], ..TrialResult::default() }
                    }
                    TrialAnswer::Forbidden => TrialResult { forbidden: true, ..TrialResult::default() },
                };
                for cause in causes.get(&one.to).into_iter().flatten() {
                    self.report(cause, &tried);
                }
            }
        }
        let ends = stream::iter(&made).map(|(db, name)| self.target.end_trial(db, name));
        ends.buffer_unordered(self.target.pace.namespaces).try_collect().await
    }

    /// Applies an update of each format in the slice.
    pub(super) async fn updates(&mut self, survey: &SliceSurvey, candidates: &[Candidate]) -> Result<()> {
        let Some(db) = candidates.first().map(|one| one.to.0.clone()) else { return Ok(()) };
        let formats: Vec<_> =
            survey.formats.iter().filter(|(version, _)| !self.target.knows_update(**version)).collect();
        if formats.is_empty() {
            return Ok(());
        }
        let Some(ground) = self.ground(&db).await? else { return Ok(()) };
        let name = self.name().await?;
        if self.target.try_create(&plain(), &ground, &name).await? == TrialAnswer::Accepted {
            for (version, of) in formats {
                if let TrialAnswer::Refused(why) = self.target.try_update(*version, &ground, &name).await? {
                    self.result.obstacles.push(Obstacle {
                        what: format!(
                            "the oplog slice, which has updates of the format $v: {version} (for example in {of})"
                        ),
                        why: format!("{why}; the target is {}", self.target.version_text()),
                        remedy: Remedy::NoReplay,
                        of_slice: false,
                    });
                }
            }
        }
        self.target.end_trial(&ground, &name).await
    }

    pub(super) async fn users_and_roles(
        &mut self,
        users_and_roles: &[UsersAndRoles],
        survey: Option<&SliceSurvey>,
    ) -> Result<()> {
        let own = users_and_roles.iter().flat_map(|both| &both.roles).map(|role| (role, false));
        let of_slice = survey.iter().flat_map(|survey| &survey.roles).map(|role| (role, true));
        let mut known = BTreeMap::new();
        for (role, of_slice) in own.chain(of_slice) {
            let (Ok(name), Ok(db)) = (role.get_str("role"), role.get_str("db")) else { continue };
            let privileges = role.get_array("privileges").map(|list| list.as_bytes().to_vec());
            let key = (db.to_string(), privileges.unwrap_or_default());
            let answer = match known.get(&key) {
                Some(answer) => answer,
                None => {
                    let nobody = self.name().await?;
                    known.entry(key).or_insert(self.target.try_role(role, db, &nobody).await?)
                }
            };
            match answer {
                TrialAnswer::Accepted => {}
                TrialAnswer::Refused(why) => self.result.obstacles.push(Obstacle {
                    what: format!("the role {db}.{name}"),
                    why: why.clone(),
                    remedy: Remedy::NoUsers,
                    of_slice,
                }),
                TrialAnswer::Forbidden => self.result.unproved.push(format!(
                    "the role {db}.{name}: whether the target knows its privileges, because the user may not change roles"
                )),
            }
        }
        self.result.warnings = self.missing_roles(users_and_roles).await;
        Ok(())
    }

    /// Warnings about roles that are granted but exist neither in the backup nor at the target: they are
    /// restored without them.
    async fn missing_roles(&self, users_and_roles: &[UsersAndRoles]) -> Vec<String> {
        let own: BTreeSet<(&str, &str)> = users_and_roles
            .iter()
            .flat_map(|both| &both.roles)
            .filter_map(|role| Some((role.get_str("db").ok()?, role.get_str("role").ok()?)))
            .collect();
        let mut wanted: BTreeMap<(String, String), String> = BTreeMap::new();
        for who in users_and_roles.iter().flat_map(|both| both.users.iter().chain(&both.roles)) {
            let id = who.get_str("_id").unwrap_or("?");
            for role in who.get_array("roles").into_iter().flatten().flatten() {
                let Some(role) = role.as_document() else { continue };
                let (Ok(db), Ok(name)) = (role.get_str("db"), role.get_str("role")) else { continue };
                if !own.contains(&(db, name)) {
                    wanted.entry((db.into(), name.into())).or_insert_with(|| id.into());
                }
            }
        }
        let asked: Vec<RawDocumentBuf> =
            wanted.keys().map(|(db, role)| rawdoc! {"db": db.as_str(), "role": role.as_str()}).collect();
        // If the user may not list roles, there are no warnings.
        let Ok(there) = self.target.roles_there(&asked).await else { return Vec::new() };
        let missing = wanted.iter().filter(|((db, role), _)| !there.contains(&format!("{db}.{role}")));
        let warning = |((db, role), who): (&(String, String), &String)| {
            format!("{who} has the role {db}.{role}, which neither the backup nor the target has")
        };
        missing.map(warning).collect()
    }
}

/// Placeholders for a trial's name in the server's messages, with and without its database. Several
/// namespaces may share a trial, so the name of each is inserted later.
const WHOLE: char = '\u{1}';
const ALONE: char = '\u{2}';

/// The server's message about a trial, with the name of a namespace.
fn named(words: &str, to: &NamespaceKey) -> String {
    words.replace(WHOLE, &full_name(to)).replace(ALONE, &to.1)
}

/// The server's message about a trial on one line, with placeholders for the trial's name.
fn clean(words: &str, (db, name): (&str, &str)) -> String {
    let words = words.replace(&format!("{db}.{name}"), &WHOLE.to_string()).replace(name, &ALONE.to_string());
    // "Error in specification { the whole index } :: caused by :: the cause"
    let cause = match words.split_once(" :: caused by :: ") {
        Some((before, cause)) if before.contains('{') => cause.to_string(),
        _ => words,
    };
    cause.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_message_names_the_namespace() {
        let to = ("shop".to_string(), "orders".to_string());
        let trial = ("uzima_backup_trial", "uzima_backup_trial_1_a_0");
        for (words, want) in [
            (
                "not supported for namespace uzima_backup_trial.uzima_backup_trial_1_a_0",
                "not supported for namespace shop.orders",
            ),
            ("Error in specification { key: {} } :: caused by :: no\n such  index", "no such index"),
            ("Invalid pipeline :: caused by :: x", "Invalid pipeline :: caused by :: x"),
        ] {
            assert_eq!(named(&clean(words, trial), &to), want);
        }
    }
}
