//! Whether a backup holds suspiciously less than the one before: a restored empty server, a wrong
//! URI, a dropped database. Such a backup is kept, but a person must look.

use std::collections::BTreeMap;

use crate::artifact::manifest::Manifest;
use crate::units::{count, several};

/// How much is in a namespace, or in a whole backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many documents.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
}

/// How much a backup holds, by namespace: what two of them are compared by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// All of it.
    pub total: Amount,
    /// Each namespace, by its full name.
    pub namespaces: BTreeMap<String, Amount>,
}

impl Contents {
    /// What a manifest says.
    pub fn of(manifest: &Manifest) -> Contents {
        let named = manifest.namespaces.iter().map(|n| {
            let amount = Amount { documents: n.documents, raw_bytes: n.raw_bytes };
            (format!("{}.{}", n.db, n.collection), amount)
        });
        let total = Amount { documents: manifest.totals.documents, raw_bytes: manifest.totals.raw_bytes };
        Contents { total, namespaces: named.collect() }
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
        let gone: Vec<(&String, &Amount)> =
            self.namespaces.iter().filter(|(name, _)| !now.namespaces.contains_key(*name)).collect();
        let documents: u64 = gone.iter().map(|(_, amount)| amount.documents).sum();
        let bytes: u64 = gone.iter().map(|(_, amount)| amount.raw_bytes).sum();
        let large = |part: u64, whole: u64| part > 0 && part.saturating_mul(10) >= whole;
        (large(documents, self.total.documents) || large(bytes, self.total.raw_bytes)).then(|| {
            let names: Vec<&str> = gone.iter().take(5).map(|(name, _)| name.as_str()).collect();
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

/// What is missing against the manifest of the backup before, in words; `None` if all is plausible.
pub fn collapsed(before: &Manifest, now: &Manifest) -> Option<String> {
    Contents::of(before).collapsed(&Contents::of(now), "the last backup")
}
