//! It works again.

use chrono::{DateTime, Utc};

use super::{Occasion, Operation, time};
use crate::base::units;
use crate::config::notify::Event;
use crate::notify::message::Message;

/// Failures one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// How many.
    pub failures: u32,
    /// When the first happened.
    pub since: DateTime<Utc>,
}

/// The mail of a success that ends a row of failures.
pub fn recovered(of: &Occasion, row: Row, success: Message) -> Message {
    let headline = match of.operation {
        Operation::Backup => format!("Backups of {} work again", of.job),
        operation @ (Operation::Cleanup | Operation::Other(_)) => {
            format!("The {operation} of {} works again", of.job)
        }
    };
    let mut message = Message {
        event: Event::Recovered,
        subject: format!("[uzima-backup] {} works again: {}", of.operation, of.named()),
        headline,
        ..success
    };
    let failed =
        format!("{} in a row, the first at {}", units::several(row.failures.into(), "run"), time(row.since));
    message.facts.insert(0, ("Had failed".into(), failed));
    message
}
