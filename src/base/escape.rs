//! Escapes for terminals, logs, JSON and shells. Database names, manifests and replies of servers may contain
//! characters that control a terminal, reverse the reading order, or start another line. They are shown as in
//! a Rust literal, such as `\u{1b}`.

use std::borrow::Cow;

/// Returns true for characters without a visible shape: control characters, Unicode's format characters and
/// line separators (general categories Cc, Cf, Zl and Zp, Unicode 16).
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

/// Replaces the characters for which `escapes` is true.
fn escaped(text: &str, escapes: impl Fn(char) -> bool, push: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(&escapes) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escapes(c) { push(&mut out, c) } else { out.push(c) }
    }
    out.into()
}

/// Returns the text in one line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, steers, |out, c| out.extend(c.escape_default()))
}

/// The text with its line breaks. Values in it that may contain line breaks must pass through [`line`] first.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| steers(c) && c != '\n', |out, c| out.extend(c.escape_default()))
}

/// Appends the text in one line, and a line break.
pub fn push_line(out: &mut String, text: &str) {
    out.push_str(&line(text));
    out.push('\n');
}

/// Returns equivalent JSON without raw characters that control a terminal. Characters below U+0020 stay: in
/// valid JSON they are only white space between values.
pub fn json(text: &str) -> Cow<'_, str> {
    let escapes = |c: char| steers(c) && !c.is_ascii() || c == '\u{7f}';
    escaped(text, escapes, |out, c| {
        c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
    })
}

/// The text as one word of a shell, for commands that a person is asked to type.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%:=".contains(c);
    if text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_steer_are_shown_and_others_stay() {
        let hostile = "a\u{1b}]0;x\u{7}b\r\nc\u{202e}d\u{9b}e\u{2028}f\u{200b}g\u{e0041}";
        assert_eq!(line(hostile), r"a\u{1b}]0;x\u{7}b\r\nc\u{202e}d\u{9b}e\u{2028}f\u{200b}g\u{e0041}");
        assert!(lines(hostile).starts_with("a\\u{1b}]0;x\\u{7}b\\r\nc"));
        for plain in ["", "ünï 漢 😀 ع \u{301}", "back\\slash 'quote'"] {
            assert!(matches!(line(plain), Cow::Borrowed(same) if same == plain));
        }
        assert_eq!(line(&line(hostile)), line(hostile));
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({"a\u{202e}\u{9b}": "b\u{7f}\u{e0041}\n\u{1b}", "c": ["é", "😀"]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = json(&text);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert!(!shown.contains(|c: char| steers(c) && c != '\n') && shown.contains("é"), "{shown}");
    }

    #[test]
    fn words_come_through_the_shell() {
        for text in ["a", "it's 100%", "\"\\$x`", "ü ;|&"] {
            let echo = format!("printf %s {}", quoted(text));
            let said = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), text);
        }
    }
}
