//! Whether a backup holds suspiciously less than the one before: a restored empty server, a wrong
//! URI, a dropped database. Such a backup is kept, but a person must look.

use crate::artifact::manifest::Manifest;

/// What is missing against `before`, in words; `None` if all is plausible.
pub fn collapsed(before: &Manifest, now: &Manifest) -> Option<String> {
    let half = |what: &str, before: u64, now: u64| {
        (now < before.div_ceil(2)).then(|| format!("{now} {what} where {} had {before}", "the last backup"))
    };
    half("documents", before.totals.documents, now.totals.documents)
        .or_else(|| half("bytes", before.totals.raw_bytes, now.totals.raw_bytes))
        .or_else(|| vanished(before, now))
}

/// Namespaces that held a tenth or more of the documents or bytes, and are gone.
fn vanished(before: &Manifest, now: &Manifest) -> Option<String> {
    let gone: Vec<_> = before
        .namespaces
        .iter()
        .filter(|b| !now.namespaces.iter().any(|n| n.db == b.db && n.collection == b.collection))
        .collect();
    let documents: u64 = gone.iter().map(|n| n.documents).sum();
    let bytes: u64 = gone.iter().map(|n| n.raw_bytes).sum();
    let large = |part: u64, whole: u64| part > 0 && part.saturating_mul(10) >= whole;
    (large(documents, before.totals.documents) || large(bytes, before.totals.raw_bytes)).then(|| {
        let names: Vec<String> = gone.iter().take(5).map(|n| format!("{}.{}", n.db, n.collection)).collect();
        let more = if gone.len() > 5 { format!(" and {} more", gone.len() - 5) } else { String::new() };
        format!(
            "{}{more} vanished, with {documents} documents of {}",
            names.join(", "),
            before.totals.documents
        )
    })
}
