//! A mail about each event with invented figures, for `notify --test`, `notify --render` and the pages under docs/mail. The
//! words come from the code that writes real mails: only the figures, names and errors are invented.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::base::error::Error;
use crate::base::units;
use crate::catalog::compare::{Amount, Contents};
use crate::catalog::run::{BackupRun, Status};
use crate::catalog::state::{RetainedBackup, RetainedOplog};
use crate::cli::stats;
use crate::config::Config;
use crate::config::choices::Policy;
use crate::config::notify::Event;
use crate::config::place::Place;
use crate::model::id::BackupId;
use crate::model::manifest::SourceServer;
use crate::model::server::Topology;
use crate::model::timing::DataTiming;
use crate::notify::events::{
    BackupFacts, BackupSuccess, CheckOutcome, CheckRow, CleanupFrozen, CleanupSuccess, Deletion, NewestGood,
    NotifiedRun, ReportMail, RunFailure, RunKind, RunOutcome,
};
use crate::notify::message::{Message, Sender};
use crate::notify::{PastRuns, health_mail, report_mail, run_mail};
use crate::ops::stats::{JobHistory, StatsOptions, report};
use crate::retention::{PlanContext, RetentionAction, RetentionPlan, plan};

const DAY: Duration = Duration::from_secs(86_400);
/// The longest retention that samples show, in days.
const LONGEST: u32 = 90;
/// How long a backup takes.
const TOOK: Duration = Duration::from_secs(137);
/// How long after a backup the cleanup runs.
const CLEANUP: TimeDelta = TimeDelta::hours(1);

/// The namespaces of the newest backup, with the number and the mean size of their documents.
const NAMESPACES: [(&str, u64, u64); 8] = [
    ("crm.companies", 18_604, 1_310),
    ("crm.leads", 2_155_217, 904),
    ("shop.carts", 102_113, 2_048),
    ("shop.customers", 412_877, 1_486),
    ("shop.events", 12_904_331, 612),
    ("shop.orders", 4_871_020, 2_960),
    ("shop.products", 37_522, 4_410),
    ("shop.settings", 14, 780),
];

/// The names and settings that the samples show.
pub(super) struct Samples {
    job: String,
    /// The place of the backups.
    place: String,
    /// The address of the MongoDB server.
    server: String,
    /// The configured days, and no other rule that would keep the backups of the samples.
    policy: Policy,
    max_age: Duration,
    sender: Sender,
    /// When the newest run began.
    began: DateTime<Utc>,
}

impl Samples {
    /// Samples of the configured job, whose last run ended just now. Settings that are wrong or not set are replaced by
    /// examples.
    pub fn of(config: &Config, now: DateTime<Utc>) -> Samples {
        let example = Samples::example(Sender::here(&config.machine.host), now - TOOK);
        let job = config.job.as_ref().ok();
        Samples {
            // The name is known even if another setting is wrong.
            job: match (job, config.layers.text("job")) {
                (Some(settings), _) => settings.job.clone(),
                (None, Some(name)) => name.into(),
                (None, None) => example.job,
            },
            place: config.place.as_ref().map_or(example.place, Place::name),
            server: job.map_or(example.server, |settings| settings.servers.clone()),
            policy: match job.map(|settings| settings.retention.days) {
                Some(days) if days <= LONGEST => Policy { days, ..example.policy },
                _ => example.policy,
            },
            max_age: config.max_age,
            ..example
        }
    }

