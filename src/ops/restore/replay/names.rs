//! Which namespaces of an oplog are replayed, and what they are called at the target.

use crate::base::error::Result;
use crate::config::selection;
use crate::ops::restore::filter::Filter;
use crate::ops::restore::offer::ordinary;

/// Before the name of a time series: the collection that holds its documents.
pub const BUCKETS: &str = "system.buckets.";

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Names {
    /// Chosen namespaces, and other names for them.
    pub filter: Filter,
    /// Users and roles are restored.
    pub people: bool,
}

/// A namespace at the target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named {
    /// Its database.
    pub db: String,
    /// Its name as users know it.
    pub collection: String,
    /// It is a time series' bucket collection.
    pub buckets: bool,
    /// Its database in the backup.
    pub from_db: String,
    /// Its name in the backup as users know it.
    pub from: String,
}

impl Named {
    /// The collection that holds the documents.
    pub fn stored(&self) -> String {
        if self.buckets { format!("{BUCKETS}{}", self.collection) } else { self.collection.clone() }
    }

    /// Database and name.
    pub fn key(&self) -> (String, String) {
        (self.db.clone(), self.collection.clone())
    }

    /// Whether it holds users or roles.
    pub fn is_people(&self) -> bool {
        is_people(&self.from_db, &self.from)
    }
}

fn is_people(db: &str, collection: &str) -> bool {
    db == "admin" && ["system.users", "system.roles"].contains(&collection)
}

impl Names {
    /// The name of a namespace at the target; `None` if nothing of it is replayed.
    ///
    /// # Errors
    /// If it would get a name that is none.
    pub fn target(&self, db: &str, stored: &str) -> Result<Option<Named>> {
        let (collection, buckets) = match stored.strip_prefix(BUCKETS) {
            Some(collection) => (collection, true),
            None => (stored, false),
        };
        let named = |(to_db, to): (String, String)| Named {
            db: to_db,
            collection: to,
            buckets,
            from_db: db.into(),
            from: collection.into(),
        };
        if is_people(db, collection) {
            return Ok(self.people.then(|| named((db.into(), collection.into()))));
        }
        let full = format!("{db}.{collection}");
        // Empty collections that another restore tried while the backup ran.
        if collection.starts_with(selection::TRIAL_PREFIX) {
            return Ok(None);
        }
        let books =
            db.starts_with("__mdb_internal") || db == "config" && !selection::CONFIG.contains(&collection);
        if books || !ordinary(db, collection) || !self.filter.wants(db, &full) {
            return Ok(None);
        }
        self.filter.target(&full).map(named).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::restore::rename::pairs;

    fn names(include: &[&str], rename: (&[&str], &[&str]), people: bool) -> Names {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let filter = Filter {
            include: include.iter().map(|text| text.parse().unwrap()).collect(),
            exclude: Vec::new(),
            rename: pairs(&texts(rename.0), &texts(rename.1)).unwrap(),
            ..Filter::default()
        };
        Names { filter, people }
    }

    fn target(names: &Names, name: &str) -> Option<String> {
        let (db, collection) = name.split_once('.').unwrap();
        names.target(db, collection).unwrap().map(|named| format!("{}.{}", named.db, named.stored()))
    }

    #[test]
    fn the_servers_own_books_are_left() {
        let all = names(&[], (&[], &[]), true);
        for left in [
            "config.transactions",
            "config.settings",
            "local.oplog.rs",
            "admin.system.version",
            "admin.system.keys",
            "__mdb_internal_x.y",
            "shop.system.profile",
        ] {
            assert_eq!(target(&all, left), None, "{left}");
        }
        for replayed in ["shop.orders", "shop.system.js", "admin.system.users", "shop.system.buckets.w"] {
            assert_eq!(target(&all, replayed).as_deref(), Some(replayed));
        }
        assert_eq!(target(&names(&[], (&[], &[]), false), "admin.system.roles"), None);
        let config = names(&["config.*"], (&[], &[]), false);
        assert_eq!(target(&config, "config.settings").as_deref(), Some("config.settings"));
        assert_eq!(target(&config, "config.transactions"), None);
    }

    #[test]
    fn a_time_series_goes_by_the_name_that_users_know() {
        let some = names(&["shop.w*"], (&["shop.*"], &["copy.*_"]), true);
        assert_eq!(target(&some, "shop.system.buckets.w1").as_deref(), Some("copy.system.buckets.w1_"));
        assert_eq!(target(&some, "shop.orders"), None);
        assert!(names(&[], (&["shop.x"], &["nodot"]), true).target("shop", "x").is_err());
    }
}
