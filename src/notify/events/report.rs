//! What `stats` and `health` tell: they know their figures, and only the frame is made here.

use crate::config::event::Event;
use crate::notify::message::{Message, Sender, Table, Tone};

/// A report.
#[derive(Debug, Clone)]
pub struct Report {
    /// How it looks at first sight.
    pub tone: Tone,
    /// Status and what it is about, for the subject: `health: 2 checks failed: db1`.
    pub subject: String,
    /// The same as a sentence.
    pub headline: String,
    /// Label and value.
    pub facts: Vec<(String, String)>,
    /// What else there is to say.
    pub paragraphs: Vec<String>,
    /// Rows of the like.
    pub tables: Vec<Table>,
    /// What a person should do.
    pub next_step: Option<String>,
}

/// The mail about it.
pub fn report(event: Event, report: Report, sender: &Sender) -> Message {
    Message {
        facts: report.facts,
        paragraphs: report.paragraphs,
        tables: report.tables,
        next_step: report.next_step,
        ..Message::new(event, report.tone, &report.subject, &report.headline, sender)
    }
}
