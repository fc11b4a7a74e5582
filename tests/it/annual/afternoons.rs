//! The afternoons: actions of people, and events in the data, the records and the store.

use bson::{Document, doc};
use chrono::TimeDelta;
use futures_util::TryStreamExt;
use mongodb::Collection;
use rand::RngExt;
use uzima_backup::catalog::layout;
use uzima_backup::catalog::marks::{FORMAT, Mark};
use uzima_backup::model::id::BackupId;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::pin;

use super::clock;
use super::fate::{Day, Event};
use super::ledger::JOBS;
use super::life::Life;

/// The number of nights in a row with a frozen cleanup after which a person looks.
const PATIENCE: usize = 4;

impl Life {
    pub async fn afternoon(&mut self, day: &Day) {
        for event in &day.events {
            self.happens(*event).await;
        }
        for job in 0..2 {
            if self.stand[job].failed && self.rng.random_bool(0.25) {
                self.again(job).await;
            }
            // Nobody accepts anything while a clock is wrong, or while data is known to be lost by mistake.
            if self.stand[job].frozen_nights >= PATIENCE && clock::is_right() && !self.stand[job].mistake {
                self.follow(job).await;
            }
        }
    }

    /// A person follows the messages of a frozen cleanup until it is no longer frozen.
    async fn follow(&mut self, job: usize) {
        for _ in 0..20 {
            let why = self.stand[job].frozen.join(" ");
            let words: Vec<&str> = why.split(' ').map(|word| word.trim_end_matches(';')).collect();
            let named =
                words.windows(2).find(|pair| pair[0] == "--accept").and_then(|pair| pair[1].parse().ok());
            let accept: Vec<BackupId> = named.into_iter().collect();
            let force = words.contains(&"--force");
            if accept.is_empty() && !force {
                return;
            }
            self.tally.add("accepted by a person", accept.len());
            self.tally.add("forced by a person", usize::from(force));
            self.clean(job, None, &accept, force, false, false).await;
            let newest = self.ledger.listed(job).max_by_key(|made| made.truth);
            if newest.is_some_and(|made| made.accepted) {
                (self.stand[job].collapsed, self.stand[job].renamed) = (false, false);
            }
        }
        panic!("the cleanup stays frozen whatever a person does: {:?}", self.stand[job].frozen);
    }

    async fn happens(&mut self, event: Event) {
        match event {
            Event::Collapse { job, mistake } => {
                let emptied = self.collection(job, 0).delete_many(doc! {}).await;
                emptied.expect("it is emptied");
                (self.stand[job].collapsed, self.stand[job].mistake) = (true, mistake);
                self.tally.add("collections emptied", 1);
            }
            Event::Mend(job) => {
                self.fill(job, 0, 14).await;
                (self.stand[job].collapsed, self.stand[job].mistake) = (false, false);
            }
            Event::NewName(job) => {
                // The name leads to this machine, but is none of the names that count as the same server.
                (self.world.names[job], self.stand[job].renamed) = ("0.0.0.0", true);
                self.tally.add("sources changed", 1);
            }
            Event::RecordsDropped => {
                self.world.client.database("uzima_backup").drop().await.expect("it is dropped");
                self.records_hurt = true;
                self.tally.add("records lost", 1);
            }
            Event::RecordsOld => {
                let old = self.past_records[self.past_records.len().saturating_sub(4)].clone();
                self.world.client.database("uzima_backup").drop().await.expect("it is dropped");
                self.world
                    .client
                    .database("uzima_backup")
                    .collection("runs")
                    .insert_many(old)
                    .await
                    .expect("old ones");
                self.records_hurt = true;
                self.tally.add("records set back by weeks", 1);
            }
            Event::Lose(job) => {
                if let Some(id) = self.some(job, |made| !made.pinned && !made.accepted) {
                    std::fs::remove_file(self.world.root().join(layout::manifest(&id))).expect("it is lost");
                    self.ledger.find(&id).expect("it was made").listed = false;
                    self.ledger.orphans.push(id.clone());
                    self.ledger.lost.push(id);
                    self.tally.add("manifests lost", 1);
                }
            }
            Event::Garble(job) => {
                if let Some(id) = self.some(job, |made| !made.accepted) {
                    let path = self.world.root().join(layout::manifest(&id));
                    self.ledger.garbled.push((id.clone(), std::fs::read(&path).expect("a manifest")));
                    std::fs::write(path, b"{ nothing").expect("it is garbled");
                    self.ledger.find(&id).expect("it was made").listed = false;
                    self.tally.add("manifests garbled for some days", 1);
                }
            }
            Event::Ungarble => {
                for (id, bytes) in std::mem::take(&mut self.ledger.garbled) {
                    std::fs::write(self.world.root().join(layout::manifest(&id)), bytes)
                        .expect("it is mended");
                    self.ledger.find(&id).expect("it was made").listed = true;
                }
            }
            Event::Orphans => {
                for job in 0..2 {
                    self.clean(job, None, &[], false, true, false).await;
                    let days = |id: &BackupId| clock::store() - id.started() > TimeDelta::days(3);
                    let frozen = !self.stand[job].frozen.is_empty();
                    assert!(frozen || !self.ledger.orphans.iter().any(days), "{:?}", self.ledger.orphans);
                }
            }
            Event::Pin(job) => {
                if let Some(id) = self.some(job, |made| !made.pinned) {
                    let mark = Mark {
                        format: FORMAT,
                        id: id.clone(),
                        at: clock::machine(),
                        host: "db1".into(),
                        reason: None,
                    };
                    let pinned = pin::pin(&*self.world.store(None), &mark).await.expect("a pin");
                    assert!(pinned.pinned);
                    self.ledger.find(&id).expect("it was made").pinned = true;
                    self.tally.add("pins", 1);
                }
            }
            Event::Unpin(job) => {
                if let Some(id) = self.some(job, |made| made.pinned) {
                    pin::unpin(&*self.world.store(None), &id).await.expect("no pin");
                    self.ledger.find(&id).expect("it was made").pinned = false;
                    self.tally.add("unpins", 1);
                }
            }
        }
    }

