//! The plan of a restore: made before anything is written, and shown first. It has the namespaces to be restored with
//! their options and indexes, the target's namespaces of the same names, and the parts that the target cannot take.

mod document;

use std::collections::BTreeSet;

pub use document::CountedNamespace;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::continued::{self, MarkPlan};
use super::filter;
use super::namespaces::{
    BackupNamespace, ChosenNamespace, Existing, NamespaceKey, Planned, Resumed, TargetContents, full_name,
    is_ordinary, look, name_list,
};
use super::options::RestoreOptions;
use super::origin::{Continuation, RestoreOrigin};
use super::preflight;
use super::remedy::{self, Flags, Obstacle};
use super::replay::SliceSurvey;
use super::report::RestoreFacts;
use super::{unfit, views};
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::config::selection;
use crate::model::namespace::{BUCKETS, Type};
use crate::restore_target::rights::{NeededRight, Right};
use crate::restore_target::users_and_roles::UsersAndRoles;
use crate::restore_target::{RestoreTarget, ServerVersion, collections, legacy_indexes};

/// The most namespaces in an error message.
const NAMED: usize = 5;

/// The note about filters at a point in time.
const SPLIT: &str =
    "only some namespaces are restored: of a transaction that also wrote to others, only a part is replayed";

/// The notes about the consequences of a swap.
const SWAP: [&str; 3] = [
    "what is written to the live collections from now on is not in the restored ones; it stays in those that are moved aside",
    "both are stored until --discard; change streams on a moved collection end",
    "no point-in-time restore reaches past the swap: back up afterwards",
];

/// The use of the oplog slice.
#[derive(Debug, Clone, PartialEq)]
pub enum OplogPlan {
    /// The backup has no slice.
    Absent,
    /// The user asked for no replay.
    Left,
    Replayed(Box<SliceSurvey>),
}

impl OplogPlan {
    /// The survey of the slice that is replayed.
    pub fn survey(&self) -> Option<&SliceSurvey> {
        match self {
            OplogPlan::Absent | OplogPlan::Left => None,
            OplogPlan::Replayed(survey) => Some(survey),
        }
    }
}

#[derive(Debug)]
pub struct RestorePlan {
    pub facts: RestoreFacts,
    /// Collections first, then views.
    pub namespaces: Vec<Planned>,
    /// Namespaces of the target that `--exact` drops.
    pub extra: Vec<NamespaceKey>,
    /// Users and roles to be merged, of the whole server or by database.
    pub users_and_roles: Vec<UsersAndRoles>,
    pub oplog: OplogPlan,
    /// Namespaces of the target that the oplog slice writes to and the backup does not contain otherwise.
    pub in_the_way: Vec<NamespaceKey>,
    pub drop: bool,
    pub target_version: String,
    pub obstacles: Vec<Obstacle>,
    /// A line for each part that the user has no right to try.
    pub unproved: Vec<String>,
    /// The flags that restore the rest, if the target cannot take everything but can take something.
    pub rest: Option<Flags>,
    /// What a `--dry-run` with `--filter` or `--merge` counted.
    pub counted: Vec<CountedNamespace>,
    /// True if the target has no user data.
    pub fresh: bool,
    /// The mark of the restore, and the namespaces of an interrupted one.
    pub(super) mark: MarkPlan,
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

    /// The namespaces that are dropped although the backup has no namespaces of these names.
    pub(super) fn beside(&self) -> impl Iterator<Item = &NamespaceKey> {
        self.in_the_way.iter().chain(&self.extra)
    }

    /// The namespaces whose documents are loaded into staging collections, because the oplog slice changes them.
    pub(super) fn staged(&self) -> impl Iterator<Item = &NamespaceKey> {
        let documents = self.oplog.survey().and_then(|survey| survey.documents.as_ref());
        documents.into_iter().flat_map(|documents| documents.namespaces())
    }

