//! Making a plan: what is offered, chosen, described, and what the target has already.

use std::collections::BTreeSet;

use super::offer::Offer;
use super::plan::{Oplog, Plan, Planned, look};
use super::replay::survey;
use super::{Options, Origin, people, rename, views};
use crate::error::Result;
use crate::source::Type;
use crate::source::optime::OpTime;
use crate::target::{Target, Version};

/// Makes the plan; reads options and indexes, and asks the target.
pub async fn plan(origin: &Origin, target: &Target, options: &Options) -> Result<Plan> {
    let offers = origin.offers()?;
    let chosen = options.filter.choose(&offers)?;
    let places: BTreeSet<usize> = chosen.iter().map(|chosen| chosen.at).collect();
    let mut described = origin.describe(&places).await?;
    let oplog = oplog(origin, options).await?;
    let at = instant(origin, &oplog);
    if let Some(wanted) = options.at {
        wanted.check(at)?;
    }
    let mut databases: BTreeSet<&str> = chosen.iter().map(|chosen| chosen.db.as_str()).collect();
    if let Oplog::Replayed(survey) = &oplog {
        databases.extend(survey.databases.iter().map(String::as_str));
    }
    let found = look(target, &databases).await?;
    let mut extra = Vec::new();
    if options.exact {
        let names = offers.iter().filter_map(|offer| {
            let name = rename::renamed(&options.filter.rename, &offer.name());
            name.split_once('.').map(|(db, collection)| (db.to_string(), collection.to_string()))
        });
        extra = found.beside(&names.collect());
    }
    let people = people::wanted(origin, &offers, options).await?;
    let mut namespaces = Vec::new();
    for chosen in chosen {
        let namespace = described.remove(&chosen.at).expect("each was described");
        let existing = found.existing(target, &chosen, &namespace).await?;
        namespaces.push(Planned { offer: offers[chosen.at].clone(), chosen, namespace, existing });
    }
    let mut in_the_way = match &oplog {
        Oplog::Replayed(survey) => survey.beside(&namespaces)?,
        Oplog::Absent | Oplog::Left => Vec::new(),
    };
    in_the_way.retain(|key| found.has(key) && !extra.contains(key));
    // A view shows a collection, which then is there.
    namespaces.sort_by_key(|planned| planned.offer.kind == Type::View);
    let manifest = origin.manifest();
    let mut warnings = origin.warnings();
    if let Some(source) = manifest.map(|manifest| Version::parse(&manifest.source.version))
        && (source.0, source.1) > (target.version.0, target.version.1)
    {
        let version = target.version;
        warnings.push(format!("the backup is of MongoDB {source}, the target is older: {version}"));
    }
    let mut notes = views::astray(&namespaces);
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
        warnings,
    })
}

/// What a restore of all does not write, so that nobody misses it when counting.
fn own(offers: &[Offer], chosen: &BTreeSet<usize>) -> Option<String> {
    // Users and roles are merged, which is told, or were not wanted.
    let people = ["system.users", "system.roles"];
    let left = offers.iter().enumerate().filter(|(at, _)| !chosen.contains(at)).map(|(_, offer)| offer);
    let left = left.filter(|o| !people.contains(&o.collection.as_str()) && !o.collection.starts_with('$'));
    let names: Vec<String> = left.map(Offer::name).collect();
    (!names.is_empty()).then(|| format!("not restored, for each server has its own: {}", names.join(", ")))
}

/// What is done with the oplog slice: it is read, if it is to be replayed.
async fn oplog(origin: &Origin, options: &Options) -> Result<Oplog> {
    match (origin.has_slice(), options.no_replay) {
        (false, _) => Ok(Oplog::Absent),
        (true, true) => Ok(Oplog::Left),
        (true, false) => Ok(Oplog::Replayed(survey(origin, options.names()).await?)),
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
