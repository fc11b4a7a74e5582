//! Makes the plan of a restore: chooses namespaces, reads their options and indexes, lists the target's
//! namespaces, and asks the target what it cannot take.

use std::collections::BTreeSet;

use super::namespaces::{BackupNamespace, Planned, is_ordinary, look};
use super::options::RestoreOptions;
use super::origin::RestoreOrigin;
use super::plan::{OplogPlan, RestorePlan};
use super::preflight::{self, PreflightInput};
use super::remedy::{self, Basis};
use super::replay::survey;
use super::report::RestoreFacts;
use super::{filter, users_and_roles, views};
use crate::base::error::{Error, Result};
use crate::model::namespace::Type;
use crate::model::optime::OpTime;
use crate::restore_target::{RestoreTarget, collections, legacy_indexes};

/// The most namespaces in an error message.
const NAMED: usize = 5;

/// Makes the plan. Tries options and indexes at the target with empty collections.
pub(crate) async fn plan(
    origin: &RestoreOrigin,
    target: &RestoreTarget,
    options: &RestoreOptions,
) -> Result<RestorePlan> {
    let contents = origin.contents()?;
    let (oplog, chosen) = match options.filter.choose(&contents, &BTreeSet::new()) {
        Ok(chosen) => (oplog(origin, options).await?, chosen),
        // The pattern may match a namespace that only the slice has.
        Err(unmatched) if !options.filter.exclude.is_empty() && origin.has_slice() && !options.no_replay => {
            let oplog = oplog(origin, options).await?;
            let slice = match &oplog {
                OplogPlan::Replayed(survey) => &survey.seen,
                OplogPlan::Absent | OplogPlan::Left => return Err(unmatched),
            };
            let chosen = options.filter.choose(&contents, slice)?;
            (oplog, chosen)
        }
        Err(error) => return Err(error),
    };
    let places: BTreeSet<usize> = chosen.iter().map(|chosen| chosen.at).collect();
    let mut described = origin.describe(&places).await?;
    let survey = match &oplog {
        OplogPlan::Replayed(survey) => Some(&**survey),
        OplogPlan::Absent | OplogPlan::Left => None,
    };
    let mut indexes = survey.map(|survey| survey.indexes.clone()).unwrap_or_default();
    for (at, namespace) in &mut described {
        let of = contents[*at].name();
        namespace.indexes.retain(|index| {
            let name = format!("{of}.{}", index.get_str("name").unwrap_or_default());
            let wanted = collections::is_own(index) || options.filter.wants_index(&name);
            indexes.insert(name);
            wanted
        });
    }
    options.filter.check_indexes(&indexes)?;
    let at = instant(origin, &oplog);
    if let Some(wanted) = options.at {
        wanted.check(at)?;
    }
    let mut databases: BTreeSet<&str> = chosen.iter().map(|chosen| chosen.db.as_str()).collect();
    databases.extend(survey.iter().flat_map(|survey| survey.databases.iter().map(String::as_str)));
    // A server cannot list the collections of a database with an invalid name.
    databases.retain(|db| preflight::wrong_name(db, "c", Type::Collection).is_none());
    let found = look(target, &databases).await?;
    let mut extra = Vec::new();
    if options.exact {
        let names = contents.iter().filter_map(|source| {
            let name = filter::renamed(&options.filter.rename, &source.name());
            name.split_once('.').map(|(db, collection)| (db.to_string(), collection.to_string()))
        });
        extra = found.beside(&names.collect());
        extra.retain(|(db, name)| {
            let name = format!("{db}.{name}");
            !options.filter.exclude.iter().any(|pattern| pattern.matches(&name))
        });
    }
    let users_and_roles = users_and_roles::read(origin, &contents, options).await?;
    if chosen.is_empty() && users_and_roles.is_empty() {
        nothing(origin, &contents, options)?;
    }
    let mut notes = origin.notes();
    let (mut namespaces, mut legacy) = (Vec::new(), Vec::new());
    for chosen in chosen {
        let mut namespace = described.remove(&chosen.at).expect("each was described");
        let name = contents[chosen.at].name();
        if options.convert_legacy_indexes {
            let converted = legacy_indexes::convert(&mut namespace.indexes);
            notes.extend(converted.into_iter().map(|note| format!("{name}: {note}")));
        } else if !options.no_indexes {
            let refused = namespace.indexes.iter().filter_map(|index| legacy_indexes::refused(index));
            legacy.extend(refused.map(|why| format!("{name}: {why}")));
        }
        let existing = found.existing(target, &chosen, &namespace).await?;
        namespaces.push(Planned { source: contents[chosen.at].clone(), chosen, namespace, existing });
    }
    if !legacy.is_empty() {
        let what = "no server since MongoDB 3.4 accepts some of the indexes";
        return Err(Error::failed(format!("{what}: {}", legacy.join("; "))).hint(format!(
            "Nothing was changed. {} builds them with the values that old servers used in their place; --no-indexes builds \
             no indexes",
            legacy_indexes::FLAG
        )));
    }
    let mut in_the_way = match survey {
        Some(survey) => survey.beside(&namespaces)?,
        None => Vec::new(),
    };
    in_the_way.retain(|key| found.has(key) && !extra.contains(key));
    // Views come after the collections that they show.
    namespaces.sort_by_key(|planned| planned.source.kind == Type::View);
    let manifest = origin.manifest();
    let mut warnings = origin.warnings();
    if let Some(source) = manifest.and_then(|manifest| manifest.source.needs())
        && source > target.accepts()
    {
        let version = target.version_text();
        warnings.push(format!("the backup is of MongoDB {source}, the target is older: {version}"));
    }
    let subject = PreflightInput {
        target,
        options,
        found: &found,
        planned: &namespaces,
        survey,
        users_and_roles: &users_and_roles,
    };
    let mut preflight = preflight::check(&subject).await?;
    warnings.append(&mut preflight.warnings);
    let wanted = namespaces.iter().map(|planned| planned.source.name()).collect();
    let renames = survey.map(|survey| survey.renames.as_slice()).unwrap_or_default();
    let basis = Basis { options, wanted: &wanted, users: !users_and_roles.is_empty(), renames };
    let rest = remedy::flags(&preflight.obstacles, &basis);
    notes.extend(views::astray(&namespaces));
    notes.extend(own(&contents, &places).filter(|_| options.filter.is_empty()));
    let facts = RestoreFacts {
        version: 1,
        from: origin.place(),
        id: manifest.map(|manifest| manifest.id.to_string()),
        job: manifest.map(|manifest| manifest.job.clone()),
        started_at: manifest.map(|manifest| manifest.started_at),
        target: target.address.clone(),
        onto_source: options.onto_source,
        notes,
        at,
    };
    Ok(RestorePlan {
        facts,
        namespaces,
        extra,
        fresh: found.fresh && users_and_roles.is_empty(),
        users_and_roles,
        oplog,
        in_the_way,
        drop: options.drop,
        target_version: target.version_text(),
        obstacles: preflight.obstacles,
        unproved: preflight.unproved,
        rest,
        warnings,
    })
}

