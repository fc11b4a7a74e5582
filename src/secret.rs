//! Values that must never be printed.

pub use secrecy::{ExposeSecret, SecretString as Secret};

use base64::Engine;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What a connection string may hold as it is (RFC 3986, 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A connection string with stars for its password.
pub fn hide_login(uri: &str) -> String {
    match password(uri) {
        Some(password) => uri.replacen(&format!(":{password}@"), ":***@", 1),
        None => uri.to_string(),
    }
}

/// What of an address that is a secret itself must not be shown: all of it, what follows the host, and
/// what in there is long enough to be a key. (Short words, such as `hooks`, stand in other texts as well.)
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

/// A connection string as far as it is no secret; `None` if it has no password.
pub fn without_password(uri: &str) -> Option<String> {
    password(uri).map(|password| uri.replacen(&format!(":{password}@"), "@", 1))
}

/// The password of a connection string, as it stands there.
fn password(uri: &str) -> Option<&str> {
    let (_, rest) = uri.split_once("://")?;
    // An unescaped '/' or '@' in a password is a mistake, but must not make it visible.
    let (login, _) = rest.rsplit_once('@')?;
    login.split_once(':').map(|(_, password)| password).filter(|p| !p.is_empty())
}

/// Takes secrets out of texts that other programs and libraries wrote.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    words: Vec<String>,
}

impl Redactor {
    /// Knows the passwords of `uris` and the other secrets, each as it is, percent-decoded,
    /// percent-encoded and in base64.
    pub fn new(uris: &[&str], others: &[&str]) -> Redactor {
        let mut words = Vec::new();
        for secret in uris.iter().filter_map(|uri| password(uri)).chain(others.iter().copied()) {
            let decoded = percent_decode_str(secret).decode_utf8_lossy().into_owned();
            for form in [secret.to_string(), decoded] {
                words.push(utf8_percent_encode(&form, UNRESERVED).to_string());
                words.push(base64::engine::general_purpose::STANDARD.encode(&form));
                words.push(form);
            }
        }
        // Very short ones would take ordinary words apart.
        words.retain(|word| word.len() >= 4);
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        words.dedup();
        Redactor { words }
    }

    /// `text` with `***` for every secret.
    pub fn clean(&self, text: &str) -> String {
        let mut out = text.to_string();
        for word in &self.words {
            if out.contains(word.as_str()) {
                out = out.replace(word.as_str(), "***");
            }
        }
        out
    }
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
    fn every_form_of_a_secret_is_taken_out() {
        let redactor = Redactor::new(&["mongodb://u:p%40ss%2Fword@h"], &["s3cr3t+key"]);
        for text in ["p%40ss%2Fword", "p@ss/word", "cEBzcy93b3Jk", "s3cr3t+key", "s3cr3t%2Bkey"] {
            assert_eq!(redactor.clean(&format!("a {text} b")), "a *** b", "{text}");
        }
    }
}
