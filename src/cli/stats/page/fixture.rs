//! Made-up nights: for docs/stats.html, and for what must be drawn whatever it is.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::catalog::compare::{Amount, Contents};
use crate::catalog::marks::Pin;
use crate::catalog::run::{BackupRun, Status};
use crate::catalog::state::RetainedBackup;
use crate::catalog::verdict::Drill;
use crate::config::choices::Policy;
use crate::model::id::BackupId;
use crate::model::manifest::SourceServer;
use crate::model::server::Topology;
use crate::ops::stats::{JobHistory, StatsOptions, StatsReport, report};
use crate::retention::{PlanContext, plan};

pub const JOB: &str = "all@db1";
/// The nights of the sample.
pub const NIGHTS: i64 = 100;

/// Two hours after the last night's backup.
pub fn now() -> DateTime<Utc> {
    "2026-11-23T05:00:00Z".parse().unwrap()
}

pub fn options() -> StatsOptions {
    let policy = Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 8, monthly: 12, yearly: 0 };
    StatsOptions { job: JOB.into(), policy, max_age: Duration::from_secs(26 * 3600) }
}

fn started(ago: i64) -> DateTime<Utc> {
    now() - TimeDelta::hours(2) - TimeDelta::days(ago)
}

pub fn id(ago: i64) -> BackupId {
    // Letters that differ from night to night, and are the same each time.
    let letters: Vec<char> = "0123456789abcdefghjkmnpqrstvwxyz".chars().collect();
    let suffix: String = (0..6).map(|n| letters[chance(ago * 6 + n) as usize % 32]).collect();
    format!("{}-{suffix}", started(ago).format("%Y%m%dT%H%M%SZ")).parse().unwrap()
}

/// A number that looks like chance, and is the same each time (the mixer of SplitMix64).
fn chance(n: i64) -> u64 {
    let mut z = (n as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 33
}

/// The same from -1 to 1.
fn wobble(n: i64) -> f64 {
    (chance(n) % 201) as f64 / 100.0 - 1.0
}

/// The run of so many nights ago, which made a backup.
fn made(ago: i64) -> BackupRun {
    let raw = 23.6e9 - ago as f64 * 0.041e9 + wobble(ago) * 0.06e9;
    let seconds = raw / 172e6 * (1.0 + 0.12 * wobble(ago + 1000));
    BackupRun {
        status: Status::Completed,
        finished_at: Some(started(ago) + TimeDelta::milliseconds((seconds * 1000.0) as i64)),
        documents: Some((raw / 1284.0) as u64),
        raw_bytes: Some(raw as u64),
        stored_bytes: Some((raw * 0.3455) as u64),
        ..BackupRun::begun(id(ago), JOB, "backup1", "s3://my-backups/daily-backups/", started(ago))
    }
}

fn failed(ago: i64, minutes: i64, error: &str) -> BackupRun {
    let run = BackupRun::begun(id(ago), JOB, "backup1", "s3://my-backups/daily-backups/", started(ago));
    let finished_at = Some(started(ago) + TimeDelta::minutes(minutes));
    BackupRun { status: Status::Failed, finished_at, error: Some(error.into()), ..run }
}

fn night(ago: i64) -> BackupRun {
    match ago {
        2 => failed(
            ago,
            4,
            "cannot read shop.orders: connection to db1.example.com:27017 was lost 5 times: timed out waiting for \
             an answer (next step: See whether the server is up and not overloaded: mongosh \
             mongodb://db1.example.com:27017)",
        ),
        5 => BackupRun {
            warnings: vec![
                "the collection shop.carts was dropped while it was read".into(),
                "the database legacy, with 12 % of the documents of the last good backup, is gone".into(),
            ],
            ..made(ago)
        },
        41 | 42 => failed(
            ago,
            1,
            "cannot write to s3://my-backups/daily-backups/: 403 AccessDenied: s3:PutObject is not allowed \
             (next step: Allow s3:PutObject on the bucket my-backups for these credentials)",
        ),
        63 => BackupRun { status: Status::Interrupted, finished_at: None, ..failed(ago, 0, "") },
        _ => made(ago),
    }
}

/// A backup that a run made, as retention sees it.
fn backup(run: &BackupRun) -> RetainedBackup {
    let documents = run.documents.unwrap_or_default();
    let amount = Amount { documents, raw_bytes: run.raw_bytes.unwrap_or_default() };
    RetainedBackup {
        id: run.id.clone(),
        job: run.job.clone(),
        started: run.started_at,
        contents: Contents {
            total: amount,
            namespaces: [("shop.orders".into(), amount)].into_iter().collect(),
        },
        source: SourceServer {
            topology: Topology::Standalone,
            member: "db1.example.com:27017".into(),
            version: "7.0.14".into(),
            feature_compatibility_version: None,
            set_name: None,
            set_id: None,
        },
        pinned: (run.id == id(75)).then(Pin::default),
        accepted: false,
        unsound: None,
    }
}

fn drill(ago: i64, seconds: f64) -> (BackupId, Drill) {
    let run = made(ago);
    let drill = Drill {
        at: started(ago) + TimeDelta::hours(4),
        target: "mongod".into(),
        version: "7.0.14".into(),
        recovery_seconds: seconds,
        index_seconds: seconds * 0.2,
        compare_seconds: seconds * 0.7,
        namespaces: 214,
        documents: run.documents.unwrap(),
        oplog_entries: 0,
        raw_bytes: run.raw_bytes.unwrap(),
        findings: vec![],
        notes: vec![],
    };
    (run.id, drill)
}

/// What is known after so many nights: what a clean-up left of them.
pub fn known(nights: i64) -> JobHistory {
    let mut runs: Vec<BackupRun> = (0..nights).map(night).collect();
    let completed = |run: &&BackupRun| run.status == Status::Completed;
    let mut backups: Vec<RetainedBackup> = runs.iter().filter(completed).map(backup).collect();
    let (options, now) = (options(), now());
    let around = PlanContext { job: JOB.into(), now, store_clock: now, force: true, unreadable: vec![] };
    let plan = plan(&backups, &options.policy, &around);
    let gone: BTreeSet<BackupId> = plan.deletions().map(|decision| decision.id.clone()).collect();
    backups.retain(|backup| !gone.contains(&backup.id));
    runs.iter_mut().filter(|run| gone.contains(&run.id)).for_each(|run| run.status = Status::Deleted);
    JobHistory { place: "s3://my-backups/daily-backups/".into(), runs, backups, ..JobHistory::default() }
}

/// The figures of the sample.
pub fn sample() -> StatsReport {
    let drills = vec![drill(8, 742.0), drill(39, 701.0), drill(68, 688.0)];
    report(&JobHistory { drills, ..known(NIGHTS) }, &options(), now())
}
