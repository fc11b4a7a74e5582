//! What decides whether a backup stays.

use std::fmt;

use serde::{Serialize, Serializer};

/// A rule of retention; the first that keeps a backup is the one that is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `retention_days`.
    Days,
    /// `keep_min`.
    Min,
    /// `keep_last`.
    Last,
    /// `keep_daily`.
    Daily,
    /// `keep_weekly`.
    Weekly,
    /// `keep_monthly`.
    Monthly,
    /// `keep_yearly`.
    Yearly,
    /// A person pinned it.
    Pinned,
    /// A person accepted it, and an older good one stays.
    Accepted,
    /// It is dated in the future.
    Future,
    /// No backup is good: what is bad may be all that is left.
    NoneGood,
}

impl Rule {
    /// The setting's name, or a word for what is none.
    pub fn word(self) -> &'static str {
        match self {
            Rule::Days => "retention_days",
            Rule::Min => "keep_min",
            Rule::Last => "keep_last",
            Rule::Daily => "keep_daily",
            Rule::Weekly => "keep_weekly",
            Rule::Monthly => "keep_monthly",
            Rule::Yearly => "keep_yearly",
            Rule::Pinned => "pinned",
            Rule::Accepted => "accepted",
            Rule::Future => "dated_in_the_future",
            Rule::NoneGood => "none_good",
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
