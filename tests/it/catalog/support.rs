//! Places with many backups, and results of verifies.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use uzima_backup::catalog::layout;
use uzima_backup::catalog::marks::FORMAT;
use uzima_backup::catalog::verdict::Verdict;
use uzima_backup::model::manifest::{Manifest, TOOL};

use crate::cleanup::support::{JOB, Place, of_time};

/// The result of a `verify` that ended at `at`.
pub fn verdict(manifest: &Manifest, at: DateTime<Utc>, sound: bool) -> Verdict {
    Verdict {
        format: FORMAT,
        id: manifest.id.clone(),
        at,
        host: "db1".into(),
        tool: TOOL.into(),
        sound,
        findings: if sound { vec![] } else { vec!["shop.orders: a block is damaged".into()] },
        stored_bytes: 12,
        documents: 1000,
        raw_bytes: 1000,
        seconds: 1.0,
        without_key: false,
        drill: None,
    }
}

/// Writes the result of a `verify` into the backup's folder.
pub fn put_verdict(place: &Place, verdict: &Verdict) {
    let json = serde_json::to_vec(verdict).expect("JSON");
    place.put(&layout::verified(&verdict.id, verdict.at), &json);
}

/// Writes so many verified backups of the job, one for each hour, the newest an hour old. Returns them,
/// newest first.
pub fn hourly(place: &Place, count: usize) -> Vec<Manifest> {
    let now = Utc::now().trunc_subsecs(0);
    let started = (1..=count as i64).map(|hours| now - TimeDelta::hours(hours));
    let manifests: Vec<Manifest> = started.map(|at| of_time(JOB, at)).collect();
    for manifest in &manifests {
        place.add(manifest);
        put_verdict(place, &verdict(manifest, manifest.started_at + TimeDelta::minutes(30), true));
    }
    manifests
}
