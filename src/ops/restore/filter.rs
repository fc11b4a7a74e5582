//! Chooses the namespaces to restore, and their names at the target.
//!
//! Names change by the rules of mongorestore's `--ns-from` and `--ns-to`: `*` and `$name$` match as little text as
//! possible, and the second pattern gets the matched text. If several pairs match, the last one applies. Source:
//! mongo-tools, `mongorestore/ns/ns.go`.

use std::collections::{BTreeMap, BTreeSet};

use super::namespaces::{BackupNamespace, ChosenNamespace, is_ordinary};
use crate::base::error::{Error, Result};
use crate::base::suggest;
use crate::config::selection::{self, Pattern};
use crate::dumpformat::oplog::{ReplayNames, TargetNamespace, is_users_or_roles};
use crate::model::namespace::BUCKETS;

/// The namespaces to restore, and their names at the target.
#[derive(Debug, Clone, Default)]
pub struct RestoreFilter {
    /// Restores only namespaces that match one of these patterns; empty means all.
    pub include: Vec<Pattern>,
    /// Leaves out namespaces that match one of these patterns.
    pub exclude: Vec<Pattern>,
    /// Pairs of patterns that change names.
    pub rename: Vec<Rename>,
    /// Leaves out indexes whose `database.collection.index` matches one of these patterns.
    pub no_index: Vec<Pattern>,
}

impl RestoreFilter {
    /// Returns true if all namespaces are restored under their names.
    pub(crate) fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.rename.is_empty()
    }

    /// Returns true if some namespaces are left out.
    pub(super) fn is_partial(&self) -> bool {
        !(self.include.is_empty() && self.exclude.is_empty())
    }

    /// Chooses from the namespaces of a backup. A pattern of `exclude` may also match only namespaces of the
    /// oplog slice, `slice`. Returns a usage error if a pattern matches nothing, if two namespaces would get
    /// the same name, or if a new name is invalid.
    pub(crate) fn choose(
        &self,
        contents: &[BackupNamespace],
        slice: &BTreeSet<String>,
    ) -> Result<Vec<ChosenNamespace>> {
        self.choose_with(contents, slice, &BTreeSet::new())
    }

    /// The same. A pattern of `include` may also match only namespaces in `created`.
    pub(crate) fn choose_with(
        &self,
        contents: &[BackupNamespace],
        slice: &BTreeSet<String>,
        created: &BTreeSet<String>,
    ) -> Result<Vec<ChosenNamespace>> {
        let names: Vec<(usize, String)> = contents
            .iter()
            .enumerate()
            .filter(|(_, o)| is_ordinary(&o.db, &o.collection))
            .map(|(at, o)| (at, o.name()))
            .collect();
        let has = |pattern: &Pattern| names.iter().any(|(_, name)| pattern.matches(name));
        let in_slice = |pattern: &Pattern| slice.iter().any(|name| pattern.matches(name));
        // Without this check, a mistyped rename would restore a collection over the live one.
        let renames = |pair: &Rename| {
            let wanted = names.iter().filter(|(at, name)| self.wants(&contents[*at].db, name));
            let created = created
                .iter()
                .filter(|name| name.split_once('.').is_some_and(|(db, _)| self.wants(db, name)));
            wanted.map(|(_, name)| name).chain(created).any(|name| pair.apply(name).is_some())
        };
        let is_created = |pattern: &Pattern| created.iter().any(|name| pattern.matches(name));
        let included = self.include.iter().map(|p| ("--ns-include", p.to_string(), has(p) || is_created(p)));
        let excluded = self.exclude.iter().map(|p| ("--ns-exclude", p.to_string(), has(p) || in_slice(p)));
        let renamed = self.rename.iter().map(|pair| ("--ns-from", pair.from_text.clone(), renames(pair)));
        let unmatched = included.chain(excluded).chain(renamed).find(|(_, _, matched)| !matched);
        if let Some((flag, pattern, _)) = unmatched {
            let of = if flag == "--ns-from" { "that is restored" } else { "in the backup" };
            let what = format!("{flag} '{pattern}' matches nothing {of}");
            return Err(unmatched_pattern(what, &pattern, names.iter().map(|(_, name)| name.as_str())));
        }
        let mut chosen = Vec::new();
        let mut taken = BTreeMap::new();
        for (at, name) in names.iter().filter(|(at, name)| self.wants(&contents[*at].db, name)) {
            let (db, collection) = self.target(name)?;
            let target = format!("{db}.{collection}");
            if let Some(other) = taken.insert(target.clone(), name) {
                return Err(Error::usage(format!("both {other} and {name} would become {target}")));
            }
            chosen.push(ChosenNamespace { at: *at, db, collection });
        }
        Ok(chosen)
    }

    /// Returns true if a namespace is restored; `name` is `database.collection`.
    fn wants(&self, db: &str, name: &str) -> bool {
        let named = self.include.iter().any(|p| p.matches(name));
        // The cluster's metadata would describe shards that another server does not have.
        let everyday = db != "config" || named;
        everyday && (self.include.is_empty() || named) && !self.exclude.iter().any(|p| p.matches(name))
    }

    /// Returns true if an index, `database.collection.index`, is not left out.
    pub(super) fn wants_index(&self, name: &str) -> bool {
        !self.no_index.iter().any(|pattern| pattern.matches(name))
    }

    /// Checks that each `--no-index` pattern matches one of these indexes. Returns a usage error that names
    /// the first pattern without a match.
    pub(super) fn check_indexes(&self, indexes: &BTreeSet<String>) -> Result<()> {
        let unmatched = |pattern: &&Pattern| !indexes.iter().any(|name| pattern.matches(name));
        let Some(pattern) = self.no_index.iter().find(unmatched) else { return Ok(()) };
        let what = format!("--no-index '{pattern}' matches no index that is restored");
        Err(unmatched_pattern(what, &pattern.to_string(), indexes.iter().map(String::as_str)))
    }

    /// Database and collection at the target. Returns a usage error if the new name is not a namespace.
    pub(crate) fn target(&self, name: &str) -> Result<(String, String)> {
        let target = renamed(&self.rename, name);
        let parts =
            target.split_once('.').filter(|(db, collection)| !db.is_empty() && !collection.is_empty());
        let (db, collection) = parts.ok_or_else(|| {
            Error::usage(format!("{name} cannot become '{target}', which is not a namespace"))
        })?;
        Ok((db.to_string(), collection.to_string()))
    }
}

