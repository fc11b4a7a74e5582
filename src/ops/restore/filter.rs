//! What of a backup is wanted, under which name.

use std::collections::{BTreeMap, BTreeSet};

use super::offer::{Offer, ordinary};
use super::rename::{Rename, renamed};
use crate::base::error::{Error, Result};
use crate::base::suggest;
use crate::config::pattern::Pattern;

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only namespaces that match one of these; empty means all.
    pub include: Vec<Pattern>,
    /// None that matches one of these.
    pub exclude: Vec<Pattern>,
    /// Other names.
    pub rename: Vec<Rename>,
    /// Indexes whose `database.collection.index` matches one of these patterns are left out.
    pub no_index: Vec<Pattern>,
}

/// A namespace that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Its place in the backup's list.
    pub at: usize,
    /// The target's database.
    pub db: String,
    /// The target's collection.
    pub collection: String,
}

impl Chosen {
    /// Database and collection at the target.
    pub fn key(&self) -> (String, String) {
        (self.db.clone(), self.collection.clone())
    }

    /// `db.collection` at the target.
    pub fn name(&self) -> String {
        format!("{}.{}", self.db, self.collection)
    }
}

impl Filter {
    /// Whether nothing narrows or renames.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.rename.is_empty()
    }

    /// Chooses from the offered namespaces. A pattern may also match only namespaces of the oplog slice, `slice`.
    ///
    /// # Errors
    /// If a pattern matches nothing, if two namespaces would get one name, or if a name cannot be one.
    pub fn choose(&self, offers: &[Offer], slice: &BTreeSet<String>) -> Result<Vec<Chosen>> {
        let names: Vec<(usize, String)> = offers
            .iter()
            .enumerate()
            .filter(|(_, o)| ordinary(&o.db, &o.collection))
            .map(|(at, o)| (at, o.name()))
            .collect();
        let given = self
            .include
            .iter()
            .map(|p| ("--ns-include", p.to_string(), names.iter().any(|(_, n)| p.matches(n))));
        let left = self
            .exclude
            .iter()
            .map(|p| (p, names.iter().any(|(_, n)| p.matches(n)) || slice.iter().any(|n| p.matches(n))))
            .map(|(p, matched)| ("--ns-exclude", p.to_string(), matched));
        let renames = self
            .rename
            .iter()
            // A name that would go to a collection beside the live one must not end up in its place.
            .map(|r| {
                let mut wanted = names.iter().filter(|(at, n)| self.wants(&offers[*at].db, n));
                ("--ns-from", r.from_text.clone(), wanted.any(|(_, n)| r.apply(n).is_some()))
            });
        for (flag, pattern, matched) in given.chain(left).chain(renames) {
            if !matched {
                let of = if flag == "--ns-from" { "that is restored" } else { "in the backup" };
                let error = Error::usage(format!("{flag} '{pattern}' matches nothing {of}"));
                return Err(match suggest::advice(&pattern, names.iter().map(|(_, name)| name.as_str())) {
                    Some(advice) => error.hint(advice),
                    None => error,
                });
            }
        }
        let mut chosen = Vec::new();
        let mut taken = BTreeMap::new();
        for (at, name) in names.iter().filter(|(at, name)| self.wants(&offers[*at].db, name)) {
            let (db, collection) = self.target(name)?;
            let target = format!("{db}.{collection}");
            if let Some(other) = taken.insert(target.clone(), name) {
                return Err(Error::usage(format!("both {other} and {name} would become {target}")));
            }
            chosen.push(Chosen { at: *at, db, collection });
        }
        Ok(chosen)
    }

    /// Whether a namespace of this database with this whole name is wanted.
    pub fn wants(&self, db: &str, name: &str) -> bool {
        let named = self.include.iter().any(|p| p.matches(name));
        // The cluster's own books: on another server they would speak of shards that are not there.
        let everyday = db != "config" || named;
        everyday && (self.include.is_empty() || named) && !self.exclude.iter().any(|p| p.matches(name))
    }

    /// Returns true if an index, `database.collection.index`, is not left out.
    pub fn wants_index(&self, name: &str) -> bool {
        !self.no_index.iter().any(|pattern| pattern.matches(name))
    }

    /// Checks that each `--no-index` pattern matches one of these indexes.
    ///
    /// # Errors
    /// Returns a usage error that names the first pattern without a match.
    pub fn check_indexes(&self, indexes: &BTreeSet<String>) -> Result<()> {
        let matches = |pattern: &&Pattern| !indexes.iter().any(|name| pattern.matches(name));
        let Some(pattern) = self.no_index.iter().find(matches) else { return Ok(()) };
        let error = Error::usage(format!("--no-index '{pattern}' matches no index that is restored"));
        Err(match suggest::advice(&pattern.to_string(), indexes.iter().map(String::as_str)) {
            Some(advice) => error.hint(advice),
            None => error,
        })
    }

    /// Database and collection that a namespace becomes at the target.
    ///
    /// # Errors
    /// If that is no namespace.
    pub fn target(&self, name: &str) -> Result<(String, String)> {
        let target = renamed(&self.rename, name);
        let parts =
            target.split_once('.').filter(|(db, collection)| !db.is_empty() && !collection.is_empty());
        let (db, collection) = parts
            .ok_or_else(|| Error::usage(format!("{name} cannot become '{target}': that is no namespace")))?;
        Ok((db.to_string(), collection.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::namespace::Type;
    use crate::ops::restore::rename::pairs;

    fn offers() -> Vec<Offer> {
        let names = [
            "admin.system.users",
            "config.settings",
            "shop.orders",
            "shop.items",
            "shop.system.js",
            "blog.posts",
        ];
        let offer = |name: &str| {
            let (db, collection) = name.split_once('.').unwrap();
            let (db, collection) = (db.to_string(), collection.to_string());
            Offer {
                db,
                collection,
                kind: Type::Collection,
                documents: 0,
                raw_bytes: 0,
                stored_bytes: 0,
                sum: 0,
            }
        };
        names.into_iter().map(offer).collect()
    }

    fn filter(include: &[&str], exclude: &[&str], rename: &[(&str, &str)]) -> Filter {
        let patterns = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let (from, to): (Vec<_>, Vec<_>) = rename.iter().map(|(a, b)| (a.to_string(), b.to_string())).unzip();
        Filter {
            include: patterns(include),
            exclude: patterns(exclude),
            rename: pairs(&from, &to).unwrap(),
            ..Filter::default()
        }
    }

    fn names(filter: &Filter) -> Vec<String> {
        filter.choose(&offers(), &BTreeSet::new()).unwrap().iter().map(Chosen::name).collect()
    }

    #[test]
    fn everything_but_the_servers_own() {
        assert_eq!(names(&Filter::default()), ["shop.orders", "shop.items", "shop.system.js", "blog.posts"]);
        assert_eq!(names(&filter(&["config.*"], &[], &[])), ["config.settings"]);
    }

    #[test]
    fn patterns_choose_and_rename() {
        let chosen = names(&filter(&["shop.*"], &["*.items"], &[("shop.*", "copy.*")]));
        assert_eq!(chosen, ["copy.orders", "copy.system.js"]);
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_an_error_with_near_misses() {
        for filter in [
            filter(&["shop.orders", "shop.order"], &[], &[]),
            filter(&[], &["Shop.Orders"], &[]),
            filter(&[], &[], &[("shop.ordres", "a.b")]),
        ] {
            let error = filter.choose(&offers(), &BTreeSet::new()).unwrap_err();
            assert_eq!(error.exit(), crate::base::exit::Exit::Usage);
            assert!(error.next_step().unwrap().contains("shop.orders"), "{error}: {:?}", error.next_step());
        }
        let error = filter(&["shop"], &[], &[]).choose(&offers(), &BTreeSet::new()).unwrap_err();
        assert!(error.next_step().unwrap().contains("write 'shop.*'"), "{:?}", error.next_step());
    }

    #[test]
    fn two_namespaces_do_not_become_one() {
        let error = filter(&[], &[], &[("shop.orders", "shop.items")])
            .choose(&offers(), &BTreeSet::new())
            .unwrap_err();
        assert!(error.to_string().contains("both shop.orders and shop.items"), "{error}");
        assert!(filter(&[], &[], &[("shop.orders", "nodot")]).choose(&offers(), &BTreeSet::new()).is_err());
    }
}
