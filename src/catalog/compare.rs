//! Comparisons of a backup with the one before it in the same job. Both faults below produce backups that look good, while
//! retention deletes the last useful ones. The new backup is kept, but a person must look at it.
//!
//! - A backup *collapsed* if it has much less data: a restored empty server, a wrong URI, a dropped database. Namespaces that
//!   vanished or shrank are listed, also if the backup as a whole did not collapse.
//! - The *source changed* if the job suddenly reads another server.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::base::units::{count, several};
use crate::config::selection::Selection;
use crate::config::uri;
use crate::model::id::BackupId;
use crate::model::losses::{Losses, NamespaceLoss};
use crate::model::manifest::{Manifest, NamespaceEntry, SourceServer};
use crate::model::server::{Topology, are_comparable};

/// The amount of data in a namespace or a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    pub documents: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
}

/// The amounts in the namespaces of a backup, by full name. With names from a [`NamePool`], each namespace takes 16 bytes,
/// and copies take none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<(String, u64, u64)>")]
pub struct NamespaceAmounts {
    /// Sorted and unique.
    names: Arc<[Arc<str>]>,
    /// In the order of the names.
    amounts: Arc<[Amount]>,
}

impl NamespaceAmounts {
    fn iter(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.names.iter().map(|name| &**name).zip(self.amounts.iter().copied())
    }

    fn get(&self, name: &str) -> Option<Amount> {
        let at = self.names.binary_search_by(|other| (**other).cmp(name)).ok()?;
        self.amounts.get(at).copied()
    }

    /// Returns the namespaces that `now` does not have.
    fn without(&self, now: &NamespaceAmounts) -> Vec<(&str, Amount)> {
        if Arc::ptr_eq(&self.names, &now.names) {
            return Vec::new();
        }
        self.iter().filter(|(name, _)| now.get(name).is_none()).collect()
    }
}

impl FromIterator<(String, Amount)> for NamespaceAmounts {
    fn from_iter<I: IntoIterator<Item = (String, Amount)>>(named: I) -> NamespaceAmounts {
        let sorted: BTreeMap<String, Amount> = named.into_iter().collect();
        let (names, amounts): (Vec<Arc<str>>, Vec<Amount>) =
            sorted.into_iter().map(|(name, amount)| (Arc::from(name), amount)).unzip();
        NamespaceAmounts { names: names.into(), amounts: amounts.into() }
    }
}

/// From triples of name, documents and bytes.
impl From<Vec<(String, u64, u64)>> for NamespaceAmounts {
    fn from(triples: Vec<(String, u64, u64)>) -> NamespaceAmounts {
        let amount = |(name, documents, raw_bytes)| (name, Amount { documents, raw_bytes });
        triples.into_iter().map(amount).collect()
    }
}

impl Serialize for NamespaceAmounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(name, amount)| (name, amount.documents, amount.raw_bytes)))
    }
}

/// The amount of an entry of a stored manifest. The entry is decoded completely, so that a manifest is damaged here too if
/// it is damaged elsewhere, but only one entry is in memory at a time.
#[derive(Deserialize)]
#[serde(from = "NamespaceEntry")]
pub(super) struct EntryAmount(pub (String, Amount));

impl From<NamespaceEntry> for EntryAmount {
    fn from(entry: NamespaceEntry) -> EntryAmount {
        EntryAmount(amount(&entry))
    }
}

fn amount(entry: &NamespaceEntry) -> (String, Amount) {
    (entry.name(), Amount { documents: entry.documents, raw_bytes: entry.raw_bytes })
}

/// The namespace names of many backups, each in memory only once. Two nights nearly always have the same names.
#[derive(Debug, Default)]
pub(super) struct NamePool {
    names: HashSet<Arc<str>>,
    lists: HashSet<Arc<[Arc<str>]>>,
}

impl NamePool {
    /// Returns the same amounts with names from the pool.
    pub fn share(&mut self, namespaces: NamespaceAmounts) -> NamespaceAmounts {
        if let Some(list) = self.lists.get(&namespaces.names) {
            return NamespaceAmounts { names: list.clone(), ..namespaces };
        }
        let mut known = |name: &Arc<str>| {
            let shared = self.names.get(name).unwrap_or(name).clone();
            self.names.insert(shared.clone());
            shared
        };
        let list: Arc<[Arc<str>]> = namespaces.names.iter().map(&mut known).collect();
        self.lists.insert(list.clone());
        NamespaceAmounts { names: list, ..namespaces }
    }
}

