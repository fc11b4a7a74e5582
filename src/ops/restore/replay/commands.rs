//! Commands on one collection.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use super::action::{self, Action, Edit, Form};
use super::entry::{Entry, broken};
use super::names::Named;
use crate::base::error::Result;

/// Those that can be replayed.
pub const KNOWN: [&str; 11] = [
    "create",
    "drop",
    "collMod",
    "convertToCapped",
    "emptycapped",
    "createIndexes",
    "commitIndexBuild",
    "dropIndexes",
    "dropIndex",
    "deleteIndexes",
    "deleteIndex",
];

/// A command on a collection that is wanted.
pub fn on_collection(name: &str, entry: &Entry, to: Named) -> Result<Vec<Action>> {
    let o = entry.o;
    let form = |o| match to.buckets {
        true => Form::Command(o),
        false => Form::Operation(action::command(&to.db, o)),
    };
    Ok(match name {
        "create" => {
            let collated = o.get_document("collation").is_ok();
            let o = match to.buckets {
                true => action::create_timeseries(o, &to.collection),
                false => action::with_first(o, &to.collection, &["recordIdsReplicated"]),
            };
            let form = form(o);
            vec![Action::Create { to, form, view: false, collated }]
        }
        "drop" => vec![Action::Drop(to)],
        "createIndexes" | "commitIndexBuild" => {
            vec![Action::Index { to, edit: Edit::Put(specs(name, o)?) }]
        }
        "collMod" => {
            let mut actions = Vec::new();
            if let Ok(change) = o.get_document("index") {
                let edit = Edit::Change(change.to_owned());
                actions.push(Action::Index { to: to.clone(), edit });
            }
            // The last two are of servers before 4.2, and no later one takes them.
            let rest = action::with_first(o, &to.collection, &["index", "noPadding", "usePowerOf2Sizes"]);
            if rest.iter().count() > 1 {
                let form = form(rest);
                actions.push(Action::Modify { to, form });
            }
            actions
        }
        "convertToCapped" | "emptycapped" => {
            let form = form(action::with_first(o, &to.collection, &[]));
            vec![Action::Modify { to, form }]
        }
        _ => match o.get("index").map_err(broken)? {
            Some(which @ (RawBsonRef::String(_) | RawBsonRef::Document(_))) => {
                vec![Action::Index { to, edit: Edit::Remove(which.into()) }]
            }
            _ => return Err(broken("a dropped index has no name")),
        },
    })
}

/// The indexes that an entry says are built.
fn specs(name: &str, o: &RawDocument) -> Result<Vec<RawDocumentBuf>> {
    let specs: Vec<RawDocumentBuf> = match name {
        "createIndexes" => vec![o.iter().flatten().skip(1).collect()],
        _ => {
            let one = |spec: bson::error::Result<RawBsonRef<'_>>| {
                let spec = spec.map_err(broken)?;
                Ok(spec.as_document().ok_or_else(|| broken("an index is no document"))?.to_owned())
            };
            o.get_array("indexes").map_err(broken)?.into_iter().map(one).collect::<Result<_>>()?
        }
    };
    match specs.iter().find(|spec| spec.get_document("key").is_err()) {
        Some(spec) => Err(broken(format!("the index '{}' has no key", spec.get_str("name").unwrap_or("?")))),
        None => Ok(specs),
    }
}
