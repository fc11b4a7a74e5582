//! Whether a backup holds suspiciously less than the one before: a restored empty server, a wrong
//! URI, a dropped database. Such a backup is kept, but a person must look.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Summary;
use crate::base::units::{count, several};
use crate::model::manifest::{Manifest, NamespaceEntry};

/// How much is in a namespace, or in a whole backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many documents.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
}

/// The amounts in the namespaces of a backup, by their full names. Backups whose names are [`Shared`] take 16 bytes
/// for each namespace, and copies take none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceAmounts {
    /// Sorted, each once.
    names: Arc<[Arc<str>]>,
    /// In the order of the names.
    amounts: Arc<[Amount]>,
}

impl NamespaceAmounts {
    fn iter(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.names.iter().map(|name| &**name).zip(self.amounts.iter().copied())
    }

    fn has(&self, name: &str) -> bool {
        self.names.binary_search_by(|other| (**other).cmp(name)).is_ok()
    }

    /// The namespaces that `now` does not have.
    fn without(&self, now: &NamespaceAmounts) -> Vec<(&str, Amount)> {
        if Arc::ptr_eq(&self.names, &now.names) {
            return Vec::new();
        }
        self.iter().filter(|(name, _)| !now.has(name)).collect()
    }
}

impl Default for NamespaceAmounts {
    fn default() -> NamespaceAmounts {
        NamespaceAmounts { names: Vec::new().into(), amounts: Vec::new().into() }
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

impl<const N: usize> From<[(String, Amount); N]> for NamespaceAmounts {
    fn from(named: [(String, Amount); N]) -> NamespaceAmounts {
        named.into_iter().collect()
    }
}

/// As triples of name, documents and bytes.
impl Serialize for NamespaceAmounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|(name, amount)| (name, amount.documents, amount.raw_bytes)))
    }
}

impl<'de> Deserialize<'de> for NamespaceAmounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NamespaceAmounts, D::Error> {
        let triples = Vec::<(String, u64, u64)>::deserialize(deserializer)?;
        let amount = |(name, documents, raw_bytes)| (name, Amount { documents, raw_bytes });
        Ok(triples.into_iter().map(amount).collect())
    }
}

/// The amounts of a stored manifest's entries. Each entry is read whole, so what is no manifest is none here either,
/// but one at a time.
pub struct StoredAmounts(pub NamespaceAmounts);

impl<'de> Deserialize<'de> for StoredAmounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StoredAmounts, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = StoredAmounts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the namespaces of a manifest")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<StoredAmounts, A::Error> {
                let mut named = Vec::new();
                while let Some(entry) = entries.next_element::<NamespaceEntry>()? {
                    named.push(amount(&entry));
                }
                Ok(StoredAmounts(named.into_iter().collect()))
            }
        }

        deserializer.deserialize_seq(Entries)
    }
}

fn amount(n: &NamespaceEntry) -> (String, Amount) {
    (format!("{}.{}", n.db, n.collection), Amount { documents: n.documents, raw_bytes: n.raw_bytes })
}

/// The names of the namespaces of many backups: those of two nights are nearly always the same, and take their memory
/// once.
#[derive(Debug, Default)]
pub struct NamePool {
    names: HashSet<Arc<str>>,
    lists: HashSet<Arc<[Arc<str>]>>,
}

impl NamePool {
    /// The same namespaces, with names that are shared.
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

/// How much a backup holds, by namespace: what two of them are compared by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// All of it.
    pub total: Amount,
    /// Each namespace.
    pub namespaces: NamespaceAmounts,
}

impl Contents {
    /// What a manifest says.
    pub fn of(manifest: &Manifest) -> Contents {
        let namespaces = manifest.namespaces.iter().map(amount).collect();
        Contents { total: total(manifest), namespaces }
    }

    /// What the summary of a manifest says.
    pub fn of_summary(summary: &Summary) -> Contents {
        Contents { total: total(summary), namespaces: summary.namespaces.clone() }
    }

    /// What is missing in `now`, in words; `None` if all is plausible. `before` names this one.
    pub fn collapsed(&self, now: &Contents, before: &str) -> Option<String> {
        let half = |what: &str, then: u64, now: u64| {
            (now < then.div_ceil(2))
                .then(|| format!("{} where {before} had {}", several(now, what), count(then)))
        };
        half("document", self.total.documents, now.total.documents)
            .or_else(|| half("byte", self.total.raw_bytes, now.total.raw_bytes))
            .or_else(|| self.vanished(now))
    }

    /// Namespaces that held a tenth or more of the documents or bytes, and are gone.
    fn vanished(&self, now: &Contents) -> Option<String> {
        let gone = self.namespaces.without(&now.namespaces);
        let sum = |value: fn(&Amount) -> u64| {
            gone.iter().fold(0_u64, |sum, (_, amount)| sum.saturating_add(value(amount)))
        };
        let (documents, bytes) = (sum(|amount| amount.documents), sum(|amount| amount.raw_bytes));
        let large = |part: u64, whole: u64| part > 0 && part.saturating_mul(10) >= whole;
        (large(documents, self.total.documents) || large(bytes, self.total.raw_bytes)).then(|| {
            let names: Vec<&str> = gone.iter().take(5).map(|(name, _)| *name).collect();
            let more = if gone.len() > 5 { format!(" and {} more", gone.len() - 5) } else { String::new() };
            format!(
                "{}{more} vanished, with {} of {}",
                names.join(", "),
                several(documents, "document"),
                count(self.total.documents)
            )
        })
    }
}

fn total<N>(manifest: &Manifest<N>) -> Amount {
    Amount { documents: manifest.totals.documents, raw_bytes: manifest.totals.raw_bytes }
}

/// What is missing against the manifest of the backup before, in words; `None` if all is plausible.
pub fn collapsed(before: &Manifest, now: &Manifest) -> Option<String> {
    Contents::of(before).collapsed(&Contents::of(now), "the last backup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_equal_lists_take_their_memory_once() {
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
}
