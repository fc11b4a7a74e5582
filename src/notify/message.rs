//! A mail before it is sent. All events use the same parts, which Askama renders as HTML and as plain text.

use askama::Template;
use comfy_table::{CellAlignment, ContentArrangement, presets};

use crate::base::escape::steers;
use crate::base::secret::Redactor;
use crate::base::units;
use crate::config::notify::Event;

/// The most rows of a table. Mail programs cut a mail off at about 100 kB, and a row has some 700 bytes of HTML.
const ROWS: usize = 60;
/// The longest text, in characters: some servers put whole commands into their errors.
const LONGEST: usize = 1500;
/// The longest subject, in characters: more than mail programs show in their lists.
const SUBJECT: usize = 200;
/// How many of the last lines of the log a mail shows.
pub(super) const LOG_LINES: usize = 30;

/// How urgent a message is, which decides its colour.
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
    /// The class in the mail's style sheet, which has a light and a dark version, and the colour for programs that drop style
    /// sheets: dark enough for white letters.
    fn style(self) -> (&'static str, &'static str) {
        match self {
            Tone::Good => ("good", "#1a7f37"),
            Tone::Warning => ("warning", "#9a6700"),
            Tone::Bad => ("bad", "#b42318"),
        }
    }

    /// The tone in words, because plain text has no colour, and some people do not see colours.
    pub fn word(self) -> &'static str {
        match self {
            Tone::Good => "All is well",
            Tone::Warning => "Needs a look",
            Tone::Bad => "Failed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    title: String,
    numeric: bool,
}

/// A table in a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    title: String,
    columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
    /// How many rows are left out.
    more: u64,
}

impl Table {
    /// Makes a table. The columns with the indexes `numeric` are aligned to the right. Rows that a mail has no room for are
    /// only counted.
    pub fn new(title: &str, columns: &[&str], numeric: &[usize], mut rows: Vec<Vec<String>>) -> Table {
        let more = rows.len().saturating_sub(ROWS) as u64;
        rows.truncate(ROWS);
        let column =
            |(i, title): (usize, &&str)| Column { title: title.to_string(), numeric: numeric.contains(&i) };
        Table { title: title.into(), columns: columns.iter().enumerate().map(column).collect(), rows, more }
    }

    /// Counts rows that the table was made without.
    pub(super) fn and_more(mut self, rows: u64) -> Table {
        self.more = self.more.saturating_add(rows);
        self
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// How many rows are left out.
    pub(super) fn more(&self) -> u64 {
        self.more
    }

    /// `and 4,980 more`; `None` if no row is left out.
    fn rest(&self) -> Option<String> {
        (self.more > 0).then(|| format!("and {} more", units::count(self.more)))
    }

    fn text(&self) -> String {
        let mut out = comfy_table::Table::new();
        out.load_style(presets::NOTHING);
        out.set_header(self.columns.iter().map(|column| column.title.to_uppercase()));
        for row in &self.rows {
            out.add_row(row);
        }
        for (i, _) in self.columns.iter().enumerate().filter(|(_, column)| column.numeric) {
            if let Some(column) = out.column_mut(i) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        // Mail programs wrap long lines. A table with wrapped cells as well cannot be read.
        out.set_content_arrangement(ContentArrangement::Disabled);
        let mut lines: Vec<String> =
            out.to_string().lines().map(|line| format!("  {}", line.trim())).collect();
        lines.extend(self.rest().map(|rest| format!("  {rest}")));
        lines.join("\n")
    }
}

/// The program and machine that send a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub tool: String,
    pub host: String,
}

impl Sender {
    /// This version of the tool, on the machine `host`.
    pub fn here(host: &str) -> Sender {
        Sender { tool: concat!("uzima-backup ", env!("CARGO_PKG_VERSION")).into(), host: host.into() }
    }
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub event: Event,
    /// Status, job and id in one line.
    pub subject: String,
    /// What happened, in one sentence.
    pub headline: String,
    pub tone: Tone,
    pub facts: Vec<(String, String)>,
    pub(super) paragraphs: Vec<String>,
    pub(super) tables: Vec<Table>,
    pub(super) next_step: Option<String>,
    pub(super) log: Vec<String>,
    pub(super) sender: Sender,
}

impl Message {
    /// Makes a message without facts, paragraphs, tables and log.
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

    /// Removes secrets and control characters, and shortens long texts. Names of collections and log lines of other programs
    /// may contain anything.
    pub fn cleaned(mut self, redactor: &Redactor) -> Message {
        let clean = |text: &mut String| *text = shortened(&plain(&redactor.clean(text)), LONGEST);
        self.log.drain(..self.log.len().saturating_sub(LOG_LINES));
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
        self.subject = shortened(&self.subject, SUBJECT);
        self
    }

    /// Marks the message as a test, so that a sample alarms nobody.
    pub fn as_test(mut self) -> Message {
        self.subject = self.subject.replacen("[uzima-backup] ", "[uzima-backup] TEST: ", 1);
        self.headline = format!("Test: {}", self.headline);
        let notice =
            "This is a test, sent by `uzima-backup notify --test`. Its figures and errors are invented.";
        self.paragraphs.insert(0, notice.into());
        self
    }

    pub fn html(&self) -> String {
        let (class, colour) = self.tone.style();
        HtmlMail { m: self, class, colour }.render().expect("rendering to memory does not fail") + "\n"
    }

    pub fn text(&self) -> String {
        let width = self.facts.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
        let facts = self.facts.iter().map(|(label, value)| format!("{label:width$}  {value}")).collect();
        let tables = self.tables.iter().map(Table::text).collect();
        let mail = TextMail { m: self, facts, tables };
        // The last line of a template has no line break.
        mail.render().expect("rendering to memory does not fail") + "\n"
    }
}

#[derive(Template)]
#[template(path = "mail.html")]
struct HtmlMail<'a> {
    m: &'a Message,
    class: &'static str,
    colour: &'static str,
}

#[derive(Template)]
#[template(path = "mail.txt")]
struct TextMail<'a> {
    m: &'a Message,
    facts: Vec<String>,
    tables: Vec<String>,
}

/// Replaces control characters by spaces. Unicode's direction marks, for example, could make a name look like another name.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
