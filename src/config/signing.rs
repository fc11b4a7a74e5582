//! The settings of signatures: the key that signs backups, and the keys whose backups are trusted.

use std::path::PathBuf;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use super::layers::Layers;
use crate::base::error::{Error, Result};
use crate::base::minisign::{PublicKey, SigningKey};

/// The settings of signatures.
#[derive(Debug, Clone, Default)]
pub struct Signing {
    /// The file with the key that signs new backups; `None` if they are not signed.
    pub key_file: Option<PathBuf>,
    /// The keys whose signatures count. If there are none, every backup is trusted.
    pub trusted: Vec<PublicKey>,
    /// Unsigned backups from before this time are trusted, too.
    pub trusted_before: Option<DateTime<Utc>>,
}

impl Signing {
    pub(super) fn resolve(layers: &Layers) -> Result<Signing> {
        let mut trusted: Vec<PublicKey> = Vec::new();
        for (at, text) in layers.list("trusted_keys").iter().enumerate() {
            let key: PublicKey = text
                .parse()
                .map_err(|why: String| layers.wrong("trusted_keys", &format!("key {}: {why}", at + 1)))?;
            if !trusted.contains(&key) {
                trusted.push(key);
            }
        }
        let trusted_before = layers.parsed("trusted_before", time)?;
        if trusted_before.is_some() && trusted.is_empty() {
            return Err(
                layers.wrong("trusted_before", "it has no effect without trusted_keys (BACKUP_TRUSTED_KEYS)")
            );
        }
        Ok(Signing { key_file: layers.absolute("signing_key_file")?, trusted, trusted_before })
    }

    /// Reads the key that signs; `None` if nothing is signed.
    ///
    /// # Errors
    /// Returns an error if the file cannot be used, and a usage error if the key is not among the trusted keys: then everything
    /// that it signs would be untrusted.
    pub fn key(&self) -> Result<Option<SigningKey>> {
        let Some(path) = &self.key_file else { return Ok(None) };
        let key = SigningKey::read(path)?;
        let public = key.public();
        if !self.trusted.is_empty() && !self.trusted.contains(&public) {
            let what = format!(
                "the public key {} of {} is not among the trusted keys, so that new backups would be untrusted",
                public.number(),
                path.display()
            );
            return Err(
                Error::usage(what).hint(format!("Add {public} to trusted_keys (BACKUP_TRUSTED_KEYS)"))
            );
        }
        Ok(Some(key))
    }

    /// Like [`key`](Signing::key), for backups and slices.
    ///
    /// # Errors
    /// Also returns a usage error if there are trusted keys and no signing key: then nothing that this machine stores would
    /// count.
    pub fn writing_key(&self) -> Result<Option<SigningKey>> {
        match &self.key_file {
            None if !self.trusted.is_empty() => Err(Error::usage(UNSIGNED).hint(
                "Set signing_key_file (BACKUP_SIGNING_KEY_FILE), or remove trusted_keys from these settings",
            )),
            _ => self.key(),
        }
    }
}

/// Why a machine with trusted keys and without a signing key stores nothing.
pub const UNSIGNED: &str = "there are trusted keys, but no key signs, so that new backups would be untrusted";

/// Parses a date or a time.
fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let date = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN).and_utc());
    let time = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    date().or_else(time).ok_or("it must be a date such as 2026-12-01, or a time such as 2026-12-01T12:00:00Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::exit::Exit;
    use crate::base::minisign::generate;
    use crate::base::secret::ExposeSecret;

    #[test]
    fn keys_and_time_are_resolved_and_a_secret_key_is_refused_without_showing_it() {
        let (secret, public) = generate().unwrap();
        let key = public.to_string();
        let keys = format!("{key}, {key}");
        let env = [("BACKUP_TRUSTED_KEYS", keys.as_str()), ("BACKUP_TRUSTED_BEFORE", "2026-12-01")];
        let signing = Signing::resolve(&Layers::of(&env)).unwrap();
        assert_eq!(signing.trusted, [public]);
        assert_eq!(signing.trusted_before, Some("2026-12-01T00:00:00Z".parse().unwrap()));
        let line = secret.expose_secret().lines().nth(1).unwrap();
        for (env, words) in [
            (vec![("BACKUP_TRUSTED_KEYS", line)], "key 1: it is a secret key"),
            (vec![("BACKUP_TRUSTED_KEYS", "x")], "key 1: it is not a public key"),
            (vec![("BACKUP_TRUSTED_BEFORE", "2026-12-01")], "no effect without trusted_keys"),
            (vec![("BACKUP_TRUSTED_KEYS", &key), ("BACKUP_TRUSTED_BEFORE", "soon")], "it must be a date"),
            (vec![("BACKUP_SIGNING_KEY_FILE", "signing.key")], "absolute path"),
        ] {
            let layers = Layers::of(&env);
            let error = Signing::resolve(&layers).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            assert!(error.to_string().contains(words) && !error.chain_with_step().contains(line), "{error}");
            assert!(layers.shown().iter().all(|(_, value, _)| !value.contains(line)));
        }
    }

    #[test]
    fn a_key_that_is_not_trusted_does_not_sign() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.key");
        let (secret, public) = generate().unwrap();
        let signing = |trusted| Signing { key_file: Some(path.clone()), trusted, trusted_before: None };
        assert_eq!(signing(vec![]).key().unwrap_err().exit(), Exit::Key);
        std::fs::write(&path, secret.expose_secret()).unwrap();
        assert_eq!(signing(vec![]).key().unwrap().unwrap().public(), public);
        assert!(signing(vec![public]).key().is_ok());
        let error = signing(vec![generate().unwrap().1]).key().unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(error.to_string().contains("not among the trusted keys"), "{error}");
        assert!(Signing::default().writing_key().unwrap().is_none());
        let trusting = Signing { trusted: vec![generate().unwrap().1], ..Signing::default() };
        assert!(trusting.key().unwrap().is_none());
        let error = trusting.writing_key().unwrap_err();
        assert_eq!((error.exit(), error.to_string()), (Exit::Usage, UNSIGNED.into()));
    }
}
