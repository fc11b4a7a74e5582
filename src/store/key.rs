//! Keys as every store takes them: parts divided by `/`, none empty, none that climbs.

use super::{Error, Kind, Result};

/// The longest key that S3 takes, in bytes of UTF-8.
const LONGEST: usize = 1024;

/// Refuses a key that could leave the store's root or be read in two ways.
pub(super) fn check(key: &str) -> Result<()> {
    let wrong = if key.len() > LONGEST {
        Some("it is longer than 1,024 bytes")
    } else if key.contains('\0') {
        Some("it holds a NUL")
    } else if key.split('/').any(str::is_empty) {
        Some("a part between slashes is empty")
    } else if key.split('/').any(|part| part == "." || part == "..") {
        Some("`.` and `..` are not names")
    } else {
        None
    };
    match wrong {
        Some(cause) => Err(Error::new(Kind::Failed, format!("cannot use the key {key:?}"), cause)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn keys() {
        for good in ["a", "2026/11/x/dump.tar.gz", "a b+c%d\u{e9}", ".hidden", "..."] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b", &"x".repeat(1025)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
