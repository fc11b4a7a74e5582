//! The selections of backups and oplog slices, and their comparison, also if they are encrypted.
//!
//! An encrypted backup or slice does not show its selection: it has a mark of it. The key of the mark is the UUID of a system
//! collection of the replica set. Every reader of the set knows the UUID, and no reader of the store does, so nobody can find
//! the selection of a mark by trying names.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::error::{Error, Result};
use crate::config::selection::Selection;

/// Makes the key of marks different from any other use of the UUID.
const CONTEXT: &str = "uzima-backup 2026-12-01 mark of a selection";
/// The length of a mark in hex digits.
const LENGTH: usize = 32;

/// The selection of databases and collections for the backup.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct SelectionAsked {
    /// Empty for all databases.
    pub databases: Vec<String>,
    /// Patterns. Empty for all collections.
    pub include: Vec<String>,
    /// Patterns of excluded collections.
    pub exclude: Vec<String>,
}

impl From<&Selection> for SelectionAsked {
    fn from(selection: &Selection) -> SelectionAsked {
        let Selection { databases, include, exclude } = selection;
        let [include, exclude] =
            [include, exclude].map(|list| list.iter().map(ToString::to_string).collect());
        SelectionAsked { databases: databases.clone(), include, exclude }
    }
}

impl SelectionAsked {
    /// The selection for comparisons. A pattern that cannot be parsed is left out.
    pub fn parsed(&self) -> Selection {
        let patterns = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect();
        Selection {
            databases: self.databases.clone(),
            include: patterns(&self.include),
            exclude: patterns(&self.exclude),
        }
    }
}

impl fmt::Display for SelectionAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.databases.as_slice() {
            [] => f.write_str("all databases")?,
            [db] => write!(f, "the database {db}")?,
            several => write!(f, "the databases {}", several.join(", "))?,
        }
        if !self.include.is_empty() {
            write!(f, ", only {}", self.include.join(", "))?;
        }
        if !self.exclude.is_empty() {
            write!(f, ", without {}", self.exclude.join(", "))?;
        }
        Ok(())
    }
}

/// A selection, or only the mark of an encrypted one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownSelection {
    /// `None` if it is encrypted.
    pub asked: Option<SelectionAsked>,
    /// `None` if nothing is encrypted, or if the server has no secret.
    pub mark: Option<String>,
}

impl KnownSelection {
    /// Compares two selections. Returns `None` if that needs a key: one of them is encrypted and the other one is not.
    pub fn is(&self, other: &KnownSelection) -> Option<bool> {
        let asked = self.asked.as_ref().zip(other.asked.as_ref()).map(|(a, b)| a == b);
        asked.or_else(|| self.mark.as_ref().zip(other.mark.as_ref()).map(|(a, b)| a == b))
    }

    /// Returns true if the selections are known to differ.
    pub fn differs(&self, other: &KnownSelection) -> bool {
        self.is(other) == Some(false)
    }
}

impl fmt::Display for KnownSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.asked {
            Some(asked) => asked.fmt(f),
            None => f.write_str("another one, which is encrypted"),
        }
    }
}

/// The mark of a selection. `secret` is the UUID that only readers of the replica set know.
///
/// # Errors
/// Returns an error if the selection cannot be encoded.
pub fn mark(selection: &SelectionAsked, secret: &[u8]) -> Result<String> {
    let json = serde_json::to_vec(selection)
        .map_err(|e| Error::failed("cannot encode the selection of the job").caused_by(e))?;
    let key = blake3::derive_key(CONTEXT, secret);
    Ok(blake3::keyed_hash(&key, &json).to_hex()[..LENGTH].to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_compared_by_their_text_or_their_marks() {
        let (all, shop) = (
            SelectionAsked::default(),
            SelectionAsked { databases: vec!["shop".into()], ..Default::default() },
        );
        let open = |asked: &SelectionAsked| KnownSelection { asked: Some(asked.clone()), mark: None };
        let sealed = |asked| KnownSelection { asked: None, mark: Some(mark(asked, b"secret").unwrap()) };
        assert_eq!((open(&all).is(&open(&all)), open(&all).is(&open(&shop))), (Some(true), Some(false)));
        assert_eq!(
            (sealed(&all).is(&sealed(&all)), sealed(&all).is(&sealed(&shop))),
            (Some(true), Some(false))
        );
        assert_eq!((sealed(&all).is(&open(&all)), sealed(&all).differs(&open(&shop))), (None, false));
        assert_ne!(mark(&shop, b"secret").unwrap(), mark(&shop, b"another").unwrap());
        assert_eq!(mark(&shop, b"secret").unwrap().len(), LENGTH);
    }
}