    /// The names of the namespaces that an interrupted restore made, and that this one drops and does not fill.
    pub fn dropped_beside(&self) -> impl Iterator<Item = String> {
        self.mark.beside.iter().map(|(key, _)| full_name(key))
    }

    /// Sums a figure over the namespaces whose documents are written.
    pub fn loaded(&self, figure: impl Fn(&BackupNamespace) -> u64) -> u64 {
        self.namespaces.iter().filter(|one| !one.is_kept()).map(|planned| figure(&planned.source)).sum()
    }

    /// The reasons for which the restore is refused; empty if it is not refused.
    pub fn refused(&self) -> Vec<String> {
        self.obstacles.iter().map(Obstacle::to_string).chain(self.occupied()).collect()
    }

    /// A line for each namespace of the target that would have to be dropped.
    pub fn occupied(&self) -> Vec<String> {
        if self.drop || self.facts.merge {
            return Vec::new();
        }
        let refused = |planned: &Planned| {
            let (name, existing) = (planned.chosen.name(), planned.existing?);
            // The interrupted restore made it.
            if planned.resumed.is_some() {
                return None;
            }
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
        let beside = self.in_the_way.iter().map(full_name);
        let beside = beside.map(|name| format!("the oplog writes to {name}, which exists"));
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

    fn replaces(&self) -> bool {
        self.namespaces.iter().any(|one| one.is_replaced(self.drop))
            || self.drop && self.beside().next().is_some()
            || !self.mark.beside.is_empty()
    }

    /// The error that names the parts that the target cannot take, and the namespaces that it has already.
    fn inability(&self) -> Option<Error> {
        let obstacles: Vec<String> = self.obstacles.iter().map(Obstacle::to_string).collect();
        let occupied = match self.occupied() {
            occupied if occupied.is_empty() => String::new(),
            occupied => format!("; it also has data already: {}", occupied.join(", ")),
        };
        let rest = match &self.rest {
            Some(flags) => format!("The {}", flags.words()),
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
            let comma = if self.facts.onto_source { "," } else { "" };
            let (target, refused) = (self.facts.target_text(), refused.join(", "));
            let goes_on = self.mark.interrupted.as_ref().map_or_else(String::new, |id| {
                format!(
                    "The restore {id} was interrupted: the same command with --continue goes on with it. "
                )
            });
            let step = match self.facts.onto_source {
                // The target has the original data, so the hint names other targets first.
                true => {
                    "Name another server (RESTORE_URI, --to-uri), or other names (--ns-from, --ns-to); with \
                         --drop these namespaces are replaced. Nothing was changed"
                }
                false => "Nothing was changed. With --drop these namespaces are replaced",
            };
            let what = format!("the target {target}{comma} has data already: {refused}");
            Error::failed(what).hint(format!("{goes_on}{step}"))
        })
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
        let Planned { chosen, source, namespace, existing, resumed } = planned;
        let key = chosen.key();
        let mut need = |is_needed: bool, right| needs.extend(is_needed.then(|| (right, key.clone())));
        if options.merge && existing.is_some() {
            need(namespace.kind == Type::Collection, Right::Read);
            need(namespace.kind == Type::Collection, Right::Insert);
            continue;
        }
        // Another client may insert some of the documents meanwhile.
        need(options.merge && namespace.kind == Type::Collection, Right::Read);
        let replaced = planned.is_replaced(options.drop);
        let has_documents = source.documents > 0 && !planned.is_kept();
        if chosen.collection.starts_with("system.") {
            need(replaced, Right::Empty);
            continue;
        }
        let emptied = matches!(resumed, Some(Resumed::Again { created: false, .. }));
        let replaced = replaced && !emptied;
        let created = replaced || existing.is_none();
        need(emptied, Right::Empty);
        need(replaced, Right::Drop);
        need(created, Right::Create);
        need(created && namespace.options.get_bool("capped").unwrap_or(false), Right::Cap);
        match namespace.kind {
            Type::Collection => {
                need(has_documents, Right::Insert);
                need(!options.no_indexes && !collections::indexes(namespace).is_empty(), Right::Index);
            }
            // The documents of a time series go to a system collection before 8.3.
            Type::Timeseries if has_documents && target < ServerVersion(8, 3, 0) => {
                needs.push((Right::Insert, (key.0, format!("{BUCKETS}{}", key.1))));
            }
            Type::Timeseries | Type::View => {}
        }
    }
    let made = plan.mark.beside.iter().map(|(key, _)| key);
    let dropped = plan.beside().filter(|_| !options.merge).chain(made);
    needs.extend(dropped.map(|key| (Right::Drop, key.clone())));
    if let Some((id, _)) = &options.own {
        let rights = [Right::Create, Right::Insert, Right::Read, Right::Drop];
        let staged = plan.staged().map(|(db, name)| (db.clone(), selection::loaded_name(id, name)));
        needs.extend(staged.flat_map(|key| rights.map(|right| (right, key.clone()))));
    }
    needs
}

/// Makes the plan. Tries options and indexes at the target with empty collections.
pub(super) async fn make(
    origin: &RestoreOrigin,
    target: &RestoreTarget,
    options: &RestoreOptions,
) -> Result<RestorePlan> {
    let contents = origin.contents()?;
    let replays = origin.has_slice() && !options.no_replay;
    let chosen = match options.filter.choose(&contents, &BTreeSet::new()) {
        // The pattern may match a namespace that only the slice has.
        Err(_) if replays && (!options.filter.exclude.is_empty() || origin.continuation().is_some()) => None,
        chosen => Some(chosen?),
    };
    let oplog = match origin.has_slice() {
        true if replays => {
            OplogPlan::Replayed(Box::new(SliceSurvey::of(origin, options.names(), options.sifts()).await?))
        }
        true => OplogPlan::Left,
        false => OplogPlan::Absent,
    };
    let survey = oplog.survey();
    let chosen = match (chosen, survey) {
        (None, Some(survey)) if origin.continuation().is_some() => {
            options.filter.choose_with(&contents, &survey.seen, &survey.seen)?
        }
        (None, Some(survey)) => options.filter.choose(&contents, &survey.seen)?,
        (chosen, _) => chosen.unwrap_or_default(),
    };
    let places: BTreeSet<usize> = chosen.iter().map(|chosen| chosen.at).collect();
    let mut described = origin.describe(&places).await?;
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
    let manifest = origin.manifest();
    let stated = manifest.and_then(|manifest| manifest.consistency.at);
    let continuation = origin.continuation();
    let at = match &oplog {
        OplogPlan::Absent => stated,
        OplogPlan::Left => None,
        OplogPlan::Replayed(survey) if continuation.is_some() => survey.read.last,
        OplogPlan::Replayed(survey) => stated.or(survey.read.last),
    };
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
        extra.retain(|key| !options.filter.exclude.iter().any(|p| p.matches(&full_name(key))));
    }
    let users_and_roles = origin.users_and_roles(&contents, options).await?;
    let created = continuation.and(survey).is_some_and(|survey| !survey.touched.is_empty());
    if chosen.is_empty() && users_and_roles.is_empty() && !created {
        nothing(origin, &contents, options)?;
    }
    let (mut notes, mut warnings) = origin.notes_and_warnings();
    let (mut namespaces, mut legacy) = (Vec::new(), Vec::new());
    let existing = stream::iter(&chosen).map(|chosen| found.existing(target, chosen, &described[&chosen.at]));
    let existing: Vec<_> = existing.buffered(target.pace.namespaces).try_collect().await?;
    for (chosen, existing) in chosen.into_iter().zip(existing) {
        let mut namespace = described.remove(&chosen.at).expect("each was described");
        let name = contents[chosen.at].name();
        if options.convert_legacy_indexes {
            let converted = legacy_indexes::convert(&mut namespace.indexes);
            notes.extend(converted.into_iter().map(|note| format!("{name}: {note}")));
        } else if !options.no_indexes {
            let refused = namespace.indexes.iter().filter_map(|index| legacy_indexes::refused(index));
            legacy.extend(refused.map(|why| format!("{name}: {why}")));
        }
        let source = contents[chosen.at].clone();
        namespaces.push(Planned { source, chosen, namespace, existing, resumed: None });
    }
    if !legacy.is_empty() {
        let what = "no server since MongoDB 3.4 accepts some of the indexes";
        return Err(Error::failed(format!("{what}: {}", legacy.join("; "))).hint(format!(
            "Nothing was changed. {} builds them with the values that old servers used in their place; --no-indexes builds \
             no indexes",
            legacy_indexes::FLAG
        )));
    }
    unfit::check(options, &namespaces, survey, &found)?;
    let mut in_the_way = survey.map_or(Ok(Vec::new()), |survey| survey.beside(&namespaces))?;
    in_the_way.retain(|key| found.has(key) && !extra.contains(key));
    let by_replay = survey.map(SliceSurvey::may_create).unwrap_or_default();
    let (mark, continued) =
        continued::plan(origin, target, options, &mut namespaces, &by_replay, &mut in_the_way, &mut notes)
            .await?;
    if let Some(survey) = survey.filter(|_| mark.replayed) {
        stay_if_new(target, &found, survey, &mut in_the_way).await?;
    }
    // Views come after the collections that they show.
    namespaces.sort_by_key(|planned| planned.source.kind == Type::View);
    if let Some(source) = manifest.and_then(|manifest| manifest.source.needs())
        && source > target.accepts()
    {
        let version = target.version_text();
        warnings.push(format!("the backup is of MongoDB {source}, the target is older: {version}"));
    }
    let mut preflight =
        preflight::check(target, options, &found, &namespaces, survey, &users_and_roles).await?;
    warnings.append(&mut preflight.warnings);
    let wanted = namespaces.iter().map(|planned| planned.source.name()).collect();
    let renames = survey.map(|survey| survey.renames.as_slice()).unwrap_or_default();
    let users = !users_and_roles.is_empty();
    let rest = remedy::flags(&preflight.obstacles, options, &wanted, users, renames);
    // Without a replay, no point in time can be reached.
    let rest =
        rest.filter(|flags| continuation.is_none() || !flags.add.iter().any(|flag| flag == "--no-replay"));
    notes.extend(options.swap.iter().flat_map(|_| SWAP.map(str::to_string)));
    warnings.extend(options.left_by_swap.iter().cloned());
    notes.extend(choice_notes(options, &namespaces, survey));
    notes.extend(views::astray(&namespaces));
    notes.extend(own(&contents, &places).filter(|_| options.filter.is_empty()));
    notes.extend(continuation.filter(|_| options.filter.is_partial()).map(|_| SPLIT.to_string()));
    let facts = RestoreFacts {
        version: 1,
        from: origin.place(),
        id: manifest.map(|manifest| manifest.id.to_string()),
        job: manifest.map(|manifest| manifest.job.clone()),
        started_at: manifest.map(|manifest| manifest.started_at),
        target: target.address.clone(),
        partial: manifest.and_then(|manifest| manifest.part()),
        onto_source: options.onto_source,
        skipped: options.skipped.clone(),
        notes,
        at,
        filter: options.documents.as_ref().map(|filter| filter.text.clone()),
        merge: options.merge,
        swap_id: options.swap.clone(),
        point: continuation.map(Continuation::facts),
        continued,
    };
    let empty = in_the_way.is_empty() && mark.beside.is_empty();
    let empty = empty && namespaces.iter().all(|planned| planned.existing.is_none());
    let fresh = found.fresh && users_and_roles.is_empty() && empty;
    Ok(RestorePlan {
        facts,
        namespaces,
        extra,
        fresh,
        mark,
        users_and_roles,
        oplog,
        in_the_way,
        drop: options.drop,
        target_version: target.version_text(),
        obstacles: preflight.obstacles,
        unproved: preflight.unproved,
        rest,
        counted: Vec::new(),
        warnings,
    })
}

