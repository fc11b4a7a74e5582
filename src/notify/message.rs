//! What a mail says, before it is a mail: every event is told with the same few parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::secret::Redactor;

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

/// How it looks at first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing to do.
    Good,
    /// A person should look.
    Warning,
    /// A person must act.
    Bad,
}

impl Tone {
    /// The same in words: colour alone says nothing to a plain text, or to some eyes.
    pub fn word(self) -> &'static str {
        match self {
            Tone::Good => "All is well",
            Tone::Warning => "Needs a look",
            Tone::Bad => "Failed",
        }
    }
}

/// A column's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its title.
    pub title: String,
    /// Numbers, which stand to the right.
    pub numeric: bool,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Its head.
    pub columns: Vec<Column>,
    /// A cell for each column.
    pub rows: Vec<Vec<String>>,
    /// So many rows are left out.
    pub more: usize,
}

/// Mail programs cut a mail off at about 100 kB; a row is some 700 bytes of HTML.
const ROWS: usize = 60;
/// The longest text, in characters: some servers put whole commands into their errors.
const LONGEST: usize = 1500;
/// So many of the last lines of a log.
const LINES: usize = 30;

impl Table {
    /// A table of texts, the columns `numeric` to the right. Rows that a mail has no room for are counted.
    pub fn new(title: &str, columns: &[&str], numeric: &[usize], mut rows: Vec<Vec<String>>) -> Table {
        let more = rows.len().saturating_sub(ROWS);
        rows.truncate(ROWS);
        let column =
            |(i, title): (usize, &&str)| Column { title: title.to_string(), numeric: numeric.contains(&i) };
        Table { title: title.into(), columns: columns.iter().enumerate().map(column).collect(), rows, more }
    }
}

/// Who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The tool and its version.
    pub tool: String,
    /// The machine's name.
    pub host: String,
}

impl Sender {
    /// This tool, on the machine `host`.
    pub fn here(host: &str) -> Sender {
        Sender { tool: concat!("uzima-backup ", env!("CARGO_PKG_VERSION")).into(), host: host.into() }
    }
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What is told.
    pub event: Event,
    /// Status, job and id in one line.
    pub subject: String,
    /// What happened, in one sentence.
    pub headline: String,
    /// How it looks at first sight.
    pub tone: Tone,
    /// Label and value.
    pub facts: Vec<(String, String)>,
    /// What else there is to say.
    pub paragraphs: Vec<String>,
    /// Rows of the like.
    pub tables: Vec<Table>,
    /// What a person should do.
    pub next_step: Option<String>,
    /// The last lines of the log.
    pub log: Vec<String>,
    /// Who says it.
    pub sender: Sender,
}

impl Message {
    /// A message that says so much and no more.
    pub fn new(event: Event, tone: Tone, subject: &str, headline: &str, sender: &Sender) -> Message {
        Message {
            event,
            subject: format!("[uzima-backup] {subject}"),
            headline: headline.into(),
            tone,
            facts: Vec::new(),
            paragraphs: Vec::new(),
            tables: Vec::new(),
            next_step: None,
            log: Vec::new(),
            sender: sender.clone(),
        }
    }

    /// Adds a fact.
    pub fn fact(mut self, label: &str, value: impl Into<String>) -> Message {
        self.facts.push((label.into(), value.into()));
        self
    }

    /// The same without secrets, and without characters that steer whatever shows it: names of
    /// collections and lines of other programs' logs may hold any.
    pub fn cleaned(mut self, redactor: &Redactor) -> Message {
        let clean = |text: &mut String| *text = shortened(&plain(&redactor.clean(text)), LONGEST);
        self.log.drain(..self.log.len().saturating_sub(LINES));
        clean(&mut self.subject);
        clean(&mut self.headline);
        for (label, value) in &mut self.facts {
            clean(label);
            clean(value);
        }
        for table in &mut self.tables {
            clean(&mut table.title);
            table.columns.iter_mut().for_each(|column| clean(&mut column.title));
            table.rows.iter_mut().flatten().for_each(clean);
        }
        self.paragraphs.iter_mut().chain(&mut self.next_step).chain(&mut self.log).for_each(clean);
        clean(&mut self.sender.host);
        // What a mail program shows of it in a list, and more.
        self.subject = shortened(&self.subject, 200);
        self
    }

    /// The same, marked as a test: nobody should be alarmed by a sample.
    pub fn as_test(mut self) -> Message {
        self.subject = self.subject.replacen("[uzima-backup] ", "[uzima-backup] TEST: ", 1);
        self.headline = format!("Test: {}", self.headline);
        let said = "This mail is a test, sent by `uzima-backup notify --test`. What it says is made up.";
        self.paragraphs.insert(0, said.into());
        self
    }
}

/// One line of characters that are seen. Unicode's marks of direction could make a name read as another.
fn plain(text: &str) -> String {
    let steers = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    text.chars().map(|c| if c.is_control() || steers(c) { ' ' } else { c }).collect()
}

/// At most so many characters.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
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

    #[test]
    fn nothing_secret_and_nothing_that_steers_leaves() {
        let redactor = Redactor::new(&[], &["canary-of-a-key"]);
        let sender = Sender::here("host\u{1b}[31m canary-of-a-key");
        let hostile = "a\r\nBcc: x canary-of-a-key \u{202e}";
        let mut message = Message::new(Event::Failure, Tone::Bad, hostile, hostile, &sender);
        message = message.fact(hostile, hostile);
        message.paragraphs.push(hostile.into());
        message.tables.push(Table::new(hostile, &[hostile], &[], vec![vec![hostile.into()]]));
        message.next_step = Some(hostile.into());
        message.log.push(hostile.into());
        let told = format!("{:?}", message.cleaned(&redactor));
        for bad in ["canary", "\\r", "\\n", "\\u{1b}", "\\u{202e}"] {
            assert!(!told.contains(bad), "{bad} in {told}");
        }
        assert_eq!(told.matches("***").count(), 11, "{told}");
    }

    #[test]
    fn a_subject_stays_short() {
        let sender = Sender::here("h");
        let message = Message::new(Event::Success, Tone::Good, &"ü".repeat(500), "x", &sender);
        let subject = message.cleaned(&Redactor::default()).subject;
        assert!(subject.chars().count() == 200 && subject.ends_with('…'), "{subject}");
    }

    #[test]
    fn a_loud_server_does_not_fill_the_mail() {
        let mut message = Message::new(Event::Failure, Tone::Bad, "x", "x", &Sender::here("h"));
        message = message.fact("error", "e".repeat(100_000));
        message.log = (0..1000).map(|n| format!("line {n}")).collect();
        let cleaned = message.cleaned(&Redactor::default());
        assert_eq!(cleaned.facts[0].1.chars().count(), 1500);
        assert_eq!((cleaned.log.len(), cleaned.log[29].as_str()), (30, "line 999"));
    }

    #[test]
    fn rows_beyond_a_mails_size_are_counted() {
        let table = Table::new("t", &["a", "n"], &[1], vec![vec!["x".into(), "1".into()]; 100]);
        assert_eq!((table.rows.len(), table.more), (60, 40));
        assert!(table.columns[1].numeric && !table.columns[0].numeric);
    }
}
