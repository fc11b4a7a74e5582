//! What a mail says, before it is a mail: every event is told with the same few parts.

use crate::base::escape::steers;
use crate::base::secret::Redactor;
use crate::config::notify::Event;

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
pub const LINES: usize = 30;

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
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

/// At most so many characters.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
