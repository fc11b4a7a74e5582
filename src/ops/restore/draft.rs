//! Makes the plan of a restore: which namespaces are offered and chosen, their options and indexes, what the target has
//! already, and what it cannot take.

use std::collections::BTreeSet;

use super::offer::{Offer, ordinary};
use super::plan::{Oplog, Plan, Planned, look};
use super::preflight::{self, Subject};
use super::remedy::{self, Basis};
use super::replay::survey;
use super::{Options, Origin, people, rename, views};
use crate::base::error::{Error, Result};
use crate::model::namespace::Type;
use crate::model::optime::OpTime;
use crate::restore_target::{Target, legacy, shape};

/// The most namespaces that an error names.
const NAMED: usize = 5;

/// Makes the plan: reads options and indexes, and tries them at the target with empty collections.
pub async fn plan(origin: &Origin, target: &Target, options: &Options) -> Result<Plan> {
    let offers = origin.offers()?;
    let (oplog, chosen) = match options.filter.choose(&offers, &BTreeSet::new()) {
        Ok(chosen) => (oplog(origin, options).await?, chosen),
        // The pattern may match a namespace that only the slice has.
        Err(unmatched) if !options.filter.exclude.is_empty() && origin.has_slice() && !options.no_replay => {
            let oplog = oplog(origin, options).await?;
            let slice = match &oplog {
                Oplog::Replayed(survey) => &survey.seen,
                Oplog::Absent | Oplog::Left => return Err(unmatched),
            };
            let chosen = options.filter.choose(&offers, slice)?;
            (oplog, chosen)
        }
        Err(error) => return Err(error),
    };
    let places: BTreeSet<usize> = chosen.iter().map(|chosen| chosen.at).collect();
    let mut described = origin.describe(&places).await?;
    let survey = match &oplog {
        Oplog::Replayed(survey) => Some(&**survey),
        Oplog::Absent | Oplog::Left => None,
    };
    let mut indexes = survey.map(|survey| survey.indexes.clone()).unwrap_or_default();
    for (at, namespace) in &mut described {
        let of = offers[*at].name();
        namespace.indexes.retain(|index| {
            let name = format!("{of}.{}", index.get_str("name").unwrap_or_default());
            let wanted = shape::is_own(index) || options.filter.wants_index(&name);
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
    // A server cannot list the collections of a database whose name is invalid.
    databases.retain(|db| preflight::wrong_name(db, "c", Type::Collection).is_none());
    let found = look(target, &databases).await?;
    let mut extra = Vec::new();
    if options.exact {
        let names = offers.iter().filter_map(|offer| {
            let name = rename::renamed(&options.filter.rename, &offer.name());
            name.split_once('.').map(|(db, collection)| (db.to_string(), collection.to_string()))
        });
        extra = found.beside(&names.collect());
        extra.retain(|(db, name)| {
            let name = format!("{db}.{name}");
            !options.filter.exclude.iter().any(|pattern| pattern.matches(&name))
        });
    }
    let people = people::wanted(origin, &offers, options).await?;
    if chosen.is_empty() && people.is_empty() {
        nothing(origin, &offers, options)?;
    }
    let mut notes = origin.notes();
    let (mut namespaces, mut legacy) = (Vec::new(), Vec::new());
    for chosen in chosen {
        let mut namespace = described.remove(&chosen.at).expect("each was described");
        let name = offers[chosen.at].name();
        if options.convert_legacy_indexes {
            let converted = legacy::convert(&mut namespace.indexes);
            notes.extend(converted.into_iter().map(|note| format!("{name}: {note}")));
        } else if !options.no_indexes {
            let refused = namespace.indexes.iter().filter_map(|index| legacy::refused(index));
            legacy.extend(refused.map(|why| format!("{name}: {why}")));
        }
        let existing = found.existing(target, &chosen, &namespace).await?;
        namespaces.push(Planned { offer: offers[chosen.at].clone(), chosen, namespace, existing });
    }
    if !legacy.is_empty() {
        let what = "no server since MongoDB 3.4 takes some indexes as they are";
        return Err(Error::failed(format!("{what}: {}", legacy.join("; "))).hint(format!(
            "With {} they are built with the values that old servers read there; --no-indexes builds none. Nothing was \
             touched so far",
            legacy::FLAG
        )));
    }
    let mut in_the_way = match survey {
        Some(survey) => survey.beside(&namespaces)?,
        None => Vec::new(),
    };
    in_the_way.retain(|key| found.has(key) && !extra.contains(key));
    // A view shows a collection, which then is there.
    namespaces.sort_by_key(|planned| planned.offer.kind == Type::View);
    let manifest = origin.manifest();
    let mut warnings = origin.warnings();
    if let Some(source) = manifest.and_then(|manifest| manifest.source.needs())
        && source > target.accepts()
    {
        let version = target.version_text();
        warnings.push(format!("the backup is of MongoDB {source}, the target is older: {version}"));
    }
    let subject = Subject { target, options, found: &found, planned: &namespaces, survey, people: &people };
    let mut preflight = preflight::check(&subject).await?;
    warnings.append(&mut preflight.warnings);
    let wanted = namespaces.iter().map(|planned| planned.offer.name()).collect();
    let renames = survey.map(|survey| survey.renames.as_slice()).unwrap_or_default();
    let basis = Basis { options, wanted: &wanted, people: !people.is_empty(), renames };
    let rest = remedy::flags(&preflight.unable, &basis);
    notes.extend(views::astray(&namespaces));
    notes.extend(own(&offers, &places).filter(|_| options.filter.is_empty()));
    Ok(Plan {
        from: origin.place(),
        id: manifest.map(|manifest| manifest.id.to_string()),
        job: manifest.map(|manifest| manifest.job.clone()),
        started_at: manifest.map(|manifest| manifest.started_at),
        target: target.address.clone(),
        onto_source: options.onto_source,
        notes,
        namespaces,
        extra,
        fresh: found.fresh && people.is_empty(),
        people,
        oplog,
        at,
        in_the_way,
        drop: options.drop,
        version: target.version_text(),
        unable: preflight.unable,
        unproved: preflight.unproved,
        rest,
        warnings,
    })
}

/// The error of a restore that would restore nothing. A backup of an empty server is complete with nothing.
fn nothing(origin: &Origin, offers: &[Offer], options: &Options) -> Result<()> {
    let left: Vec<&Offer> = offers.iter().filter(|offer| ordinary(&offer.db, &offer.collection)).collect();
    let names = |offers: &[&Offer]| {
        let more = if offers.len() > NAMED { ", …" } else { "" };
        offers.iter().take(NAMED).map(|offer| offer.name()).collect::<Vec<_>>().join(", ") + more
    };
    let all: Vec<&Offer> = offers.iter().collect();
    let (why, step) = if left.is_empty() {
        if origin.manifest().is_some() && options.filter.is_empty() {
            return Ok(());
        }
        let step = "Name a backup or a dump with other databases. A restore leaves local, system.profile and the like to each server, and \
                    users and roles with --no-users or chosen namespaces";
        (format!("it holds only {}, which is not restored", names(&all)), step)
    } else if left.iter().all(|offer| offer.db == "config") && options.filter.include.is_empty() {
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

/// What a restore of all does not write, so that nobody misses it when counting.
fn own(offers: &[Offer], chosen: &BTreeSet<usize>) -> Option<String> {
    // Users and roles are merged, which is told, or were not wanted.
    let people = ["system.users", "system.roles"];
    let left = offers.iter().enumerate().filter(|(at, _)| !chosen.contains(at)).map(|(_, offer)| offer);
    let left = left.filter(|o| !people.contains(&o.collection.as_str()) && !o.collection.starts_with('$'));
    // The indexes in it are restored with their collections.
    let left = left.filter(|offer| offer.collection != "system.indexes");
    let names: Vec<String> = left.map(Offer::name).collect();
    (!names.is_empty()).then(|| format!("not restored, for each server has its own: {}", names.join(", ")))
}

/// What is done with the oplog slice: it is read, if it is to be replayed.
async fn oplog(origin: &Origin, options: &Options) -> Result<Oplog> {
    match (origin.has_slice(), options.no_replay) {
        (false, _) => Ok(Oplog::Absent),
        (true, true) => Ok(Oplog::Left),
        (true, false) => Ok(Oplog::Replayed(Box::new(survey(origin, options.names()).await?))),
    }
}

/// The instant that the data is of in the end.
fn instant(origin: &Origin, oplog: &Oplog) -> Option<OpTime> {
    let said = origin.manifest().and_then(|manifest| manifest.consistency.at);
    match oplog {
        Oplog::Absent => said,
        Oplog::Left => None,
        Oplog::Replayed(survey) => said.or(survey.read.last),
    }
}
