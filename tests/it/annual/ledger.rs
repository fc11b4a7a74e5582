//! The backups that exist, from the test's own knowledge, and the figures of the year. Nothing here asks the
//! tool.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use uzima_backup::catalog::compare::{Amount, Contents};
use uzima_backup::catalog::state::RetainedBackup;
use uzima_backup::config::choices::Policy;
use uzima_backup::model::id::BackupId;
use uzima_backup::model::manifest::Manifest;

use crate::cleanup::oracle::Oracle;

/// A job of the year, which backs up the database of its name.
#[derive(Debug)]
pub struct Job {
    pub name: &'static str,
    pub db: &'static str,
    pub collections: [&'static str; 2],
    pub policy: Policy,
}

/// Both jobs, each with its own retention.
pub const JOBS: [Job; 2] = [
    Job {
        name: "shop@db1",
        db: "shop",
        collections: ["orders", "people"],
        policy: Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 },
    },
    Job {
        name: "blog@db1",
        db: "blog",
        collections: ["posts", "tags"],
        policy: Policy { days: 14, min: 2, last: 0, daily: 0, weekly: 4, monthly: 4, yearly: 0 },
    },
];

/// A backup that was made.
#[derive(Debug)]
pub struct Made {
    pub manifest: Manifest,
    pub job: usize,
    /// The start of the backup: the true time, and the time of the machine's clock.
    pub truth: DateTime<Utc>,
    pub started: DateTime<Utc>,
    /// The number of documents, and the name under which the server was addressed.
    pub documents: u64,
    pub member: String,
    pub pinned: bool,
    pub accepted: bool,
    /// The manifest exists and is readable.
    pub listed: bool,
}

impl Made {
    pub fn id(&self) -> &BackupId {
        &self.manifest.id
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Ledger {
    pub made: Vec<Made>,
    /// The failed runs that the store still reports: the job, and the id.
    pub failed: Vec<(usize, BackupId)>,
    /// Artifacts without a manifest: of killed runs, and of lost manifests.
    pub orphans: Vec<BackupId>,
    /// Backups whose manifest was lost. No cleanup deleted them, so their records stay.
    pub lost: Vec<BackupId>,
    /// Unreadable manifests, with their original bytes.
    pub garbled: Vec<(BackupId, Vec<u8>)>,
}

impl Ledger {
    pub fn listed(&self, job: usize) -> impl Iterator<Item = &Made> {
        self.made.iter().filter(move |made| made.job == job && made.listed)
    }

    pub fn find(&mut self, id: &BackupId) -> Option<&mut Made> {
        self.made.iter_mut().find(|made| made.id() == id)
    }

    /// The backups of both jobs in the form that the oracle takes.
    pub fn backups(&self) -> Vec<RetainedBackup> {
        let backup = |made: &Made| {
            let mut source = made.manifest.source.clone();
            source.member = made.member.clone();
            let total = Amount { documents: made.documents, raw_bytes: made.documents * 50 };
            RetainedBackup {
                id: made.id().clone(),
                job: JOBS[made.job].name.into(),
                started: made.started,
                contents: Contents { total, ..Contents::default() },
                source,
                pinned: made.pinned.then(Default::default),
                accepted: made.accepted,
                partial: None,
                unsound: None,
                untrusted: None,
            }
        };
        self.made.iter().filter(|made| made.listed).map(backup).collect()
    }

    /// The newest good backup of a job, by the date in its manifest, at `now`.
    pub fn newest_good(&self, job: usize, now: DateTime<Utc>) -> Option<&Made> {
        let backups = self.backups();
        let oracle = Oracle::new(&backups, JOBS[job].name, now, &JOBS[job].policy);
        let id = oracle.good().last()?.id.clone();
        self.made.iter().find(|made| *made.id() == id)
    }

    /// The number of documents that the next backup of a job is compared with: that of the newest backup that
    /// did not collapse, or whose collapse was accepted. A backup that a wrong clock dated in the future does
    /// not count as the newest.
    pub fn compared_with(&self, job: usize, now: DateTime<Utc>) -> Option<u64> {
        let sound = |made: &&Made| {
            (made.accepted || !made.manifest.collapsed())
                && made.started <= now + chrono::TimeDelta::minutes(10)
        };
        self.listed(job).filter(sound).max_by_key(|made| made.started).map(|made| made.documents)
    }
}

/// Counts by name.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<String, usize>,
}

impl Tally {
    pub fn add(&mut self, what: impl Into<String>, n: usize) {
        *self.counts.entry(what.into()).or_default() += n;
    }

    pub fn most(&mut self, what: impl Into<String>, n: usize) {
        let most = self.counts.entry(what.into()).or_default();
        *most = n.max(*most);
    }

    pub fn of(&self, what: &str) -> usize {
        self.counts.get(what).copied().unwrap_or(0)
    }

    pub fn print(&self, seed: u64) {
        println!("a year of the seed {seed}");
        for (what, n) in &self.counts {
            println!("  {what:<60} {n:>6}");
        }
    }
}
