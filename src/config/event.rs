//! The events that are told, and their words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What is told. `notify` (BACKUP_NOTIFY) selects by these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A backup was made.
    Success,
    /// A run failed.
    Failure,
    /// It works again, after failures that were told.
    Recovered,
    /// A clean-up did its work.
    Cleanup,
    /// A clean-up deletes nothing until a person looks.
    Frozen,
    /// The statistics.
    Stats,
    /// The state of everything a backup needs.
    Health,
}

/// Every event.
pub const EVENTS: [Event; 7] = [
    Event::Success,
    Event::Failure,
    Event::Recovered,
    Event::Cleanup,
    Event::Frozen,
    Event::Stats,
    Event::Health,
];

impl Event {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Event::Success => "success",
            Event::Failure => "failure",
            Event::Recovered => "recovered",
            Event::Cleanup => "cleanup",
            Event::Frozen => "frozen",
            Event::Stats => "stats",
            Event::Health => "health",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(word: &str) -> Result<Event, String> {
        let found = EVENTS.into_iter().find(|event| event.word() == word);
        found.ok_or_else(|| {
            format!("there is no mail '{word}'; there are {}", EVENTS.map(Event::word).join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_words() {
        for event in EVENTS {
            assert_eq!(event.word().parse(), Ok(event));
        }
        let error = "sucess".parse::<Event>().unwrap_err();
        assert!(error.contains("sucess") && error.contains("success, failure"), "{error}");
    }
}