/// The amounts of a backup, in total and by namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub total: Amount,
    pub namespaces: NamespaceAmounts,
    /// The selection of the backup.
    pub selection: Selection,
    /// The backup is encrypted: its namespaces and selection are not known.
    pub encrypted: bool,
    /// The backup is partial.
    pub partial: bool,
}

impl Contents {
    /// The amounts of a backup with these namespaces.
    pub(super) fn new<N>(manifest: &Manifest<N>, namespaces: NamespaceAmounts) -> Contents {
        let total = Amount { documents: manifest.totals.documents, raw_bytes: manifest.totals.raw_bytes };
        let encrypted = manifest.encryption.is_some();
        let selection = manifest.selection.parsed();
        Contents { total, namespaces, selection, encrypted, partial: manifest.partial }
    }

    /// The contents that both selections have.
    fn within(&self, both: [&Selection; 2]) -> Contents {
        let wanted = |(name, _): &(&str, Amount)| {
            let (db, collection) = name.split_once('.').unwrap_or((name, ""));
            both.iter().all(|selection| selection.wants(db, collection))
        };
        let mut total = Amount::default();
        let chosen = self.namespaces.iter().filter(wanted).map(|(name, amount)| {
            total.documents = total.documents.saturating_add(amount.documents);
            total.raw_bytes = total.raw_bytes.saturating_add(amount.raw_bytes);
            (name.to_string(), amount)
        });
        let namespaces = chosen.collect();
        Contents { total, namespaces, ..self.clone() }
    }

    /// Only the sums.
    fn totals(&self) -> Contents {
        Contents { total: self.total, encrypted: self.encrypted, ..Contents::default() }
    }

