//! Words as a unit of systemd reads them.

/// A text in a unit, where % begins a specifier.
pub fn literal(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word in a unit's setting that takes several (systemd.syntax(7)).
pub fn unit_word(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !"\"'\\".contains(c);
    if text.chars().all(plain) {
        return text.into();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_unit_are_quoted() {
        assert_eq!(unit_word(r#"a "b\c""#), r#""a \"b\\c\"""#);
    }
}
