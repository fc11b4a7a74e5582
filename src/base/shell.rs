//! Words as a shell reads them, for the commands that a person is told to type.

/// A word of the shell.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@%:=".contains(c);
    if text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
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
    }
}
