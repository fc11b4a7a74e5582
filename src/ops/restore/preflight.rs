//! Finds out, before anything is dropped, which parts of a plan the target cannot take. The target itself is asked.
//!
//! Each distinct combination of options and indexes that not every server takes is created as an empty collection under a
//! random name, and dropped again. Collections are tried in a scratch database. Views and time series are tried in their
//! own database: the first view or time series of a database leaves a `system.views` behind that the role `restore` may not
//! drop (seen on 4.4.2 to 6.0.5). With `--drop`, databases that the target does not have are tried as well: a server goes on
//! refusing a name that differs by case from the name of a database that was dropped collection by collection (code 13297,
//! seen on 4.4.2 to 6.0.27). Roles and the form of the oplog's updates are tried without writing anything.

use std::collections::{BTreeMap, BTreeSet};

use bson::{RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use super::plan::{Found, Planned};
use super::remedy::Remedy;
use super::replay::{Survey, shapes};
use super::{Options, views};
use crate::base::error::Result;
use crate::dumpformat::metadata;
use crate::model::namespace::{Namespace, Type};
use crate::model::server::Fcv;
use crate::restore_target::trial;
use crate::restore_target::trial::{Answer, Naming};
use crate::restore_target::users::People;
use crate::restore_target::{Target, shape};

/// The number of trials under way at once.
const AT_ONCE: usize = 4;
/// The most names in a line about trials that the user may not make.
const NAMED: usize = 3;
/// The longest name of a database and of a namespace, in bytes.
const LONGEST_DATABASE: usize = 63;
const LONGEST: usize = 255;
/// The databases of the server itself.
const OWN: [&str; 3] = ["admin", "config", "local"];
/// How many indexes a collection may have, and how many fields the key of one.
const MOST_INDEXES: usize = 64;
const MOST_FIELDS: usize = 32;
/// The characters that a database name cannot have.
const NOT_IN_DATABASE: &str = "/\\. \"$\0";
/// Options, and the feature compatibility version that introduced each.
const SINCE: [(&str, Fcv); 4] = [
    ("timeseries", Fcv { major: 5, minor: 0 }),
    ("clusteredIndex", Fcv { major: 5, minor: 3 }),
    ("changeStreamPreAndPostImages", Fcv { major: 6, minor: 0 }),
    ("encryptedFields", Fcv { major: 6, minor: 0 }),
];

/// The result of [`check`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preflight {
    /// What the target cannot take.
    pub unable: Vec<Unable>,
    /// Lines about each thing that the user has no right to try.
    pub unproved: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// Something that the target cannot take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unable {
    /// The namespace, index, role or other thing, by its name at the target.
    pub what: String,
    /// Why, in the server's words if the server was asked.
    pub why: String,
    /// How the rest is restored without it.
    pub remedy: Remedy,
    /// Only the oplog slice asks for it: without a replay there is nothing to leave out.
    pub of_slice: bool,
}

impl Unable {
    /// Returns true if it is an index: the documents can be restored without it.
    pub fn is_index(&self) -> bool {
        matches!(self.remedy, Remedy::LeaveIndex(_))
    }
}

impl std::fmt::Display for Unable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// A namespace to be tried: of the backup, or made by its oplog slice.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its name in the backup.
    pub from: String,
    /// Database and name at the target.
    pub to: (String, String),
    /// Its kind, options, and the index on `_id`.
    pub namespace: Namespace,
    /// The indexes to be built on it.
    pub indexes: Vec<RawDocumentBuf>,
    /// The indexes to be built on the bucket collection, as the slice names those of a time series.
    pub bucket_indexes: Vec<RawDocumentBuf>,
    /// Changes by `collMod`.
    pub changes: Vec<RawDocumentBuf>,
    /// The slice makes it.
    pub of_slice: bool,
}

impl Candidate {
    fn name(&self) -> String {
        format!("{}.{}", self.to.0, self.to.1)
    }