/// Returns an error if nothing would be restored. Only the backup of an empty server is complete without
/// namespaces.
fn nothing(origin: &RestoreOrigin, contents: &[BackupNamespace], options: &RestoreOptions) -> Result<()> {
    let left: Vec<&BackupNamespace> =
        contents.iter().filter(|source| is_ordinary(&source.db, &source.collection)).collect();
    let names = |contents: &[&BackupNamespace]| {
        let more = if contents.len() > NAMED { ", …" } else { "" };
        contents.iter().take(NAMED).map(|source| source.name()).collect::<Vec<_>>().join(", ") + more
    };
    let all: Vec<&BackupNamespace> = contents.iter().collect();
    let (why, step) = if left.is_empty() {
        if origin.manifest().is_some() && options.filter.is_empty() {
            return Ok(());
        }
        let step = "Name a backup or a dump with other databases. A restore never writes local, system.profile and the like, and with \
                    --no-users or chosen namespaces it writes no users and roles";
        (format!("it holds only {}, which is not restored", names(&all)), step)
    } else if left.iter().all(|source| source.db == "config") && options.filter.include.is_empty() {
        (
            format!("it holds only {}", names(&left)),
            "The database config is restored only where --ns-include names it",
        )
    } else {
        (
            format!("--ns-include and --ns-exclude leave nothing of {}", names(&left)),
            "Narrow --ns-exclude, or leave it out",
        )
    };
    let text = format!("nothing is restored from {}: {why}", origin.place());
    Err(Error::failed(text).hint(step))
}

/// A note about namespaces that a restore without filters leaves out, for users who count namespaces.
fn own(contents: &[BackupNamespace], chosen: &BTreeSet<usize>) -> Option<String> {
    // Users and roles are merged or were not asked for.
    let merged = ["system.users", "system.roles"];
    let left = contents.iter().enumerate().filter(|(at, _)| !chosen.contains(at)).map(|(_, source)| source);
    let left = left.filter(|o| !merged.contains(&o.collection.as_str()) && !o.collection.starts_with('$'));
    // Its indexes are restored with their collections.
    let left = left.filter(|source| source.collection != "system.indexes");
    let names: Vec<String> = left.map(BackupNamespace::name).collect();
    (!names.is_empty())
        .then(|| format!("not restored, because each server has its own: {}", names.join(", ")))
}

/// Reads the oplog slice, if it is to be replayed.
async fn oplog(origin: &RestoreOrigin, options: &RestoreOptions) -> Result<OplogPlan> {
    match (origin.has_slice(), options.no_replay) {
        (false, _) => Ok(OplogPlan::Absent),
        (true, true) => Ok(OplogPlan::Left),
        (true, false) => Ok(OplogPlan::Replayed(Box::new(survey(origin, options.names()).await?))),
    }
}

/// The instant of the restored data.
fn instant(origin: &RestoreOrigin, oplog: &OplogPlan) -> Option<OpTime> {
    let said = origin.manifest().and_then(|manifest| manifest.consistency.at);
    match oplog {
        OplogPlan::Absent => said,
        OplogPlan::Left => None,
        OplogPlan::Replayed(survey) => said.or(survey.read.last),
    }
}
