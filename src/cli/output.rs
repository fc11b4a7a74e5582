//! Standard output and standard error: results as text or JSON, tables and errors. A closed or full standard output never
//! changes the exit code.

use std::io::{IsTerminal, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use log::Level;
use schemars::JsonSchema;
use serde::Serialize;

use super::logging::Log;
use super::styled::{Colour, StyledText};
use crate::base::error::{Error, Kind};
use crate::base::escape;
use crate::base::escape::push_line;
use crate::base::exit::Exit;

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub json: bool,
    /// Suppresses text, but not JSON.
    pub quiet: bool,
    /// Whether results on standard output are coloured.
    pub colour: Colour,
}

impl Output {
    /// Prints a result: `value` as JSON, or the text.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            let json = serde_json::to_string_pretty(value).expect("a result is JSON");
            print(&format!("{}\n", escape::json(&json)));
        } else if !self.quiet {
            print(&escape::lines(&text()));
        }
    }

    /// Prints a result: `value` as JSON, or the text with its colours.
    pub fn styled(&self, value: &impl Serialize, text: impl FnOnce() -> StyledText) {
        match self.json || self.quiet {
            true => self.result(value, String::new),
            false => print(&text().into_string()),
        }
    }

    /// Logs a result as text, and prints it with coloured outcomes.
    pub fn report(&self, log: &Log, value: &impl Serialize, text: String) {
        log.append(Level::Info, &text);
        self.styled(value, || {
            let mut styled = StyledText::new(self.colour);
            styled.push_report(&text);
            styled
        });
    }

    /// The width of the terminal at standard output, in characters; 80 if standard output is no terminal.
    pub fn width(&self) -> usize {
        Table::new().width().map_or(80, usize::from)
    }

    /// Returns true if a person may watch standard error.
    pub fn interactive(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }
}

/// Prints a text on standard output.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line on standard error.
pub fn print_line(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", escape::line(line));
}

/// Prints on standard error what a person should look at after a success.
pub fn needs_look(what: &str) {
    print_line(&format!("needs a look: {what}"));
}

/// Prints an error on standard error and logs it: the failure, its causes, and the next step. With `--json`
/// the last line is a [`FailureDocument`].
pub fn print_error(error: &Error, log: &Log, json: bool) -> Exit {
    let mut text = String::new();
    let step = error.next_step().map(|step| format!("next step: {step}"));
    push_line(&mut text, &log.clean(&format!("error: {}", error.chain())));
    log.append(Level::Error, &escape::line(&error.chain()));
    if let Some(step) = step {
        push_line(&mut text, &log.clean(&step));
        log.append(Level::Error, &escape::line(&step));
    }
    if json {
        push_line(&mut text, &FailureDocument::of(error, log).line());
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
    error.exit()
}

/// Prints the [`FailureDocument`] of a command that printed its result and ends with the exit code of a
/// failure.
pub fn print_failed_exit(exit: Exit) {
    let kind = match exit {
        Exit::Done | Exit::NeedsLook => return,
        Exit::Failed => FailureKind::Failed,
        Exit::Usage => FailureKind::Usage,
        Exit::Mismatch => FailureKind::Damaged,
        Exit::Unhealthy => FailureKind::Unhealthy,
        Exit::Key => FailureKind::Key,
        Exit::Busy => FailureKind::Busy,
        Exit::Signal(_) => FailureKind::Signal,
    };
    let message = exit.meaning().into();
    let document =
        FailureDocument { version: 1, kind, message, causes: Vec::new(), next_step: None, exit: exit.code() };
    let _ = writeln!(std::io::stderr(), "{}", document.line());
}

/// The last line on standard error of a command that fails with `--json`.
#[derive(Debug, JsonSchema, Serialize)]
pub struct FailureDocument {
    /// The version of this document: 1.
    version: u32,
    kind: FailureKind,
    /// What failed, without its causes.
    message: String,
    /// The causes, outermost first.
    causes: Vec<String>,
    /// What to do about it. `None` if no step is known.
    next_step: Option<String>,
    /// The exit code of the process.
    exit: u8,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// Wrong arguments or settings; nothing was attempted.
    Usage,
    /// The server or service cannot be reached, or refuses the login.
    Unreachable,
    /// An object that was requested by name does not exist.
    NotFound,
    /// The place lacks backups that its records list.
    PlaceLost,
    /// A server refused an operation on a namespace.
    Refused,
    /// Stored data does not match its manifest.
    Damaged,
    /// A check of `health` failed.
    Unhealthy,
    /// A key is missing or wrong.
    Key,
    /// Another run of the job and operation is under way.
    Busy,
    /// A signal ended the run.
    Signal,
    /// Any other failure.
    Failed,
}

impl FailureDocument {
    fn of(error: &Error, log: &Log) -> FailureDocument {
        let kind = match error.kind() {
            Kind::Usage => FailureKind::Usage,
            Kind::Away => FailureKind::Unreachable,
            Kind::Missing => FailureKind::NotFound,
            Kind::Unmounted => FailureKind::PlaceLost,
            Kind::Refused => FailureKind::Refused,
            Kind::Mismatch => FailureKind::Damaged,
            Kind::Key => FailureKind::Key,
            Kind::Busy => FailureKind::Busy,
            Kind::Signal(_) => FailureKind::Signal,
            Kind::Failed | Kind::Restart | Kind::Moved | Kind::NoSlice | Kind::Instant | Kind::Aftermath => {
                FailureKind::Failed
            }
        };
        let mut messages = error.messages().into_iter().map(|text| log.clean(&text));
        FailureDocument {
            version: 1,
            kind,
            message: messages.next().unwrap_or_default(),
            causes: messages.collect(),
            next_step: error.next_step().map(|step| log.clean(step)),
            exit: error.exit().code(),
        }
    }

    fn line(&self) -> String {
        let json = serde_json::to_string(self).expect("a failure is JSON");
        escape::json(&json).into_owned()
    }
}

/// Makes panics print an error of this tool, without secrets. A panic on the main thread ends the process with exit code 1 at
/// once, because unwinding a half-built runtime can wait forever (observed where no thread could be started). The next run
/// cleans up what the process leaves behind.
pub fn report_panics(log: Log, json: bool) {
    std::panic::set_hook(Box::new(move |info| {
        let text = format!("a mistake in uzima-backup itself, please report it: {info}");
        if std::thread::current().name() == Some("main") {
            let exit = print_error(&Error::failed(text), &log, json);
            std::process::exit(exit.code().into());
        }
        let _ = writeln!(std::io::stderr(), "error: {}", escape::lines(&log.clean(&text)));
        log.append(Level::Error, &text);
    }));
}

/// Formats a table without lines. The columns with the numbers `figures` are aligned to the right.
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
    // Rows are never wrapped: people and scripts expect one line per row.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.to_string().lines().map(|line| format!("{}\n", line.trim())).collect()
}
