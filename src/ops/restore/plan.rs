//! The plan of a restore: made before anything is written, and shown first.

use serde::{Serialize, Serializer};

use super::namespaces::{BackupNamespace, Existing, NamespaceKey, Planned};
use super::options::RestoreOptions;
use super::remedy::{Flags, Obstacle};
use super::replay::SliceSurvey;
use super::report::RestoreFacts;
use crate::base::error::Error;
use crate::base::units;
use crate::model::namespace::{BUCKETS, Type};
use crate::model::optime::OpTime;
use crate::restore_target::rights::{NeededRight, Right};
use crate::restore_target::users_and_roles::UsersAndRoles;
use crate::restore_target::{ServerVersion, collections};

/// The use of the oplog slice.
#[derive(Debug, Clone, PartialEq)]
pub enum OplogPlan {
    /// The backup has no slice.
    Absent,
    /// The user asked for no replay.
    Left,
    Replayed(Box<SliceSurvey>),
}

/// The plan of a restore.
#[derive(Debug)]
pub struct RestorePlan {
    pub facts: RestoreFacts,
    /// Collections first, then views.
    pub namespaces: Vec<Planned>,
    /// Namespaces of the target that `--exact` drops.
    pub extra: Vec<NamespaceKey>,
    /// Users and roles to be merged, of the whole server or by database.
    pub users_and_roles: Vec<UsersAndRoles>,
    /// The use of the oplog slice.
    pub oplog: OplogPlan,
    /// Namespaces of the target whose names only the oplog slice writes to.
    pub in_the_way: Vec<NamespaceKey>,
    /// True if existing namespaces are dropped.
    pub drop: bool,
    /// The target's version, for messages.
    pub target_version: String,
    /// The parts that the target cannot take.
    pub obstacles: Vec<Obstacle>,
    /// A line for each part that the user has no right to try.
    pub unproved: Vec<String>,
    /// The flags that restore the rest, if the target cannot take everything but can take something.
    pub rest: Option<Flags>,
    /// True if the target has no user data.
    pub fresh: bool,
    /// Warnings; they lead to exit code 3.
    pub warnings: Vec<String>,
}

impl RestorePlan {
    /// Sums a figure over the namespaces.
    pub fn total(&self, figure: impl Fn(&BackupNamespace) -> u64) -> u64 {
        self.namespaces.iter().map(|planned| figure(&planned.source)).sum()
    }

    /// The numbers of users and roles to be merged; `None` if there are none, or they are not restored.
    pub fn user_counts(&self) -> Option<(usize, usize)> {
        let sum = |(users, roles), both: &UsersAndRoles| (users + both.users.len(), roles + both.roles.len());
        (!self.users_and_roles.is_empty()).then(|| self.users_and_roles.iter().fold((0, 0), sum))
    }

    /// The namespaces that are dropped although the backup has none of their names.
    pub(super) fn beside(&self) -> impl Iterator<Item = &NamespaceKey> {
        self.in_the_way.iter().chain(&self.extra)
    }

    /// The reasons for which the restore is refused; empty if it is not refused.
    pub fn refused(&self) -> Vec<String> {
        self.obstacles.iter().map(Obstacle::to_string).chain(self.occupied()).collect()
    }

    /// A line for each namespace of the target that would have to be dropped.
    fn occupied(&self) -> Vec<String> {
        if self.drop {
            return Vec::new();
        }
        let refused = |planned: &Planned| {
            let (name, existing) = (planned.chosen.name(), planned.existing?);
            match existing {
                Existing { documents: Some(0), same: true } => None,
                Existing { documents: Some(0), .. } => Some(format!("{name} exists with other options")),
                Existing { documents: Some(n), .. } => {
                    Some(format!("{name} has {}", units::several(n, "document")))
                }
                Existing { documents: None, .. } => {
                    Some(format!("{name} exists, and the user may not count its documents"))
                }
            }
        };
        let beside =
            self.in_the_way.iter().map(|(db, name)| format!("the oplog writes to {db}.{name}, which exists"));
        self.namespaces.iter().filter_map(refused).chain(beside).collect()
    }

    /// The error of a refused restore.
    pub fn refusal(&self) -> Option<Error> {
        // If nothing is dropped, the documents are restored, and the report names the refused indexes.
        let stops = self.replaces() || self.obstacles.iter().any(|one| !one.is_index());
        self.inability().filter(|_| stops).or_else(|| self.occupation())
    }

    /// The error of a `--dry-run`, which reports everything that would lead to exit code 1.
    pub fn objection(&self) -> Option<Error> {
        self.inability().or_else(|| self.occupation())
    }

    /// Returns true if the restore drops anything at the target.
    fn replaces(&self) -> bool {
        self.drop
            && (self.beside().next().is_some() || self.namespaces.iter().any(|one| one.existing.is_some()))
    }

