//! The namespaces that are part of a backup: mongodump's rules, narrowed by databases and patterns.

use std::fmt;
use std::str::FromStr;

/// The namespaces that a backup reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these databases; empty means all.
    pub databases: Vec<String>,
    /// Only namespaces that match one of these patterns; empty means all.
    pub include: Vec<Pattern>,
    pub exclude: Vec<Pattern>,
}

/// The database of the tool's own records. It is never part of a dump: records from an old dump would describe old runs.
pub const RECORDS_DB: &str = "uzima_backup";

/// The prefix of the empty collections with which a restore tests what options the target accepts. The restore drops
/// them; if it is killed, a later restore drops them. The name of their database is the prefix without the last
/// character.
pub const TRIAL_PREFIX: &str = "uzima_backup_trial_";

/// The prefix of collections that a restore with `--swap` fills before it moves them in, and of the staging collections of a restore
/// with `--filter` or `--merge`. The id of the restore, an underscore and
/// the name of the collection follow.
pub const LOADED_PREFIX: &str = "uzima_backup_new_";

/// The prefix of collections that a restore with `--swap` moved aside. The name goes on as with [`LOADED_PREFIX`].
pub const KEPT_PREFIX: &str = "uzima_backup_kept_";

/// The name of a collection while the restore with this id fills it.
pub fn loaded_name(id: &str, collection: &str) -> String {
    format!("{LOADED_PREFIX}{id}_{collection}")
}

/// Returns true for the collections that a restore makes beside those of the user. No backup contains them.
pub fn is_of_restore(collection: &str) -> bool {
    collection.starts_with(TRIAL_PREFIX) || is_of_swap(collection)
}

/// Returns true for the collections that a restore with `--swap` fills or keeps.
pub fn is_of_swap(collection: &str) -> bool {
    [LOADED_PREFIX, KEPT_PREFIX].iter().any(|prefix| collection.starts_with(prefix))
}

/// The collections of `config` that mongodump dumps with a whole server (`mongodump/prepare.go`).
pub const CONFIG: [&str; 7] = ["chunks", "collections", "databases", "settings", "shards", "tags", "version"];

impl Selection {
    /// Returns true if the whole server is read, with its users and roles.
    pub fn whole_server(&self) -> bool {
        self.databases.is_empty()
    }

    /// Returns true if no pattern narrows the selection within its databases.
    pub fn unfiltered(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Returns true if the database is read.
    pub fn wants_database(&self, db: &str) -> bool {
        if !self.databases.is_empty() {
            return self.databases.iter().any(|d| d == db);
        }
        let trial = TRIAL_PREFIX.trim_end_matches('_') == db;
        db != "local" && db != RECORDS_DB && !trial && !db.starts_with("__mdb_internal")
    }

    /// Returns true if the collection, by the name that users see, is part of the backup.
    pub fn wants(&self, db: &str, collection: &str) -> bool {
        let namespace = format!("{db}.{collection}");
        let any = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(&namespace));
        self.could_want(db, collection)
            && (self.include.is_empty() || any(&self.include))
            && !any(&self.exclude)
    }

    /// Returns true if this selection certainly has every namespace that `other` has. Patterns are compared one by one: a
    /// pattern that is covered only by several others together does not count as covered.
    pub fn covers(&self, other: &Selection) -> bool {
        let databases = match other.databases.as_slice() {
            [] => self.databases.is_empty(),
            // A whole server has only some collections of `config`.
            named if self.databases.is_empty() => named.iter().all(|db| db != "config"),
            named => named.iter().all(|db| self.databases.contains(db)),
        };
        let within = |pattern: &Pattern, wider: &[Pattern]| wider.iter().any(|wider| wider.covers(pattern));
        let included = self.include.is_empty()
            || (!other.include.is_empty() && other.include.iter().all(|one| within(one, &self.include)));
        let elsewhere = |pattern: &Pattern| {
            let reaches = |db: &String| pattern.may_match_below(&format!("{db}."));
            !other.databases.is_empty() && !other.databases.iter().any(reaches)
        };
        let excluded = |pattern: &Pattern| within(pattern, &other.exclude) || elsewhere(pattern);
        databases && included && self.exclude.iter().all(excluded)
    }

    /// Returns true if the collection would be part of the backup without the patterns.
    pub fn could_want(&self, db: &str, collection: &str) -> bool {
        self.wants_database(db) && self.is_dumped(db, collection)
    }

