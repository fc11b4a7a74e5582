//! The changes of namespaces and indexes, each with the point before it.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::catalog::ranges::Restorable;
use crate::config::selection::Pattern;
use crate::model::optime::OpTime;
use crate::model::slice::NamespaceChange;

/// The most changes that are kept.
const MOST: usize = 20_000;
/// `dropDatabase` waits this many seconds, at most, for other members after its last collection is dropped (MongoDB
/// `src/mongo/db/catalog/drop_database.cpp`, 10 minutes).
pub(super) const DROPPING: u32 = 600;
/// The most seconds between two collections that `dropDatabase` drops.
const BETWEEN: u32 = 60;

/// A change of a namespace or its indexes.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct TimelineChange {
    pub at: OpTime,
    pub time: DateTime<Utc>,
    /// `drop`, `dropDatabase`, `renameCollection`, `create`, `createIndexes`, `dropIndexes`, `collMod`, `convertToCapped` or
    /// `emptycapped`.
    pub command: String,
    /// `database.collection`, or the database of `dropDatabase`.
    pub ns: String,
    /// The new name of a renamed collection.
    pub to: Option<String>,
    /// The names of the indexes.
    pub indexes: Vec<String>,
    /// Only for `dropDatabase`: the collections that it dropped.
    pub collections: Vec<String>,
    /// Approximately how many documents were lost. `None` if that is unknown.
    pub documents: Option<u64>,
    /// The argument of `restore --before`: the state before the change. For `dropDatabase`, before its first collection was
    /// dropped.
    pub before: String,
    /// True if this state can be restored.
    pub restorable: bool,
}

impl TimelineChange {
    fn of(change: NamespaceChange) -> TimelineChange {
        let NamespaceChange { at, command, ns, to, indexes, documents } = change;
        let (time, before) = (at.date(), at.argument());
        let collections = Vec::new();
        TimelineChange {
            at,
            time,
            command,
            ns,
            to,
            indexes,
            collections,
            documents,
            before,
            restorable: false,
        }
    }

    /// Returns true if documents were lost: what an operator may look for.
    pub fn is_loss(&self) -> bool {
        match self.command.as_str() {
            "drop" | "dropDatabase" | "emptycapped" => true,
            "renameCollection" => self.documents.is_some_and(|documents| documents > 0),
            _ => false,
        }
    }

    fn is_chosen(&self, patterns: &[Pattern]) -> bool {
        let matches = |pattern: &Pattern| match self.command.as_str() {
            "dropDatabase" => {
                let db = format!("{}.", self.ns);
                self.collections.iter().any(|collection| pattern.matches(&format!("{db}{collection}")))
                    || self.collections.is_empty() && pattern.may_match_below(&db)
            }
            _ => pattern.matches(&self.ns) || self.to.as_ref().is_some_and(|to| pattern.matches(to)),
        };
        patterns.is_empty() || patterns.iter().any(matches)
    }
}

/// Collects changes in order.
#[derive(Debug, Default)]
pub(super) struct ChangeList {
    changes: Vec<TimelineChange>,
    left_out: u64,
}

impl ChangeList {
    pub(super) fn take(&mut self, change: NamespaceChange) {
        let mut change = TimelineChange::of(change);
        if change.command == "dropDatabase" {
            self.absorb_drops(&mut change);
        }
        if self.changes.len() >= MOST {
            // What an operator may look for has priority.
            match self.changes.iter().position(|other| !other.is_loss()).filter(|_| change.is_loss()) {
                Some(other) => drop(self.changes.remove(other)),
                None => return self.left_out += 1,
            }
            self.left_out += 1;
        }
        self.changes.push(change);
    }

