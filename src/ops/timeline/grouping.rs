//! Sums the writes of minutes over longer periods, and finds what stands out among them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::model::optime::OpTime;
use crate::model::slice::MinuteWrites;

/// The most sums that are kept. With more of them, the periods become longer.
const MOST: usize = 100_000;
/// The lengths of periods in seconds.
const STEPS: [u32; 4] = [60, 600, 3600, 86_400];
/// Fewer deletes than this in a period never stand out.
const MASS: u64 = 100;
/// Deletes stand out if they are this many times the average of the other periods.
const UNUSUAL: u64 = 10;

/// The writes of a period.
#[derive(Debug, PartialEq, Eq, JsonSchema, Serialize)]
pub struct WritePeriod {
    pub start: DateTime<Utc>,
    /// The namespaces with the most writes, largest first; namespaces with mass deletes come before all others.
    pub namespaces: Vec<NamespaceWrites>,
    /// The sum over the other namespaces. `None` if there are none.
    pub others: Option<OtherWrites>,
}

/// The writes to a namespace in a period.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct NamespaceWrites {
    pub ns: String,
    pub inserts: u64,
    pub updates: u64,
    pub deletes: u64,
    /// True if far more documents were deleted than in the other periods.
    pub mass_delete: bool,
    /// Only for a mass delete: the argument of `restore --before` for the minute in which it began.
    pub before: Option<String>,
}

/// The writes to several namespaces in a period.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct OtherWrites {
    pub namespaces: u64,
    pub inserts: u64,
    pub updates: u64,
    pub deletes: u64,
}

impl NamespaceWrites {
    fn sum(&self) -> u64 {
        self.inserts.saturating_add(self.updates).saturating_add(self.deletes)
    }
}

impl OtherWrites {
    fn add(&mut self, inserts: u64, updates: u64, deletes: u64) {
        self.namespaces += 1;
        self.inserts = self.inserts.saturating_add(inserts);
        self.updates = self.updates.saturating_add(updates);
        self.deletes = self.deletes.saturating_add(deletes);
    }
}

/// The minute in which the most deletes of a period began.
#[derive(Debug, Clone, Copy, Default)]
struct Burst {
    start: u32,
    /// The most deletes in a minute.
    most: u64,
    /// The last minute, and its deletes.
    last: (u32, u64),
    /// The start of a burst that contains the last minute.
    begin: u32,
}

