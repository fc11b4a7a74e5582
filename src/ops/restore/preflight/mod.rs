//! Finds out, before anything is dropped, which parts of a plan the target cannot take. The target itself is
//! asked.
//!
//! [`candidates`] collects the namespaces of the plan and of the oplog slice, and [`trials`] tries them. Each
//! distinct combination of options and indexes that some servers refuse is created as an empty collection
//! under a random name, and dropped again. With `--drop`, databases that the target does not have are tried
//! as well: after a database was dropped collection by collection, a server keeps refusing a name that
//! differs from it only by case (code 13297, seen on 4.4.2 to 6.0.27).

mod candidates;
mod trials;

use std::collections::{BTreeMap, BTreeSet};

use super::namespaces::{Planned, TargetContents, name_list};
use super::options::RestoreOptions;
use super::remedy::{Obstacle, Remedy};
use super::replay::SliceSurvey;
use crate::base::error::Result;
use crate::model::namespace::Type;
use crate::restore_target::users_and_roles::UsersAndRoles;
use crate::restore_target::{RestoreTarget, trial};
use candidates::{Candidate, candidates};
use trials::TrialRunner;

/// The longest name of a database and of a namespace, in bytes.
const LONGEST_DATABASE: usize = 63;
const LONGEST: usize = 255;
const OWN: [&str; 3] = ["admin", "config", "local"];
/// The most names in a line about trials that the user may not make.
const NAMED: usize = 3;
const NOT_IN_DATABASE: &str = "/\\. \"$\0";

/// The result of [`check`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct PreflightResult {
    pub obstacles: Vec<Obstacle>,
    /// A line for each part that the user has no right to try.
    pub unproved: Vec<String>,
    pub warnings: Vec<String>,
}

pub(crate) struct PreflightInput<'a> {
    pub target: &'a RestoreTarget,
    pub options: &'a RestoreOptions,
    pub found: &'a TargetContents,
    pub planned: &'a [Planned],
    pub survey: Option<&'a SliceSurvey>,
    pub users_and_roles: &'a [UsersAndRoles],
}

/// Finds out what the target cannot take.
///
/// # Errors
/// Returns an error if the target does not answer. A refusal by the target is a part of the result.
pub(crate) async fn check(subject: &PreflightInput<'_>) -> Result<PreflightResult> {
    let target = subject.target;
    sweep(target, subject.found).await?;
    let mut out = PreflightResult::default();
    let mut candidates = candidates(subject);
    misnamed(&mut candidates, &mut out);
    alike(&mut candidates, subject.found, &mut out);
    let mut runner = TrialRunner::new(target, &subject.options.token);
    // If nothing is dropped, a refused database name loses no data: its namespaces fail later.
    if subject.options.drop && subject.planned.iter().any(|planned| planned.existing.is_some()) {
        runner.databases(&mut candidates, subject.found, &mut out).await?;
    }
    runner.namespaces(&candidates, subject.found, &mut out).await?;
    if let Some(survey) = subject.survey {
        runner.updates(survey, &candidates, &mut out).await?;
    }
    runner.users_and_roles(subject, &mut out).await?;
    for (db, names) in &runner.forbidden {
        out.unproved.push(format!(
            "{}: the user may not create and drop empty collections in {db}, or in {}, to find out whether the target \
             accepts their options and indexes",
            name_list(names, NAMED),
            trial::DATABASE
        ));
    }
    let mut seen = BTreeSet::new();
    out.obstacles.retain(|one| seen.insert((one.what.clone(), one.why.clone())));
    Ok(out)
}

/// Removes the trials of killed runs.
async fn sweep(target: &RestoreTarget, found: &TargetContents) -> Result<()> {
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

/// Removes the candidates with an invalid name.
fn misnamed(candidates: &mut Vec<Candidate>, out: &mut PreflightResult) {
    candidates.retain(|one| {
        let wrong = wrong_name(&one.to.0, &one.to.1, one.namespace.kind);
        out.obstacles.extend(wrong.clone().map(|why| one.exclude(why)));
        wrong.is_none()
    });
}

/// Why a name is invalid; `None` if it is valid. Source: MongoDB `src/mongo/db/namespace_string.h`.
pub(super) fn wrong_name(db: &str, collection: &str, kind: Type) -> Option<String> {
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
        return Some("a server accepts no writes to a system collection of this name".into());
    }
    // The bucket collection of a time series has the longest name.
    let buckets = if kind == Type::Timeseries { "system.buckets.".len() } else { 0 };
    let length = db.len() + 1 + buckets + collection.len();
    (length > LONGEST).then(|| match buckets {
        0 => format!("the name of a namespace has at most {LONGEST} bytes, this one has {length}"),
        _ => format!(
            "the name of a namespace has at most {LONGEST} bytes, and the name of the time series' buckets has {length}"
        ),
    })
}

/// Removes the candidates in databases whose names differ only by case from another database: a server cannot
/// have two such databases (code 13297).
fn alike(candidates: &mut Vec<Candidate>, found: &TargetContents, out: &mut PreflightResult) {
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
        let why = format!("{why}, and MongoDB does not allow two databases whose names differ only by case");
        refuse_database(candidates, &db, why, out);
    }
}

fn refuse_database(candidates: &mut Vec<Candidate>, db: &str, why: String, out: &mut PreflightResult) {
    let (of, others): (Vec<_>, Vec<_>) =
        std::mem::take(candidates).into_iter().partition(|one| one.to.0 == db);
    *candidates = others;
    let names: BTreeSet<String> = of.into_iter().map(|one| one.from).collect();
    let what = format!("the database '{db}'");
    out.obstacles.push(Obstacle { what, why, remedy: Remedy::Exclude(names), of_slice: false });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_found() {
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
}