/// The error of a pattern that matches none of these names, with names that are similar to it.
fn unmatched_pattern<'a>(what: String, pattern: &str, names: impl Iterator<Item = &'a str>) -> Error {
    suggest::advice(pattern, names).into_iter().fold(Error::usage(what), Error::hint)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PatternPart {
    Literal(String),
    /// `*` (`None`), or `$name$`.
    Any(Option<String>),
}

/// A pair of `--ns-from` and `--ns-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    pub from_text: String,
    pub to_text: String,
    from: Vec<PatternPart>,
    to: Vec<PatternPart>,
}

/// Pairs the patterns of `--ns-from` and `--ns-to`.
///
/// # Errors
/// Returns the reason if they do not pair up.
pub fn pairs(from: &[String], to: &[String]) -> Result<Vec<Rename>, String> {
    if from.len() != to.len() {
        let times = |given: &[String]| match given.len() {
            0 => "not at all".to_string(),
            1 => "once".to_string(),
            n => format!("{n} times"),
        };
        return Err(format!(
            "--ns-from is given {}, --ns-to {}: they go in pairs, as in --ns-from 'shop.*' --ns-to 'copy.*'",
            times(from),
            times(to)
        ));
    }
    from.iter().zip(to).map(|(from, to)| pair(from, to)).collect()
}