/// The notes about a filter and a merge.
fn choice_notes(
    options: &RestoreOptions,
    namespaces: &[Planned],
    survey: Option<&SliceSurvey>,
) -> Vec<String> {
    let mut notes = Vec::new();
    if !options.sifts() {
        return notes;
    }
    for Planned { chosen, source, namespace, existing, .. } in namespaces {
        if source.kind == Type::View && existing.is_some() {
            notes.push(format!("the view {} is there, and stays as it is", chosen.name()));
        }
        if options.documents.is_some() && namespace.options.get_document("collation").is_ok() {
            let name = source.name();
            notes.push(format!(
                "{name} has a collation, which the filter does not use: texts are compared byte by byte"
            ));
        }
    }
    let staged = survey.and_then(|survey| survey.documents.as_ref());
    let staged: Vec<String> =
        staged.into_iter().flat_map(|documents| documents.namespaces()).map(full_name).collect();
    if !staged.is_empty() {
        notes.push(format!(
            "the oplog is replayed in staging collections first, which are dropped at the end: for {}",
            name_list(&staged, NAMED)
        ));
    }
    notes
}

/// Leaves out the empty namespaces that are as the slice creates them: a replay that was interrupted before it marked a new namespace
/// left them. The replay keeps and fills them.
async fn stay_if_new(
    target: &RestoreTarget,
    found: &TargetContents,
    survey: &SliceSurvey,
    in_the_way: &mut Vec<NamespaceKey>,
) -> Result<()> {
    let mut others = Vec::new();
    for key in std::mem::take(in_the_way) {
        let chosen = ChosenNamespace { at: 0, db: key.0.clone(), collection: key.1.clone() };
        let mut new = false;
        for namespace in preflight::created_as(survey, &key) {
            let existing = found.existing(target, &chosen, &namespace).await?;
            new |= existing == Some(Existing { documents: Some(0), same: true });
        }
        others.extend((!new).then_some(key));
    }
    *in_the_way = others;
    Ok(())
}

