//! Random histories of two jobs: failed nights, outages of weeks, clock jumps, pins, lost manifests,
//! collapses, another server, planted backups. After each cleanup an oracle decides for each backup alone whether it had to
//! stay or to go. The oracle shares no code with the planner.
//!
//! The same with two and three places, each with its own policy, faults and cleanups, and with copies between them: the oracle of a
//! place sees the backups of that place alone.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uzima_backup::catalog::compare::{Amount, Contents};
use uzima_backup::catalog::marks::Pin;
use uzima_backup::catalog::state::RetainedBackup;
use uzima_backup::config::choices::Policy;
use uzima_backup::model::id::BackupId;
use uzima_backup::model::manifest::SourceServer;
use uzima_backup::model::server::Topology;
use uzima_backup::retention::copies::{Lacking, PlaceStock, lacking};
use uzima_backup::retention::{PlanContext, RetentionAction, RetentionDecision, plan};

use super::oracle::Oracle;

/// An event of a history.
#[derive(Debug, Clone)]
enum HistoryEvent {
    /// So many nights, each with a backup of each job.
    Nights(u8),
    /// So many nights, each with a partial backup of each job.
    Partial(u8),
    /// So many days without a backup.
    Outage(u8),
    /// At the next backup the machine's clock is wrong by so many days.
    ClockJumps(i16),
    /// A backup is pinned, or unpinned.
    Pin(prop::sample::Index),
    /// A manifest is lost.
    Lose(prop::sample::Index),
    /// Verify finds a backup damaged.
    Unsound(prop::sample::Index),
    /// Somebody plants an untrusted backup of each job: the days from now to its start, its documents, its server, and its mark:
    /// 0 none, 1 a pin, 2 an acceptance, 3 a fault.
    Plant(i16, u16, u8, u8),
    /// The server now holds so many documents.
    Holds(u16),
    /// The job reads another server.
    Server(u8),
    /// A person accepts the newest backup.
    Accept,
    /// A cleanup whose clock is wrong by so many minutes, with or without --force.
    Cleanup(i16, bool),
}

fn event() -> impl Strategy<Value = HistoryEvent> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (1..12_u8).prop_map(HistoryEvent::Nights),
        2 => (1..12_u8).prop_map(HistoryEvent::Partial),
        1 => (1..60_u8).prop_map(HistoryEvent::Outage),
        1 => (-4000..4000_i16).prop_map(HistoryEvent::ClockJumps),
        1 => index().prop_map(HistoryEvent::Pin),
        1 => index().prop_map(HistoryEvent::Lose),
        1 => index().prop_map(HistoryEvent::Unsound),
        1 => (-100..100_i16, 0..2000_u16, 0..3_u8, 0..4_u8)
            .prop_map(|(days, holds, server, mark)| HistoryEvent::Plant(days, holds, server, mark)),
        1 => prop_oneof![Just(0), 1..20_u16, 400..600_u16, Just(1000)].prop_map(HistoryEvent::Holds),
        1 => (0..2_u8).prop_map(HistoryEvent::Server),
        2 => Just(HistoryEvent::Accept),
        4 => (prop_oneof![9 => Just(0), 1 => -30..30_i16], any::<bool>()).prop_map(|(m, f)| HistoryEvent::Cleanup(m, f)),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let some = || prop_oneof![3 => Just(0), 1 => 0..6_usize];
    (1..40_u32, 1..5_usize, some(), some(), some(), some(), some()).prop_map(
        |(days, min, last, daily, weekly, monthly, yearly)| Policy {
            days,
            min,
            last,
            daily,
            weekly,
            monthly,
            yearly,
        },
    )
}

const JOBS: [&str; 2] = ["all@db1", "all@db2"];

struct History {
    now: DateTime<Utc>,
    jump: i64,
    holds: u64,
    server: u8,
    made: u32,
    backups: Vec<RetainedBackup>,
    /// The backups that cleanups deleted.
    deleted: BTreeSet<BackupId>,
    /// The numbers of cleanups, of frozen cleanups, and of deleted backups.
    tally: [usize; 3],
}

impl History {
    fn new() -> History {
        let now = "2026-01-01T03:00:00Z".parse().expect("a time");
        let (backups, deleted) = (Vec::new(), BTreeSet::new());
        History { now, jump: 0, holds: 1000, server: 0, made: 0, backups, deleted, tally: [0; 3] }
    }

