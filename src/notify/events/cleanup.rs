//! A clean-up did its work, or does not until a person looks.

use super::Occasion;
use crate::base::units;
use crate::config::notify::Event;
use crate::notify::message::{Message, Sender, Table, Tone};

/// A backup that was deleted.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// Its id.
    pub id: String,
    /// How old it was.
    pub age: std::time::Duration,
    /// What it took in the store, in bytes.
    pub stored_bytes: u64,
    /// Why it went.
    pub reason: String,
}

/// A clean-up that did its work.
#[derive(Debug, Clone, Default)]
pub struct Cleanup {
    /// The place.
    pub place: String,
    /// What went.
    pub deleted: Vec<Deletion>,
    /// How many backups stay.
    pub kept: u64,
    /// What they take in the store, in bytes.
    pub kept_bytes: u64,
    /// What failed or needs a look.
    pub problems: Vec<String>,
    /// What was cleared up on the way.
    pub notes: Vec<String>,
}

impl Cleanup {
    /// Nothing went, and nothing needs a look.
    pub fn is_idle(&self) -> bool {
        self.deleted.is_empty() && self.problems.is_empty()
    }
}

/// A clean-up that deleted nothing although it should.
#[derive(Debug, Clone, Default)]
pub struct Frozen {
    /// The place.
    pub place: String,
    /// Why, and the next step, a line each.
    pub why: Vec<String>,
    /// How many backups would go.
    pub waiting: u64,
    /// How many backups there are.
    pub backups: u64,
    /// What else failed or needs a look.
    pub problems: Vec<String>,
}

/// The mail about a clean-up that did its work.
pub fn cleanup(of: &Occasion, c: &Cleanup, sender: &Sender) -> Message {
    let count = c.deleted.len() as u64;
    let freed: u64 = c.deleted.iter().map(|deletion| deletion.stored_bytes).sum();
    let done = match count {
        0 => "no backup was old enough to go".to_string(),
        _ => format!("{} deleted, {} freed", units::several(count, "backup"), units::bytes(freed)),
    };
    let (tone, status) = match c.problems.len() {
        0 => (Tone::Good, format!("cleanup done, {} deleted", units::count(count))),
        _ => (Tone::Warning, "cleanup done, needs a look".into()),
    };
    let headline = format!("Clean-up of {}: {done}", of.job);
    let mut message =
        Message::new(Event::Cleanup, tone, &format!("{status}: {}", of.named()), &headline, sender)
            .fact("Job", &of.job)
            .fact("Deleted", format!("{}, {}", units::several(count, "backup"), units::bytes(freed)))
            .fact("Kept", format!("{}, {}", units::several(c.kept, "backup"), units::bytes(c.kept_bytes)))
            .fact("Place", &c.place);
    message.paragraphs.extend(c.problems.iter().map(|problem| format!("Needs a look: {problem}")));
    message.facts.extend(c.notes.iter().map(|note| ("Note".into(), note.clone())));
    if !c.deleted.is_empty() {
        let row = |d: &Deletion| {
            vec![d.id.clone(), units::duration(d.age), units::bytes(d.stored_bytes), d.reason.clone()]
        };
        let rows = c.deleted.iter().map(row).collect();
        message.tables.push(Table::new("Deleted", &["Backup", "Age", "Size", "Why"], &[1, 2], rows));
    }
    message
}

/// The mail about one that is frozen.
pub fn frozen(of: &Occasion, f: &Frozen, sender: &Sender) -> Message {
    let headline = format!("Clean-up of {} deletes nothing until a person looks", of.job);
    let subject = format!("cleanup frozen: {}", of.named());
    let mut message = Message::new(Event::Frozen, Tone::Warning, &subject, &headline, sender)
        .fact("Job", &of.job)
        .fact("Would go", format!("{} of {}", units::count(f.waiting), units::several(f.backups, "backup")))
        .fact("Place", &f.place);
    message.paragraphs.extend(f.why.iter().map(|why| format!("Why: {why}")));
    message.paragraphs.extend(f.problems.iter().map(|problem| format!("Needs a look: {problem}")));
    message.next_step = Some(
        "Look at the plan: uzima-backup cleanup --dry-run. If it is right, cleanup --accept ID accepts the \
         backup that is named here, and cleanup --force lets many go at once."
            .into(),
    );
    message
}
