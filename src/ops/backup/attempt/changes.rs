//! What happened to the collections of a backup while they were read.

use std::collections::HashSet;

use crate::base::error::{Error, Result};
use crate::model::namespace::Namespace;
use crate::source::describe::Uuids;
use crate::source::native::Gone;

/// What happened to a collection between the list of collections and the end of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Dropped,
    /// Renamed to this name, `db.collection`.
    Renamed(String),
    /// Another collection has the name now: it was created after a drop, or renamed to the name.
    Replaced,
    /// The collection was missing under its name while it was read, and has the name again.
    Away,
}

impl Change {
    /// The warning of a backup that keeps the documents read so far.
    pub(super) fn warning(&self, namespace: &Namespace) -> String {
        let missing = "the backup may lack some of its documents";
        match self {
            Change::Dropped => format!("dropped while it was read: {namespace}"),
            Change::Renamed(to) => format!("renamed to {to} while it was read, {missing}: {namespace}"),
            Change::Replaced => {
                format!("replaced by another collection while it was read, {missing}: {namespace}")
            }
            Change::Away => format!("renamed and renamed back while it was read, {missing}: {namespace}"),
        }
    }

    /// The error of an attempt that does not tolerate the change: the documents may belong to two collections, or some may
    /// be missing.
    fn error(&self, namespace: &Namespace) -> Error {
        let what = match self {
            Change::Dropped => "dropped".into(),
            Change::Renamed(to) => format!("renamed to {to}"),
            Change::Replaced => "dropped and recreated".into(),
            Change::Away => "renamed and renamed back".into(),
        };
        Error::moved(format!("{namespace} was {what} while it was read"))
    }
}

/// The changes of collections, by their UUIDs before and after the reading, each with its place in `namespaces`. `gone` has
/// the collections that the native engine did not find.
pub(super) fn changed(
    namespaces: &[Namespace],
    before: &Uuids,
    after: &Uuids,
    gone: &Gone,
) -> Vec<(usize, Change)> {
    let change = |(at, namespace): (usize, &Namespace)| {
        let key = (namespace.db.clone(), namespace.data_collection().to_string());
        let uuid = before.get(&key)?;
        if after.get(&key) == Some(uuid) {
            return gone.has(&key.0, &key.1).then_some((at, Change::Away));
        }
        let elsewhere = after.iter().find(|(_, u)| *u == uuid);
        let change = match elsewhere {
            Some(((db, collection), _)) => Change::Renamed(format!("{db}.{collection}")),
            None if after.contains_key(&key) => Change::Replaced,
            None => Change::Dropped,
        };
        Some((at, change))
    };
    namespaces.iter().enumerate().filter_map(change).collect()
}

/// Refuses every change but a drop.
///
/// # Errors
/// Returns an error of the kind [`Kind::Moved`](crate::base::error::Kind::Moved) for the first such change.
pub(super) fn only_drops(namespaces: &[Namespace], changes: &[(usize, Change)]) -> Result<()> {
    let other = changes.iter().find(|(_, change)| *change != Change::Dropped);
    other.map_or(Ok(()), |(at, change)| Err(change.error(&namespaces[*at])))
}

/// Checks that the engine read every collection that existed before and exists still. Collections of `config` and `admin` do
/// not count: versions of mongodump differ in which of them they dump.
pub(super) fn left_out(wanted: &[Namespace], read: &[Namespace], after: &Uuids) -> Result<()> {
    let read: HashSet<(&str, &str)> = read.iter().map(|n| (n.db.as_str(), n.collection.as_str())).collect();
    for namespace in wanted {
        let key = (namespace.db.clone(), namespace.data_collection().to_string());
        let own = matches!(namespace.db.as_str(), "admin" | "config");
        if !own && after.contains_key(&key) && !read.contains(&(&namespace.db, &namespace.collection)) {
            return Err(Error::failed(format!("{namespace} exists, but was not read")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dumpformat::metadata;

    fn uuids(rows: &[(&str, &str)]) -> Uuids {
        rows.iter().map(|(c, u)| (("d".to_string(), c.to_string()), u.to_string())).collect()
    }

    #[test]
    fn a_collection_that_the_engine_leaves_out_is_an_error() {
        let [a, b] = ["a", "b"].map(|c| metadata::parse("d", c, "").unwrap());
        let after = uuids(&[("a", "1"), ("b", "2")]);
        let wanted = [a.clone(), b.clone()];
        assert!(left_out(&wanted, &wanted, &after).is_ok());
        let error = left_out(&wanted, std::slice::from_ref(&a), &after).unwrap_err();
        assert!(error.to_string().contains("d.b exists, but was not read"), "{error}");
        // A collection that was dropped during the run need not be read.
        assert!(left_out(&wanted, &[a], &uuids(&[("a", "1")])).is_ok());
    }

    #[test]
    fn drops_and_renames_are_distinguished() {
        let namespaces = [metadata::parse("d", "a", "").unwrap(), metadata::parse("d", "b", "").unwrap()];
        let before = uuids(&[("a", "1"), ("b", "2")]);
        let changed = |after: &[(&str, &str)], gone: &Gone| {
            let changes = changed(&namespaces, &before, &uuids(after), gone);
            let refused = only_drops(&namespaces, &changes).err().map(|e| e.to_string());
            (changes, refused.unwrap_or_default())
        };
        let none = Gone::default();
        let same = [("a", "1"), ("b", "2")];
        assert_eq!(changed(&same, &none), (vec![], String::new()));
        let dropped = changed(&[("b", "2"), ("new", "3")], &none);
        assert_eq!(dropped, (vec![(0, Change::Dropped)], String::new()));
        let (renamed, words) = changed(&[("c", "1"), ("b", "2")], &none);
        assert_eq!(renamed, [(0, Change::Renamed("d.c".into()))]);
        assert!(words.contains("d.a was renamed to d.c"), "{words}");
        let (swapped, words) = changed(&[("a", "2"), ("b", "1")], &none);
        assert!(swapped.len() == 2 && words.contains("renamed"), "{words}");
        let (anew, words) = changed(&[("a", "9"), ("b", "2")], &none);
        assert_eq!(anew, [(0, Change::Replaced)]);
        assert!(words.contains("recreated"), "{words}");
        // The lists are equal, but the collection was not found while it was read.
        let gone = Gone::default();
        gone.add("d", "b");
        let (away, words) = changed(&same, &gone);
        assert_eq!(away, [(1, Change::Away)]);
        assert!(words.contains("d.b was renamed and renamed back"), "{words}");
    }
}
