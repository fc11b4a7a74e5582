//! The identities that decrypt backups.

use tokio::sync::OnceCell;

use super::ask;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::keys::{Identities, IdentityFile};
use crate::base::secret::Secret;
use crate::config::Config;

/// A passphrase that was typed once, for a command that reads several backups.
pub type RememberedPassphrase = OnceCell<Secret>;

/// Reads the configured identity file, and asks for its passphrase if it needs one. Returns `None` if no file is configured.
///
/// # Errors
/// Returns an error if the file cannot be used, or the passphrase is wrong.
pub async fn identities(config: &Config, cancel: &Cancel) -> Result<Option<Identities>> {
    identities_remembering(config, cancel, &RememberedPassphrase::default()).await
}

/// As [`identities`], but asks for the passphrase only if it is not known yet.
///
/// # Errors
/// Returns the errors of [`identities`].
pub async fn identities_remembering(
    config: &Config,
    cancel: &Cancel,
    known: &RememberedPassphrase,
) -> Result<Option<Identities>> {
    let Some(path) = config.identity_file.as_ref()? else { return Ok(None) };
    let file = IdentityFile::read(path)?;
    let passphrase = match file.needs_passphrase() {
        true => {
            let name = path.display().to_string();
            Some(known.get_or_try_init(|| ask::passphrase(&name, cancel)).await?.clone())
        }
        false => None,
    };
    // A passphrase is made slow to check.
    let read = tokio::task::spawn_blocking(move || file.identities(passphrase));
    read.await.map_err(|_| Error::failed("a thread ended unexpectedly"))?.map(Some)
}
