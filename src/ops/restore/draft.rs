//! Making a plan: what is offered, chosen, described, and what the target has already.

use std::collections::BTreeSet;

use super::plan::{Plan, Planned, look};
use super::{Options, Origin, people, rename, views};
use crate::error::Result;
use crate::source::Type;
use crate::target::{Target, Version};

/// Makes the plan; reads options and indexes, and asks the target.
pub async fn plan(origin: &Origin, target: &Target, options: &Options) -> Result<Plan> {
    let offers = origin.offers()?;
    let chosen = options.filter.choose(&offers)?;
    let places: BTreeSet<usize> = chosen.iter().map(|chosen| chosen.at).collect();
    let mut described = origin.describe(&places).await?;
    let databases: BTreeSet<&str> = chosen.iter().map(|chosen| chosen.db.as_str()).collect();
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
    Ok(Plan {
        from: origin.place(),
        id: manifest.map(|manifest| manifest.id.to_string()),
        job: manifest.map(|manifest| manifest.job.clone()),
        started_at: manifest.map(|manifest| manifest.started_at),
        target: target.address.clone(),
        notes: views::astray(&namespaces),
        namespaces,
        extra,
        fresh: found.fresh && people.is_empty(),
        people,
        drop: options.drop,
        warnings,
    })
}