    fn night(&mut self, partial: bool) {
        self.now += TimeDelta::days(1);
        let started = self.now + TimeDelta::days(std::mem::take(&mut self.jump));
        for job in JOBS {
            self.made += 1;
            let holds = if partial { self.holds / 10 } else { self.holds };
            let amount = Amount { documents: holds, raw_bytes: holds * 10 };
            let id = format!("{}-{:06}", started.format("%Y%m%dT%H%M%SZ"), self.made);
            self.backups.push(RetainedBackup {
                id: id.parse().expect("an id"),
                job: job.into(),
                started,
                contents: Contents {
                    total: amount,
                    namespaces: [("a.b".into(), amount)].into_iter().collect(),
                    ..Contents::default()
                },
                source: SourceServer {
                    topology: Topology::Standalone,
                    member: format!("db{}:1", self.server),
                    version: String::new(),
                    feature_compatibility_version: None,
                    set_name: None,
                    set_id: None,
                },
                pinned: None,
                accepted: false,
                partial: partial.then(|| "the database a".into()),
                unsound: None,
                untrusted: None,
            });
        }
    }

    fn happen(&mut self, event: &HistoryEvent, policy: &Policy) {
        let at = |index: &prop::sample::Index, backups: &[RetainedBackup]| {
            (!backups.is_empty()).then(|| index.index(backups.len()))
        };
        match event {
            HistoryEvent::Nights(nights) => (0..*nights).for_each(|_| self.night(false)),
            HistoryEvent::Partial(nights) => (0..*nights).for_each(|_| self.night(true)),
            HistoryEvent::Outage(days) => self.now += TimeDelta::days((*days).into()),
            HistoryEvent::ClockJumps(days) => self.jump = (*days).into(),
            HistoryEvent::Pin(i) => {
                if let Some(i) = at(i, &self.backups) {
                    let pinned = &mut self.backups[i].pinned;
                    *pinned = if pinned.is_none() { Some(Pin::default()) } else { None };
                }
            }
            HistoryEvent::Lose(i) => {
                if let Some(i) = at(i, &self.backups) {
                    self.backups.remove(i);
                }
            }
            HistoryEvent::Unsound(i) => {
                if let Some(i) = at(i, &self.backups) {
                    self.backups[i].unsound = Some("verify failed".into());
                }
            }
            HistoryEvent::Plant(days, holds, server, mark) => self.plant(*days, *holds, *server, *mark),
            HistoryEvent::Holds(documents) => self.holds = (*documents).into(),
            HistoryEvent::Server(server) => self.server = *server,
            HistoryEvent::Accept => {
                for job in JOBS {
                    let of_job = self.backups.iter_mut().filter(|b| b.job == job);
                    if let Some(newest) = of_job.max_by_key(|b| (b.started, b.id.clone())) {
                        newest.accepted = true;
                    }
                }
            }
            HistoryEvent::Cleanup(minutes, force) => {
                let off = TimeDelta::minutes((*minutes).into());
                JOBS.iter().for_each(|job| self.clean(job, off, *force, policy));
            }
        }
    }

    fn plant(&mut self, days: i16, holds: u16, server: u8, mark: u8) {
        let (before, world) = (self.backups.len(), (self.holds, self.server, self.now, self.jump));
        (self.holds, self.server, self.jump) = (holds.into(), server, i64::from(days) - 1);
        self.now -= TimeDelta::hours(1);
        self.night(false);
        (self.holds, self.server, self.now, self.jump) = world;
        for planted in &mut self.backups[before..] {
            planted.untrusted = Some("it is not signed".into());
            planted.pinned = (mark == 1).then(Pin::default);
            planted.accepted = mark == 2;
            planted.unsound = (mark == 3).then(|| "verify failed".into());
        }
    }

