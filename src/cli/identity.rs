//! The identities that decrypt backups.

use super::ask;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::keys::{Identities, IdentityFile};
use crate::config::Config;

/// Reads the configured identity file, and asks for its passphrase if it needs one. Returns `None` if no file is configured.
///
/// # Errors
/// Returns an error if the file cannot be used, or the passphrase is wrong.
pub async fn identities(config: &Config, cancel: &Cancel) -> Result<Option<Identities>> {
    let Some(path) = config.identity_file.as_ref()? else { return Ok(None) };
    let file = IdentityFile::read(path)?;
    let passphrase = match file.needs_passphrase() {
        true => Some(ask::passphrase(&path.display().to_string(), cancel).await?),
        false => None,
    };
    // A passphrase is made slow to check.
    let read = tokio::task::spawn_blocking(move || file.identities(passphrase));
    read.await.map_err(|_| Error::failed("a thread ended unexpectedly"))?.map(Some)
}
