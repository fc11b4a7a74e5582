//! What is part of a backup: mongodump's own rules, narrowed by databases and patterns.

use super::pattern::Pattern;

/// Which namespaces are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Only these databases; empty means all.
    pub databases: Vec<String>,
    /// Only namespaces that match one of these; empty means all.
    pub include: Vec<Pattern>,
    /// No namespace that matches one of these.
    pub exclude: Vec<Pattern>,
}

/// The database of the tool's own records, never part of a dump: restored from an old dump they
/// would speak of runs that are long over.
pub const RECORDS_DB: &str = "uzima_backup";

/// The prefix of the empty collections with which a restore tries what the target accepts. The restore drops them at once;
/// after a killed restore, a later one drops them. Their database is named like the prefix without the last character.
pub const TRIAL_PREFIX: &str = "uzima_backup_trial_";

/// What mongodump takes of `config` in a dump of a whole server (`mongodump/prepare.go`).
pub const CONFIG: [&str; 7] = ["chunks", "collections", "databases", "settings", "shards", "tags", "version"];

impl Selection {
    /// Whether a whole server is wanted, with its users and roles.
    pub fn whole_server(&self) -> bool {
        self.databases.is_empty()
    }

    /// Whether nothing narrows the selection within its databases.
    pub fn unfiltered(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether the database is read at all.
    pub fn wants_database(&self, db: &str) -> bool {
        if self.databases.is_empty() {
            let trial = TRIAL_PREFIX.trim_end_matches('_') == db;
            db != "local" && db != RECORDS_DB && !trial && !db.starts_with("__mdb_internal")
        } else {
            self.databases.iter().any(|d| d == db)
        }
    }

    /// Whether the collection, by the name users know, is part of the backup.
    pub fn wants(&self, db: &str, collection: &str) -> bool {
        if !self.could_want(db, collection) {
            return false;
        }
        let namespace = format!("{db}.{collection}");
        (self.include.is_empty() || self.include.iter().any(|p| p.matches(&namespace)))
            && !self.exclude.iter().any(|p| p.matches(&namespace))
    }

    /// Whether it would be, if no pattern narrowed the selection.
    pub fn could_want(&self, db: &str, collection: &str) -> bool {
        self.wants_database(db) && self.is_dumped(db, collection)
    }

    /// Whether a collection of the database, whatever its name, can be part of the backup.
    pub fn may_want_of(&self, db: &str) -> bool {
        let within = |pattern: &Pattern| pattern.may_match_below(&format!("{db}."));
        self.wants_database(db) && (self.include.is_empty() || self.include.iter().any(within))
    }

    /// Returns true if a collection of the database whose name is unknown can be part of the backup.
    pub fn may_want_any_of(&self, db: &str) -> bool {
        // A name that only a pattern for the whole database can match.
        let any = format!("{db}.\u{10fffd}");
        self.may_want_of(db) && !self.exclude.iter().any(|pattern| pattern.matches(&any))
    }

    /// mongodump's rules for system collections (`mongodump/prepare.go`, `shouldSkipSystemNamespace`).
    fn is_dumped(&self, db: &str, collection: &str) -> bool {
        if collection.starts_with(TRIAL_PREFIX)
            || collection.contains('$') && !collection.contains(".oplog.$")
        {
            return false;
        }
        match db {
            "admin" => collection != "system.keys",
            "config" if self.whole_server() => CONFIG.contains(&collection),
            "config" => true,
            _ => !collection.starts_with("system.") || collection == "system.js",
        }
    }

    /// The name of the selection in a job's name: `all`, or the databases; with patterns, also a few
    /// digits that stand for them, because what reads something else is another line of backups.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_server_is_what_mongodump_takes() {
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
            ("__mdb_internal_x", "c", false),
        ] {
            assert_eq!(all.wants(db, collection), want, "{db}.{collection}");
        }
    }

    #[test]
    fn databases_and_patterns_narrow_it() {
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
