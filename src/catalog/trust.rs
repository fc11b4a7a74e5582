//! Which stored objects are trusted. Without trusted keys all are. With them, an object counts only if the signature beside it
//! was made by one of the keys: everybody who can write to the store could have put another object there.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, Utc};

use super::Signed;
use crate::base::error::Result;
use crate::base::minisign::{self, PublicKey};
use crate::config::signing::Signing;
use crate::model::id::BackupId;
use crate::model::slice::SliceManifest;
use crate::store::{Store, StoreErrorKind};

/// Why an object is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// There is no signature.
    Unsigned,
    /// No trusted key made the signature of this object.
    Wrong(String),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distrust::Unsigned => f.write_str("it is not signed"),
            Distrust::Wrong(why) => write!(f, "its signature is wrong: {why}"),
        }
    }
}

/// The keys whose signatures count, and the exceptions.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    keys: Vec<PublicKey>,
    before: Option<DateTime<Utc>>,
    /// Backups that a person trusts without a valid signature.
    allowed: BTreeSet<BackupId>,
}

impl From<&Signing> for Trust {
    fn from(signing: &Signing) -> Trust {
        Trust { keys: signing.trusted.clone(), before: signing.trusted_before, allowed: BTreeSet::new() }
    }
}

impl Trust {
    /// Returns true if there are no trusted keys, so that everything is trusted.
    pub fn is_off(&self) -> bool {
        self.keys.is_empty()
    }

    /// Trusts a backup whatever its signature is.
    pub fn allow(&mut self, id: BackupId) {
        self.allowed.insert(id);
    }

    /// Returns true if a person allowed the backup.
    pub(super) fn allows(&self, id: &BackupId) -> bool {
        self.allowed.contains(id)
    }

    /// Returns true for a time before signing began.
    pub(super) fn is_before(&self, time: DateTime<Utc>) -> bool {
        self.before.is_some_and(|before| time < before)
    }

    /// Returns true for the text of a trusted key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.iter().any(|trusted| trusted.to_string() == key)
    }

    /// Reads the signature of an object under `signature` and checks it. Returns the key that made it.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub(super) async fn check(&self, store: &dyn Store, signature: &str, bytes: &[u8]) -> Result<Signed> {
        if self.is_off() {
            return Ok(Ok(None));
        }
        let read = match store.get(signature, minisign::LARGEST_SIGNATURE).await {
            Ok(read) => read,
            Err(e) => match e.kind {
                StoreErrorKind::NotFound => return Ok(Err(Distrust::Unsigned)),
                StoreErrorKind::Damaged => return Ok(Err(Distrust::Wrong(e.cause))),
                StoreErrorKind::Archived => return Ok(Err(Distrust::Wrong(e.reason()))),
                _ => return Err(e.into()),
            },
        };
        Ok(minisign::verify(&self.keys, bytes, &read).cloned().map(Some).map_err(Distrust::Wrong))
    }

    /// The signature of an object that has none.
    pub(super) fn unsigned(&self) -> Signed {
        if self.is_off() { Ok(None) } else { Err(Distrust::Unsigned) }
    }

    /// The signature of a slice. An unsigned slice from before signing began counts.
    pub(super) fn slice_counts(&self, slice: &SliceManifest, signed: Signed) -> Signed {
        let before = self.is_before(slice.stored_at) && self.is_before(slice.end.at.date());
        match signed {
            Err(Distrust::Unsigned) if before => Ok(None),
            signed => signed,
        }
    }

    /// The signature of an object that cannot be read.
    pub(super) fn unread(&self) -> Signed {
        match self.is_off() {
            true => Ok(None),
            false => Err(Distrust::Wrong("what it signs cannot be read".into())),
        }
    }

    /// Returns true if an object beside a backup counts: a verdict or an acceptance, made at `at`. Unsigned ones count only if
    /// both the object and the backup are from before signing began.
    pub(super) fn counts(
        &self,
        key: &str,
        id: &BackupId,
        at: Option<DateTime<Utc>>,
        signed: &Signed,
    ) -> bool {
        let Err(why) = signed else { return true };
        let before = at.is_some_and(|at| self.is_before(at)) && self.is_before(id.started());
        let counts = before && *why == Distrust::Unsigned;
        if !counts {
            log::debug!("{key} does not count: {why}");
        }
        counts
    }
}
