//! Standard output: a result, as text or as JSON, and nothing else. Whether it arrives changes nothing.

use std::io::{IsTerminal, Write};

use log::Level;
use serde::Serialize;

use super::logging::Log;
use crate::base::error::Error;
use crate::base::escape;
use crate::base::escape::push_line;
use crate::base::exit::Exit;

/// How results are printed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// As JSON.
    pub json: bool,
    /// Not at all, unless as JSON.
    pub quiet: bool,
}

impl Output {
    /// Prints JSON or text.
    pub fn new(json: bool, quiet: bool) -> Output {
        Output { json, quiet }
    }

    /// Prints a result: `value` as JSON, or the text.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json {
            let json = serde_json::to_string_pretty(value).expect("a result is JSON");
            print(&format!("{}\n", escape::json(&json)));
        } else if !self.quiet {
            print(&escape::lines(&text()));
        }
    }

    /// The width of the terminal that standard output is, in characters; `None` if it is none.
    pub fn width(&self) -> Option<usize> {
        comfy_table::Table::new().width().map(usize::from)
    }

    /// Whether a person watches standard error.
    pub fn interactive(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }
}

/// Prints; a closed or full standard output is the reader's business and changes no exit code.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line on standard error.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", escape::line(line));
}

/// Says on standard error what of a good result a person should look at.
pub fn needs_look(what: &str) {
    say(&format!("needs a look: {what}"));
}

/// Has panics told as an error of this tool, without secrets. On the main thread one ends the process
/// with exit 1 at once: unwinding a half-built runtime waits for ever (seen where no thread could be
/// started), and what is left behind is found by the next run.
pub fn tell_panics(log: Log) {
    std::panic::set_hook(Box::new(move |info| {
        let text = format!("a mistake in uzima-backup itself, please report it: {info}");
        let _ = writeln!(std::io::stderr(), "error: {}", escape::lines(&log.clean(&text)));
        log.tell(Level::Error, &text);
        if std::thread::current().name() == Some("main") {
            std::process::exit(Exit::Failed.code().into());
        }
    }));
}

/// Tells an error on standard error and in the log: what failed, why, and the next step.
pub fn complain(error: &Error, log: &Log) -> Exit {
    let step = error.next_step().map(|step| format!("next step: {step}"));
    let (mut text, mut lines) = (String::new(), vec![error.chain()]);
    push_line(&mut text, &log.clean(&format!("error: {}", lines[0])));
    if let Some(step) = step {
        push_line(&mut text, &log.clean(&step));
        lines.push(step);
    }
    lines.iter().for_each(|line| log.tell(Level::Error, &escape::line(line)));
    let _ = std::io::stderr().write_all(text.as_bytes());
    error.exit()
}
