//! Words as a shell and a unit of systemd read them.

/// A word of the shell.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%:=".contains(c);
    if text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

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
    fn words_come_through_the_shell() {
        for text in ["a", "it's 100%", "\"\\$x`", "ü ;|&"] {
            let echo = format!("printf %s {}", quoted(text));
            let said = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), text);
        }
        assert_eq!(unit_word(r#"a "b\c""#), r#""a \"b\\c\"""#);
    }
}