    /// Returns true if any collection of the database can be part of the backup.
    pub fn may_want_of(&self, db: &str) -> bool {
        let within = |pattern: &Pattern| pattern.may_match_below(&format!("{db}."));
        self.wants_database(db) && (self.include.is_empty() || self.include.iter().any(within))
    }

    /// Returns true if a collection of the database whose name is unknown can be part of the backup.
    pub fn may_want_any_of(&self, db: &str) -> bool {
        // Only a pattern for the whole database can match this name.
        let any = format!("{db}.\u{10fffd}");
        self.may_want_of(db) && !self.exclude.iter().any(|pattern| pattern.matches(&any))
    }

    /// mongodump's rules for system collections (`mongodump/prepare.go`, `shouldSkipSystemNamespace`).
    fn is_dumped(&self, db: &str, collection: &str) -> bool {
        if is_of_restore(collection) || collection.contains('$') && !collection.contains(".oplog.$") {
            return false;
        }
        match db {
            "admin" => collection != "system.keys",
            "config" if self.whole_server() => CONFIG.contains(&collection),
            "config" => true,
            _ => !collection.starts_with("system.") || collection == "system.js",
        }
    }

    /// The selection in a job's name: `all`, or the databases. Patterns add digits of their hash, because a different
    /// selection is a different job.
    pub fn label(&self) -> String {
        let databases = if self.databases.is_empty() { "all".into() } else { self.databases.join("+") };
        if self.unfiltered() {
            return databases;
        }
        let mut hasher = blake3::Hasher::new();
        for (sign, patterns) in [("+", &self.include), ("-", &self.exclude)] {
            for pattern in patterns {
                hasher.update(format!("{sign}{pattern}\n").as_bytes());
            }
        }
        format!("{databases}-{}", &hasher.finalize().to_hex()[..6])
    }
}

/// A pattern over `db.collection`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// The literal texts between the stars; at least one.
    runs: Vec<String>,
}

impl Pattern {
    /// Returns true if the pattern matches the whole of `namespace`.
    pub fn matches(&self, namespace: &str) -> bool {
        let (first, rest) = self.runs.split_first().expect("at least one run");
        let Some(mut text) = namespace.strip_prefix(first.as_str()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return text.is_empty() };
        for run in middle {
            match text.find(run.as_str()) {
                Some(at) => text = &text[at + run.len()..],
                None => return false,
            }
        }
        text.len() >= last.len() && text.ends_with(last.as_str())
    }

    /// Returns true if this pattern matches everything that `other` matches.
    fn covers(&self, other: &Pattern) -> bool {
        // Only a star can match this character, which no pattern has, and a star can match any other text in its place.
        self.matches(&other.runs.join("\u{10fffd}"))
    }

    /// Returns true if the pattern can match a namespace that begins with `start`.
    pub fn may_match_below(&self, start: &str) -> bool {
        let first = self.runs[0].as_str();
        first.starts_with(start) || (self.runs.len() > 1 && start.starts_with(first))
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        let mut runs = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let run = runs.last_mut().expect("never empty");
            match c {
                '*' => runs.push(String::new()),
                '$' => {
                    return Err(format!("the pattern '{text}' contains '$', which no namespace may contain"));
                }
                '\\' => {
                    run.push(chars.next().ok_or_else(|| format!("the pattern '{text}' ends in a lone '\\'"))?)
                }
                c => run.push(c),
            }
        }
        if text.is_empty() {
            return Err("a pattern is empty".into());
        }
        Ok(Pattern { text: text.into(), runs })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_server_has_the_namespaces_that_mongodump_dumps() {
        let all = Selection::default();
        for (db, collection, want) in [
            ("shop", "orders", true),
            ("shop", "system.js", true),
            ("shop", "system.views", false),
            ("shop", "system.profile", false),
            ("shop", "system.buckets.w", false),
            ("shop", "a$b", false),
            ("admin", "system.users", true),
            ("admin", "system.keys", false),
            ("local", "oplog.rs", false),
            ("config", "settings", true),
            ("config", "transactions", false),
            ("uzima_backup", "runs", false),
            ("uzima_backup_trial", "x", false),
            ("shop", "uzima_backup_trial_1_a_0", false),
            ("shop", "uzima_backup_new_20261124T030000Z-7k3q9d_orders", false),
            ("shop", "uzima_backup_kept_20261124T030000Z-7k3q9d_orders", false),
            ("__mdb_internal_x", "c", false),
        ] {
            assert_eq!(all.wants(db, collection), want, "{db}.{collection}");
        }
    }

