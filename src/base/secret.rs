//! Values that must never be printed.

pub use secrecy::{ExposeSecret, SecretString as Secret};

use base64::Engine;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The characters that a connection string contains unescaped (RFC 3986, 2.3).
pub const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The connection string with `***` as its password.
pub fn hide_login(uri: &str) -> String {
    with_password(uri, ":***").unwrap_or_else(|| uri.to_string())
}

/// The parts of a secret address that must not be shown: the address, its path, and components that are long
/// enough to be a key. (Short words such as `hooks` also occur in other texts.)
pub fn secret_parts(address: &str) -> Vec<&str> {
    const PATH: usize = 8;
    const KEY: usize = 16;
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let path = rest.find(['/', '?']).map_or("", |host| &rest[host..]);
    let keys = path.split(['/', '?', '&', '=', '#']).filter(|part| part.len() >= KEY);
    let mut parts: Vec<&str> = [address, path].into_iter().filter(|part| part.len() >= PATH).collect();
    parts.extend(keys);
    parts
}

/// The connection string without its password; `None` if it has none.
pub fn without_password(uri: &str) -> Option<String> {
    with_password(uri, "")
}

fn with_password(uri: &str, new: &str) -> Option<String> {
    let (_, password) = login(uri)?;
    Some(uri.replacen(&format!(":{password}@"), &format!("{new}@"), 1))
}

/// Returns the user and the password, still encoded; `None` if the connection string has no password.
fn login(uri: &str) -> Option<(&str, &str)> {
    let (_, rest) = uri.split_once("://")?;
    // An unescaped '/' or '@' in a password is a mistake, but must not make it visible.
    let (login, _) = rest.rsplit_once('@')?;
    login.split_once(':').filter(|(_, password)| !password.is_empty())
}

/// Decodes `%` escapes. Invalid UTF-8 is replaced.
pub fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Removes secrets from texts of other programs and libraries.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Removed everywhere.
    words: Vec<String>,
    /// Passwords that equal the user's name. They are removed only where a password is expected: stars in
    /// place of the user would break the commands of next steps, and reveal the password.
    names: Vec<String>,
}

impl Redactor {
    /// Removes the passwords of `uris` and the other secrets: unchanged, percent-decoded, percent-encoded,
    /// and in base64.
    pub fn new(uris: &[&str], others: &[&str]) -> Redactor {
        let (mut words, mut names) = (Vec::new(), Vec::new());
        let logins = uris.iter().filter_map(|uri| login(uri));
        let logins = logins.map(|(user, password)| (decoded(user) == decoded(password), password));
        for (named, secret) in logins.chain(others.iter().map(|other| (false, *other))) {
            for form in [secret.to_string(), decoded(secret)] {
                words.push(base64::engine::general_purpose::STANDARD.encode(&form));
                let plain = if named { &mut names } else { &mut words };
                plain.push(utf8_percent_encode(&form, UNRESERVED).to_string());
                plain.push(form);
            }
        }
        for forms in [&mut words, &mut names] {
            // Removing very short secrets would destroy ordinary words.
            forms.retain(|word| word.len() >= 4);
            forms.sort_by_key(|word| std::cmp::Reverse(word.len()));
            forms.dedup();
        }
        Redactor { words, names }
    }

    /// Returns `text` with `***` in place of every secret.
    pub fn clean(&self, text: &str) -> String {
        let mut out = text.to_string();
        for word in &self.words {
            if out.contains(word.as_str()) {
                out = out.replace(word.as_str(), "***");
            }
        }
        for name in &self.names {
            out = without_at_password(&out, name);
        }
        out
    }
}

/// Returns `text` with stars in place of `word` where a password is expected: in a login, or after a word
/// such as `password`.
fn without_at_password(text: &str, word: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        out.push_str(before);
        let signs = |c: char| c.is_whitespace() || "=:\"'`\\".contains(c);
        let lead = out.trim_end_matches(signs).to_ascii_lowercase();
        let of_login = out.ends_with(':') && after.starts_with('@');
        let of_word = ["password", "passwd", "pwd", "pass", "secret"].iter().any(|name| lead.ends_with(name));
        out.push_str(if of_login || of_word { "***" } else { word });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_hidden() {
        for (uri, want) in [
            ("mongodb://h", "mongodb://h"),
            ("mongodb://u@h", "mongodb://u@h"),
            ("mongodb://u:pass@h/db", "mongodb://u:***@h/db"),
            ("mongodb://u:pa@ss@h/db", "mongodb://u:***@h/db"),
            ("mongodb+srv://u:pa/ss:x@h/?a=b", "mongodb+srv://u:***@h/?a=b"),
        ] {
            assert_eq!(hide_login(uri), want);
            let without = (uri != want).then(|| want.replace(":***", ""));
            assert_eq!(without_password(uri), without);
        }
    }

    #[test]
    fn an_address_hides_its_keys() {
        let hook = "https://hooks.example/services/T0001/abcdefgh01234567?token=0123456789abcdef0";
        let redactor = Redactor::new(&[], &secret_parts(hook));
        for text in [
            hook,
            "/services/T0001/abcdefgh01234567?token=0123456789abcdef0",
            "abcdefgh01234567",
            "0123456789abcdef0",
        ] {
            assert_eq!(redactor.clean(&format!("a {text} b")), "a *** b", "{text}");
        }
        assert_eq!(redactor.clean("hooks.example services"), "hooks.example services");
        assert_eq!(secret_parts("http://h/x"), ["http://h/x"]);
        assert_eq!(secret_parts("https://h"), ["https://h"]);
    }

    #[test]
    fn every_form_of_a_secret_is_removed() {
        let redactor = Redactor::new(&["mongodb://u:p%40ss%2Fword@h"], &["s3cr3t+key"]);
        for text in ["p%40ss%2Fword", "p@ss/word", "cEBzcy93b3Jk", "s3cr3t+key", "s3cr3t%2Bkey"] {
            assert_eq!(redactor.clean(&format!("a {text} b")), "a *** b", "{text}");
        }
    }

    #[test]
    fn a_password_that_equals_the_user_is_removed_where_a_password_is_expected() {
        let redactor = Redactor::new(&["mongodb://backup:b%61ckup@h"], &[]);
        for (text, want) in [
            ("grantRolesToUser(\"backup\", [\"backup\"])", "grantRolesToUser(\"backup\", [\"backup\"])"),
            ("uzima-backup: user 'backup'", "uzima-backup: user 'backup'"),
            ("mongodb://backup:backup@h/backup", "mongodb://backup:***@h/backup"),
            ("mongodb://backup:b%61ckup@h", "mongodb://backup:***@h"),
            ("pwd: \"backup\", user: \"backup\"", "pwd: \"***\", user: \"backup\""),
            ("password=backup --password backup", "password=*** --password ***"),
            ("YmFja3Vw", "***"),
        ] {
            assert_eq!(redactor.clean(text), want);
        }
        // The same word as the password of another user is removed everywhere.
        let redactor = Redactor::new(&["mongodb://backup:backup@h", "mongodb://ops:backup@h"], &[]);
        assert_eq!(redactor.clean("the backup"), "the ***");
    }
}
