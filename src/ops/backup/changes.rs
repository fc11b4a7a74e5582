//! What happened to the collections while they were read: their UUIDs before and after tell.

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::source::Namespace;
use crate::source::describe::Uuids;

/// The namespaces that were dropped, as places in `namespaces`.
///
/// # Errors
/// [`crate::error::Kind::Restart`] if one was renamed or made anew: then its documents may be of two
/// collections, or of none.
pub fn dropped(namespaces: &[Namespace], before: &Uuids, after: &Uuids) -> Result<Vec<usize>> {
    let mut dropped = Vec::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        let key = (namespace.db.clone(), namespace.data_collection().to_string());
        let Some(uuid) = before.get(&key) else { continue };
        if after.get(&key) == Some(uuid) {
            continue;
        }
        let elsewhere =
            after.iter().find(|(_, u)| *u == uuid).map(|((db, collection), _)| format!("{db}.{collection}"));
        match elsewhere {
            Some(other) => {
                return Err(Error::restart(format!("{namespace} was renamed to {other} while it was read")));
            }
            None if after.contains_key(&key) => {
                return Err(Error::restart(format!(
                    "{namespace} was dropped and made anew while it was read"
                )));
            }
            None => dropped.push(at),
        }
    }
    Ok(dropped)
}

/// Holds an engine to what the server said it has: a collection that was there before and still is, and
/// was not read, is an error. (`config` and `admin` are each engine's own affair: which of their
/// collections are dumped differs between versions of mongodump.)
pub fn left_out(wanted: &[Namespace], read: &[Namespace], after: &Uuids) -> Result<()> {
    let read: HashSet<(&str, &str)> = read.iter().map(|n| (n.db.as_str(), n.collection.as_str())).collect();
    for namespace in wanted {
        let key = (namespace.db.clone(), namespace.data_collection().to_string());
        let own = matches!(namespace.db.as_str(), "admin" | "config");
        if !own && after.contains_key(&key) && !read.contains(&(&namespace.db, &namespace.collection)) {
            return Err(Error::failed(format!("{namespace} was not read, though it is there")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::metadata;

    fn uuids(rows: &[(&str, &str)]) -> Uuids {
        rows.iter().map(|(c, u)| (("d".to_string(), c.to_string()), u.to_string())).collect()
    }

    #[test]
    fn what_an_engine_leaves_out_is_named() {
        let [a, b] = ["a", "b"].map(|c| metadata::parse("d", c, "").unwrap());
        let after = uuids(&[("a", "1"), ("b", "2")]);
        let wanted = [a.clone(), b.clone()];
        assert!(left_out(&wanted, &wanted, &after).is_ok());
        let error = left_out(&wanted, std::slice::from_ref(&a), &after).unwrap_err();
        assert!(error.to_string().contains("d.b was not read"), "{error}");
        // Dropped meanwhile: the comparison of UUIDs tells of those that were read.
        assert!(left_out(&wanted, &[a], &uuids(&[("a", "1")])).is_ok());
    }

    #[test]
    fn drops_are_told_from_renames() {
        let namespaces = [metadata::parse("d", "a", "").unwrap(), metadata::parse("d", "b", "").unwrap()];
        let before = uuids(&[("a", "1"), ("b", "2")]);
        assert!(dropped(&namespaces, &before, &before).unwrap().is_empty());
        assert_eq!(dropped(&namespaces, &before, &uuids(&[("b", "2"), ("new", "3")])).unwrap(), [0]);
        let renamed = dropped(&namespaces, &before, &uuids(&[("c", "1"), ("b", "2")])).unwrap_err();
        assert!(renamed.to_string().contains("d.a was renamed to d.c"), "{renamed}");
        let swapped = dropped(&namespaces, &before, &uuids(&[("a", "2"), ("b", "1")])).unwrap_err();
        assert!(swapped.to_string().contains("renamed"), "{swapped}");
        let anew = dropped(&namespaces, &before, &uuids(&[("a", "9"), ("b", "2")])).unwrap_err();
        assert!(anew.to_string().contains("made anew"), "{anew}");
    }
}