    /// A backup of a job of this kind, but none of the newest, so that good ones are left whatever happens to
    /// it.
    fn some(&mut self, job: usize, kind: impl Fn(&super::ledger::Made) -> bool) -> Option<BackupId> {
        let mut listed: Vec<_> = self.ledger.listed(job).collect();
        listed.sort_by_key(|made| std::cmp::Reverse(made.truth));
        let of_kind: Vec<BackupId> =
            listed.into_iter().skip(5).filter(|made| kind(made)).map(|made| made.id().clone()).collect();
        (!of_kind.is_empty()).then(|| of_kind[self.rng.random_range(0..of_kind.len())].clone())
    }

    fn collection(&self, job: usize, place: usize) -> Collection<Document> {
        self.world.client.database(JOBS[job].db).collection(JOBS[job].collections[place])
    }

    /// Adds documents of equal size.
    pub async fn fill(&mut self, job: usize, place: usize, count: i32) {
        let from = self.stand[job].next;
        self.stand[job].next += count;
        let rows = (from..from + count).map(|n| doc! {"_id": n, "text": "x".repeat(20)});
        self.collection(job, place).insert_many(rows).await.expect("rows");
    }

    /// A day's changes of the data. Data that was lost by mistake does not change.
    pub async fn grow(&mut self) {
        for job in 0..2 {
            if self.stand[job].collapsed {
                continue;
            }
            self.fill(job, 0, 1).await;
            let old = doc! {"_id": {"$lt": self.stand[job].next - 20}};
            self.collection(job, 0).delete_many(old).await.expect("old rows go");
        }
    }

    pub async fn documents(&self, job: usize) -> u64 {
        let mut all = 0;
        for place in 0..2 {
            all += self.collection(job, place).count_documents(doc! {}).await.expect("a count");
        }
        all
    }

    pub async fn remember_records(&mut self) {
        let runs = self.world.client.database("uzima_backup").collection::<Document>("runs");
        let found = runs.find(doc! {}).await.expect("records");
        let found: Vec<Document> = found.try_collect().await.expect("records");
        if !found.is_empty() {
            self.past_records.push(found);
        }
    }

    /// Writes foreign files below the root, and the backup of a job that nobody runs.
    pub fn strangers(&self) {
        let manifest = crate::cleanup::support::of_time("all@db9", clock::truth() - TimeDelta::days(400));
        let [a, b, c] = crate::cleanup::support::keys_of(&manifest);
        let bytes = Manifest::encode(&manifest).expect("JSON");
        for (key, body) in [
            (a.as_str(), bytes.as_slice()),
            (&b, b"index"),
            (&c, b"all the data"),
            ("README.txt", b"keep out"),
            ("2026/11/notes.txt", b"notes"),
            ("2020/01/20261101T030000Z-aaaaaa/manifest.json", b"{}"),
            ("other/dump.tar.zst", b"of another tool"),
        ] {
            let path = self.world.root().join(key);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            std::fs::write(path, body).expect("a file");
        }
    }
}