    fn clean(&mut self, job: &str, off: TimeDelta, force: bool, policy: &Policy) {
        let (now, store_clock) = (self.now + TimeDelta::hours(1) + off, self.now + TimeDelta::hours(1));
        let around = PlanContext {
            job: job.into(),
            now,
            store_clock,
            force,
            unreadable: vec![],
            oplog: Default::default(),
            oplog_days: 7,
        };
        let made = plan(&self.backups, policy, &around);
        // Planted backups change nothing about the others, and stay.
        let trusted: Vec<RetainedBackup> =
            self.backups.iter().filter(|b| b.untrusted.is_none()).cloned().collect();
        let without = plan(&trusted, policy, &around);
        let is_trusted = |d: &&RetentionDecision| trusted.iter().any(|b| b.id == d.id);
        assert_eq!(made.frozen, without.frozen);
        assert!(made.decisions.iter().filter(is_trusted).eq(&without.decisions));
        let deleted: Vec<&RetainedBackup> = made
            .deletions()
            .map(|d| self.backups.iter().find(|b| b.id == d.id).expect("a deleted backup existed"))
            .collect();
        assert!(deleted.iter().all(|b| b.job == job), "another job's");
        assert!(deleted.iter().all(|b| b.pinned.is_none()), "a pinned one");
        let oracle = Oracle::new(&self.backups, job, now, policy);
        let want = oracle.going(off, force);
        let mut got: Vec<&str> = deleted.iter().map(|b| b.id.as_str()).collect();
        got.sort_unstable();
        assert_eq!(got, want.iter().map(|b| b.id.as_str()).collect::<Vec<_>>(), "{:?}", made.frozen);
        let decided =
            made.decisions.iter().filter(|d| d.action == RetentionAction::Keep).count() + want.len();
        assert!(!made.frozen.is_empty() || decided == oracle.mine.len(), "one decision for each");
        let left = oracle.good().iter().filter(|b| !got.contains(&b.id.as_str())).count();
        assert!(left >= oracle.good().len().min(policy.min), "keep_min");
        let counted = [1, usize::from(!made.frozen.is_empty()), got.len()];
        std::iter::zip(&mut self.tally, counted).for_each(|(sum, n)| *sum += n);
        let gone: BTreeSet<BackupId> = deleted.iter().map(|b| b.id.clone()).collect();
        self.backups.retain(|b| !gone.contains(&b.id));
        self.deleted.extend(gone);
    }
}

/// An event of a history with several places.
#[derive(Debug, Clone)]
enum PlacesEvent {
    /// An event of the server. New backups go to the places whose bit is not set.
    Everywhere(HistoryEvent, u8),
    /// An event of one place.
    At(prop::sample::Index, HistoryEvent),
    /// A place gets the backups that it lacks from another one.
    Copy(prop::sample::Index, prop::sample::Index),
}

fn places_event() -> impl Strategy<Value = PlacesEvent> {
    let index = any::<prop::sample::Index>;
    let away = || prop_oneof![2 => Just(0_u8), 1 => any::<u8>()];
    prop_oneof![
        2 => (event(), away()).prop_map(|(event, away)| PlacesEvent::Everywhere(event, away)),
        2 => (index(), event()).prop_map(|(place, event)| PlacesEvent::At(place, event)),
        1 => (index(), index()).prop_map(|(from, to)| PlacesEvent::Copy(from, to)),
    ]
}

/// The places of a job, each with its policy and its backups.
struct ManyPlaces {
    /// Makes the backups, and keeps none.
    server: History,
    places: Vec<(Policy, History)>,
    copied: usize,
}

impl ManyPlaces {
    fn new(policies: Vec<Policy>) -> ManyPlaces {
        let places = policies.into_iter().map(|policy| (policy, History::new())).collect();
        ManyPlaces { server: History::new(), places, copied: 0 }
    }

    fn happen(&mut self, event: &PlacesEvent) {
        match event {
            PlacesEvent::Everywhere(event, away) => self.everywhere(event, *away),
            PlacesEvent::At(place, event) => {
                let at = place.index(self.places.len());
                let (policy, place) = &mut self.places[at];
                // The clock and the server are the same for all places.
                if !is_of_server(event) {
                    place.happen(event, policy);
                }
            }
            PlacesEvent::Copy(from, to) => {
                let (from, to) = (from.index(self.places.len()), to.index(self.places.len()));
                self.copy(from, to);
            }
        }
    }

    fn everywhere(&mut self, event: &HistoryEvent, away: u8) {
        if !is_of_server(event) {
            self.places.iter_mut().for_each(|(policy, place)| place.happen(event, policy));
            return;
        }
        self.server.happen(event, &self.places[0].0);
        let new = std::mem::take(&mut self.server.backups);
        for (n, (_, place)) in self.places.iter_mut().enumerate() {
            place.now = self.server.now;
            if away >> n & 1 == 0 {
                place.backups.extend(new.iter().cloned());
            }
        }
    }