    fn example(sender: Sender, began: DateTime<Utc>) -> Samples {
        Samples {
            job: "shop@db1".into(),
            place: "s3://my-backups/daily-backups/".into(),
            server: "db1.example.com:27017".into(),
            policy: Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 },
            max_age: Duration::from_secs(30 * 3600),
            sender,
            began,
        }
    }

    /// For how many nights there are backups: one more than the retention, so that a cleanup deletes one.
    fn nights(&self) -> i64 {
        i64::from(self.policy.days.max(3)) + 1
    }

    /// The start of the backup `ago` nights ago. cron starts it within seconds.
    fn started(&self, ago: i64) -> DateTime<Utc> {
        self.began - TimeDelta::days(ago) - TimeDelta::seconds(ago % 3)
    }

    fn id(&self, ago: i64) -> BackupId {
        const LETTERS: [&str; 7] = ["7k3q9d", "b2x7nd", "m81v0c", "4hw2mp", "q0c8zt", "9f6r1e", "e5t3ka"];
        let letters = LETTERS[ago.unsigned_abs() as usize % LETTERS.len()];
        let id = format!("{}-{letters}", self.started(ago).format("%Y%m%dT%H%M%SZ"));
        id.parse().expect("an id")
    }

    fn facts(&self) -> BackupFacts {
        let (id, began) = (self.id(0), self.began);
        let slash = if self.place.ends_with('/') { "" } else { "/" };
        let Amount { documents, raw_bytes } = contents(0).total;
        BackupFacts {
            place: format!("{}{slash}{}/{id}/dump.tar.gz", self.place, began.format("%Y/%m")),
            started_at: began,
            finished_at: began + TOOK,
            engine: "native".into(),
            consistency: "oplog".into(),
            namespaces: NAMESPACES.len() as u64,
            documents,
            raw_bytes,
            stored_bytes: stored_bytes(raw_bytes),
            instant: Some(began + TOOK),
            timing: Some(timing(TOOK)),
            partial: None,
        }
    }

    fn success(&self) -> BackupSuccess {
        BackupSuccess { facts: self.facts(), problems: vec![], notes: vec![], losses: None }
    }

    fn failure(&self, newest_good: NewestGood) -> RunFailure {
        let (id, server, job) = (self.id(0), &self.server, &self.job);
        let error = Error::failed(format!("cannot read shop.orders of {server}"))
            .caused_by("Connection reset by peer (os error 104)")
            .hint(format!("Check that {server} is up and can be reached from this machine"));
        let line = |seconds: i64, level: &str, text: &str| {
            let at = (self.began + TimeDelta::seconds(seconds)).format("%Y-%m-%dT%H:%M:%SZ");
            format!("{at} {level:5} [{id}] {text}")
        };
        let namespaces = units::several(NAMESPACES.len() as u64, "namespace");
        let reading =
            format!("backing up {namespaces} of {server} ({job}) with the native engine: engine = auto");
        let log = vec![line(0, "INFO", &reading), line(242, "ERROR", &error.chain())];
        RunFailure::of(&error, log, newest_good, self.max_age)
    }

    /// The backups of the last `nights` nights, newest first.
    fn backups(&self, nights: i64) -> Vec<RetainedBackup> {
        let backup = |ago| RetainedBackup {
            id: self.id(ago),
            job: self.job.clone(),
            started: self.started(ago),
            contents: contents(ago),
            source: SourceServer {
                topology: Topology::ReplicaSet,
                member: self.server.clone(),
                version: "6.0.27".into(),
                feature_compatibility_version: None,
                set_name: Some("rs0".into()),
                set_id: None,
            },
            pinned: None,
            accepted: false,
            partial: None,
            unsound: None,
            untrusted: None,
        };
        (0..nights).map(backup).collect()
    }

    /// The plan of the cleanup after the newest backup.
    fn plan(&self, backups: &[RetainedBackup]) -> RetentionPlan {
        let now = self.began + CLEANUP;
        let context = PlanContext {
            job: self.job.clone(),
            now,
            store_clock: now,
            force: false,
            unreadable: vec![],
            oplog: RetainedOplog::default(),
            oplog_days: 0,
        };
        plan(backups, &self.policy, &context)
    }

    /// A cleanup of the backups of the last `nights` nights.
    fn cleanup(&self, nights: i64) -> CleanupSuccess {
        let plan = self.plan(&self.backups(nights));
        let stored = |id: &BackupId| {
            let ago = (0..nights).find(|ago| self.id(*ago) == *id).unwrap_or_default();
            stored_bytes(contents(ago).total.raw_bytes)
        };
        let (gone, kept): (Vec<_>, Vec<_>) =
            plan.decisions.iter().partition(|decision| decision.action == RetentionAction::Delete);
        let deletion = |id: &BackupId, reason: &str| Deletion {
            id: id.to_string(),
            age: (self.began + CLEANUP - id.started()).to_std().unwrap_or_default(),
            stored_bytes: stored(id),
            reason: reason.into(),
        };
        CleanupSuccess {
            place: self.place.clone(),
            deleted: gone.iter().map(|decision| deletion(&decision.id, &decision.reason)).collect(),
            kept: kept.len() as u64,
            kept_bytes: kept.iter().map(|decision| stored(&decision.id)).sum(),
            ..CleanupSuccess::default()
        }
    }

    fn freeze(&self) -> CleanupFrozen {
        let mut backups = self.backups(self.nights());
        backups[0].contents = collapsed();
        let plan = self.plan(&backups);
        let waiting = plan.decisions.iter().filter(|decision| decision.action == RetentionAction::Delete);
        CleanupFrozen {
            place: self.place.clone(),
            waiting: waiting.count() as u64,
            backups: plan.decisions.len() as u64,
            why: plan.frozen,
            ..CleanupFrozen::default()
        }
    }

    fn notified(&self, operation: RunKind) -> NotifiedRun {
        NotifiedRun { job: self.job.clone(), operation, run: self.id(0).to_string(), partial: false }
    }

    /// The run that the sample of an event is about, and the number of failures before it. `None` for a report.
    pub fn run(&self, event: Event) -> Option<(NotifiedRun, RunOutcome, u32)> {
        let (operation, outcome, failures) = match event {
            Event::Success => (RunKind::Backup, RunOutcome::Success(self.success()), 0),
            Event::Recovered => (RunKind::Backup, RunOutcome::Success(self.success()), 3),
            Event::Failure => {
                let newest = NewestGood::At(self.started(1));
                (RunKind::Backup, RunOutcome::Failure(self.failure(newest)), 0)
            }
            Event::Cleanup => (RunKind::Cleanup, RunOutcome::Cleanup(self.cleanup(self.nights())), 0),
            Event::Frozen => (RunKind::Cleanup, RunOutcome::Frozen(self.freeze()), 0),
            Event::Stats | Event::Health => return None,
        };
        Some((self.notified(operation), outcome, failures))
    }

    /// The sample mail about an event.
    pub fn mail(&self, event: Event) -> Message {
        let Some((run, outcome, failures)) = self.run(event) else {
            let report = if event == Event::Stats { self.stats(2) } else { self.health() };
            return report_mail(event, report, &self.sender);
        };
        self.mail_about(&run, &outcome, failures)
    }

    fn mail_about(&self, run: &NotifiedRun, outcome: &RunOutcome, failures: u32) -> Message {
        let cleanup = self.cleanup(self.nights());
        let past = PastRuns {
            failures: (failures > 0).then(|| (failures, self.began - failures * DAY)),
            // The last cleanup was after the backup of the night before.
            cleanup: Some((&cleanup, self.began - DAY + CLEANUP)),
        };
        let took = match run.operation {
            RunKind::Backup => TimeDelta::seconds(TOOK.as_secs() as i64),
            _ => CLEANUP,
        };
        run_mail(run, outcome, &past, self.began + took, &self.sender)
    }

    /// The statistics of the job. Its run `failed` nights ago failed.
    fn stats(&self, failed: i64) -> ReportMail {
        let run = |ago: i64| {
            let run =
                BackupRun::begun(self.id(ago), &self.job, &self.sender.host, &self.place, self.started(ago));
            let took = TOOK - Duration::from_secs(ago.unsigned_abs() * 5 % 11);
            let finished_at = Some(run.started_at + took);
            if ago == failed {
                let error = self.failure(NewestGood::Unknown).error;
                return BackupRun { status: Status::Failed, finished_at, error: Some(error), ..run };
            }
            let Amount { documents, raw_bytes } = contents(ago).total;
            BackupRun {
                status: Status::Completed,
                finished_at,
                documents: Some(documents),
                raw_bytes: Some(raw_bytes),
                stored_bytes: Some(stored_bytes(raw_bytes)),
                timing: Some(timing(took)),
                ..run
            }
        };
        let (nights, failed_id) = (self.nights(), self.id(failed));
        let backups = self.backups(nights).into_iter().filter(|backup| backup.id != failed_id).collect();
        let runs = (0..nights).map(run).collect();
        let history = JobHistory { place: self.place.clone(), runs, backups, ..JobHistory::default() };
        let options =
            StatsOptions { job: self.job.clone(), policy: self.policy, max_age: self.max_age, oplog_days: 7 };
        stats::mail(&report(&history, &options, self.began + TimeDelta::hours(2)))
    }

    /// A report two days after the newest backup.
    fn health(&self) -> ReportMail {
        let check = |name, outcome, millis, detail: String| CheckRow {
            name,
            place: None,
            outcome,
            detail,
            took: Duration::from_millis(millis),
            next_step: None,
        };
        let (job, place, newest) = (&self.job, &self.place, self.id(0));
        let (age, allowed) = (self.max_age.max(DAY) + DAY, units::age(self.max_age));
        let kept = units::several(self.policy.days.into(), "day");
        let raw = units::bytes(contents(0).total.raw_bytes);
        let mut stale = check(
            "freshness",
            CheckOutcome::Failed,
            96,
            format!(
                "the newest good backup {newest} is {} old, {allowed} are allowed (max_age)",
                units::age(age)
            ),
        );
        let step =
            "Find out in cron's mail or the log why there is no newer one, then run `uzima-backup backup`";
        stale.next_step = Some(step.into());
        let ok = |name, millis, detail| check(name, CheckOutcome::Ok, millis, detail);
        let version = "6.0.27, feature compatibility version 6.0";
        let checks = [
            ok("configuration", 0, format!("job {job}, tar.gz; today's backup is kept for {kept}")),
            ok("mongodb", 41, format!("{version}, {}, replica set rs0", self.server)),
            ok("namespaces", 120, format!("{} readable, {raw}", NAMESPACES.len())),
            ok("engine", 0, "native: engine = auto".into()),
            ok("store", 230, format!("{place}, a probe was written, read and deleted")),
            stale,
            ok("backups", 96, format!("{}, no damage known", units::several(self.nights() as u64, "backup"))),
            ok("mail", 180, "the key may send, and nothing else".into()),
        ];
        let ended = self.began + TimeDelta::from_std(age).unwrap_or_default();
        health_mail(Some(job), &checks, ended)
    }
}

