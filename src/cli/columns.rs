//! Tables on a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::base::escape;

/// The width of the gap between two columns.
pub const BETWEEN: usize = 2;

/// Rows below a head, in columns without lines; those of `figures` stand to the right.
pub fn columns(head: &[&str], rows: &[Vec<String>], figures: &[usize]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(head.iter().map(|title| title.to_uppercase()));
    let shown =
        |row: &Vec<String>| row.iter().map(|cell| escape::line(cell).into_owned()).collect::<Vec<_>>();
    table.add_rows(rows.iter().map(shown));
    for column in figures {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // Names are long, and a line a row is what a person reads and a script greps.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.to_string().lines().map(|line| format!("{}\n", line.trim())).collect()
}

/// A text of one line in lines below a row, no wider than the terminal but where a word is.
pub fn wrapped(text: &str, width: usize) -> String {
    const INDENT: &str = "    ";
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty() && INDENT.len() + line.chars().count() + 1 + word.chars().count() > width {
            lines.push_str(&format!("{INDENT}{}\n", std::mem::take(&mut line)));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    format!("{lines}{INDENT}{line}\n")
}