    fn exclude(&self, why: String) -> Unable {
        let remedy = Remedy::Exclude([self.from.clone()].into());
        Unable { what: self.name(), why, remedy, of_slice: self.of_slice }
    }
}

/// The inputs of [`check`].
pub struct Subject<'a> {
    pub target: &'a Target,
    pub options: &'a Options,
    pub found: &'a Found,
    pub planned: &'a [Planned],
    pub survey: Option<&'a Survey>,
    pub people: &'a [People],
}

/// Finds out what the target cannot take.
///
/// # Errors
/// Returns an error if the target cannot be asked. A refusal by the target is a part of the result.
pub async fn check(subject: &Subject<'_>) -> Result<Preflight> {
    let target = subject.target;
    sweep(target, subject.found).await?;
    let mut out = Preflight::default();
    let mut candidates = candidates(subject);
    misnamed(&mut candidates, &mut out);
    alike(&mut candidates, subject.found, &mut out);
    let mut lab = Lab {
        target,
        token: &subject.options.token,
        names: OnceCell::new(),
        allowed: BTreeMap::new(),
        forbidden: BTreeMap::new(),
    };
    // If nothing is dropped, a database whose name the target refuses is no loss: it fails later, by itself.
    if subject.options.drop && subject.planned.iter().any(|planned| planned.existing.is_some()) {
        lab.databases(&mut candidates, subject.found, &mut out).await?;
    }
    lab.namespaces(&candidates, subject.found, &mut out).await?;
    if let Some(survey) = subject.survey {
        lab.updates(survey, &candidates, &mut out).await?;
    }
    lab.people(subject, &mut out).await?;
    for (db, names) in &lab.forbidden {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        out.unproved.push(format!(
            "{}: the user may not create and drop empty collections in {db}, or in {}, to find out whether the target \
             accepts their options and indexes",
            few(&names),
            trial::DATABASE
        ));
    }
    let mut seen = BTreeSet::new();
    out.unable.retain(|one| seen.insert((one.what.clone(), one.why.clone())));
    Ok(out)
}

/// Removes the trials of runs that were killed.
async fn sweep(target: &Target, found: &Found) -> Result<()> {
    // A user who may not list the collections may not drop them either.
    if found.has_database(trial::DATABASE)
        && let Ok(rows) = target.collections(trial::DATABASE).await
    {
        let names: Vec<&str> = rows.iter().filter_map(|row| row.get_str("name").ok()).collect();
        target.sweep_trials(trial::DATABASE, names.into_iter()).await?;
    }
    for db in found.databases() {
        target.sweep_trials(db, found.names_of(db)).await?;
    }
    Ok(())
}

fn candidates(subject: &Subject) -> Vec<Candidate> {
    let replays = subject.survey.is_some();
    let candidate = |planned: &Planned| Candidate {
        from: planned.offer.name(),
        to: planned.chosen.key(),
        namespace: planned.namespace.clone(),
        // With a replay, the indexes after the replay count.
        indexes: if replays { Vec::new() } else { shape::indexes(&planned.namespace) },
        bucket_indexes: Vec::new(),
        changes: Vec::new(),
        of_slice: false,
    };
    let mut all: Vec<Candidate> = subject.planned.iter().map(candidate).collect();
    if let Some(survey) = subject.survey {
        shapes::follow(subject.planned, survey, &mut all);
    }
    if subject.options.no_indexes {
        all.iter_mut().for_each(|one| {
            one.indexes.clear();
            one.bucket_indexes.clear();
        });
    }
    all
}

/// Removes the candidates with a name that no namespace may have.
fn misnamed(candidates: &mut Vec<Candidate>, out: &mut Preflight) {
    candidates.retain(|one| {
        let wrong = wrong_name(&one.to.0, &one.to.1, one.namespace.kind);
        out.unable.extend(wrong.clone().map(|why| one.exclude(why)));
        wrong.is_none()
    });
}

