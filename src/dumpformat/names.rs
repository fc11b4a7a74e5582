//! File names of a dump directory, as mongodump forms them.
//!
//! The database's name is a folder, never escaped. The collection's name is escaped like a form
//! value, and cut when that is longer than 238 bytes. Source: mongo-tools, `common/util/namespaces.go`.

use base64::Engine;
use sha1::{Digest, Sha1};

/// An escaped name longer than this is cut and made unique by a hash.
const LONGEST: usize = 238;
/// How much of a cut name is kept.
const KEPT: usize = 208;

/// The oplog slice below the dump's root.
pub const OPLOG_FILE: &str = "oplog.bson";

/// The collection's name as it stands in a dump's file names, without suffix.
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

/// The file of a collection's documents below the dump's root.
pub fn bson_file(db: &str, collection: &str) -> String {
    format!("{db}/{}.bson", escape(collection))
}

/// The file of a collection's options and indexes below the dump's root.
pub fn metadata_file(db: &str, collection: &str) -> String {
    format!("{db}/{}.metadata.json", escape(collection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_mongodump_wrote_them() {
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
    fn long_names_end_in_their_hash() {
        let name = "x/".repeat(100);
        let got = escape(&name);
        assert_eq!(got.len(), 238);
        assert!(got.ends_with("x%2F%24IMex8Gy4gRUsG4P9B8AytoYVjg0"), "{got}");
        let name = "ü".repeat(110);
        assert!(escape(&name).ends_with("%C3%%24SrRYrHsaY3HC4XBOSC1yLYPG0FM"));
        assert_eq!(escape(&"L".repeat(238)), "L".repeat(238));
    }
}