fn pair(from_text: &str, to_text: &str) -> Result<Rename, String> {
    let (from, to) = (parse(from_text)?, parse(to_text)?);
    let (mut of_from, mut of_to) = (wildcards(&from), wildcards(&to));
    of_from.sort();
    of_to.sort();
    let mixed = |names: &[&Option<String>]| names.iter().any(|n| n.is_some()) && names.contains(&&None);
    if mixed(&of_from) || mixed(&of_to) {
        return Err(format!("'{from_text}' and '{to_text}': use either '*' or '$names$', not both"));
    }
    if of_from != of_to {
        return Err(format!("'{from_text}' and '{to_text}' need the same '*' or '$names$'"));
    }
    if of_from.windows(2).any(|two| two[0].is_some() && two[0] == two[1]) {
        return Err(format!("'{from_text}' uses a name twice"));
    }
    Ok(Rename { from_text: from_text.into(), to_text: to_text.into(), from, to })
}

/// The wildcards in order: `None` for `*`, or the name of `$name$`.
fn wildcards(parts: &[PatternPart]) -> Vec<&Option<String>> {
    let wildcards = parts.iter().filter_map(|part| match part {
        PatternPart::Any(name) => Some(name),
        PatternPart::Literal(_) => None,
    });
    wildcards.collect()
}

fn parse(text: &str) -> Result<Vec<PatternPart>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars();
    let end = |literal: &mut String, parts: &mut Vec<PatternPart>| {
        if !literal.is_empty() {
            parts.push(PatternPart::Literal(std::mem::take(literal)));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                literal.push(chars.next().ok_or_else(|| format!("the pattern '{text}' ends in a lone '\\'"))?)
            }
            '*' => {
                end(&mut literal, &mut parts);
                parts.push(PatternPart::Any(None));
            }
            '$' => {
                end(&mut literal, &mut parts);
                let name: String = chars.by_ref().take_while(|c| *c != '$').collect();
                let known = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if !known || !text.contains(&format!("${name}$")) {
                    return Err(format!("the pattern '{text}' has a '$' that does not begin a '$name$'"));
                }
                parts.push(PatternPart::Any(Some(name)));
            }
            c => literal.push(c),
        }
    }
    end(&mut literal, &mut parts);
    if parts.is_empty() {
        return Err("a pattern of --ns-from or --ns-to is empty".into());
    }
    Ok(parts)
}

impl Rename {
    /// The new name; `None` if the pattern does not match.
    pub fn apply(&self, namespace: &str) -> Option<String> {
        let mut found = Vec::new();
        fits(&self.from, namespace, &mut found).then(|| self.filled(&found))
    }

    fn filled(&self, found: &[&str]) -> String {
        let by_name: BTreeMap<&Option<String>, &str> =
            wildcards(&self.from).into_iter().zip(found.iter().copied()).collect();
        let mut in_order = found.iter();
        let mut out = String::new();
        for part in &self.to {
            match part {
                PatternPart::Literal(text) => out.push_str(text),
                PatternPart::Any(None) => out.push_str(in_order.next().copied().unwrap_or_default()),
                PatternPart::Any(name) => out.push_str(by_name.get(name).copied().unwrap_or_default()),
            }
        }
        out
    }
}

/// Returns true if the parts match the whole text. Puts the text that each wildcard matches into `found`; each
/// match is as short as possible.
fn fits<'a>(parts: &[PatternPart], text: &'a str, found: &mut Vec<&'a str>) -> bool {
    match parts.split_first() {
        None => text.is_empty(),
        Some((PatternPart::Literal(literal), rest)) => {
            text.strip_prefix(literal.as_str()).is_some_and(|text| fits(rest, text, found))
        }
        Some((PatternPart::Any(_), rest)) => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            for end in ends {
                found.push(&text[..end]);
                if fits(rest, &text[end..], found) {
                    return true;
                }
                found.pop();
            }
            false
        }
    }
}

/// The name at the target, by the last pair that matches.
pub fn renamed(pairs: &[Rename], namespace: &str) -> String {
    pairs.iter().rev().find_map(|pair| pair.apply(namespace)).unwrap_or_else(|| namespace.to_string())
}

