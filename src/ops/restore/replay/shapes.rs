//! The options, changes and indexes that a slice gives to namespaces, so that they can be tried before the replay.

use std::collections::BTreeMap;

use bson::{RawDocument, RawDocumentBuf};

use super::action::{Action, Form};
use super::catalog::{Catalog, Key};
use super::names::{BUCKETS, Named};
use super::survey::Survey;
use crate::model::namespace::{Namespace, Type};
use crate::ops::restore::plan::Planned;
use crate::ops::restore::preflight::Candidate;

/// Adds the namespaces that the slice creates, and its changes and indexes to the others.
pub fn follow(planned: &[Planned], survey: &Survey, candidates: &mut Vec<Candidate>) {
    let mut latest: BTreeMap<Key, usize> =
        candidates.iter().enumerate().map(|(at, one)| (one.to.clone(), at)).collect();
    let mut catalog = Catalog::new(planned.iter());
    for action in &survey.commands {
        match action {
            Action::Create { to, form, view, .. } => {
                latest.insert(to.key(), candidates.len());
                candidates.push(candidate(to, command(form), *view));
            }
            Action::Modify { to, form } => {
                let change = command(form);
                let is_change = change
                    .iter()
                    .next()
                    .is_some_and(|first| first.is_ok_and(|(name, _)| name.as_str() == "collMod"));
                if let Some(at) = latest.get(&to.key()).filter(|_| is_change) {
                    candidates[*at].changes.push(change.to_owned());
                }
            }
            Action::Rename { from, to, .. } => {
                if let Some(at) = latest.remove(&from.key()) {
                    latest.insert(to.key(), at);
                }
            }
            Action::Write { .. } | Action::Drop(_) | Action::DropAll { .. } | Action::Index { .. } => {}
        }
        catalog.follow(action);
    }
    for build in catalog.builds() {
        let Some(at) = latest.get(&build.of) else { continue };
        match build.on.starts_with(BUCKETS) {
            true => candidates[*at].bucket_indexes.extend(build.specs),
            false => candidates[*at].indexes.extend(build.specs),
        }
    }
}

fn command(form: &Form) -> &RawDocument {
    match form {
        Form::Operation(operation) => operation.get_document("o").unwrap_or(operation),
        Form::Command(command) => command,
    }
}

fn candidate(to: &Named, create: &RawDocument, view: bool) -> Candidate {
    let mut options = RawDocumentBuf::new();
    for (key, value) in create.iter().flatten().skip(1).filter(|(key, _)| key.as_str() != "idIndex") {
        options.append(key, value);
    }
    let kind = match (view, to.buckets) {
        (true, _) => Type::View,
        (false, true) => Type::Timeseries,
        (false, false) => Type::Collection,
    };
    let id = create.get_document("idIndex").map(|index| index.to_owned());
    let namespace = Namespace {
        db: to.from_db.clone(),
        collection: to.from.clone(),
        kind,
        buckets: None,
        uuid: None,
        options,
        indexes: id.into_iter().collect(),
        metadata: String::new(),
    };
    Candidate {
        from: format!("{}.{}", to.from_db, to.from),
        to: to.key(),
        namespace,
        indexes: Vec::new(),
        bucket_indexes: Vec::new(),
        changes: Vec::new(),
        of_slice: true,
    }
}
