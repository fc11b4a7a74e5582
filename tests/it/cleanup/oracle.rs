//! The rules of retention, written from the design. The oracle shares no code with the planner.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use uzima_backup::catalog::state::RetainedBackup;
use uzima_backup::config::choices::Policy;

/// Decides for each backup alone, not in the planner's order.
pub struct Oracle<'a> {
    /// The backups of the job, oldest first.
    pub mine: Vec<&'a RetainedBackup>,
    /// One letter for each of them: 'g'ood, 'c'ollapsed, 'e'lsewhere, 'f'uture, 'u'nsound, 'p'artial,
    /// untrusted ('x').
    letters: Vec<char>,
    now: DateTime<Utc>,
    policy: &'a Policy,
}

impl<'a> Oracle<'a> {
    pub fn new(
        backups: &'a [RetainedBackup],
        job: &str,
        now: DateTime<Utc>,
        policy: &'a Policy,
    ) -> Oracle<'a> {
        let mut mine: Vec<&RetainedBackup> = backups.iter().filter(|b| b.job == job).collect();
        mine.sort_by(|a, b| a.started.cmp(&b.started).then_with(|| a.id.cmp(&b.id)));
        let mut letters: Vec<char> = Vec::new();
        for (i, b) in mine.iter().enumerate() {
            let before = (0..i).rev().find(|j| letters[*j] == 'g').map(|j| mine[j]);
            letters.push(match before {
                _ if b.untrusted.is_some() => 'x',
                _ if b.started > now + TimeDelta::minutes(10) => 'f',
                _ if b.unsound.is_some() => 'u',
                _ if b.partial.is_some() => 'p',
                None => 'g',
                Some(_) if b.accepted => 'g',
                Some(a) if a.source.member != b.source.member => 'e',
                Some(a) if 2 * b.contents.total.documents < a.contents.total.documents => 'c',
                Some(_) => 'g',
            });
        }
        Oracle { mine, letters, now, policy }
    }

    /// The good backups, oldest first.
    pub fn good(&self) -> Vec<&'a RetainedBackup> {
        let pairs = self.mine.iter().zip(&self.letters);
        pairs.filter(|(_, letter)| **letter == 'g').map(|(b, _)| *b).collect()
    }

    /// The number of periods with a newer good backup. `None` if a newer one is in the same period.
    fn newer<K: PartialEq>(&self, b: &RetainedBackup, period: impl Fn(DateTime<Utc>) -> K) -> Option<usize> {
        let good = self.good();
        let after = good.iter().filter(|g| (g.started, &g.id) > (b.started, &b.id));
        let mut periods: Vec<K> = Vec::new();
        for key in after.map(|g| period(g.started)) {
            if key == period(b.started) {
                return None;
            }
            if !periods.contains(&key) {
                periods.push(key);
            }
        }
        Some(periods.len())
    }

    /// Later backups are compared with an accepted one, not with the older ones that stay.
    fn stays(&self, i: usize) -> bool {
        let older = |i| (0..i).any(|j| self.letters[j] == 'g' && self.stays_by_itself(j));
        self.stays_by_itself(i) || (self.mine[i].accepted && self.letters[i] == 'g' && older(i))
    }

    fn stays_by_itself(&self, i: usize) -> bool {
        let (b, p) = (self.mine[i], self.policy);
        let young = b.started >= self.now - TimeDelta::days(p.days.into());
        let within = |newer: Option<usize>, count: usize| newer.is_some_and(|newer| newer < count);
        b.pinned.is_some()
            || young
            || "fx".contains(self.letters[i])
            || self.good().is_empty()
            || self.letters[i] == 'g'
                && (self.good().iter().rev().take(p.min.max(p.last)).any(|g| g.id == b.id)
                    || within(self.newer(b, |t| t.date_naive()), p.daily)
                    || within(self.newer(b, monday), p.weekly)
                    || within(self.newer(b, |t| (t.year(), t.month())), p.monthly)
                    || within(self.newer(b, |t| t.year()), p.yearly))
    }

    /// The indexes of the backups that would be deleted if nothing were frozen.
    fn out(&self) -> Vec<usize> {
        (0..self.mine.len()).filter(|i| !self.stays(*i)).collect()
    }

    /// Returns true if nothing may be deleted until a person looks.
    pub fn frozen(&self, off: TimeDelta, force: bool) -> bool {
        let good = self.out().into_iter().filter(|i| self.letters[*i] == 'g').count();
        let last = self.letters.iter().rposition(|letter| !"fupx".contains(*letter));
        let newest = self.letters.iter().rposition(|letter| *letter != 'x');
        off.num_minutes().abs() > 10
            || self.letters.contains(&'e')
            || last.is_some_and(|i| self.letters[i] == 'c')
            || newest.is_some_and(|i| self.letters[i] == 'f' && !self.mine[i].accepted)
            || (!force && good > 3 && good as f64 > self.good().len() as f64 * 0.25)
    }

    /// The backups that must be deleted.
    pub fn going(&self, off: TimeDelta, force: bool) -> Vec<&'a RetainedBackup> {
        let out = if self.frozen(off, force) { Vec::new() } else { self.out() };
        let mut going: Vec<&RetainedBackup> = out.into_iter().map(|i| self.mine[i]).collect();
        going.sort_by(|a, b| a.id.cmp(&b.id));
        going
    }
}

fn monday(time: DateTime<Utc>) -> i64 {
    // 1970-01-01 was a Thursday.
    (time.timestamp().div_euclid(86_400) + 3).div_euclid(7)
}
