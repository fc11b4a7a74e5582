//! Coloured text for terminals.

use std::io::{stderr, stdout};

use anstream::{AutoStream, ColorChoice};
use anstyle::AnsiColor;

use crate::base::escape;

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Always,
    Never,
}

impl Colour {
    /// The choice for standard output: colour on a terminal, unless NO_COLOR is set or TERM is `dumb`. CLICOLOR_FORCE asks
    /// for colour elsewhere, for example in `less -R`.
    pub fn of_stdout() -> Colour {
        Colour::of(AutoStream::choice(&stdout()))
    }

    /// The choice for standard error, by the same rules.
    pub fn of_stderr() -> Colour {
        Colour::of(AutoStream::choice(&stderr()))
    }

    fn of(choice: ColorChoice) -> Colour {
        match choice {
            ColorChoice::Never => Colour::Never,
            _ => Colour::Always,
        }
    }
}

/// Text whose control characters are escaped, so that only this module writes the codes of colours.
#[derive(Debug)]
pub struct StyledText {
    text: String,
    colour: Colour,
}

impl StyledText {
    pub fn new(colour: Colour) -> StyledText {
        StyledText { text: String::new(), colour }
    }

    /// Appends text with its line breaks. Values in it that may contain line breaks must be escaped first.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(&escape::lines(text));
    }

    /// Appends coloured text.
    pub fn paint(&mut self, text: &str, colour: Option<AnsiColor>) {
        match colour.filter(|_| self.colour == Colour::Always) {
            Some(colour) => {
                let style = colour.on_default();
                self.text.push_str(&format!("{style}{}{style:#}", escape::line(text)));
            }
            None => self.text.push_str(&escape::line(text)),
        }
    }

    /// Appends lines of a report. If a line begins with the word of an outcome, the word is coloured.
    pub fn push_report(&mut self, text: &str) {
        for line in text.split_inclusive('\n') {
            let end = line.find(char::is_whitespace).unwrap_or(line.len());
            let (word, rest) =
                line.split_at(if line.starts_with(NEEDS_A_LOOK) { NEEDS_A_LOOK.len() } else { end });
            self.paint(word, outcome_colour(word));
            self.push(rest);
        }
    }

    pub fn into_string(self) -> String {
        self.text
    }
}

/// The beginning of a line about a problem that did not make a run fail.
const NEEDS_A_LOOK: &str = "needs a look:";

/// The colour of a word at the beginning of a line in the reports of `health`, `verify`, `cleanup` and `stats`.
fn outcome_colour(word: &str) -> Option<AnsiColor> {
    match word {
        "ok" | "sound" | "healthy:" => Some(AnsiColor::Green),
        "warning" | "orphan" | "archived" | "locked" | NEEDS_A_LOOK => Some(AnsiColor::Yellow),
        "failed" | "DAMAGED" | "frozen," | "frozen:" => Some(AnsiColor::Red),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_itself_is_escaped() {
        let shown = |colour| {
            let mut text = StyledText::new(colour);
            text.paint("fai\u{1b}[0mled\n", Some(AnsiColor::Red));
            text.push(" \u{1b}\n");
            text.into_string()
        };
        assert_eq!(shown(Colour::Never), "fai\\u{1b}[0mled\\n \\u{1b}\n");
        assert_eq!(shown(Colour::Always), "\u{1b}[31mfai\\u{1b}[0mled\\n\u{1b}[0m \\u{1b}\n");
    }

    #[test]
    fn outcomes_at_the_beginning_of_a_line_are_coloured() {
        let report = "ok      server   failed\n        next step: x\nneeds a look: mail\nfailed  store\nfailure\n\nhealthy: 1 ok";
        let shown = |colour| {
            let mut text = StyledText::new(colour);
            text.push_report(report);
            text.into_string()
        };
        assert_eq!(shown(Colour::Never), report);
        let coloured = shown(Colour::Always).replace('\u{1b}', "^");
        assert_eq!(
            coloured,
            "^[32mok^[0m      server   failed\n        next step: x\n^[33mneeds a look:^[0m mail\n^[31mfailed^[0m  store\n\
             failure\n\n^[32mhealthy:^[0m 1 ok"
        );
    }
}
