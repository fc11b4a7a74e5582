//! The figures of the year.

use std::collections::BTreeMap;

/// Counts by name.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<String, usize>,
}

impl Tally {
    pub fn add(&mut self, what: impl Into<String>, n: usize) {
        *self.counts.entry(what.into()).or_default() += n;
    }

    pub fn most(&mut self, what: impl Into<String>, n: usize) {
        let most = self.counts.entry(what.into()).or_default();
        *most = n.max(*most);
    }

    pub fn of(&self, what: &str) -> usize {
        self.counts.get(what).copied().unwrap_or(0)
    }

    pub fn print(&self, seed: u64) {
        println!("a year of the seed {seed}");
        for (what, n) in &self.counts {
            println!("  {what:<60} {n:>6}");
        }
    }
}