    /// `dropDatabase` drops each collection with an entry of its own, and no other change of the database comes between them.
    fn absorb_drops(&mut self, whole: &mut TimelineChange) {
        let db = format!("{}.", whole.ns);
        let (mut next, mut most, mut at) = (whole.at, DROPPING, self.changes.len());
        let mut documents: Option<u64> = None;
        while let Some(before) = at.checked_sub(1) {
            at = before;
            let change = &self.changes[at];
            if next.t.saturating_sub(change.at.t) > most {
                break;
            }
            let Some(collection) = change.ns.strip_prefix(&db) else { continue };
            if change.command != "drop" {
                break;
            }
            if !collection.starts_with("system.") {
                whole.collections.push(collection.to_string());
            }
            documents = match (documents, change.documents) {
                (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                (sum, more) => sum.or(more),
            };
            whole.before = change.before.clone();
            (next, most) = (change.at, BETWEEN);
            self.changes.remove(at);
        }
        whole.documents = documents.or(whole.documents);
        whole.collections.reverse();
    }

    /// Returns the changes that match the patterns and lie between the times, in order: at most `limit`, first those that lost
    /// documents, then the newest. Also returns the number of changes that are left out.
    pub(super) fn finish(
        self,
        patterns: &[Pattern],
        wanted: impl Fn(u32) -> bool,
        limit: usize,
        restorable: &Restorable,
    ) -> (Vec<TimelineChange>, u64) {
        let mut chosen = self.changes;
        chosen.retain(|change| change.is_chosen(patterns) && wanted(change.at.t));
        // Creating a collection rarely is what somebody looks for.
        chosen.sort_by_key(|change| {
            std::cmp::Reverse((change.is_loss(), change.command != "create", change.at))
        });
        let left_out = self.left_out + chosen.len().saturating_sub(limit) as u64;
        chosen.truncate(limit);
        chosen.sort_by_key(|change| change.at);
        for change in &mut chosen {
            let before =
                change.before.split_once(':').and_then(|(t, i)| Some((t.parse().ok()?, i.parse().ok()?)));
            change.restorable = before.is_some_and(|(t, i)| restorable.has_before(OpTime { t, i }));
        }
        (chosen, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(t: u32, command: &str, ns: &str, documents: Option<u64>) -> NamespaceChange {
        let at = OpTime { t, i: 3 };
        NamespaceChange { at, command: command.into(), ns: ns.into(), to: None, indexes: vec![], documents }
    }

    fn finished(
        changes: Vec<NamespaceChange>,
        patterns: &[&str],
        limit: usize,
    ) -> (Vec<TimelineChange>, u64) {
        let mut list = ChangeList::default();
        changes.into_iter().for_each(|change| list.take(change));
        let patterns: Vec<Pattern> = patterns.iter().map(|text| text.parse().unwrap()).collect();
        list.finish(&patterns, |_| true, limit, &Restorable::default())
    }

    fn shown(changes: &[TimelineChange]) -> Vec<(&str, &str, &str)> {
        changes.iter().map(|one| (one.command.as_str(), one.ns.as_str(), one.before.as_str())).collect()
    }

    #[test]
    fn a_dropped_database_points_at_its_first_drop() {
        let changes = vec![
            change(10, "drop", "shop.old", Some(1)),
            change(500, "create", "shop.new", None),
            change(600, "drop", "shop.a", Some(10)),
            change(601, "drop", "other.x", Some(5)),
            change(602, "drop", "shop.b", Some(20)),
            change(602, "drop", "shop.system.views", None),
            change(1000, "dropDatabase", "shop", None),
        ];
        let (found, left_out) = finished(changes.clone(), &[], 100);
        let want = [
            ("drop", "shop.old", "10:3"),
            ("create", "shop.new", "500:3"),
            ("drop", "other.x", "601:3"),
            ("dropDatabase", "shop", "600:3"),
        ];
        assert_eq!((shown(&found), left_out), (want.to_vec(), 0));
        assert_eq!((found[3].documents, found[3].collections.join(" ")), (Some(30), "a b".to_string()));
        // The drops of other collections count nevertheless.
        let (found, _) = finished(changes, &["shop.b"], 100);
        assert_eq!(shown(&found), [("dropDatabase", "shop", "600:3")]);
    }

    #[test]
    fn an_earlier_drop_is_not_part_of_a_dropped_database() {
        let changes = vec![
            change(100, "drop", "shop.a", None),
            change(170, "drop", "shop.b", None),
            change(171, "dropDatabase", "shop", None),
            change(900, "dropDatabase", "shop", None),
        ];
        let (found, _) = finished(changes, &[], 100);
        let want = [
            ("drop", "shop.a", "100:3"),
            ("dropDatabase", "shop", "170:3"),
            ("dropDatabase", "shop", "900:3"),
        ];
        assert_eq!(shown(&found), want);
    }

    #[test]
    fn beyond_the_limit_the_losses_and_the_newest_stay() {
        let mut rename = change(40, "renameCollection", "a.x", Some(7));
        rename.to = Some("a.y".into());
        let changes = vec![
            change(10, "drop", "a.b", None),
            change(20, "createIndexes", "a.c", None),
            change(30, "createIndexes", "a.d", None),
            rename,
            change(50, "create", "a.e", None),
        ];
        let (found, left_out) = finished(changes.clone(), &[], 3);
        let names: Vec<&str> = found.iter().map(|change| change.ns.as_str()).collect();
        assert_eq!((names, left_out), (vec!["a.b", "a.d", "a.x"], 2));
        assert_eq!(finished(changes, &["a.y"], 3).0[0].ns, "a.x", "the new name matches");
    }

    #[test]
    fn losses_push_other_changes_out_of_the_memory() {
        let mut all: Vec<NamespaceChange> =
            (0..MOST as u32).map(|t| change(t, "create", "a.b", None)).collect();
        all.push(change(MOST as u32, "drop", "a.c", None));
        all.push(change(MOST as u32, "create", "a.d", None));
        let (found, left_out) = finished(all, &[], 2);
        assert_eq!((found[1].ns.as_str(), found.len()), ("a.c", 2));
        assert_eq!(left_out, MOST as u64);
    }
}
