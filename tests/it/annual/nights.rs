//! The backups of both jobs at 03:00, and their expected results.

use chrono::TimeDelta;
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;

use super::clock;
use super::fate::{Day, Reach};
use super::fickle::{Fault, Harm, Step};
use super::ledger::{JOBS, Made};
use super::life::Life;
use super::mail::Mail;
use super::world::Files;
use super::world::{BackupRun, Ended};

impl Life {
    /// Runs both jobs at the same time, as cron would.
    pub async fn night(&mut self, day: &Day) {
        let before = self.world.files();
        let records = if self.records_hurt { self.count_records().await } else { 0 };
        let (shop, blog) =
            tokio::join!(self.world.backup(0, day.backup[0]), self.world.backup(1, day.backup[1]));
        let (mails, after) = (self.world.inbox.take(), self.world.files());
        for (ran, fault) in [(shop, day.backup[0]), (blog, day.backup[1])] {
            self.tally.add("nights", 1);
            self.book(ran, fault, &before, &after, &mails).await;
        }
        if self.records_hurt && self.stand.iter().any(|stand| !stand.failed) {
            self.records_hurt = false;
            let written = self.count_records().await - records;
            assert!(written > self.ledger.listed(0).count() / 4, "{written}");
            self.tally.add("records rebuilt", written);
        }
    }

    /// A person runs the backup again.
    pub async fn again(&mut self, job: usize) {
        let before = self.world.files();
        let ran = self.world.backup(job, None).await;
        let (mails, after) = (self.world.inbox.take(), self.world.files());
        self.tally.add("runs by hand", 1);
        self.book(ran, None, &before, &after, &mails).await;
    }

    /// Compares a run with the expectation, and enters it into the ledger.
    async fn book(
        &mut self,
        ran: BackupRun,
        fault: Option<Fault>,
        before: &Files,
        after: &Files,
        mails: &[Mail],
    ) {
        let job = ran.job;
        let own = |key: &&String| ran.ids.iter().any(|id| key.contains(id.as_str()));
        let new: Vec<&String> = after.keys().filter(own).collect();
        assert!(new.iter().all(|key| !before.contains_key(*key)));
        let listed = new.iter().any(|key| key.ends_with("/manifest.json"));
        let wrong = !ran.ids.is_empty() && clock::machine() > clock::truth() + TimeDelta::minutes(10);
        let doubt = self.stand[job].collapsed || self.stand[job].renamed || wrong;
        self.stand[job].failed = !matches!(ran.ended, Ended::Well(_));
        let up = self.world.inbox.is_up();
        let want = match &ran.ended {
            Ended::Well(done) => {
                assert_eq!(self.world.reach, Reach::Up);
                assert!(listed && new.len() == 3, "{new:?}");
                assert!(ran.harmed || done.problems.is_empty(), "{:?}", done.problems);
                let manifest = self.made(&ran).await;
                assert_eq!(manifest, done.manifest);
                self.tally.add("backups made", 1);
                self.tally.add("backups made: collapsed", usize::from(manifest.collapsed()));
                self.series[job][0].good(Some("success"))
            }
            Ended::Failed(error) => {
                let lost = ran.harmed && fault.is_some_and(|fault| fault.harm == Harm::AnswerLost);
                let reports = new.iter().filter(|key| key.ends_with("/failed.json")).count();
                assert_eq!(reports, usize::from(!ran.ids.is_empty()), "{new:?}: {}", error.chain());
                assert_eq!(listed, lost, "a failed run is listed");
                if lost {
                    self.made(&ran).await;
                    self.tally.add("backups made: of runs that were reported as failed", 1);
                } else {
                    assert_eq!(new.len(), reports, "a failed run leaves {new:?}");
                }
                if let Some(id) = ran.ids.last() {
                    self.ledger.failed.push((job, id.clone()));
                }
                let cause = match (self.world.reach, fault) {
                    (Reach::Refused, _) => "MongoDB does not answer".into(),
                    (Reach::Login, _) => "the password is wrong".into(),
                    (_, Some(fault)) => format!("the store fails at {:?}", fault.step),
                    (_, None) => panic!("a failure without a planned cause: {}", error.chain()),
                };
                self.tally.add(format!("backups failed: {cause}"), 1);
                self.series[job][0].bad("failure", ran.started, up)
            }
            Ended::Killed => {
                assert!(!listed, "a killed run is listed");
                assert!(!new.iter().any(|key| key.ends_with("/failed.json")));
                self.tally.add("backups interrupted", 1);
                if new.iter().any(|key| key.contains("/dump.") && !key.ends_with(".partial")) {
                    self.ledger.orphans.push(ran.ids[0].clone());
                }
                None
            }
        };
        let silent = fault.is_some_and(|fault| matches!(fault.step, Step::Check | Step::List | Step::Get));
        self.mailed(job, "backup", want, mails, &ran.unsent);
        if want == Some("failure") && !silent {
            self.tells_the_newest_good(job, mails);
        }
        // A night is good if the newest good backup is tonight's.
        if listed && !doubt {
            self.stand[job].troubled = 0;
            let newest = self.ledger.newest_good(job, clock::machine()).expect("a good one");
            assert_eq!(newest.id(), &ran.ids[0], "tonight's backup is not the newest good one");
        } else {
            self.stand[job].troubled += 1;
        }
    }

    /// Reads the manifest of a backup from the disk, compares it with the server, and enters it into the
    /// ledger.
    async fn made(&mut self, ran: &BackupRun) -> Manifest {
        let job = ran.job;
        let id = ran.ids.last().expect("an id");
        let bytes = self.world.read(&layout::manifest(id)).expect("a manifest");
        let manifest = Manifest::decode(&bytes).expect("a manifest that can be understood");
        let documents = self.documents(job).await;
        assert_eq!((&manifest.id, manifest.job.as_str()), (id, JOBS[job].name));
        assert_eq!(manifest.totals.documents, documents);
        // True time passes during a run, especially on a busy machine.
        let after = manifest.started_at - ran.started;
        assert!(TimeDelta::zero() <= after && after < TimeDelta::hours(1), "{after}");
        let before = self.ledger.compared_with(job, ran.started);
        let less = before.is_some_and(|before| 2 * documents < before);
        assert_eq!(manifest.collapsed(), less, "{documents} of {before:?}: {:?}", manifest.warnings);
        let member = format!("{}:{}", self.world.names[job], self.world.server.port());
        self.ledger.made.push(Made {
            manifest: manifest.clone(),
            job,
            truth: clock::truth(),
            started: ran.started,
            documents,
            member,
            pinned: false,
            accepted: false,
            listed: true,
        });
        manifest
    }
}