/// The namespaces to restore, and their names at the target.
#[derive(Debug, Clone)]
pub(crate) struct ReplayFilter {
    pub filter: RestoreFilter,
    /// True if users and roles are restored.
    pub users: bool,
    /// The id of a restore whose staging collections get the writes.
    pub staged: Option<String>,
}

impl ReplayNames for ReplayFilter {
    fn target(&self, db: &str, stored: &str) -> Result<Option<TargetNamespace>> {
        let (collection, buckets) = match stored.strip_prefix(BUCKETS) {
            Some(collection) => (collection, true),
            None => (stored, false),
        };
        let named = |(to_db, to): (String, String)| TargetNamespace {
            db: to_db,
            collection: to,
            buckets,
            from_db: db.into(),
            from: collection.into(),
        };
        if is_users_or_roles(db, collection) {
            return Ok(self.users.then(|| named((db.into(), collection.into()))));
        }
        let full = format!("{db}.{collection}");
        // Another restore made these collections while the backup ran.
        if selection::is_of_restore(collection) {
            return Ok(None);
        }
        let books =
            db.starts_with("__mdb_internal") || db == "config" && !selection::CONFIG.contains(&collection);
        if books || !is_ordinary(db, collection) || !self.filter.wants(db, &full) {
            return Ok(None);
        }
        let (to_db, to) = self.filter.target(&full)?;
        let to = match &self.staged {
            Some(id) => selection::loaded_name(id, &to),
            None => to,
        };
        Ok(Some(named((to_db, to))))
    }