impl Burst {
    fn take(&mut self, minute: u32, deletes: u64) {
        if deletes == 0 {
            return;
        }
        let (before, its) = self.last;
        let deletes = if before == minute { its.saturating_add(deletes) } else { deletes };
        if before != minute || its == 0 {
            self.begin = match its > 0 && before.checked_add(60) == Some(minute) {
                true if its.saturating_mul(100) >= deletes => self.start,
                // What began at the end of a minute has few deletes in it.
                true => before,
                false => minute,
            };
        }
        if deletes / UNUSUAL >= self.most {
            self.start = self.begin;
        }
        self.most = self.most.max(deletes);
        self.last = (minute, deletes);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct PeriodSum {
    inserts: u64,
    updates: u64,
    deletes: u64,
    burst: Burst,
}

impl PeriodSum {
    fn add(&mut self, other: &PeriodSum) {
        self.inserts = self.inserts.saturating_add(other.inserts);
        self.updates = self.updates.saturating_add(other.updates);
        self.deletes = self.deletes.saturating_add(other.deletes);
        if other.burst.most > self.burst.most {
            self.burst = other.burst;
        }
    }
}

/// Sums writes by period and namespace.
#[derive(Debug)]
pub(super) struct WriteSums {
    step: u32,
    /// The most sums.
    most: usize,
    sums: BTreeMap<(u32, String), PeriodSum>,
    /// The writes for which there was no room, by period.
    rest: BTreeMap<u32, OtherWrites>,
}

impl WriteSums {
    /// Sums over a time of this many seconds.
    pub(super) fn new(seconds: u32) -> WriteSums {
        let step = match seconds {
            0..=7_200 => STEPS[0],
            7_201..=28_800 => STEPS[1],
            28_801..=1_209_600 => STEPS[2],
            _ => STEPS[3],
        };
        WriteSums { step, most: MOST, sums: BTreeMap::new(), rest: BTreeMap::new() }
    }

    /// The length of a period in seconds.
    pub(super) fn step(&self) -> u32 {
        self.step
    }

    pub(super) fn take(&mut self, writes: &MinuteWrites) {
        let MinuteWrites { minute, ns, inserts, updates, deletes } = writes;
        let period = minute - minute % self.step;
        let key = (period, ns.clone());
        if let Some(sum) = self.sums.get_mut(&key) {
            add(sum, writes);
            return;
        }
        while self.sums.len() >= self.most {
            let Some(longer) = STEPS.into_iter().find(|step| *step > self.step) else {
                self.rest.entry(period).or_default().add(*inserts, *updates, *deletes);
                return;
            };
            self.lengthen(longer);
        }
        let key = (minute - minute % self.step, key.1);
        add(self.sums.entry(key).or_default(), writes);
    }

    fn lengthen(&mut self, step: u32) {
        self.step = step;
        for ((period, ns), sum) in std::mem::take(&mut self.sums) {
            self.sums.entry((period - period % step, ns)).or_default().add(&sum);
        }
    }

    /// Returns the periods that have writes, in order, with at most `limit` namespaces in all of them together: those with mass
    /// deletes, and then those with the most writes. `periods` is the length of the whole time in periods.
    pub(super) fn finish(self, limit: usize, periods: u64) -> Vec<WritePeriod> {
        let mut deletes: BTreeMap<&str, u64> = BTreeMap::new();
        for ((_, ns), sum) in &self.sums {
            let all = deletes.entry(ns).or_default();
            *all = all.saturating_add(sum.deletes);
        }
        let row = |ns: &String, sum: &PeriodSum| {
            let elsewhere = deletes[ns.as_str()].saturating_sub(sum.deletes);
            let usual = elsewhere / periods.saturating_sub(1).max(1);
            let mass_delete = sum.deletes >= MASS && sum.deletes / UNUSUAL >= usual;
            NamespaceWrites {
                ns: ns.clone(),
                inserts: sum.inserts,
                updates: sum.updates,
                deletes: sum.deletes,
                mass_delete,
                before: mass_delete.then(|| OpTime { t: sum.burst.start, i: 0 }.argument()),
            }
        };
        let mut rows: Vec<(u32, NamespaceWrites)> =
            self.sums.iter().map(|((period, ns), sum)| (*period, row(ns, sum))).collect();
        // Largest first, and the mass deletes with the most deletes before all others.
        let rank = |(_, row): &(u32, NamespaceWrites)| {
            std::cmp::Reverse((row.mass_delete.then_some(row.deletes), row.sum()))
        };
        rows.sort_by_key(rank);
        let mut by_period: BTreeMap<u32, (Vec<NamespaceWrites>, Option<OtherWrites>)> = BTreeMap::new();
        for (n, (period, row)) in rows.into_iter().enumerate() {
            let (shown, others) = by_period.entry(period).or_default();
            match n < limit {
                true => shown.push(row),
                false => {
                    others.get_or_insert_default().add(row.inserts, row.updates, row.deletes);
                }
            }
        }
        for (period, rest) in self.rest {
            let all = by_period.entry(period).or_default().1.get_or_insert_default();
            all.add(rest.inserts, rest.updates, rest.deletes);
            all.namespaces += rest.namespaces - 1;
        }
        by_period
            .into_iter()
            .map(|(period, (namespaces, others))| WritePeriod {
                start: OpTime { t: period, i: 0 }.date(),
                namespaces,
                others,
            })
            .collect()
    }
}

fn add(sum: &mut PeriodSum, writes: &MinuteWrites) {
    sum.inserts = sum.inserts.saturating_add(writes.inserts);
    sum.updates = sum.updates.saturating_add(writes.updates);
    sum.deletes = sum.deletes.saturating_add(writes.deletes);
    sum.burst.take(writes.minute, writes.deletes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(minute: u32, ns: &str, inserts: u64, deletes: u64) -> MinuteWrites {
        MinuteWrites { minute: minute * 60, ns: ns.into(), inserts, updates: 0, deletes }
    }

    fn sums(seconds: u32, all: &[MinuteWrites]) -> WriteSums {
        let mut sums = WriteSums::new(seconds);
        all.iter().for_each(|writes| sums.take(writes));
        sums
    }

    /// The start of each period in minutes, its namespaces, and the number of other namespaces.
    fn shown(periods: &[WritePeriod]) -> Vec<(i64, Vec<&str>, u64)> {
        periods
            .iter()
            .map(|period| {
                let names = period.namespaces.iter().map(|row| row.ns.as_str()).collect();
                let others = period.others.as_ref().map_or(0, |others| others.namespaces);
                (period.start.timestamp() / 60, names, others)
            })
            .collect()
    }

    #[test]
    fn long_times_have_long_periods() {
        let steps = [600, 7_200, 7_201, 28_800, 86_400, 7 * 86_400, 30 * 86_400];
        assert_eq!(
            steps.map(|seconds| WriteSums::new(seconds).step()),
            [60, 60, 600, 600, 3600, 3600, 86_400]
        );
    }

    #[test]
    fn writes_of_a_period_are_summed_and_the_largest_come_first() {
        let all = [
            writes(60, "a.b", 1, 0),
            writes(61, "a.c", 5, 0),
            writes(119, "a.b", 2, 1),
            writes(180, "a.b", 1, 0),
        ];
        let periods = sums(86_400, &all).finish(10, 24);
        assert_eq!(shown(&periods), [(60, vec!["a.c", "a.b"], 0), (180, vec!["a.b"], 0)]);
        let row = &periods[0].namespaces[1];
        assert_eq!((row.inserts, row.deletes, row.mass_delete), (3, 1, false));
    }

    #[test]
    fn beyond_the_limit_namespaces_are_summed_and_mass_deletes_stay() {
        let all = [
            writes(60, "a.b", 900, 0),
            writes(60, "a.c", 800, 0),
            writes(60, "a.d", 0, 700),
            writes(120, "a.e", 1, 0),
        ];
        let periods = sums(86_400, &all).finish(2, 24);
        assert_eq!(shown(&periods), [(60, vec!["a.d", "a.b"], 1), (120, vec![], 1)]);
        assert_eq!(periods[0].others.as_ref().unwrap().inserts, 800);
    }

    #[test]
    fn deletes_stand_out_if_they_are_far_above_the_average() {
        let mut all: Vec<MinuteWrites> = (0..24).map(|hour| writes(hour * 60, "a.ttl", 0, 500)).collect();
        all.push(writes(13 * 60 + 5, "a.ttl", 0, 600));
        all.push(writes(14 * 60 + 3, "a.orders", 0, 150));
        all.push(writes(15 * 60, "a.few", 0, 99));
        let periods = sums(86_400, &all).finish(100, 24);
        let mass: Vec<(&str, Option<&str>)> = periods
            .iter()
            .flat_map(|period| &period.namespaces)
            .filter(|row| row.mass_delete)
            .map(|row| (row.ns.as_str(), row.before.as_deref()))
            .collect();
        assert_eq!(mass, [("a.orders", Some(format!("{}:0", (14 * 60 + 3) * 60)).as_deref())]);
    }

    #[test]
    fn the_argument_of_a_mass_delete_is_the_minute_in_which_it_began() {
        let before = |minutes: &[(u32, u64)]| {
            let all: Vec<MinuteWrites> =
                minutes.iter().map(|(minute, n)| writes(60 + minute, "a.b", 0, *n)).collect();
            let periods = sums(86_400, &all).finish(10, 24);
            let text = periods[0].namespaces[0].before.clone().unwrap();
            text.split_once(':').unwrap().0.parse::<u32>().unwrap() / 60 - 60
        };
        assert_eq!(before(&[(1, 3), (10, 2), (30, 50_000), (31, 50_000)]), 30);
        assert_eq!(before(&[(1, 3), (29, 40), (30, 50_000)]), 29, "it began at the end of a minute");
        assert_eq!(before(&[(30, 20), (30, 50_000)]), 30, "two slices");
        assert_eq!(before(&[(30, 50_000), (40, 3)]), 30);
    }

    #[test]
    fn too_many_sums_lengthen_the_periods_and_are_then_only_added() {
        let mut sums = WriteSums { most: 4, ..WriteSums::new(60) };
        for minute in 0..30 {
            sums.take(&writes(minute, "a.b", 1, 0));
        }
        assert_eq!((sums.step(), sums.sums.len()), (600, 3));
        for name in 0..9 {
            sums.take(&writes(30, &format!("a.c{name}"), 2, 0));
        }
        let periods = sums.finish(100, 1);
        assert_eq!(shown(&periods).len(), 1);
        let named: u64 = periods[0].namespaces.iter().map(|row| row.inserts).sum();
        assert_eq!(named + periods[0].others.as_ref().unwrap().inserts, 30 + 18);
    }
}
