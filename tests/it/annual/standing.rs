//! The conditions that hold after every step of the year.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use rand::RngExt;
use uzima_backup::base::clock::Clock;
use uzima_backup::catalog::layout;
use uzima_backup::model::id::BackupId;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::verify;
use uzima_backup::store::Store;

use super::clock;
use super::fate::Reach;
use super::ledger::JOBS;
use super::life::Life;

impl Life {
    /// Checks all conditions. `night`: the backups have just run.
    pub async fn standing(&mut self, night: bool) {
        self.all_there();
        for job in 0..2 {
            self.good(job, night).await;
        }
        if night && self.world.reach == Reach::Up {
            self.records_agree().await;
        }
    }

    /// Asserts that every backup that nothing may have deleted exists and is whole.
    fn all_there(&mut self) {
        let files = self.world.files();
        for made in self.ledger.made.iter().filter(|made| made.listed) {
            let size = |key: &str| files.get(key).map(|(size, _)| *size);
            let m = &made.manifest;
            assert_eq!(size(&m.artifact.key), Some(m.artifact.size), "{}", m.id);
            assert_eq!(size(&m.index.key), Some(m.index.size), "{}", m.id);
            assert!(size(&layout::manifest(&m.id)).is_some(), "{}", m.id);
            assert_eq!(size(&layout::pin(&m.id)).is_some(), made.pinned, "{}", m.id);
        }
        let known: Vec<&BackupId> =
            self.ledger.made.iter().filter(|made| made.listed).map(|made| made.id()).collect();
        for key in files.keys().filter(|key| key.ends_with("/manifest.json")) {
            let mine = known.iter().any(|id| key.contains(id.as_str()));
            let garbled = self.ledger.garbled.iter().any(|(id, _)| key.contains(id.as_str()));
            assert!(
                mine || garbled || self.strangers.contains_key(key),
                "{key} is there, and nobody made it"
            );
        }
        let wrong: Vec<_> = self.strangers.iter().filter(|(key, was)| files.get(*key) != Some(was)).collect();
        assert!(wrong.is_empty(), "touched: {wrong:?}");
        self.tally.most("largest number of backups at once", known.len());
    }

    /// Once a good backup exists, there always is one. It can be restored, and is no older than the nights
    /// that this test spoiled.
    async fn good(&mut self, job: usize, night: bool) {
        if self.ledger.listed(job).next().is_none() {
            return;
        }
        let newest = self.ledger.newest_good(job, clock::machine()).expect("a good backup");
        let key = layout::manifest(newest.id());
        let decoded =
            Manifest::decode(&self.world.read(&key).expect("its manifest")).expect("it is understood");
        assert_eq!(decoded, newest.manifest);
        // A clock that is years ahead dates tonight's backup in the future, which shows only once the clock
        // is right again.
        let age = (clock::truth() - newest.truth).num_days().max(0) as usize;
        assert!(
            age <= self.stand[job].troubled + 1,
            "{age} days, of {} spoiled nights",
            self.stand[job].troubled
        );
        self.tally.most(format!("oldest newest good backup, in days: {}", JOBS[job].name), age);
        self.tally.most(
            format!("nights in a row without a good one, by this test: {}", JOBS[job].name),
            self.stand[job].troubled,
        );
        if night && self.rng.random_bool(0.06) {
            let listed: Vec<&Manifest> = self.ledger.listed(job).map(|made| &made.manifest).collect();
            let manifest = listed[self.rng.random_range(0..listed.len())];
            let store: Arc<dyn Store> = self.world.store(None);
            let report = verify::check_backup(
                &store,
                manifest,
                None,
                1,
                Clock::at(clock::machine()),
                &uzima_backup::base::progress::Meter::default(),
            )
            .await
            .expect("a verify");
            assert!(report.findings.is_empty(), "{}: {:?}", manifest.id, report.findings);
            assert_eq!(report.documents, manifest.totals.documents);
            self.tally.add("backups verified", 1);
        }
    }

    async fn all_records(&self) -> BTreeMap<String, Document> {
        let runs = self.world.client.database("uzima_backup").collection::<Document>("runs");
        let found: Vec<Document> =
            runs.find(doc! {}).await.expect("records").try_collect().await.expect("records");
        found.into_iter().map(|run| (run.get_str("_id").expect("an id").to_string(), run)).collect()
    }

    /// After a successful backup, the records of its job agree with the store.
    async fn records_agree(&mut self) {
        let records = self.all_records().await;
        for job in (0..2).filter(|job| !self.stand[*job].failed) {
            let status =
                |id: &BackupId| records.get(id.as_str()).map(|run| run.get_str("status").expect("a status"));
            for made in self.ledger.made.iter().filter(|made| made.job == job) {
                let garbled = self.ledger.garbled.iter().any(|(id, _)| id == made.id());
                let said = status(made.id());
                let fine = if self.ledger.lost.contains(made.id()) {
                    // After the records were set back, there may be no record of it.
                    said.is_none_or(|said| ["completed", "deleted"].contains(&said))
                } else {
                    garbled || (said == Some("completed")) == made.listed
                };
                assert!(fine, "{} is there: {}; recorded: {said:?}", made.id(), made.listed);
                let Some(run) = records.get(made.id().as_str()).filter(|_| made.listed) else { continue };
                assert_eq!(run.get_i64("documents").ok(), Some(made.documents as i64), "{run}");
            }
            let only_failed = |id: &BackupId| !self.ledger.made.iter().any(|made| made.id() == id);
            for (_, id) in self.ledger.failed.iter().filter(|(of, id)| *of == job && only_failed(id)) {
                assert_eq!(status(id), Some("failed"), "{id}");
            }
            let of_job =
                records.values().filter(|run| run.get_str("job").is_ok_and(|of| of == JOBS[job].name));
            let running = of_job.filter(|run| run.get_str("status").is_ok_and(|status| status == "running"));
            assert_eq!(running.count(), 0, "recorded as running, hours later");
        }
    }

    /// Checks the records at the end of the year. Only the records know interrupted runs.
    pub async fn records_of_the_year(&mut self) {
        for run in self.all_records().await.into_values() {
            let status = run.get_str("status").expect("a status").to_string();
            self.tally.add(format!("recorded in the end: {status}"), 1);
        }
    }

    pub async fn count_records(&self) -> usize {
        self.all_records().await.len()
    }
}