    fn wants_index(&self, name: &str) -> bool {
        self.filter.wants_index(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::namespace::Type;

    fn contents() -> Vec<BackupNamespace> {
        let names = [
            "admin.system.users",
            "config.settings",
            "shop.orders",
            "shop.items",
            "shop.system.js",
            "blog.posts",
        ];
        let source = |name: &str| {
            let (db, collection) = name.split_once('.').unwrap();
            let (db, collection) = (db.to_string(), collection.to_string());
            BackupNamespace {
                db,
                collection,
                kind: Type::Collection,
                documents: 0,
                raw_bytes: 0,
                stored_bytes: 0,
                sum: 0,
            }
        };
        names.into_iter().map(source).collect()
    }

    fn filter(include: &[&str], exclude: &[&str], rename: &[(&str, &str)]) -> RestoreFilter {
        let patterns = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let (from, to): (Vec<_>, Vec<_>) = rename.iter().map(|(a, b)| (a.to_string(), b.to_string())).unzip();
        RestoreFilter {
            include: patterns(include),
            exclude: patterns(exclude),
            rename: pairs(&from, &to).unwrap(),
            ..RestoreFilter::default()
        }
    }

    fn names(filter: &RestoreFilter) -> Vec<String> {
        filter.choose(&contents(), &BTreeSet::new()).unwrap().iter().map(ChosenNamespace::name).collect()
    }

    #[test]
    fn the_servers_own_namespaces_are_not_chosen() {
        assert_eq!(
            names(&RestoreFilter::default()),
            ["shop.orders", "shop.items", "shop.system.js", "blog.posts"]
        );
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
            let error = filter.choose(&contents(), &BTreeSet::new()).unwrap_err();
            assert_eq!(error.exit(), crate::base::exit::Exit::Usage);
            assert!(error.next_step().unwrap().contains("shop.orders"), "{error}: {:?}", error.next_step());
        }
        let error = filter(&["shop"], &[], &[]).choose(&contents(), &BTreeSet::new()).unwrap_err();
        assert!(error.next_step().unwrap().contains("write 'shop.*'"), "{:?}", error.next_step());
    }

    #[test]
    fn two_namespaces_cannot_get_one_name() {
        let error = filter(&[], &[], &[("shop.orders", "shop.items")])
            .choose(&contents(), &BTreeSet::new())
            .unwrap_err();
        assert!(error.to_string().contains("both shop.orders and shop.items"), "{error}");
        assert!(filter(&[], &[], &[("shop.orders", "nodot")]).choose(&contents(), &BTreeSet::new()).is_err());
    }

    fn rename(pairs_of: &[(&str, &str)], name: &str) -> String {
        let (from, to): (Vec<String>, Vec<String>) =
            pairs_of.iter().map(|(a, b)| (a.to_string(), b.to_string())).unzip();
        renamed(&pairs(&from, &to).unwrap(), name)
    }

    #[test]
    fn names_change_by_mongorestores_rules() {
        for (from, to, name, want) in [
            ("shop.*", "copy.*", "shop.a.b", "copy.a.b"),
            ("shop.orders", "copy.o", "shop.orders", "copy.o"),
            ("shop.orders", "copy.o", "shop.orders2", "shop.orders2"),
            ("$db$.$coll$", "$coll$.$db$", "a.b.c", "b.c.a"),
            ("$db$.user$n$", "users.$db$_$n$", "eu.user7", "users.eu_7"),
            ("*.x*", "*.y*", "a.xxb", "a.yxb"),
            (r"d.a\*b", r"d.\$c", "d.a*b", "d.$c"),
            ("é*ü", "*", "éabü", "ab"),
        ] {
            assert_eq!(rename(&[(from, to)], name), want, "{from} {to}");
        }
        assert_eq!(rename(&[("a.*", "b.*"), ("a.x", "c.x")], "a.x"), "c.x", "the last pair wins");
        assert_eq!(rename(&[("a.x", "c.x"), ("a.*", "b.*")], "a.x"), "b.x", "the last pair wins");
    }

    #[test]
    fn patterns_that_do_not_pair_up_are_refused() {
        for (from, to) in [
            ("a.*", "b.c"),
            ("a.*", "b.$x$"),
            ("a.$x$", "b.$y$"),
            ("$a$.*", "*.$a$"),
            ("a.$", "b.$"),
            ("", "a"),
            ("$a$.$a$", "$a$.$a$"),
        ] {
            assert!(pair(from, to).is_err(), "{from} {to}");
        }
        let given = |n: usize| vec!["a".to_string(); n];
        for (from, to, words) in [
            (1, 0, "--ns-from is given once, --ns-to not at all: "),
            (2, 3, "--ns-from is given 2 times, --ns-to 3 times: "),
        ] {
            let why = pairs(&given(from), &given(to)).unwrap_err();
            assert!(why.starts_with(words), "{why}");
        }
    }

    fn replay_filter(include: &[&str], rename: (&[&str], &[&str]), users: bool) -> ReplayFilter {
        let texts = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let filter = RestoreFilter {
            include: include.iter().map(|text| text.parse().unwrap()).collect(),
            exclude: Vec::new(),
            rename: pairs(&texts(rename.0), &texts(rename.1)).unwrap(),
            ..RestoreFilter::default()
        };
        ReplayFilter { filter, users, staged: None }
    }

    fn target(filter: &ReplayFilter, name: &str) -> Option<String> {
        let (db, collection) = name.split_once('.').unwrap();
        filter.target(db, collection).unwrap().map(|named| format!("{}.{}", named.db, named.stored()))
    }

    #[test]
    fn the_servers_own_namespaces_are_not_replayed() {
        let all = replay_filter(&[], (&[], &[]), true);
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
        assert_eq!(target(&replay_filter(&[], (&[], &[]), false), "admin.system.roles"), None);
        let config = replay_filter(&["config.*"], (&[], &[]), false);
        assert_eq!(target(&config, "config.settings").as_deref(), Some("config.settings"));
        assert_eq!(target(&config, "config.transactions"), None);
    }

    #[test]
    fn a_time_series_is_matched_by_its_own_name() {
        let some = replay_filter(&["shop.w*"], (&["shop.*"], &["copy.*_"]), true);
        assert_eq!(target(&some, "shop.system.buckets.w1").as_deref(), Some("copy.system.buckets.w1_"));
        assert_eq!(target(&some, "shop.orders"), None);
        assert!(replay_filter(&[], (&["shop.x"], &["nodot"]), true).target("shop", "x").is_err());
    }
}
