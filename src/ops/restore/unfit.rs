//! The namespaces that a restore with `--filter` or `--merge` refuses: documents cannot be chosen from them one by one, or cannot be
//! merged into the namespace that is there.

use super::namespaces::{NamespaceKey, Planned, TargetContents, full_name};
use super::options::RestoreOptions;
use super::preflight::wrong_name;
use super::replay::SliceSurvey;
use crate::base::error::{Error, Result};
use crate::base::escape::quoted;
use crate::base::suggest::escaped;
use crate::config::selection;
use crate::dumpformat::oplog::script::ReplayStep;
use crate::model::namespace::Type;

/// Checks the namespaces, and those that the oplog slice creates.
///
/// # Errors
/// Returns a usage error that names all unfit namespaces, and the flags that leave them out.
pub(super) fn check(
    options: &RestoreOptions,
    planned: &[Planned],
    survey: Option<&SliceSurvey>,
    found: &TargetContents,
) -> Result<()> {
    if !options.sifts() {
        return Ok(());
    }
    // The names in the backup, with the reasons.
    let mut unfit: Vec<(String, String)> = Vec::new();
    let mut add = |from: String, why: Option<String>| unfit.extend(why.map(|why| (from, why)));
    for one in planned {
        let (key, kind) = (one.chosen.key(), one.source.kind);
        add(one.source.name(), of_kind(options, kind).or_else(|| at_target(options, &key, kind, found)));
    }
    for (key, from) in survey.iter().flat_map(|survey| &survey.touched) {
        let kind = survey.and_then(|survey| created(survey, key));
        let why = of_kind(options, kind.unwrap_or(Type::Collection)).or_else(|| staging_name(options, key));
        // The planned ones were looked at above.
        let at = || at_target(options, key, kind.unwrap_or(Type::Collection), found);
        let is_planned = planned.iter().any(|one| one.chosen.key() == *key);
        add(from.clone(), why.or_else(|| if is_planned { None } else { at() }));
    }
    unfit.sort();
    unfit.dedup_by(|one, other| one.0 == other.0);
    if unfit.is_empty() {
        return Ok(());
    }
    let flag = if options.merge { "--merge" } else { "--filter" };
    let list: Vec<String> = unfit.iter().map(|(from, why)| format!("{from} {why}")).collect();
    let flags: Vec<String> =
        unfit.iter().map(|(from, _)| format!("--ns-exclude {}", quoted(&escaped(from)))).collect();
    Err(Error::usage(format!("{flag} cannot be used for some of the namespaces: {}", list.join("; ")))
        .hint(format!("Nothing was changed. {} leaves them out", flags.join(" "))))
}

fn of_kind(options: &RestoreOptions, kind: Type) -> Option<String> {
    match kind {
        Type::Timeseries => Some("is a time series, whose documents are buckets of measurements".into()),
        Type::View if options.documents.is_some() => Some("is a view, which has no documents".into()),
        Type::View | Type::Collection => None,
    }
}

/// Why nothing can be merged into the namespace that the target has under this name.
fn at_target(
    options: &RestoreOptions,
    key: &NamespaceKey,
    kind: Type,
    found: &TargetContents,
) -> Option<String> {
    let (there, capped) = found.kind(key).filter(|_| options.merge)?;
    // A view that is there stays as it is.
    if kind == Type::View {
        return None;
    }
    let name = full_name(key);
    match there {
        "collection" if capped => Some(format!(
            "would be merged into {name}, which is capped: the server would delete documents to make room"
        )),
        "collection" => None,
        other => Some(format!("would be merged into {name}, which is a {other} at the target")),
    }
}

/// Why the staging collection of a namespace cannot have its name.
fn staging_name(options: &RestoreOptions, (db, collection): &NamespaceKey) -> Option<String> {
    let (id, _) = options.own.as_ref()?;
    let why = wrong_name(db, &selection::loaded_name(id, collection), Type::Collection)?;
    Some(format!("needs a staging collection, because the oplog writes to it: {why}"))
}

/// The kind of a namespace that the slice creates.
fn created(survey: &SliceSurvey, key: &NamespaceKey) -> Option<Type> {
    survey.commands.iter().rev().find_map(|step| match step {
        ReplayStep::Create { to, view: true, .. } if to.key() == *key => Some(Type::View),
        ReplayStep::Create { to, form, .. } if to.key() == *key => {
            let series = form.options().get_document("timeseries").is_ok();
            Some(if series { Type::Timeseries } else { Type::Collection })
        }
        _ => None,
    })
}