    /// The error that names the parts that the target cannot take, and the namespaces that it has already.
    fn inability(&self) -> Option<Error> {
        let obstacles: Vec<String> = self.obstacles.iter().map(Obstacle::to_string).collect();
        let occupied = match self.occupied() {
            occupied if occupied.is_empty() => String::new(),
            occupied => format!("; it also has data already: {}", occupied.join(", ")),
        };
        let rest = match &self.rest {
            Some(flags) => flags.sentence(),
            None => "Name another target (RESTORE_URI, --to-uri)".into(),
        };
        let replaces = match occupied.is_empty() {
            true => "",
            false => "; --drop replaces the existing namespaces",
        };
        (!obstacles.is_empty()).then(|| {
            Error::failed(format!(
                "the target {} cannot take the whole backup (MongoDB {}): {}{occupied}",
                self.facts.target_text(),
                self.target_version,
                obstacles.join("; ")
            ))
            .hint(format!("Nothing was changed. {rest}{replaces}"))
        })
    }

    fn occupation(&self) -> Option<Error> {
        let refused = self.occupied();
        (!refused.is_empty()).then(|| {
            let (target, verb) = match self.facts.onto_source {
                true => (self.facts.target_text(), ", has"),
                false => (self.facts.target.clone(), " has"),
            };
            Error::failed(format!("the target {target}{verb} data already: {}", refused.join(", "))).hint(
                match self.facts.onto_source {
                    // The target has the original data, so the hint names other targets first.
                    true => {
                        "Name another server (RESTORE_URI, --to-uri), or other names (--ns-from, --ns-to); with \
                         --drop these namespaces are replaced. Nothing was changed"
                    }
                    false => "Nothing was changed. With --drop these namespaces are replaced",
                },
            )
        })
    }
}

/// The JSON form of a plan.
#[derive(Serialize)]
struct PlanDocument<'a> {
    #[serde(flatten)]
    facts: &'a RestoreFacts,
    drop: bool,
    namespaces: Vec<PlannedDocument>,
    extra: Vec<String>,
    users: Option<usize>,
    roles: Option<usize>,
    replay: Option<ReplayDocument>,
    refused: Vec<String>,
    rest: Option<&'a [String]>,
    unproved: &'a [String],
    warnings: &'a [String],
}

#[derive(Serialize)]
struct PlannedDocument {
    from: String,
    to: String,
    #[serde(rename = "type")]
    kind: Type,
    documents: u64,
    raw_bytes: u64,
    existing_documents: Option<u64>,
}

#[derive(Serialize)]
struct ReplayDocument {
    entries: u64,
    from: Option<OpTime>,
    to: Option<OpTime>,
    operations: u64,
    left_out: u64,
    in_the_way: Vec<String>,
}

impl Serialize for RestorePlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = |keys: &[NamespaceKey]| keys.iter().map(|(db, name)| format!("{db}.{name}")).collect();
        let namespace = |planned: &Planned| PlannedDocument {
            from: planned.source.name(),
            to: planned.chosen.name(),
            kind: planned.source.kind,
            documents: planned.source.documents,
            raw_bytes: planned.source.raw_bytes,
            existing_documents: planned.existing.and_then(|existing| existing.documents),
        };
        let replay = |survey: &SliceSurvey| ReplayDocument {
            entries: survey.read.entries,
            from: survey.read.first,
            to: survey.read.last,
            operations: survey.operations,
            left_out: survey.read.left_out,
            in_the_way: names(&self.in_the_way),
        };
        let (users, roles) = self.user_counts().unzip();
        let document = PlanDocument {
            facts: &self.facts,
            drop: self.drop,
            namespaces: self.namespaces.iter().map(namespace).collect(),
            extra: names(&self.extra),
            users,
            roles,
            replay: match &self.oplog {
                OplogPlan::Absent | OplogPlan::Left => None,
                OplogPlan::Replayed(survey) => Some(replay(survey)),
            },
            refused: self.refused(),
            rest: self.rest.as_ref().map(|flags| &flags.add[..]),
            unproved: &self.unproved,
            warnings: &self.warnings,
        };
        document.serialize(serializer)
    }
}

/// The rights that a restore needs, in the order in which it uses them.
pub(super) fn needed(
    plan: &RestorePlan,
    options: &RestoreOptions,
    target: ServerVersion,
) -> Vec<NeededRight> {
    let mut needs = Vec::new();
    for planned in &plan.namespaces {
        let (key, replaced) = (planned.chosen.key(), options.drop && planned.existing.is_some());
        if planned.chosen.collection.starts_with("system.") {
            needs.extend(replaced.then_some((Right::Empty, key)));
            continue;
        }
        needs.extend(replaced.then(|| (Right::Drop, key.clone())));
        needs.extend((replaced || planned.existing.is_none()).then(|| (Right::Create, key.clone())));
        let capped = planned.namespace.options.get_bool("capped").unwrap_or(false);
        let makes_capped = capped && (replaced || planned.existing.is_none());
        needs.extend(makes_capped.then(|| (Right::Cap, key.clone())));
        // The documents of a time series go to a system collection before 8.3.
        if planned.namespace.kind == Type::Timeseries
            && planned.source.documents > 0
            && target < ServerVersion(8, 3, 0)
        {
            needs.push((Right::Insert, (key.0.clone(), format!("{BUCKETS}{}", key.1))));
        }
        if planned.namespace.kind == Type::Collection {
            needs.extend((planned.source.documents > 0).then(|| (Right::Insert, key.clone())));
            let indexes = !options.no_indexes && !collections::indexes(&planned.namespace).is_empty();
            needs.extend(indexes.then_some((Right::Index, key)));
        }
    }
    needs.extend(plan.beside().map(|key| (Right::Drop, key.clone())));
    needs
}
