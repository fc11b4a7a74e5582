//! What was restored against the manifest. Without an oplog slice all of it is compared in the end. What a slice
//! changes is compared in two steps: as it was read before the replay, for the manifest describes that; and in
//! the end what of it the slice's commands left as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Resources;
use super::compare::{self, Aspects, Difference};
use super::read::{self, Copies};
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::model::manifest::Manifest;
use crate::model::tally::Tally;
use crate::ops::restore::{Offer, Outcome, Planned, Stored, Survey, Trouble};

/// Collections of `admin` that the server merges: they are compared as well, in a server of its own.
const PEOPLE: [&str; 2] = ["system.users", "system.roles"];

/// What is compared with what.
pub struct Check<'a> {
    /// The server.
    pub uri: &'a Secret,
    pub resources: &'a Resources<'a>,
    /// The backup.
    pub stored: &'a Arc<Stored>,
    /// Its namespaces.
    pub planned: &'a [Planned],
    /// What the replay changes, if there is one.
    pub survey: Option<&'a Survey>,
    /// Users and roles are restored.
    pub people: bool,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The namespace in the backup, and what is not as it was.
    pub differences: Vec<(String, Difference)>,
    /// How long it took.
    pub took: Duration,
    /// Namespaces of the target of which documents had begun to expire, or were pushed out.
    thinned: BTreeSet<String>,
}

impl Check<'_> {
    /// Before the replay: the documents of what it is going to change, and users and roles.
    pub async fn before_replay(&self, outcomes: &[Outcome]) -> Result<Found> {
        let aspects = |planned: &Planned| {
            let changes = self.survey.is_some_and(|survey| survey.changes(planned));
            changes.then_some(Aspects { documents: true, indexes: false })
        };
        let mut found = Found::default();
        self.compare(outcomes, aspects, self.people, &mut found).await?;
        Ok(found)
    }

    /// In the end: what is left; and what the restore says of itself. `found` is what was found before.
    pub async fn end(&self, outcomes: &[Outcome], mut found: Found) -> Result<Found> {
        let aspects = |planned: &Planned| match self.survey {
            Some(survey) if survey.reshapes(planned) => None,
            Some(survey) if survey.changes(planned) => Some(Aspects { documents: false, indexes: true }),
            _ => Some(Aspects { documents: true, indexes: true }),
        };
        self.compare(outcomes, aspects, self.people && self.survey.is_none(), &mut found).await?;
        for (planned, outcome) in pairs(self.planned, outcomes) {
            // What was counted when it was restored had begun to expire, or was pushed out.
            let thinned = found.thinned.contains(&outcome.to);
            let problems = outcome.problems.iter().filter(|one| !(thinned && one.trouble == Trouble::Count));
            let problems = problems.map(|one| (planned.offer.name(), Difference::of(one.clone())));
            found.differences.extend(problems);
        }
        Ok(found)
    }

    async fn compare(
        &self,
        outcomes: &[Outcome],
        aspects: impl Fn(&Planned) -> Option<Aspects>,
        people: bool,
        found: &mut Found,
    ) -> Result<()> {
        let began = Instant::now();
        let pairs = || {
            let pairs = pairs(self.planned, outcomes);
            pairs.filter_map(|(planned, outcome)| Some((planned, outcome, aspects(planned)?)))
        };
        let mut wanted: BTreeMap<_, _> =
            pairs().map(|(planned, _, aspects)| (planned.chosen.key(), aspects.documents)).collect();
        if people {
            wanted.extend(PEOPLE.map(|name| (("admin".into(), name.into()), true)));
        }
        let copies = read::all(self.uri, &wanted, self.resources).await?;
        for (planned, outcome, aspects) in pairs() {
            let there = copies.get(&planned.chosen.db, &planned.chosen.collection);
            let mut expected = outcome.kept.clone();
            if aspects.documents {
                expected = expected_of(self.stored, planned, &outcome.kept, &copies).await?;
                if expected.documents < outcome.kept.documents {
                    found.thinned.insert(outcome.to.clone());
                }
            }
            let new = compare::namespace(aspects, &planned.namespace, &expected, there);
            found.differences.extend(new.into_iter().map(|difference| (planned.offer.name(), difference)));
        }
        if people {
            found.differences.extend(people_of(&self.stored.manifest, &copies)?);
        }
        found.took += began.elapsed();
        Ok(())
    }
}

/// What was planned with what came of it: both have the namespaces of the target, each once.
fn pairs<'a>(
    planned: &'a [Planned],
    outcomes: &'a [Outcome],
) -> impl Iterator<Item = (&'a Planned, &'a Outcome)> {
    let by_name: BTreeMap<&str, &Outcome> =
        outcomes.iter().map(|outcome| (outcome.to.as_str(), outcome)).collect();
    planned.iter().map(move |planned| (planned, by_name[planned.chosen.name().as_str()]))
}

/// What should be there of a namespace: what was sent without what was superseded; of a capped collection whose
/// backup holds more than fits, the last that fit; and where documents expire, those that are there yet, as
/// they are in the backup.
async fn expected_of(
    stored: &Arc<Stored>,
    planned: &Planned,
    kept: &Tally,
    copies: &Copies,
) -> Result<Tally> {
    let (at, db, collection) = (planned.chosen.at, &planned.chosen.db, &planned.chosen.collection);
    let found = copies.get(db, collection).map_or(0, |(_, tally)| tally.documents);
    if found >= kept.documents {
        return Ok(kept.clone());
    }
    if planned.namespace.options.get_bool("capped").unwrap_or(false) {
        return read::last(stored, at, kept.documents - found).await;
    }
    match copies.expiring(db, collection) {
        Some(hashes) => read::among(stored, at, hashes.clone()).await,
        None => Ok(kept.clone()),
    }
}

/// Users and roles, against the manifest.
fn people_of(manifest: &Manifest, copies: &Copies) -> Result<Vec<(String, Difference)>> {
    let mut out = Vec::new();
    for entry in manifest.namespaces.iter().filter(|n| n.db == "admin") {
        if !PEOPLE.contains(&entry.collection.as_str()) {
            continue;
        }
        let Offer { documents, raw_bytes, sum, .. } = Offer::of(entry)?;
        let expected = Tally { documents, raw_bytes, stored_bytes: 0, sum };
        let found = copies.get("admin", &entry.collection).map(|(_, tally)| tally);
        // The server merges them, and a newer one may write them anew.
        let differs = compare::documents(&expected, found.unwrap_or(&Tally::default()));
        out.extend(differs.map(|what| (format!("admin.{}", entry.collection), Difference::Form(what))));
    }
    Ok(out)
}
