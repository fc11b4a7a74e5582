//! A message as HTML and as plain text.

use askama::Template;
use comfy_table::{CellAlignment, ContentArrangement, presets};

use super::message::{Message, Table, Tone};

#[derive(Template)]
#[template(path = "mail.html")]
struct Html<'a> {
    m: &'a Message,
}

#[derive(Template)]
#[template(path = "mail.txt")]
struct Text<'a> {
    m: &'a Message,
    facts: Vec<String>,
    tables: Vec<String>,
}

impl Html<'_> {
    /// The class of the tone, which the style sheet knows in light and dark.
    fn tone(&self) -> &'static str {
        match self.m.tone {
            Tone::Good => "good",
            Tone::Warning => "warning",
            Tone::Bad => "bad",
        }
    }

    /// The tone's colour for programs that drop style sheets: dark enough for white letters on it.
    fn colour(&self) -> &'static str {
        match self.m.tone {
            Tone::Good => "#1a7f37",
            Tone::Warning => "#9a6700",
            Tone::Bad => "#b42318",
        }
    }
}

/// As HTML.
pub fn html(message: &Message) -> String {
    Html { m: message }.render().expect("rendering to memory does not fail") + "\n"
}

/// As plain text.
pub fn text(message: &Message) -> String {
    let width = message.facts.iter().map(|(label, _)| label.chars().count()).max().unwrap_or_default();
    let facts = message.facts.iter().map(|(label, value)| format!("{label:width$}  {value}")).collect();
    let tables = message.tables.iter().map(table).collect();
    let mail = Text { m: message, facts, tables };
    // A template's last line has no end.
    mail.render().expect("rendering to memory does not fail") + "\n"
}

fn table(table: &Table) -> String {
    let mut out = comfy_table::Table::new();
    out.load_style(presets::NOTHING);
    out.set_header(table.columns.iter().map(|column| column.title.to_uppercase()));
    for row in &table.rows {
        out.add_row(row);
    }
    for (i, _) in table.columns.iter().enumerate().filter(|(_, column)| column.numeric) {
        if let Some(column) = out.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // A mail program wraps lines as it likes; a table that wraps its cells as well cannot be read.
    out.set_content_arrangement(ContentArrangement::Disabled);
    let mut lines: Vec<String> = out.to_string().lines().map(|line| format!("  {}", line.trim())).collect();
    if table.more > 0 {
        lines.push(format!("  and {} more", table.more));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::notify::Event;
    use crate::notify::message::Sender;

    fn hostile() -> Message {
        let evil = "<script>alert('x')</script>&\"";
        let mut message = Message::new(Event::Failure, Tone::Bad, evil, evil, &Sender::here(evil));
        message = message.fact(evil, evil);
        message.paragraphs.push(evil.into());
        message.tables.push(Table::new(evil, &[evil, evil], &[1], vec![vec![evil.into(), evil.into()]]));
        message.next_step = Some(evil.into());
        message.log.push(evil.into());
        message
    }

    #[test]
    fn names_are_text_and_no_markup() {
        let html = html(&hostile());
        assert!(!html.contains("<script") && !html.contains("alert('x')"), "{html}");
        // Title, headline, fact (2), paragraph, table (title, 2 heads, 2 cells with their labels for
        // phones), next step, log, host.
        assert_eq!(html.matches("&#60;script&#62;").count(), 15, "{html}");
    }

    #[test]
    fn the_text_says_all_of_it() {
        let text = text(&hostile());
        // Headline, fact (2), paragraph, table (title, 2 cells), next step, log, host; heads are capitals.
        assert_eq!(text.matches("<script>alert('x')</script>&\"").count(), 10, "{text}");
        assert_eq!(text.matches("<SCRIPT>").count(), 2, "{text}");
    }

    /// Gmail cuts a mail off at 102 kB.
    #[test]
    fn a_long_table_fits_into_a_mail() {
        let row = vec!["20261123T030000Z-7k3q9d".into(), "older than need be ".repeat(8)];
        let mut message = hostile();
        message.tables = vec![Table::new("Deleted", &["Backup", "Why"], &[], vec![row; 1000])];
        let html = html(&message);
        assert!(html.len() < 100_000 && html.contains("and 940 more"), "{}", html.len());
        assert!(text(&message).contains("and 940 more"));
    }

    #[test]
    fn every_tone_is_told_in_words() {
        for tone in [Tone::Good, Tone::Warning, Tone::Bad] {
            let message = Message { tone, ..hostile() };
            assert!(html(&message).contains(tone.word()) && text(&message).contains(tone.word()));
        }
    }
}