/// Returns an error if nothing would be restored. Only the backup of an empty server is complete without
/// namespaces.
fn nothing(origin: &RestoreOrigin, contents: &[BackupNamespace], options: &RestoreOptions) -> Result<()> {
    let left: Vec<&BackupNamespace> =
        contents.iter().filter(|source| is_ordinary(&source.db, &source.collection)).collect();
    let names = |contents: &[&BackupNamespace]| {
        name_list(&contents.iter().map(|source| source.name()).collect::<Vec<_>>(), NAMED)
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
            format!("--ns-include and --ns-exclude leave out all of {}", names(&left)),
            "Narrow --ns-exclude, or leave it out",
        )
    };
    let text = format!("nothing is restored from {}: {why}", origin.place());
    Err(Error::failed(text).hint(step))
}

/// A note about the namespaces that a restore without filters leaves out, for users who compare the numbers of
/// namespaces.
fn own(contents: &[BackupNamespace], chosen: &BTreeSet<usize>) -> Option<String> {
    // Users and roles are merged or were not asked for.
    let merged = ["system.users", "system.roles"];
    let left = contents.iter().enumerate().filter(|(at, _)| !chosen.contains(at)).map(|(_, source)| source);
    let left = left.filter(|o| !merged.contains(&o.collection.as_str()) && !o.collection.starts_with('$'));
    // The indexes in system.indexes are restored with their collections.
    let left = left.filter(|source| source.collection != "system.indexes");
    let names: Vec<String> = left.map(BackupNamespace::name).collect();
    (!names.is_empty())
        .then(|| format!("not restored, because each server has its own: {}", names.join(", ")))
}