    /// The parts of these contents and of `now` that can be compared: only namespaces that both selections contain, because
    /// an excluded namespace may still be on the server. If one of both is encrypted, only the sums are compared, also by a
    /// machine that knows the namespaces, so that every machine judges alike. The sums of a partial backup say nothing.
    fn in_common<'a>(&'a self, now: &'a Contents) -> (Cow<'a, Contents>, Cow<'a, Contents>) {
        if self.encrypted || now.encrypted {
            if self.partial || now.partial {
                let nothing = || Cow::Owned(Contents::default());
                return (nothing(), nothing());
            }
            return (Cow::Owned(self.totals()), Cow::Owned(now.totals()));
        }
        if self.selection == now.selection {
            return (Cow::Borrowed(self), Cow::Borrowed(now));
        }
        let both = [&self.selection, &now.selection];
        (Cow::Owned(self.within(both)), Cow::Owned(now.within(both)))
    }

    /// Compares a newer backup with these contents of the last good backup `since`.
    pub fn compare(&self, now: &Contents, since: &BackupId) -> Comparison {
        let (before, now) = self.in_common(now);
        let why = before.collapse(&now, since);
        let losses = before.losses(&now, since, why.is_some());
        let collapsed = why.map(|why| named(why, losses.as_ref()));
        Comparison { collapsed, losses }
    }

    /// Returns why a newer backup collapsed in comparison with these contents of the last good backup `since`.
    pub fn collapsed(&self, now: &Contents, since: &BackupId) -> Option<String> {
        let (before, now) = self.in_common(now);
        let why = before.collapse(&now, since)?;
        Some(named(why, before.losses(&now, since, true).as_ref()))
    }

    /// Returns a message if `now` has much less data. It names no namespaces.
    fn collapse(&self, now: &Contents, since: &BackupId) -> Option<String> {
        let before = format!("the last good backup {since}");
        let half = |what: &str, then: u64, now: u64| {
            (now < then.div_ceil(2))
                .then(|| format!("{} where {before} had {}", several(now, what), count(then)))
        };
        half("document", self.total.documents, now.total.documents)
            .or_else(|| half("byte", self.total.raw_bytes, now.total.raw_bytes))
            .or_else(|| self.vanished(now, &before))
    }

    /// Returns a message if namespaces with at least a tenth of the documents or bytes are gone.
    fn vanished(&self, now: &Contents, before: &str) -> Option<String> {
        let gone = self.namespaces.without(&now.namespaces);
        let sum = |value: fn(&Amount) -> u64| {
            gone.iter().fold(0_u64, |sum, (_, amount)| sum.saturating_add(value(amount)))
        };
        let (documents, bytes) = (sum(|amount| amount.documents), sum(|amount| amount.raw_bytes));
        let large = |part: u64, whole: u64| part > 0 && part.saturating_mul(10) >= whole;
        (large(documents, self.total.documents) || large(bytes, self.total.raw_bytes)).then(|| {
            let total = several(self.total.documents, "document");
            format!("namespaces with {} of the {total} of {before} vanished", count(documents))
        })
    }

    /// Returns the namespaces that vanished or shrank, the largest loss first. `all` includes small losses: without it, a
    /// namespace that shrank is listed only if it lost more than half of its documents or bytes, and that is a hundredth of
    /// the backup, because queues and sessions shrink every night.
    fn losses(&self, now: &Contents, since: &BackupId, all: bool) -> Option<Losses> {
        let lost = |before: u64, now: u64| before.saturating_sub(now);
        let shrank = |before: u64, now: u64, total: u64| {
            let lost = lost(before, now);
            lost > 0 && (all || (now < before.div_ceil(2) && lost.saturating_mul(100) >= total))
        };
        // The part of the backup that a namespace lost: of its documents, or of its bytes if that is more.
        let part = |before: Amount, now: Amount| {
            let part = |lost: u64, total: u64| lost as f64 / total.max(1) as f64;
            let documents = part(lost(before.documents, now.documents), self.total.documents);
            documents.max(part(lost(before.raw_bytes, now.raw_bytes), self.total.raw_bytes))
        };
        let mut losses: Vec<(f64, NamespaceLoss)> = Vec::new();
        for (name, before) in self.namespaces.iter() {
            let now = now.namespaces.get(name);
            let is_listed = now.is_none_or(|now| {
                shrank(before.documents, now.documents, self.total.documents)
                    || shrank(before.raw_bytes, now.raw_bytes, self.total.raw_bytes)
            });
            if is_listed {
                let loss = NamespaceLoss {
                    namespace: name.into(),
                    documents_before: before.documents,
                    documents: now.map(|now| now.documents),
                    raw_bytes_before: before.raw_bytes,
                    raw_bytes: now.map(|now| now.raw_bytes),
                };
                losses.push((part(before, now.unwrap_or_default()), loss));
            }
        }
        losses.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        Losses::new(since.clone(), losses.into_iter().map(|(_, loss)| loss).collect())
    }
}

/// Adds the largest losses to the reason of a collapse.
fn named(why: String, losses: Option<&Losses>) -> String {
    losses.map_or(why.clone(), |losses| format!("{why}: {losses}"))
}

/// The comparison of a backup with the last good one before it.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Why the backup collapsed, with the largest losses.
    pub collapsed: Option<String>,
    /// The losses, also if the backup did not collapse.
    pub losses: Option<Losses>,
}

/// Compares a new backup with the last good one.
pub fn compare(before: &Manifest, now: &Manifest) -> Comparison {
    let contents =
        |manifest: &Manifest| Contents::new(manifest, manifest.namespaces.iter().map(amount).collect());
    contents(before).compare(&contents(now), &before.id)
}

/// Returns a message if the source changed.
///
/// A replica set is identified by its id, or by its name if the user may not read the id, because its members change
/// roles. A router does not identify the cluster behind it, so all routers count as the same source.
pub fn source_changed(before: &SourceServer, now: &SourceServer) -> Option<String> {
    let same = match (before.topology, now.topology) {
        (Topology::Standalone, Topology::Standalone) => address(&before.member) == address(&now.member),
        (Topology::Mongos, Topology::Mongos) => true,
        (Topology::ReplicaSet, Topology::ReplicaSet) => match (&before.set_id, &now.set_id) {
            (Some(before), Some(now)) if are_comparable(before, now) => before == now,
            _ => before.set_name == now.set_name,
        },
        _ => false,
    };
    (!same).then(|| format!("the source was {}, and is {}", describe(before), describe(now)))
}

/// Returns host and port of a member. `localhost`, `127.0.0.1` and `[::1]` are the same host.
fn address(member: &str) -> (&str, &str) {
    let (host, port) = member.rsplit_once(':').unwrap_or((member, ""));
    (if uri::is_loopback(host) { "localhost" } else { host }, port)
}