    #[test]
    fn a_selection_covers_the_selections_within_it() {
        let selection = |databases: &str, include: &str, exclude: &str| {
            let patterns = |text: &str| text.split_whitespace().map(|one| one.parse().unwrap()).collect();
            let databases = databases.split_whitespace().map(Into::into).collect();
            Selection { databases, include: patterns(include), exclude: patterns(exclude) }
        };
        let covers = |wide: [&str; 3], narrow: [&str; 3]| {
            let [wide, narrow] = [wide, narrow].map(|[db, include, exclude]| selection(db, include, exclude));
            wide.covers(&narrow)
        };
        for same in [["", "", ""], ["shop", "", ""], ["", "shop.*", "*.tmp*"], ["config", "", ""]] {
            assert!(covers(same, same), "{same:?}");
        }
        for (wide, narrow) in [
            (["", "", ""], ["shop", "", ""]),
            (["shop blog", "", ""], ["shop", "", "shop.carts"]),
            (["", "", "shop.carts"], ["", "", "shop.*"]),
            (["", "shop.*", ""], ["", "shop.o*", ""]),
            (["shop", "", "blog.*"], ["shop", "", ""]),
        ] {
            assert!(covers(wide, narrow), "{wide:?} {narrow:?}");
            assert!(covers(narrow, wide) == (wide[2] == "blog.*"), "{narrow:?} {wide:?}");
        }
        for (one, other) in [
            (["shop", "", ""], ["blog", "", ""]),
            (["", "", "shop.carts"], ["", "", "blog.*"]),
            (["", "shop.*", ""], ["", "blog.*", ""]),
            (["", "", ""], ["config", "", ""]),
        ] {
            assert!(!covers(one, other) && !covers(other, one), "{one:?} {other:?}");
        }
    }

    #[test]
    fn databases_and_patterns_narrow_the_selection() {
        let selection = Selection {
            databases: vec!["shop".into()],
            include: vec!["shop.*".parse().unwrap()],
            exclude: vec!["*.tmp*".parse().unwrap()],
        };
        assert!(selection.wants("shop", "orders"));
        assert!(selection.may_want_of("shop") && !selection.may_want_of("other"));
        assert!(!selection.wants("shop", "tmp1"));
        assert!(!selection.wants("other", "orders"));
        assert!(selection.label().starts_with("shop-") && selection.label().len() == 11);
        assert_eq!(selection.label(), selection.clone().label());
        let other = Selection { exclude: vec![], ..selection.clone() };
        assert_ne!(selection.label(), other.label());
        assert_eq!(Selection { include: vec![], exclude: vec![], ..selection }.label(), "shop");
    }
}

#[cfg(test)]
mod pattern_tests {
    use super::*;

    #[test]
    fn patterns_follow_the_rules_of_mongorestore() {
        for (pattern, namespace, want) in [
            ("shop.orders", "shop.orders", true),
            ("shop.orders", "shop.orders2", false),
            ("shop.*", "shop.orders", true),
            ("shop.*", "shop.a.b", true),
            ("shop.*", "shops.a", false),
            ("*.orders", "a.b.orders", true),
            ("*", "a.b", true),
            ("a*b*c", "a.xx.b.yy.c", true),
            ("a*b*c", "a.c.b", false),
            ("ab*ba", "aba", false),
            (r"shop.with\*star", "shop.with*star", true),
            (r"shop.with\*star", "shop.withXstar", false),
            (r"shop.back\\slash", r"shop.back\slash", true),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(namespace), want, "{pattern} {namespace}");
        }
    }

    #[test]
    fn a_pattern_may_match_below_a_database() {
        for (pattern, want) in [
            ("shop.orders", true),
            ("shop.o*", true),
            ("sh*", true),
            ("*.orders", true),
            ("shop", false),
            ("shops.*", false),
            ("shops*", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().may_match_below("shop."), want, "{pattern}");
        }
    }

    #[test]
    fn invalid_patterns_are_refused() {
        for bad in ["a.$x", "a\\", ""] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