/// Why a namespace cannot have this name; `None` if it can. Source: MongoDB `src/mongo/db/namespace_string.h`.
pub fn wrong_name(db: &str, collection: &str, kind: Type) -> Option<String> {
    if let Some(sign) = db.chars().find(|sign| NOT_IN_DATABASE.contains(*sign)) {
        return Some(format!("the name of a database cannot contain {sign:?}"));
    }
    if db.len() > LONGEST_DATABASE {
        return Some(format!(
            "the name of a database has at most {LONGEST_DATABASE} bytes, this one has {}",
            db.len()
        ));
    }
    if collection.starts_with('.') || collection.contains(['$', '\0']) {
        return Some("the name of a collection cannot begin with '.' or contain '$' or a zero byte".into());
    }
    let everyday = !OWN.contains(&db);
    if everyday && collection.starts_with("system.") && !["system.js", "system.users"].contains(&collection) {
        return Some("a server takes no writes to a system collection of this name".into());
    }
    // The bucket collection of a time series has the longest name.
    let buckets = if kind == Type::Timeseries { "system.buckets.".len() } else { 0 };
    let length = db.len() + 1 + buckets + collection.len();
    (length > LONGEST).then(|| match buckets {
        0 => format!("the name of a namespace has at most {LONGEST} bytes, this one has {length}"),
        _ => format!(
            "the name of a namespace has at most {LONGEST} bytes, that of the time series' buckets has {length}"
        ),
    })
}

/// Removes the candidates in databases whose names differ only by case from another database: a server keeps no two such
/// databases (code 13297).
fn alike(candidates: &mut Vec<Candidate>, found: &Found, out: &mut Preflight) {
    let wanted: BTreeSet<String> = candidates.iter().map(|one| one.to.0.clone()).collect();
    let is_there = |db: &str| found.has_database(db);
    let mut refused = BTreeMap::new();
    for db in &wanted {
        if let Some(other) = found.alike(db) {
            refused.insert(db.clone(), format!("the target has a database '{other}'"));
        }
    }
    for db in wanted.iter().filter(|db| !refused.contains_key(*db)).cloned().collect::<Vec<_>>() {
        let first = wanted.iter().filter(|other| other.eq_ignore_ascii_case(&db));
        let first =
            first.min_by_key(|other| (!is_there(other), refused.contains_key(*other), (*other).clone()));
        if let Some(first) = first.filter(|first| **first != db) {
            refused.insert(db, format!("the restore would create a database '{first}' as well"));
        }
    }
    for (db, why) in refused {
        let why = format!("{why}, and MongoDB keeps no two databases whose names differ only by case");
        refuse_database(candidates, &db, why, out);
    }
}

fn refuse_database(candidates: &mut Vec<Candidate>, db: &str, why: String, out: &mut Preflight) {
    let (of, others): (Vec<_>, Vec<_>) =
        std::mem::take(candidates).into_iter().partition(|one| one.to.0 == db);
    *candidates = others;
    let names: BTreeSet<String> = of.into_iter().map(|one| one.from).collect();
    let what = format!("the database '{db}'");
    out.unable.push(Unable { what, why, remedy: Remedy::Exclude(names), of_slice: false });
}

/// The trials of a run.
struct Lab<'a> {
    target: &'a Target,
    token: &'a str,
    names: OnceCell<Naming>,
    /// In which databases the user may try.
    allowed: BTreeMap<String, bool>,
    /// The namespaces that were not tried, by database.
    forbidden: BTreeMap<String, Vec<String>>,
}

/// The result of a trial: the answer for the namespace, for its indexes by place, and for its changes.
#[derive(Default)]
struct Tried {
    refused: Vec<String>,
    changes: Vec<String>,
    indexes: Vec<(RawDocumentBuf, String)>,
    forbidden: bool,
}

