//! Coloured text for terminals.

use std::io::stdout;

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
        match AutoStream::choice(&stdout()) {
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

    pub fn into_string(self) -> String {
        self.text
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
}
