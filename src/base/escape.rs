//! Text from outside on terminals and in logs. Names in a database, manifests and the words of servers may hold characters
//! that steer a terminal, reverse the order of what is read, or begin another line. They are shown as Rust writes them in a
//! literal, such as `\u{1b}`.

use std::borrow::Cow;

/// Returns true if a character has no shape of its own: controls, and Unicode's format characters and line separators
/// (general categories Cc, Cf, Zl and Zp, Unicode 16).
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}

fn escaped(text: &str, keep: Option<char>) -> Cow<'_, str> {
    let escapes = |c: char| steers(c) && Some(c) != keep;
    if !text.contains(escapes) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match escapes(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out.into()
}

/// The text in one line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, None)
}

/// The text with its line breaks. Values in it that may hold line breaks have to go through [`line`] before.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, Some('\n'))
}

/// Appends the text in one line, and the end of the line.
pub fn push_line(out: &mut String, text: &str) {
    out.push_str(&line(text));
    out.push('\n');
}

/// JSON that means the same without raw characters that steer a terminal. The control characters below U+0020 that it has
/// are white space between values.
pub fn json(text: &str) -> Cow<'_, str> {
    let escapes = |c: char| steers(c) && !c.is_ascii() || c == '\u{7f}';
    if !text.contains(escapes) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match escapes(c) {
            true => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")))
            }
            false => out.push(c),
        }
    }
    out.into()
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
}
