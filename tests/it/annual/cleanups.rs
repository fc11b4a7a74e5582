//! The cleanups at 04:00: which backups may be deleted, and which must be.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use uzima_backup::catalog::layout;
use uzima_backup::model::id::BackupId;
use uzima_backup::ops::cleanup::CleanupReport;

use super::clock;
use super::fickle::Fault;
use super::ledger::JOBS;
use super::life::Life;
use super::world::Ended;
use super::world::Files;
use crate::cleanup::oracle::Oracle;

/// The expected result of a cleanup.
struct Want {
    /// The backups that the design deletes.
    going: BTreeSet<BackupId>,
    frozen: bool,
    accept: BTreeSet<BackupId>,
    orphans: bool,
}

impl Life {
    /// Runs a cleanup of a job. `nightly`: by cron, not by a person.
    pub async fn clean(
        &mut self,
        job: usize,
        fault: Option<Fault>,
        accept: &[BackupId],
        force: bool,
        orphans: bool,
        nightly: bool,
    ) {
        for id in accept {
            self.ledger.find(id).expect("a backup of the ledger").accepted = true;
        }
        let (now, off) = (clock::machine(), clock::machine() - clock::store());
        let backups = self.ledger.backups();
        let oracle = Oracle::new(&backups, JOBS[job].name, now, &JOBS[job].policy);
        let unreadable = !self.ledger.garbled.is_empty();
        let frozen = unreadable || oracle.frozen(off, force);
        let going = oracle.going(off, force).into_iter().filter(|_| !frozen).map(|b| b.id.clone()).collect();
        let want = Want { going, frozen, accept: accept.iter().cloned().collect(), orphans };
        let before = self.world.files();
        let (ended, harmed) = self
            .world
            .cleanup(job, fault, |request| {
                request.accept = accept.to_vec();
                (request.force, request.orphans) = (force, orphans);
            })
            .await;
        let after = self.world.files();
        self.only_what_may(job, &want, &before, &after);
        let manifest = |id: &BackupId| after.contains_key(&layout::manifest(id));
        let gone: BTreeSet<BackupId> =
            self.ledger.listed(job).map(|made| made.id().clone()).filter(|id| !manifest(id)).collect();
        assert!(gone.is_subset(&want.going), "{gone:?}");
        self.gone(job, &gone, &after);
        let up = self.world.inbox.is_up();
        let row = &mut self.series[job][1];
        let event = match &ended {
            Ended::Well(CleanupReport { first: report, .. }) => {
                assert_eq!(!report.frozen.is_empty(), want.frozen, "{:?}", report.frozen);
                assert!(report.frozen.iter().all(|why| why.len() > 20));
                assert!(harmed || gone == want.going, "{:?} and not {gone:?}", want.going);
                self.tally.add("backups deleted", gone.len());
                self.tally
                    .add("orphans deleted", report.orphans.iter().filter(|orphan| orphan.deleted).count());
                self.stand[job].frozen = report.frozen.clone();
                if want.frozen {
                    row.bad("frozen", now, up)
                } else {
                    let idle = gone.is_empty() && report.problems.is_empty();
                    row.good((!idle).then_some("cleanup"))
                }
            }
            Ended::Failed(error) => {
                assert!(harmed, "{}", error.chain());
                assert!(gone.is_empty());
                self.tally.add("cleanups failed", 1);
                row.bad("failure", now, up)
            }
            Ended::Killed => {
                self.tally.add("cleanups interrupted", 1);
                self.tally.add("backups deleted", gone.len());
                None
            }
        };
        let unsent = if event.is_some() && !up { vec![String::new()] } else { Vec::new() };
        let mails = self.world.inbox.take();
        self.mailed(job, "cleanup", event, &mails, &unsent);
        if let Ended::Well(_) = ended
            && nightly
        {
            self.tally.add("frozen nights", usize::from(want.frozen));
            self.stand[job].frozen_nights = if want.frozen { self.stand[job].frozen_nights + 1 } else { 0 };
        }
        if !harmed {
            self.finished(job, &after);
        }
    }

    /// Asserts that every change in the store belongs to a backup of this job that is deleted, or to one that
    /// was deleted before.
    fn only_what_may(&self, job: usize, want: &Want, before: &Files, after: &Files) {
        let old =
            |id: &BackupId| clock::machine() - id.started() > TimeDelta::days(JOBS[job].policy.days.into());
        let failed =
            |id: &BackupId| self.ledger.failed.contains(&(job, id.clone())) && old(id) && !want.frozen;
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            let (id, file) = layout::parse(key).unwrap_or_else(|| panic!("the foreign {key} is gone"));
            let partial = file.ends_with(".partial");
            let orphan = want.orphans && !want.frozen && self.ledger.orphans.contains(&id);
            let may = want.going.contains(&id) || self.stand[job].doomed.contains(&id) || partial || orphan;
            let fine = if file == layout::FAILED { failed(&id) } else { may || file == layout::TOMBSTONE };
            assert!(fine, "{key} is gone");
        }
        for (key, now) in after.iter().filter(|(key, now)| before.get(*key) != Some(now)) {
            let (id, file) =
                layout::parse(key).unwrap_or_else(|| panic!("the foreign {key} was written: {now:?}"));
            let fine = file == layout::TOMBSTONE && want.going.contains(&id)
                || file == layout::ACCEPTED && want.accept.contains(&id);
            assert!(fine, "{key} was written");
        }
    }

    /// Enters the deleted backups into the ledger. Each of them is old enough, whatever the clocks say.
    fn gone(&mut self, job: usize, gone: &BTreeSet<BackupId>, after: &Files) {
        for id in gone {
            let days = TimeDelta::days(JOBS[job].policy.days.into());
            let made = self.ledger.find(id).expect("a backup of the ledger");
            assert!(clock::truth() - made.truth >= days && !made.pinned, "{made:?}");
            made.listed = false;
            if after.keys().any(|key| key.contains(id.as_str()) && !key.ends_with("/failed.json")) {
                self.stand[job].doomed.push(id.clone());
            }
        }
        let there = |id: &BackupId, file: &str| {
            after.keys().any(|key| key.contains(id.as_str()) && key.contains(file))
        };
        self.ledger.failed.retain(|(_, id)| there(id, "/failed.json"));
        self.ledger.orphans.retain(|id| there(id, "/dump."));
    }

    /// Asserts that a cleanup without a fault leaves no unfinished deletion.
    fn finished(&mut self, job: usize, after: &Files) {
        let body = |id: &BackupId| {
            after.keys().find(|key| key.contains(id.as_str()) && !key.ends_with("/failed.json"))
        };
        let left: Vec<&String> = self.stand[job].doomed.iter().filter_map(body).collect();
        assert_eq!(left, Vec::<&String>::new());
        self.stand[job].doomed.clear();
    }

    /// Asserts that no expired backup is left: each one that is still there is young, pinned, dated in the
    /// future, or kept by a rule.
    pub fn nothing_old(&self, job: usize) {
        let policy = &JOBS[job].policy;
        let (days, now) = (TimeDelta::days(i64::from(policy.days) + 1), clock::machine());
        let old: Vec<_> = self
            .ledger
            .listed(job)
            .filter(|made| now - made.started > days && !made.pinned && !made.accepted)
            .collect();
        let ruled = policy.min + policy.weekly + policy.monthly;
        assert!(old.len() <= ruled, "{} old ones, of {ruled} at most", old.len());
        let failed = self.ledger.failed.iter().filter(|(of, id)| *of == job && now - id.started() > days);
        assert_eq!(failed.count(), 0, "failures that are long forgotten");
    }
}
