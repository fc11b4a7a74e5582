//! The namespaces that vanished or shrank between two backups, for the manifest, messages and mails.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::units;
use crate::model::id::BackupId;

/// The most namespaces that a manifest lists. Each takes some 150 bytes, and a manifest that is too long cannot be written.
const STORED: usize = 10_000;
/// The most namespaces that a report, a row of a list or a webhook has.
const REPORTED: usize = 100;
/// The most namespaces that a sentence names.
const NAMED: usize = 5;

/// The namespaces of the last good backup that a backup does not have, or has with less data.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Losses {
    /// The last good backup.
    pub since: BackupId,
    /// The number of namespaces that vanished or shrank. The list may have fewer.
    pub count: u64,
    /// The largest losses, the largest first.
    pub namespaces: Vec<NamespaceLoss>,
}

/// A namespace that vanished or shrank.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct NamespaceLoss {
    /// `db.collection`.
    pub namespace: String,
    pub documents_before: u64,
    /// `None` if the namespace vanished.
    pub documents: Option<u64>,
    /// The length of the documents in bytes.
    pub raw_bytes_before: u64,
    /// `None` if the namespace vanished.
    pub raw_bytes: Option<u64>,
}

impl NamespaceLoss {
    /// The amounts before and after, in documents, or in bytes if the number of documents did not shrink.
    pub fn amounts(&self) -> (String, String) {
        let documents = |n| units::several(n, "document");
        match (self.documents, self.raw_bytes) {
            (Some(now), Some(bytes)) if now >= self.documents_before => {
                (units::bytes(self.raw_bytes_before), units::bytes(bytes))
            }
            (Some(now), _) => (documents(self.documents_before), documents(now)),
            (None, _) => (documents(self.documents_before), "vanished".into()),
        }
    }
}

impl fmt::Display for NamespaceLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, now) = self.amounts();
        match self.documents {
            None => write!(f, "{} with {before} vanished", self.namespace),
            Some(_) => write!(f, "{} shrank from {before} to {now}", self.namespace),
        }
    }
}

impl Losses {
    /// The losses since a backup, the largest first. Returns `None` if there are none.
    pub fn new(since: BackupId, mut namespaces: Vec<NamespaceLoss>) -> Option<Losses> {
        let count = namespaces.len() as u64;
        namespaces.truncate(STORED);
        (count > 0).then_some(Losses { since, count, namespaces })
    }

    /// The same losses with a short list.
    pub fn reported(&self) -> Losses {
        let namespaces = self.namespaces.iter().take(REPORTED).cloned().collect();
        Losses { since: self.since.clone(), count: self.count, namespaces }
    }

    /// The note of a manifest whose backup did not collapse.
    pub fn note(&self) -> String {
        format!("since the last good backup {}: {self}", self.since)
    }

    /// The number of losses in a few words, for a row of a list.
    pub fn brief(&self) -> String {
        match &self.namespaces[..] {
            [loss] if self.count == 1 => format!("{} {}", loss.namespace, self.word()),
            _ => format!("{} {}", units::several(self.count, "namespace"), self.word()),
        }
    }

    /// `vanished`, `shrank`, or both.
    pub fn word(&self) -> &'static str {
        let vanished = self.namespaces.iter().filter(|loss| loss.documents.is_none()).count();
        match vanished {
            0 => "shrank",
            n if n == self.namespaces.len() => "vanished",
            _ => "vanished or shrank",
        }
    }
}

/// The largest losses in a sentence.
impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = &self.namespaces[..self.namespaces.len().min(NAMED)];
        let more = self.count.saturating_sub(named.len() as u64);
        let texts = named.iter().map(ToString::to_string);
        let more = (more > 0).then(|| format!("and {}", units::several(more, "more namespace")));
        f.write_str(&texts.chain(more).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vanished(count: u64) -> Losses {
        let loss = |n| NamespaceLoss {
            namespace: format!("shop.c{n}"),
            documents_before: 10,
            documents: None,
            raw_bytes_before: 1 << 20,
            raw_bytes: None,
        };
        Losses::new("20261122T030000Z-b2x7nd".parse().unwrap(), (0..count).map(loss).collect()).unwrap()
    }

    #[test]
    fn a_sentence_names_the_largest_losses_and_counts_the_others() {
        let text = vanished(5000).to_string();
        assert!(text.starts_with("shop.c0 with 10 documents vanished, shop.c1 "), "{text}");
        assert!(text.ends_with("shop.c4 with 10 documents vanished, and 4,995 more namespaces"), "{text}");
        assert!(!vanished(5).to_string().contains("more"));
    }

    #[test]
    fn long_lists_are_cut_and_the_count_stays() {
        let losses = vanished(20_000);
        assert_eq!((losses.namespaces.len(), losses.count), (STORED, 20_000));
        let reported = losses.reported();
        assert_eq!((reported.namespaces.len(), reported.count), (REPORTED, 20_000));
        assert_eq!(reported.brief(), "20,000 namespaces vanished");
    }

    #[test]
    fn a_loss_of_bytes_alone_is_shown_in_bytes() {
        let mut losses = vanished(1);
        assert_eq!(losses.brief(), "shop.c0 vanished");
        (losses.namespaces[0].documents, losses.namespaces[0].raw_bytes) = (Some(12), Some(1 << 10));
        assert_eq!(losses.to_string(), "shop.c0 shrank from 1.0 MiB to 1.0 KiB");
        losses.namespaces[0].documents = Some(3);
        assert_eq!(losses.to_string(), "shop.c0 shrank from 10 documents to 3 documents");
        assert_eq!(losses.brief(), "shop.c0 shrank");
    }
}