/// The contents of the backup `ago` nights ago. The data grows by a thousandth a day.
fn contents(ago: i64) -> Contents {
    amounts(|name, documents| {
        if name == "shop.settings" { documents } else { documents - documents / 1000 * ago.unsigned_abs() }
    })
}

/// The contents of a backup after a database was dropped, and most of a collection was deleted.
fn collapsed() -> Contents {
    amounts(|name, documents| match name {
        "shop.events" => documents * 2 / 5,
        name if name.starts_with("crm.") => 0,
        _ => documents,
    })
}

/// The contents with these numbers of documents. A namespace without documents is left out.
fn amounts(documents: impl Fn(&str, u64) -> u64) -> Contents {
    let named = NAMESPACES.map(|(name, newest, size)| {
        let documents = documents(name, newest);
        (name.to_string(), Amount { documents, raw_bytes: documents * size })
    });
    let mut contents = Contents::default();
    for (_, amount) in &named {
        contents.total.documents += amount.documents;
        contents.total.raw_bytes += amount.raw_bytes;
    }
    contents.namespaces = named.into_iter().filter(|(_, amount)| amount.documents > 0).collect();
    contents
}

/// The data phase of a backup that took so long, most of it waiting for MongoDB.
fn timing(took: Duration) -> DataTiming {
    let seconds = took.as_secs_f64() - 2.5;
    let part = |share: f64| seconds * share;
    DataTiming {
        seconds,
        mongodb_seconds: part(0.71),
        compression_seconds: part(0.16),
        store_seconds: part(0.05),
        other_seconds: part(0.08),
    }
}

/// The size of the artifact: documents compress to about a third.
fn stored_bytes(raw_bytes: u64) -> u64 {
    raw_bytes / 1000 * 337
}

#[cfg(test)]
mod tests;
