//! The year, day by day: the events in their order, and the conditions that always hold.

use chrono::{DateTime, Datelike, TimeDelta, Utc, Weekday};
use rand::SeedableRng;
use rand::rngs::StdRng;
use uzima_backup::model::id::BackupId;

use super::clock;
use super::fate::Day;
use super::ledger::Ledger;
use super::ledger::Tally;
use super::mail::Series;
use super::world::Files;
use super::world::World;

/// The world, and the test's knowledge of it.
pub struct Life {
    pub world: World,
    pub ledger: Ledger,
    pub tally: Tally,
    pub rng: StdRng,
    /// The mails about backups and cleanups of each job.
    pub series: [[Series; 2]; 2],
    pub stand: [Stand; 2],
    /// Files that the tool must not touch.
    pub strangers: Files,
    /// The records of some earlier days.
    pub past_records: Vec<Vec<bson::Document>>,
    /// The records were changed, and no backup was made since.
    pub records_hurt: bool,
}

/// The state of a job.
#[derive(Debug, Default)]
pub struct Stand {
    /// Deletions that were started and not completed.
    pub doomed: Vec<BackupId>,
    /// The reasons why the last cleanup was frozen, and the number of frozen nights in a row.
    pub frozen: Vec<String>,
    pub frozen_nights: usize,
    /// The data is less than half of what it was, and nobody has accepted that; and whether it is a mistake.
    pub collapsed: bool,
    pub mistake: bool,
    /// The server has another name, and nobody has accepted that.
    pub renamed: bool,
    /// The number of nights in a row without a good backup, caused by this test.
    pub troubled: usize,
    /// Tonight's run failed.
    pub failed: bool,
    /// The number of the next document.
    pub next: i32,
}

/// The time of the first night.
fn first() -> DateTime<Utc> {
    "2027-01-01T00:00:00Z".parse().expect("a time")
}

impl Life {
    pub async fn begin(seed: u64) -> Life {
        let mut life = Life {
            world: World::new().await,
            ledger: Ledger::default(),
            tally: Tally::default(),
            rng: StdRng::seed_from_u64(seed + 1),
            series: Default::default(),
            stand: Default::default(),
            strangers: Files::default(),
            past_records: Vec::new(),
            records_hurt: false,
        };
        clock::set(first());
        clock::disturb(TimeDelta::zero(), TimeDelta::zero());
        life.strangers();
        life.strangers = life.world.files();
        for job in 0..2 {
            life.fill(job, 0, 14).await;
            life.fill(job, 1, 4).await;
        }
        life
    }

    pub async fn day(&mut self, n: usize, day: &Day) {
        let midnight = first() + TimeDelta::days(n as i64);
        let at = |hour: i64| clock::set(midnight + TimeDelta::hours(hour));
        clock::disturb(day.machine, day.store);
        self.world.reach = day.source;
        self.world.inbox.answer(day.mail);
        self.grow().await;
        at(3);
        Box::pin(self.night(day)).await;
        Box::pin(self.standing(true)).await;
        at(4);
        for job in 0..2 {
            Box::pin(self.clean(job, day.cleanup[job], &[], false, false, true)).await;
        }
        Box::pin(self.standing(false)).await;
        if midnight.weekday() == Weekday::Sun {
            at(5);
            Box::pin(self.statistics()).await;
        }
        if midnight.day() == 1 {
            at(6);
            Box::pin(self.health()).await;
        }
        at(12);
        Box::pin(self.afternoon(day)).await;
        Box::pin(self.standing(false)).await;
        if n.is_multiple_of(10) {
            Box::pin(self.remember_records()).await;
        }
    }

    /// Asserts the conditions at the end of the year.
    pub async fn end(&mut self) {
        for job in 0..2 {
            self.nothing_old(job);
            assert!(self.stand[job].frozen.is_empty(), "frozen to the end: {:?}", self.stand[job].frozen);
        }
        let rubbish: Vec<String> = self
            .world
            .files()
            .into_keys()
            .filter(|key| key.ends_with(".partial") || key.ends_with("tombstone.json"))
            .collect();
        assert_eq!(rubbish, Vec::<String>::new());
        self.records_of_the_year().await;
    }
}