impl Lab<'_> {
    /// A name for a trial.
    async fn name(&self) -> Result<String> {
        let names = self.names.get_or_try_init(|| self.target.trial_names(self.token)).await?;
        Ok(self.target.trial_name(names))
    }

    async fn may(&mut self, db: &str) -> Result<bool> {
        if let Some(known) = self.allowed.get(db) {
            return Ok(*known);
        }
        let may = self.target.may_try(db).await?;
        self.allowed.insert(db.into(), may);
        Ok(may)
    }

    /// Where a collection meant for `db` is tried.
    async fn ground(&mut self, db: &str) -> Result<Option<String>> {
        // The server's own databases refuse options that others take.
        let elsewhere = (!OWN.contains(&db)).then_some(trial::DATABASE);
        for ground in elsewhere.into_iter().chain([db]) {
            if self.may(ground).await? {
                return Ok(Some(ground.into()));
            }
        }
        Ok(None)
    }

    /// Creates a collection in each database that the target does not have. Removes the candidates in databases that it
    /// refuses.
    async fn databases(
        &mut self,
        candidates: &mut Vec<Candidate>,
        found: &Found,
        out: &mut Preflight,
    ) -> Result<()> {
        let missing: BTreeSet<String> =
            candidates.iter().map(|one| one.to.0.clone()).filter(|db| !found.has_database(db)).collect();
        let mut tries = Vec::new();
        for db in missing {
            if self.may(&db).await? {
                tries.push(db);
            }
        }
        let lab = &*self;
        let tried = stream::iter(tries).map(|db| async move {
            let name = lab.name().await?;
            let answer = lab.target.try_create(&plain(), &db, &name).await?;
            lab.target.end_trial(&db, &name).await?;
            Ok::<_, crate::base::error::Error>((db, answer))
        });
        let tried: Vec<_> = tried.buffer_unordered(AT_ONCE).try_collect().await?;
        for (db, answer) in tried {
            if let Answer::Refused(why) = answer {
                refuse_database(candidates, &db, why, out);
            }
        }
        Ok(())
    }

    async fn namespaces(
        &mut self,
        candidates: &[Candidate],
        found: &Found,
        out: &mut Preflight,
    ) -> Result<()> {
        // Views go last, one after the other: each is tried on the trial of the view that it shows.
        let views: Vec<&Candidate> =
            candidates.iter().filter(|one| one.namespace.kind == Type::View).collect();
        let mut groups: BTreeMap<Vec<u8>, Vec<&Candidate>> = BTreeMap::new();
        for one in candidates.iter().filter(|one| one.namespace.kind != Type::View) {
            // A system collection is not created: it comes into being with its first document.
            if !one.to.1.starts_with("system.") && !is_everyday(one) {
                groups.entry(key(one)).or_default().push(one);
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
        let lab = &*self;
        let tried = stream::iter(jobs).map(|(ground, group)| async move {
            let tried = lab.one(group[0], &ground).await?;
            Ok::<_, crate::base::error::Error>((group, tried))
        });
        let tried: Vec<_> = tried.buffer_unordered(AT_ONCE).try_collect().await?;
        for (group, tried) in tried {
            for one in group {
                self.tell(one, &tried, out);
            }
        }
        self.views(views, &staying(candidates, found), out).await?;
        let order: BTreeMap<String, usize> =
            candidates.iter().enumerate().map(|(at, one)| (one.name(), at)).rev().collect();
        out.unable.sort_by_key(|one| order.get(&one.what).copied().unwrap_or(usize::MAX));
        Ok(())
    }

    fn forbid(&mut self, one: &Candidate) {
        self.forbidden.entry(one.to.0.clone()).or_default().push(one.name());
    }

    fn tell(&mut self, one: &Candidate, tried: &Tried, out: &mut Preflight) {
        if tried.forbidden {
            self.forbid(one);
        }
        for why in &tried.refused {
            out.unable.push(one.exclude(self.because(one, &named(why, &one.to))));
        }
        for why in &tried.changes {
            let why = format!("a change of it in the oplog slice: {}", named(why, &one.to));
            out.unable.push(Unable { of_slice: true, ..one.exclude(why) });
        }
        for (spec, why) in &tried.indexes {
            if one.indexes.contains(spec) || one.bucket_indexes.contains(spec) {
                let name = spec.get_str("name").unwrap_or("?");
                out.unable.push(Unable {
                    what: format!("the index '{name}' of {}", one.name()),
                    why: named(why, &one.to),
                    remedy: Remedy::LeaveIndex(format!("{}.{name}", one.from)),
                    of_slice: one.of_slice || !shape::indexes(&one.namespace).contains(spec),
                });
            }
        }
    }

    /// The server's words. If the namespace has an option that is newer than the target, the message begins with the
    /// option and the version that introduced it.
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

    /// Creates a collection or a time series, its indexes, and changes it.
    async fn one(&self, one: &Candidate, ground: &str) -> Result<Tried> {
        let name = self.name().await?;
        let mut tried = Tried::default();
        let words = |words: String| clean(&words, (ground, &name));
        match self.target.try_create(&one.namespace, ground, &name).await? {
            Answer::Accepted => {
                for change in &one.changes {
                    let command = first(change, &name);
                    if let Answer::Refused(why) = self.target.try_change(&command, ground).await? {
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
            Answer::Refused(why) => tried.refused.push(words(why)),
            Answer::Forbidden => tried.forbidden = true,
        }
        self.target.end_trial(ground, &name).await?;
        Ok(tried)
    }

    /// The indexes that the target refuses.
    async fn indexes(
        &self,
        specs: &[RawDocumentBuf],
        ground: &str,
        on: &str,
    ) -> Result<Vec<(RawDocumentBuf, String)>> {
        let mut refused = Vec::new();
        if specs.is_empty() || self.target.try_indexes(specs, ground, on).await? == Answer::Accepted {
            return Ok(refused);
        }
        for spec in specs {
            let answer = self.target.try_indexes(std::slice::from_ref(spec), ground, on).await?;
            if let Answer::Refused(why) = answer {
                refused.push((spec.clone(), why));
            }
        }
        Ok(refused)
    }

    /// Tries the views, each on the trials of those that it shows, and with them the views of the target that show one of them: the
    /// server holds cycles, depth and collations against those, too.
    async fn views(
        &mut self,
        views: Vec<&Candidate>,
        staying: &[Candidate],
        out: &mut Preflight,
    ) -> Result<()> {
        let (mut left, mut names) = (Vec::new(), BTreeMap::new());
        // The views of the restore to which a refusal of a trial points.
        let mut causes: BTreeMap<(String, String), Vec<&Candidate>> = BTreeMap::new();
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
            // A view comes after the views that it shows. A circle, which no server takes, has no order.
            let waiting: BTreeSet<(String, String)> = left.iter().map(|(one, _, _)| one.to.clone()).collect();
            let waits = |(one, _, shown): &(&Candidate, String, BTreeSet<String>)| {
                let key = |name: &String| (one.to.0.clone(), name.clone());
                shown.iter().map(key).any(|key| key != one.to && waiting.contains(&key))
            };
            let (mut next, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|view| !waits(view));
            left = rest;
            if next.is_empty() {
                next = std::mem::take(&mut left);
            }
            for (one, name, _) in next {
                let db = &one.to.0;
                let other = |shown: &str| names.get(&(db.clone(), shown.to_string())).cloned();
                let options = views::showing(&one.namespace.options, &other);
                let namespace = Namespace { options, ..one.namespace.clone() };
                let answer = self.target.try_create(&namespace, db, &name).await?;
                made.push((db.clone(), name.clone()));
                let stays = staying.iter().any(|other| std::ptr::eq(other, one));
                let tried = match answer {
                    Answer::Accepted => continue,
                    Answer::Refused(why) => {
                        let why = names
                            .iter()
                            .filter(|(_, trial)| **trial != name)
                            .fold(clean(&why, (db, &name)), |why, (to, trial)| {
                                why.replace(trial.as_str(), &to.1)
                            });
                        let why = match stays {
                            true => format!(
                                "the view {} of the target shows it: {}",
                                one.name(),
                                named(&why, &one.to)
                            ),
                            false => why,
                        };
                        Tried { refused: vec![why], ..Tried::default() }
                    }
                    Answer::Forbidden => Tried { forbidden: true, ..Tried::default() },
                };
                for cause in causes.get(&one.to).into_iter().flatten() {
                    self.tell(cause, &tried, out);
                }
            }
        }
        for (db, name) in made {
            self.target.end_trial(&db, &name).await?;
        }
        Ok(())
    }

    /// Applies an update of each form that the slice has.
    async fn updates(
        &mut self,
        survey: &Survey,
        candidates: &[Candidate],
        out: &mut Preflight,
    ) -> Result<()> {
        let Some(db) = candidates.first().map(|one| one.to.0.clone()) else { return Ok(()) };
        let formats: Vec<_> =
            survey.formats.iter().filter(|(version, _)| !self.target.knows_update(**version)).collect();
        if formats.is_empty() {
            return Ok(());
        }
        let Some(ground) = self.ground(&db).await? else { return Ok(()) };
        let name = self.name().await?;
        if self.target.try_create(&plain(), &ground, &name).await? == Answer::Accepted {
            for (version, of) in formats {
                if let Answer::Refused(why) = self.target.try_update(*version, &ground, &name).await? {
                    out.unable.push(Unable {
                        what: format!(
                            "the oplog slice, which has updates of the form $v: {version} (of {of})"
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

    async fn people(&mut self, subject: &Subject<'_>, out: &mut Preflight) -> Result<()> {
        let own = subject.people.iter().flat_map(|people| &people.roles).map(|role| (role, false));
        let of_slice = subject.survey.iter().flat_map(|survey| &survey.roles).map(|role| (role, true));
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
                Answer::Accepted => {}
                Answer::Refused(why) => out.unable.push(Unable {
                    what: format!("the role {db}.{name}"),
                    why: why.clone(),
                    remedy: Remedy::NoUsers,
                    of_slice,
                }),
                Answer::Forbidden => out.unproved.push(format!(
                    "the role {db}.{name}: the user may not change roles, to find out whether the target knows its \
                     privileges"
                )),
            }
        }
        out.warnings.extend(self.strange_roles(subject.people).await);
        Ok(())
    }

    /// Users and roles that have a role which neither the backup nor the target has: they are restored without it.
    async fn strange_roles(&self, people: &[People]) -> Vec<String> {
        let own: BTreeSet<(&str, &str)> = people
            .iter()
            .flat_map(|people| &people.roles)
            .filter_map(|role| Some((role.get_str("db").ok()?, role.get_str("role").ok()?)))
            .collect();
        let mut wanted: BTreeMap<(String, String), String> = BTreeMap::new();
        for who in people.iter().flat_map(|people| people.users.iter().chain(&people.roles)) {
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
        // If the user may not list roles, there is no warning.
        let Ok(there) = self.target.roles_there(&asked).await else { return Vec::new() };
        let missing = wanted.iter().filter(|((db, role), _)| !there.contains(&format!("{db}.{role}")));
        let warning = |((db, role), who): (&(String, String), &String)| {
            format!("{who} has the role {db}.{role}, which neither the backup nor the target has")
        };
        missing.map(warning).collect()
    }
}

/// The views of the target that the restore leaves as they are, each with nothing but the names that it shows and its collation.
fn staying(candidates: &[Candidate], found: &Found) -> Vec<Candidate> {
    let replaced: BTreeSet<&(String, String)> = candidates.iter().map(|one| &one.to).collect();
    let stays = found.views().filter(|(key, _)| !replaced.contains(key));
    let candidate = |(key, options): (&(String, String), &RawDocumentBuf)| Candidate {
        from: String::new(),
        to: key.clone(),
        namespace: Namespace { kind: Type::View, options: views::bare(options), ..plain() },
        indexes: Vec::new(),
        bucket_indexes: Vec::new(),
        changes: Vec::new(),
        of_slice: false,
    };
    stays.map(candidate).collect()
}

/// A collection without options.
fn plain() -> Namespace {
    metadata::of("", "", RawDocumentBuf::new(), Vec::new())
}

/// Returns true if every server takes the namespace: a collection without options, with ordinary indexes.
fn is_everyday(one: &Candidate) -> bool {
    let Candidate { namespace, indexes, bucket_indexes, changes, .. } = one;
    let (mut keys, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut is_distinct = |spec: &RawDocumentBuf| {
        spec.get_document("key").is_ok_and(|key| keys.insert(key.as_bytes().to_vec()))
            && spec.get_str("name").is_ok_and(|name| names.insert(name.to_string()))
    };
    let own = namespace.indexes.iter().find(|index| shape::is_own(index));
    namespace.kind == Type::Collection
        && namespace.options.iter().next().is_none()
        && own.is_none_or(|own| {
            own.iter().flatten().all(|(key, _)| ["v", "key", "name", "ns"].contains(&key.as_str()))
        })
        && indexes.len() < MOST_INDEXES
        && indexes.iter().all(|spec| is_ordinary(spec) && is_distinct(spec))
        && bucket_indexes.is_empty()
        && changes.is_empty()
}

/// A key that is equal for namespaces that need only one trial together.
fn key(one: &Candidate) -> Vec<u8> {
    let Candidate { namespace, indexes, bucket_indexes, changes, to, .. } = one;
    let mut parts = RawArrayBuf::new();
    parts.push(namespace.options.clone());
    let own = namespace.indexes.iter().filter(|index| shape::is_own(index));
    own.chain(indexes).chain(bucket_indexes).chain(changes).for_each(|document| parts.push(document.clone()));
    let within = namespace.kind == Type::Timeseries || OWN.contains(&to.0.as_str());
    let db = if within { to.0.as_str() } else { "" };
    rawdoc! {"parts": parts, "db": db}.into_bytes()
}

/// Returns true if every server since 4.4 takes the index: ascending and descending fields; unique, sparse or TTL.
fn is_ordinary(spec: &RawDocument) -> bool {
    let number = |value: RawBsonRef<'_>| match value {
        RawBsonRef::Int32(n) => n == 1 || n == -1,
        RawBsonRef::Double(n) => n == 1.0 || n == -1.0,
        _ => false,
    };
    let fields = |key: &RawDocument| {
        let path = |field: &str| !field.contains('$') && field.split('.').all(|part| !part.is_empty());
        (1..=MOST_FIELDS).contains(&key.iter().count())
            && key.iter().flatten().all(|(field, value)| number(value) && path(field.as_str()))
    };
    spec.iter().flatten().all(|(option, value)| match (option.as_str(), value) {
        ("key", RawBsonRef::Document(key)) => fields(key),
        ("name", RawBsonRef::String(name)) => !name.is_empty() && name != "*",
        ("unique" | "sparse", RawBsonRef::Boolean(_)) => true,
        ("expireAfterSeconds", RawBsonRef::Int32(n)) => n >= 0,
        _ => false,
    })
}

/// A command with another first value.
fn first(command: &RawDocument, value: &str) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for (at, (key, old)) in command.iter().flatten().enumerate() {
        match at {
            0 => out.append(key, value),
            _ => out.append(key, old),
        }
    }
    out
}

/// Placeholders for a trial's name in the server's words, with and without its database. Several namespaces may share a
/// trial, so the name of each is put in later.
const WHOLE: char = '\u{1}';
const ALONE: char = '\u{2}';

/// The server's words about a trial, with the name of a namespace that it was for.
fn named(words: &str, to: &(String, String)) -> String {
    words.replace(WHOLE, &format!("{}.{}", to.0, to.1)).replace(ALONE, &to.1)
}

/// The server's words about a trial on one line, without its name.
fn clean(words: &str, (db, name): (&str, &str)) -> String {
    let words = words.replace(&format!("{db}.{name}"), &WHOLE.to_string()).replace(name, &ALONE.to_string());
    // "Error in specification { the whole index } :: caused by :: the cause"
    let cause = match words.split_once(" :: caused by :: ") {
        Some((before, cause)) if before.contains('{') => cause.to_string(),
        _ => words,
    };
    cause.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `a, b, c and 3 others`.
fn few(names: &[&str]) -> String {
    let first = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMED).filter(|more| *more > 0) {
        Some(more) => format!("{first} and {more} others"),
        None => first,
    }
}

/// The role that a write to `admin.system.roles` creates or changes; `None` if the write does not have its privileges.
pub fn role_of(id: &str, change: &RawDocument) -> Option<RawDocumentBuf> {
    let (db, role) = id.split_once('.')?;
    let within = ["", "$set", "diff.u", "diff.i"].into_iter().find_map(|path| {
        let at = path.split('.').filter(|part| !part.is_empty());
        let at = at.into_iter().try_fold(change, |at, part| at.get_document(part).ok())?;
        at.get_array("privileges").ok()
    })?;
    let privileges = RawBson::from(RawBsonRef::Array(within));
    Some(rawdoc! {"_id": id, "db": db, "role": role, "privileges": privileges})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_server_takes_are_found() {
        let long = "x".repeat(240);
        for (db, collection, kind, wrong) in [
            ("shop", "orders", Type::Collection, false),
            ("a/b", "orders", Type::Collection, true),
            ("a b", "orders", Type::Collection, true),
            (&"x".repeat(63), "c", Type::Collection, false),
            (&"x".repeat(64), "c", Type::Collection, true),
            ("shop", &long, Type::Collection, false),
            ("shop", &long, Type::Timeseries, true),
            ("shop", "a$b", Type::Collection, true),
            ("shop", ".a", Type::Collection, true),
            ("shop", "system.js", Type::Collection, false),
            ("shop", "system.namespaces", Type::Collection, true),
            ("admin", "system.roles", Type::Collection, false),
        ] {
            assert_eq!(wrong_name(db, collection, kind).is_some(), wrong, "{db}.{collection}");
        }
    }

    #[test]
    fn only_indexes_that_every_server_takes_are_ordinary() {
        for (spec, ordinary) in [
            (rawdoc! {"key": {"a": 1, "b": -1.0}, "name": "a_1", "unique": true}, true),
            (rawdoc! {"key": {"a": 1}, "name": "a_1", "expireAfterSeconds": 5}, true),
            (rawdoc! {"key": {"a": "text"}, "name": "a"}, false),
            (rawdoc! {"key": {"$**": 1}, "name": "a"}, false),
            (rawdoc! {"key": {"a": 1}, "name": "a", "hidden": true}, false),
            (rawdoc! {"key": {"a": 1}, "name": "a", "partialFilterExpression": {}}, false),
            (rawdoc! {"key": {"a": true}, "name": "a"}, false),
            (rawdoc! {"key": {"a.b": 1}, "name": "a"}, true),
            (rawdoc! {"key": {"a..b": 1}, "name": "a"}, false),
            (rawdoc! {"key": {"a.": 1}, "name": "a"}, false),
            (rawdoc! {"key": {"": 1}, "name": "a"}, false),
            (rawdoc! {"key": {}, "name": "a"}, false),
            (rawdoc! {"key": {"a": 1}, "name": "a", "expireAfterSeconds": -1}, false),
        ] {
            assert_eq!(is_ordinary(&spec), ordinary, "{spec:?}");
        }
    }

    #[test]
    fn the_servers_words_name_what_was_tried() {
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

    #[test]
    fn privileges_of_a_role_are_found_in_its_entries() {
        let privileges = || rawdoc! {"privileges": [{"actions": ["find"]}]};
        for change in [
            privileges(),
            rawdoc! {"$v": 1, "$set": privileges()},
            rawdoc! {"$v": 2, "diff": {"u": privileges()}},
        ] {
            let role = role_of("shop.clerk", &change).unwrap();
            assert_eq!((role.get_str("db").unwrap(), role.get_str("role").unwrap()), ("shop", "clerk"));
            assert!(role.get_array("privileges").is_ok());
        }
        assert_eq!(role_of("shop.clerk", &rawdoc! {"roles": []}), None);
    }
}