    fn copy(&mut self, from: usize, to: usize) {
        let now = self.server.now + TimeDelta::hours(1);
        for job in JOBS {
            let source = stock(&self.places[from].1);
            let (policy, target) = &mut self.places[to];
            let around = PlanContext {
                job: job.into(),
                now,
                store_clock: now,
                force: true,
                unreadable: vec![],
                oplog: Default::default(),
                oplog_days: 7,
            };
            let offered = lacking(&stock(target), &source, &target.deleted, policy, &around).backups;
            for offer in &offered {
                let copied = source.backups.iter().find(|b| b.id == offer.id).expect("the source has it");
                assert!(copied.job == job && copied.unsound.is_none() && copied.untrusted.is_none());
                assert!(offer.damaged || !target.deleted.contains(&offer.id));
                let own = target.backups.iter().position(|b| b.id == offer.id);
                assert_eq!(own.is_some(), offer.damaged);
                let own = own.map(|at| target.backups.remove(at));
                let accepted = copied.accepted || own.as_ref().is_some_and(|own| own.accepted);
                let pinned = own.and_then(|own| own.pinned).or(copied.pinned.clone());
                target.backups.push(RetainedBackup { pinned, accepted, ..copied.clone() });
            }
            self.copied += offered.len();
            // The oracle agrees that the next cleanup deletes none of them.
            let oracle = Oracle::new(&target.backups, job, now, policy);
            let going = oracle.going(TimeDelta::zero(), true);
            assert!(going.iter().all(|b| offered.iter().all(|offer| offer.id != b.id)), "{offered:?}");
            let again = lacking(&stock(target), &source, &target.deleted, policy, &around);
            assert_eq!(again, Lacking::default());
        }
    }
}

fn stock(place: &History) -> PlaceStock {
    PlaceStock { backups: place.backups.clone(), ..PlaceStock::default() }
}

/// Returns true if an event is about the server, its clock or new backups.
fn is_of_server(event: &HistoryEvent) -> bool {
    match event {
        HistoryEvent::Nights(_)
        | HistoryEvent::Partial(_)
        | HistoryEvent::Outage(_)
        | HistoryEvent::ClockJumps(_)
        | HistoryEvent::Holds(_)
        | HistoryEvent::Server(_) => true,
        HistoryEvent::Pin(_)
        | HistoryEvent::Lose(_)
        | HistoryEvent::Unsound(_)
        | HistoryEvent::Plant(..)
        | HistoryEvent::Accept
        | HistoryEvent::Cleanup(..) => false,
    }
}

#[test]
fn cleanup_keeps_a_good_backup_and_deletes_everything_that_is_due() {
    let wanted = std::env::var("UZIMA_HISTORIES").ok().map(|n| n.parse().expect("a number"));
    let cases = wanted.unwrap_or(3_000);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let histories = (policy(), prop::collection::vec(event(), 1..40));
    let tally = std::cell::RefCell::new([0_usize; 3]);
    let outcome = TestRunner::new(config).run(&histories, |(policy, events)| {
        let mut world = History::new();
        events.iter().for_each(|event| world.happen(event, &policy));
        let mut tally = tally.borrow_mut();
        std::iter::zip(&mut *tally, world.tally).for_each(|(sum, n)| *sum += n);
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
    let [cleanups, frozen, deleted] = *tally.borrow();
    println!("{cases} histories: {cleanups} cleanups, {frozen} of them frozen, {deleted} backups deleted");
    assert!(frozen > 0 && deleted > 0 && frozen < cleanups, "the histories test too little");
}

#[test]
fn each_place_keeps_and_deletes_what_is_due_there_whatever_the_others_have() {
    let wanted = std::env::var("UZIMA_HISTORIES").ok().map(|n| n.parse().expect("a number"));
    let cases = wanted.unwrap_or(1_000);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let policies = prop::collection::vec(policy(), 2..4);
    let histories = (policies, prop::collection::vec(places_event(), 1..60));
    let tally = std::cell::RefCell::new([0_usize; 4]);
    let outcome = TestRunner::new(config).run(&histories, |(policies, events)| {
        let mut world = ManyPlaces::new(policies);
        events.iter().for_each(|event| world.happen(event));
        let mut tally = tally.borrow_mut();
        for (_, place) in &world.places {
            std::iter::zip(&mut *tally, place.tally).for_each(|(sum, n)| *sum += n);
        }
        tally[3] += world.copied;
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
    let [cleanups, frozen, deleted, copied] = *tally.borrow();
    println!(
        "{cases} histories: {cleanups} cleanups, {frozen} frozen, {deleted} backups deleted, {copied} copied"
    );
    assert!(frozen > 0 && deleted > 0 && copied > 0, "the histories test too little");
}