fn describe(source: &SourceServer) -> String {
    let member = &source.member;
    match (source.topology, &source.set_name) {
        (Topology::Standalone, _) => format!("the single server {member}"),
        (Topology::Mongos, _) => format!("a sharded cluster at {member}"),
        (Topology::ReplicaSet, name) => {
            let id = source.set_id.as_ref().map(|id| format!(" with the id {id}")).unwrap_or_default();
            format!("the replica set {}{id} at {member}", name.as_deref().unwrap_or("without a name"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since() -> BackupId {
        "20261122T030000Z-b2x7nd".parse().unwrap()
    }

    /// Contents with these numbers of documents of 100 bytes. The selection leaves `exclude` out.
    fn contents(named: &[(&str, u64)], exclude: &[&str]) -> Contents {
        let amount = |documents| Amount { documents, raw_bytes: documents * 100 };
        let total = amount(named.iter().map(|(_, documents)| documents).sum());
        let named = named.iter().map(|(name, documents)| (name.to_string(), amount(*documents)));
        let exclude = exclude.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let selection = Selection { exclude, ..Selection::default() };
        Contents { total, namespaces: named.collect(), selection, ..Contents::default() }
    }

    #[test]
    fn of_encrypted_backups_only_the_sums_are_compared() {
        let before = contents(&[("shop.orders", 1_000), ("shop.carts", 400)], &[]);
        let hidden =
            |documents: u64| Contents { encrypted: true, ..contents(&[("x.x", documents)], &["*"]).totals() };
        let vanished = contents(&[("shop.orders", 1_000)], &[]);
        assert!(collapse(&before, &vanished).unwrap().contains("vanished"));
        for (a, b) in [(&before, &hidden(1_000)), (&hidden(1_400), &vanished), (&hidden(1_400), &hidden(700))]
        {
            let found = a.compare(b, &since());
            assert!(found.collapsed.is_none() && found.losses.is_none(), "{found:?}");
        }
        let why = collapse(&before, &hidden(600)).unwrap();
        assert_eq!(why, "600 documents where the last good backup 20261122T030000Z-b2x7nd had 1,400");
        assert!(
            collapse(&hidden(1_400), &vanished).is_none() && collapse(&hidden(5_000), &vanished).is_some()
        );
        let partial = |documents| Contents { partial: true, ..hidden(documents) };
        for (a, b) in [(&before, &partial(3)), (&hidden(5_000), &partial(3)), (&partial(5_000), &vanished)] {
            assert_eq!(collapse(a, b), None);
        }
    }

    fn collapse(before: &Contents, now: &Contents) -> Option<String> {
        let collapsed = before.collapsed(now, &since());
        assert_eq!(before.compare(now, &since()).collapsed, collapsed);
        collapsed
    }

    #[test]
    fn losses_are_listed_with_before_and_after_the_largest_first() {
        let orders = ("shop.orders", 80_000);
        let before = contents(&[("crm.leads", 50_000), ("crm.notes", 40), ("shop.carts", 100), orders], &[]);
        let now = contents(&[("shop.carts", 300), ("shop.orders", 32_000)], &[]);
        let Comparison { collapsed, losses } = before.compare(&now, &since());
        let losses = losses.unwrap();
        assert_eq!((losses.count, losses.brief().as_str()), (3, "3 namespaces vanished or shrank"));
        let text = "crm.leads with 50,000 documents vanished, shop.orders shrank from 80,000 documents to 32,000 documents, \
                    crm.notes with 40 documents vanished";
        assert_eq!(losses.to_string(), text);
        let why = "32,300 documents where the last good backup 20261122T030000Z-b2x7nd had 130,140";
        assert_eq!(collapsed.unwrap(), format!("{why}: {text}"));
    }

    #[test]
    fn a_vanished_namespace_of_any_size_is_listed_and_a_small_shrinkage_is_not() {
        let before = contents(&[("shop.empty", 0), ("shop.orders", 10_000), ("shop.queue", 90)], &[]);
        let now = contents(&[("shop.orders", 10_000), ("shop.queue", 1)], &[]);
        let Comparison { collapsed, losses } = before.compare(&now, &since());
        let losses = losses.unwrap();
        assert_eq!(losses.to_string(), "shop.empty with 0 documents vanished");
        assert_eq!((losses.brief().as_str(), collapsed), ("shop.empty vanished", None));
        assert_eq!(before.losses(&now, &since(), true).unwrap().count, 2);
        assert_eq!(before.compare(&before, &since()).losses, None);
        let half = contents(&[("shop.empty", 0), ("shop.orders", 5_000), ("shop.queue", 90)], &[]);
        assert_eq!(before.compare(&half, &since()).losses, None, "half is not more than half");
    }

    #[test]
    fn equal_name_lists_share_their_memory() {
        let named = |names: &[&str]| -> NamespaceAmounts {
            names.iter().map(|name| (name.to_string(), Amount { documents: 1, raw_bytes: 2 })).collect()
        };
        let mut shared = NamePool::default();
        let [first, second] = [(); 2].map(|()| shared.share(named(&["b.b", "a.a"])));
        assert!(Arc::ptr_eq(&first.names, &second.names) && first.without(&second).is_empty());
        let third = shared.share(named(&["a.a"]));
        assert!(Arc::ptr_eq(&first.names[0], &third.names[0]));
        assert_eq!(first.without(&third).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["b.b"]);
        let json = serde_json::to_string(&first).unwrap();
        assert_eq!(json, r#"[["a.a",1,2],["b.b",1,2]]"#);
        assert_eq!(serde_json::from_str::<NamespaceAmounts>(&json).unwrap(), first);
    }

    #[test]
    fn an_excluded_namespace_has_not_vanished() {
        let whole = contents(&[("shop.carts", 600), ("shop.orders", 400), ("shop.tags", 1)], &[]);
        let part = contents(&[("shop.orders", 400), ("shop.tags", 1)], &["shop.carts"]);
        for (before, now) in [(&whole, &part), (&part, &whole)] {
            let Comparison { collapsed, losses } = before.compare(now, &since());
            assert_eq!((collapsed, losses), (None, None));
        }
        let dropped = contents(&[("shop.orders", 400), ("shop.tags", 1)], &[]);
        assert!(collapse(&whole, &dropped).is_some(), "the same selection");
        let less = contents(&[("shop.orders", 199)], &["shop.carts"]);
        let why = "199 documents where the last good backup 20261122T030000Z-b2x7nd had 401: shop.orders shrank from 400 \
                   documents to 199 documents, shop.tags with 1 document vanished";
        assert_eq!(collapse(&whole, &less).unwrap(), why);
        let other = contents(&[("shop.logs", 1)], &["shop.carts", "shop.orders", "shop.tags"]);
        assert_eq!(collapse(&whole, &other), None);
    }

    fn source(topology: Topology, member: &str, name: Option<&str>, id: Option<&str>) -> SourceServer {
        SourceServer {
            topology,
            member: member.into(),
            version: "8.0.0".into(),
            feature_compatibility_version: None,
            set_name: name.map(Into::into),
            set_id: id.map(Into::into),
        }
    }

    #[test]
    fn a_change_of_the_source_is_recognized() {
        use Topology::{Mongos, ReplicaSet, Standalone};
        let set = |member, name, id| source(ReplicaSet, member, Some(name), id);
        let single = |member| source(Standalone, member, None, None);
        for (before, now, same) in [
            (single("a:1"), single("a:1"), true),
            (single("a:1"), single("b:1"), false),
            (single("localhost:1"), single("127.0.0.1:1"), true),
            (single("[::1]:1"), single("localhost:1"), true),
            (single("127.0.0.1:1"), single("localhost:2"), false),
            (single("localhost:1"), single("a:1"), false),
            (set("a:1", "rs", Some("1")), set("b:1", "rs", Some("1")), true),
            (set("a:1", "rs", Some("1")), set("a:1", "rs", Some("2")), false),
            (set("a:1", "rs", Some("1")), set("b:1", "rs", None), true),
            (set("a:1", "rs", None), set("a:1", "other", None), false),
            (single("a:1"), set("a:1", "rs", None), false),
            (source(Mongos, "a:1", None, None), source(Mongos, "b:1", None, None), true),
        ] {
            let change = source_changed(&before, &now);
            assert_eq!(change.is_none(), same, "{change:?}");
            assert!(change.is_none_or(|words| words.contains(&now.member)), "names the new one");
        }
    }
}
