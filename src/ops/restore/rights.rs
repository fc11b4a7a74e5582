//! What a plan takes of its user.

use super::Options;
use super::plan::Plan;
use crate::model::namespace::Type;
use crate::restore_target::rights::{Act, BUCKETS, Need};
use crate::restore_target::{Version, shape};

/// What the user has to be allowed to do, in the order in which it is done.
pub fn needed(plan: &Plan, options: &Options, target: Version) -> Vec<Need> {
    let mut needs = Vec::new();
    for planned in &plan.namespaces {
        let (key, replaced) = (planned.chosen.key(), options.drop && planned.existing.is_some());
        if planned.chosen.collection.starts_with("system.") {
            needs.extend(replaced.then_some((Act::Empty, key)));
            continue;
        }
        needs.extend(replaced.then(|| (Act::Drop, key.clone())));
        needs.extend((replaced || planned.existing.is_none()).then(|| (Act::Create, key.clone())));
        let capped = planned.namespace.options.get_bool("capped").unwrap_or(false);
        let makes_capped = capped && (replaced || planned.existing.is_none());
        needs.extend(makes_capped.then(|| (Act::Cap, key.clone())));
        // The documents of a time series go to a system collection. From 8.3 on it need not be there.
        if planned.namespace.kind == Type::Timeseries
            && planned.offer.documents > 0
            && target < Version(8, 3, 0)
        {
            needs.push((Act::Insert, (key.0.clone(), format!("{BUCKETS}{}", key.1))));
        }
        if planned.namespace.kind == Type::Collection {
            needs.extend((planned.offer.documents > 0).then(|| (Act::Insert, key.clone())));
            let indexes = !options.no_indexes && !shape::indexes(&planned.namespace).is_empty();
            needs.extend(indexes.then_some((Act::Index, key)));
        }
    }
    needs.extend(plan.beside().map(|key| (Act::Drop, key.clone())));
    needs
}
