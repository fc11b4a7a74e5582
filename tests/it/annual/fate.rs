//! The events of a year, derived from a seed: quiet days, and days on which something happens.

use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::fickle::{Fault, Harm, Step};

/// The number of days.
pub const DAYS: usize = 365;

/// Whether MongoDB answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    Up,
    /// The port is closed.
    Refused,
    /// The password was changed.
    Login,
}

/// An event of an afternoon. A job is its index in the list of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A collection loses its documents, by mistake or not.
    Collapse {
        job: usize,
        mistake: bool,
    },
    /// The mistake is repaired.
    Mend(usize),
    /// The job's server has another name from now on.
    NewName(usize),
    RecordsDropped,
    /// The records are set back by weeks.
    RecordsOld,
    /// A manifest is lost.
    Lose(usize),
    /// A manifest becomes unreadable.
    Garble(usize),
    /// All manifests are readable again.
    Ungarble,
    /// A person deletes the orphans.
    Orphans,
    Pin(usize),
    Unpin(usize),
}

/// A day.
#[derive(Debug, Clone)]
pub struct Day {
    pub source: Reach,
    pub backup: [Option<Fault>; 2],
    pub cleanup: [Option<Fault>; 2],
    /// The status that the mail service answers.
    pub mail: u16,
    /// The errors of the two clocks.
    pub machine: TimeDelta,
    pub store: TimeDelta,
    pub events: Vec<Event>,
}

const BACKUP: [Step; 8] = [
    Step::Check,
    Step::List,
    Step::Get,
    Step::Begin,
    Step::Part,
    Step::Complete,
    Step::Index,
    Step::Manifest,
];
const KILLED: [Step; 4] = [Step::Begin, Step::Part, Step::Index, Step::Manifest];
const CLEANUP: [Step; 5] = [Step::Check, Step::List, Step::Get, Step::Put, Step::Delete];

/// The year of a seed.
pub fn year(seed: u64) -> Vec<Day> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut days: Vec<Day> = (0..DAYS).map(|_| ordinary(&mut rng)).collect();
    let mut spans = |from: usize, to: usize, len: usize, change: &dyn Fn(&mut Day)| {
        let first = rng.random_range(from..to);
        days[first..(first + len).min(DAYS)].iter_mut().for_each(change);
        first
    };
    // The first weeks are quiet, so that there are backups to lose.
    spans(120, 150, 35, &|day| day.source = Reach::Refused);
    for (from, len) in [(20, 3), (70, 6), (200, 4), (300, 2)] {
        spans(from, from + 10, len, &|day| day.source = Reach::Refused);
    }
    for (from, len) in [(25, 1), (230, 2), (330, 1)] {
        spans(from, from + 30, len, &|day| day.source = Reach::Login);
    }
    for (from, len, status) in [(30, 2, 500), (115, 12, 401), (240, 3, 500), (305, 5, 401)] {
        spans(from, from + 20, len, &|day| day.mail = status);
    }
    spans(88, 97, 2, &|day| {
        // Nothing else is wrong in these two nights, so that their backups are made and dated in the future.
        *day = Day { machine: TimeDelta::days(3653), backup: [None; 2], source: Reach::Up, ..day.clone() };
    });
    spans(210, 220, 8, &|day| day.machine = TimeDelta::hours(-1));
    spans(270, 290, 1, &|day| day.store = TimeDelta::hours(-3));
    for (job, mistake, from) in
        [(0, false, 45), (1, true, 60), (0, true, 190), (1, false, 250), (0, false, 320)]
    {
        let first = spans(from, from + 15, 1, &|day| day.events.push(Event::Collapse { job, mistake }));
        if mistake {
            spans(first + 6, first + 7, 1, &|day| day.events.push(Event::Mend(job)));
        }
    }
    for (job, from) in [(0, 100), (1, 225)] {
        spans(from, from + 15, 1, &|day| day.events.push(Event::NewName(job)));
    }
    for (what, at) in [
        (Event::RecordsDropped, 50),
        (Event::RecordsOld, 110),
        (Event::RecordsDropped, 205),
        (Event::RecordsOld, 260),
        (Event::RecordsOld, 335),
        (Event::Lose(0), 40),
        (Event::Lose(1), 75),
        (Event::Lose(1), 215),
        (Event::Lose(0), 290),
        (Event::Orphans, 58),
        (Event::Orphans, 180),
        (Event::Orphans, 315),
    ] {
        spans(at, at + 12, 1, &|day| day.events.push(what));
    }
    let garbled = spans(275, 290, 1, &|day| day.events.push(Event::Garble(0)));
    spans(garbled + 3, garbled + 4, 1, &|day| day.events.push(Event::Ungarble));
    days
}

fn ordinary(rng: &mut StdRng) -> Day {
    let mut pick = |chance: f64, steps: &[Step], harm: Harm| {
        let after = rng.random_range(0..3);
        let step = steps[rng.random_range(0..steps.len())];
        // A backup executes most kinds of steps only once.
        let after = if matches!(step, Step::Get | Step::Delete | Step::Put) { after } else { 0 };
        rng.random_bool(chance).then_some(Fault { step, harm, after })
    };
    let mut backup = || {
        let fails = pick(0.03, &BACKUP, Harm::Fails);
        let killed = pick(0.02, &KILLED, Harm::Hangs);
        fails.or(killed).or(pick(0.006, &[Step::Manifest], Harm::AnswerLost))
    };
    let backup = [backup(), backup()];
    let mut cleanup =
        || pick(0.04, &CLEANUP, Harm::Fails).or(pick(0.04, &[Step::Put, Step::Delete], Harm::Hangs));
    let cleanup = [cleanup(), cleanup()];
    let mut events = Vec::new();
    for job in 0..2 {
        if rng.random_bool(0.03) {
            events.push(Event::Pin(job));
        }
        if rng.random_bool(0.02) {
            events.push(Event::Unpin(job));
        }
    }
    let still = TimeDelta::zero();
    Day { source: Reach::Up, backup, cleanup, mail: 200, machine: still, store: still, events }
}
