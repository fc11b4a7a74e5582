//! File names in a dump directory, as mongodump makes them.
//!
//! The name of the database is the name of a folder and is never escaped. The name of the collection is
//! escaped like a form value, and shortened if the result is longer than 238 bytes. Source: mongo-tools,
//! `common/util/namespaces.go`.

use base64::Engine;
use sha1::{Digest, Sha1};

/// The longest escaped name in bytes. A longer one is cut and made unique by a hash.
const LONGEST: usize = 238;
/// The length to which a name is cut, in bytes.
const KEPT: usize = 208;

/// The file of the oplog slice in the root of the dump.
pub const OPLOG_FILE: &str = "oplog.bson";

/// Escapes a collection's name for file names.
pub fn escape(collection: &str) -> String {
    let mut out = String::with_capacity(collection.len());
    for byte in collection.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    if out.len() > LONGEST {
        out.truncate(KEPT);
        out.push_str("%24");
        let hash = Sha1::digest(collection.as_bytes());
        out.push_str(&base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash));
    }
    out
}

/// Returns true if [`escape`] shortened this file name (without suffix). Then only the metadata has the
/// collection's name.
pub fn is_cut(stem: &str) -> bool {
    stem.len() == LONGEST && stem.contains("%24")
}

/// Returns the path of a collection's documents, relative to the root of the dump.
pub fn bson_file(db: &str, collection: &str) -> String {
    format!("{db}/{}.bson", escape(collection))
}

/// Returns the path of a collection's options and indexes, relative to the root of the dump.
pub fn metadata_file(db: &str, collection: &str) -> String {
    format!("{db}/{}.metadata.json", escape(collection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_like_mongodump_does() {
        for (name, want) in [
            ("plain", "plain"),
            ("with space", "with+space"),
            ("with/slash", "with%2Fslash"),
            ("with\nnewline", "with%0Anewline"),
            ("quo\"te's", "quo%22te%27s"),
            ("ünï漢😀", "%C3%BCn%C3%AF%E6%BC%A2%F0%9F%98%80"),
            ("(paren)", "%28paren%29"),
            ("~tilde", "~tilde"),
            ("a.b.c", "a.b.c"),
        ] {
            assert_eq!(escape(name), want);
        }
    }

    #[test]
    fn long_names_end_with_their_hash() {
        let name = "x/".repeat(100);
        let got = escape(&name);
        assert_eq!(got.len(), 238);
        assert!(got.ends_with("x%2F%24IMex8Gy4gRUsG4P9B8AytoYVjg0"), "{got}");
        let name = "ü".repeat(110);
        assert!(escape(&name).ends_with("%C3%%24SrRYrHsaY3HC4XBOSC1yLYPG0FM"));
        assert_eq!(escape(&"L".repeat(238)), "L".repeat(238));
    }
}
