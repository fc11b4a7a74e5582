//! The keys of encrypted backups, in the forms of age (<https://c2sp.org/age>): recipients, to which a backup is encrypted, and
//! identities, which decrypt it.
//!
//! A recipient is public. Identities are secret: no error, log or output of this module contains a part of one.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor, ssh};
use age_core::format::{FileKey, Stanza};
use aws_lc_rs::digest;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::base::beneath::read_named;
use crate::base::bounds::Limited;
use crate::base::error::{Error, Kind, Result};
use crate::base::secret::{ExposeSecret, Secret};

/// The largest identity file in bytes.
const LARGEST: u64 = 64 << 10;
/// The largest work factor of a passphrase, as the logarithm of scrypt's cost: age's own limit.
const WORK: u8 = 22;

/// Why a text is not a recipient, if it is a secret key.
const SECRET: &str =
    "it is a secret key, and recipients are public: anybody who reads the settings could decrypt the backups";

/// A public key, to which backups are encrypted.
#[derive(Clone)]
pub struct Recipient {
    key: PublicKey,
    /// The key in its canonical form, without a comment.
    text: String,
}

#[derive(Clone)]
enum PublicKey {
    X25519(age::x25519::Recipient),
    Ssh(ssh::Recipient),
}

impl Recipient {
    fn of_ssh(key: ssh::Recipient) -> Result<Recipient, String> {
        match &key {
            ssh::Recipient::SshEd25519(..) => {
                let text = key.to_string();
                Ok(Recipient { key: PublicKey::Ssh(key), text })
            }
            ssh::Recipient::SshRsa(..) => {
                Err("it is an RSA key; use an ssh-ed25519 key or an age key".into())
            }
        }
    }

    fn of_x25519(key: age::x25519::Recipient) -> Recipient {
        let text = key.to_string();
        Recipient { key: PublicKey::X25519(key), text }
    }

    /// The first 16 hex digits of the SHA-256 of the key's text, which identify the key without containing it.
    pub fn fingerprint(&self) -> String {
        let hash = digest::digest(&digest::SHA256, self.text.as_bytes());
        hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Encrypts a file key to this recipient.
    fn wrap(&self, key: &FileKey) -> Result<Vec<Stanza>> {
        let wrapped = match &self.key {
            PublicKey::X25519(recipient) => age::Recipient::wrap_file_key(recipient, key),
            PublicKey::Ssh(recipient) => age::Recipient::wrap_file_key(recipient, key),
        };
        let failed = || format!("cannot encrypt to the recipient {}", self.fingerprint());
        wrapped.map(|(stanzas, _)| stanzas).map_err(|e| Error::failed(failed()).caused_by(e.to_string()))
    }
}

impl FromStr for Recipient {
    type Err = String;

    /// Parses `age1…` or `ssh-ed25519 …`. The error does not contain the text, which may be a secret key.
    fn from_str(text: &str) -> Result<Recipient, String> {
        let text = text.trim();
        if is_secret(text) {
            return Err(SECRET.into());
        }
        if text.starts_with("ssh-") {
            let damaged = |_| "it is not a complete ssh-ed25519 key".to_string();
            return Recipient::of_ssh(text.parse::<ssh::Recipient>().map_err(damaged)?);
        }
        text.parse().map(Recipient::of_x25519).map_err(|_| {
            "it is neither age1… (62 characters) nor ssh-ed25519 AAAA…, the two supported kinds of recipients".into()
        })
    }
}

/// Returns true if the text looks like a secret key of age or SSH, or a part of one.
fn is_secret(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    text.contains("AGE-SECRET-KEY") || text.contains("PRIVATE KEY") || text.contains("AGE-PLUGIN")
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The recipients of a backup, at least one. Each of their identities decrypts it.
#[derive(Debug, Clone)]
pub struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Parses a list of recipients. Repeated ones count once. Returns `None` for an empty list.
    ///
    /// # Errors
    /// Returns an error that names the number of the wrong recipient, from 1, and not the recipient itself.
    pub fn parse(texts: &[String]) -> Result<Option<Recipients>, String> {
        let mut all: Vec<Recipient> = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let parsed = text.parse::<Recipient>();
            let recipient = parsed.map_err(|why| format!("recipient {}: {why}", at + 1))?;
            if all.iter().all(|known| known.text != recipient.text) {
                all.push(recipient);
            }
        }
        Ok((!all.is_empty()).then_some(Recipients(all)))
    }

    /// The [fingerprints](Recipient::fingerprint) of all recipients.
    pub fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(Recipient::fingerprint).collect()
    }

    /// Encrypts a file key to every recipient: the stanzas of an age header.
    pub fn wrap(&self, key: &FileKey) -> Result<Vec<Stanza>> {
        let wrapped: Result<Vec<_>> = self.0.iter().map(|recipient| recipient.wrap(key)).collect();
        Ok(wrapped?.into_iter().flatten().collect())
    }
}

/// The identities of a file, at least one.
pub struct Identities {
    keys: Vec<Box<dyn age::Identity + Send + Sync>>,
    fingerprints: Vec<String>,
    path: PathBuf,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identities").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Identities {
    /// The fingerprints of the recipients of these identities.
    pub fn fingerprints(&self) -> &[String] {
        &self.fingerprints
    }

    /// The file that the identities are from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Decrypts the file key of an age file. `None` if no identity fits.
    pub fn unwrap(&self, stanzas: &[Stanza]) -> Option<FileKey> {
        self.keys.iter().find_map(|key| key.unwrap_stanzas(stanzas)?.ok())
    }
}

/// A file with identities: the lines of age-keygen, an SSH key (ed25519), or an age file that is encrypted with a passphrase and
/// contains one of these.
pub struct IdentityFile {
    path: PathBuf,
    content: IdentityContent,
}

enum IdentityContent {
    Plain(Vec<u8>),
    /// An SSH key that is encrypted with a passphrase.
    Ssh(Box<ssh::EncryptedKey>),
    /// An age file that is encrypted with a passphrase.
    Age(Vec<u8>),
}

impl IdentityFile {
    /// Reads an identity file.
    ///
    /// # Errors
    /// Returns an error of the kind [`Kind::Key`] if the file cannot be read or is no identity file.
    pub fn read(path: &Path) -> Result<IdentityFile> {
        let (bytes, _) = read_named(path, LARGEST).map_err(|e| {
            let what = format!("cannot read the identity file {}", path.display());
            Error::new(Kind::Key, what)
                .caused_by(e)
                .hint("Name the file with the secret key in --identity or BACKUP_IDENTITY_FILE")
        })?;
        IdentityFile::of(path, bytes)
    }

    pub(crate) fn of(path: &Path, bytes: Vec<u8>) -> Result<IdentityFile> {
        let mut file = IdentityFile { path: path.to_path_buf(), content: IdentityContent::Plain(Vec::new()) };
        file.content = if is_age(&bytes) {
            IdentityContent::Age(bytes)
        } else if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            let read = ssh::Identity::from_buffer(bytes.trim_ascii_start(), None);
            match read.map_err(|_| file.wrong("it is not a complete key of SSH"))? {
                ssh::Identity::Unencrypted(_) => IdentityContent::Plain(bytes),
                ssh::Identity::Encrypted(key) => IdentityContent::Ssh(Box::new(key)),
                ssh::Identity::Unsupported(_) => {
                    let why = "its encryption is not supported; `ssh-keygen -p` encrypts it anew";
                    return Err(file.wrong(why));
                }
            }
        } else {
            IdentityContent::Plain(bytes)
        };
        Ok(file)
    }

    /// Returns true if [`identities`](IdentityFile::identities) needs a passphrase.
    pub fn needs_passphrase(&self) -> bool {
        !matches!(self.content, IdentityContent::Plain(_))
    }

    /// The identities in the file. A passphrase is ignored if the file needs none.
    ///
    /// # Errors
    /// Returns an error of the kind [`Kind::Key`] if the passphrase is wrong or missing, or if there is no identity.
    pub fn identities(&self, passphrase: Option<Secret>) -> Result<Identities> {
        let given = || passphrase.clone().ok_or_else(|| self.wrong("it needs a passphrase"));
        match &self.content {
            IdentityContent::Plain(bytes) => self.parse(bytes),
            IdentityContent::Ssh(key) => {
                let open = key.decrypt(given()?).map_err(|_| self.wrong(WRONG_PASSPHRASE))?;
                self.of_ssh(ssh::Identity::from(open))
            }
            IdentityContent::Age(bytes) => self.parse(&self.decrypted(bytes, given()?)?),
        }
    }

    fn wrong(&self, why: &str) -> Error {
        let what = format!("the identity file {} cannot be used: {why}", self.path.display());
        Error::new(Kind::Key, what).hint(
            "An identity file has lines AGE-SECRET-KEY-1…, as `uzima-backup keygen` and age-keygen write them, or an ed25519 \
             key of SSH",
        )
    }

    /// Decrypts an age file with its passphrase.
    fn decrypted(&self, bytes: &[u8], passphrase: Secret) -> Result<Vec<u8>> {
        let damaged = |e: DecryptError| self.wrong(&format!("it is a damaged age file ({e})"));
        let decryptor = Decryptor::new(ArmoredReader::new(bytes)).map_err(damaged)?;
        if !decryptor.is_scrypt() {
            return Err(self.wrong("it is encrypted to a recipient, and not with a passphrase"));
        }
        let mut key = age::scrypt::Identity::new(passphrase);
        key.set_max_work_factor(WORK);
        let plain = decryptor.decrypt(std::iter::once(&key as &dyn age::Identity)).map_err(|e| match e {
            DecryptError::ExcessiveWork { .. } => self.wrong("its passphrase takes too much work to check"),
            _ => self.wrong(WRONG_PASSPHRASE),
        })?;
        let mut out = Vec::new();
        let read = Limited::new(plain, LARGEST, "the identity file").read_to_end(&mut out);
        read.map_err(|e| self.wrong(&e.to_string()))?;
        Ok(out)
    }

    fn parse(&self, bytes: &[u8]) -> Result<Identities> {
        let bytes = bytes.trim_ascii_start();
        if bytes.starts_with(b"-----BEGIN") {
            let read = ssh::Identity::from_buffer(bytes, None);
            return match read.map_err(|_| self.wrong("it is not a complete key of SSH"))? {
                key @ ssh::Identity::Unencrypted(_) => self.of_ssh(key),
                _ => Err(self.wrong("it is encrypted twice")),
            };
        }
        let text = std::str::from_utf8(bytes).map_err(|_| self.wrong("it is not text"))?;
        let mut found = Identities { keys: Vec::new(), fingerprints: Vec::new(), path: self.path.clone() };
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let not_one = || self.wrong(&format!("line {} is not an identity of age", n + 1));
            let key: age::x25519::Identity = line.parse().map_err(|_| not_one())?;
            found.fingerprints.push(Recipient::of_x25519(key.to_public()).fingerprint());
            found.keys.push(Box::new(key));
        }
        match found.keys.is_empty() {
            true => Err(self.wrong("it has no identity")),
            false => Ok(found),
        }
    }

    fn of_ssh(&self, key: ssh::Identity) -> Result<Identities> {
        let public = ssh::Recipient::try_from(key.clone());
        let public = public.map_err(|_| self.wrong("its public key is damaged"))?;
        let recipient = Recipient::of_ssh(public).map_err(|why| self.wrong(&why))?;
        let key: Box<dyn age::Identity + Send + Sync> = Box::new(key);
        Ok(Identities {
            keys: vec![key],
            fingerprints: vec![recipient.fingerprint()],
            path: self.path.clone(),
        })
    }
}

const WRONG_PASSPHRASE: &str = "the passphrase is wrong";

/// Returns true for the beginning of an age file, in binary or as text.
fn is_age(bytes: &[u8]) -> bool {
    bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
}

/// A new identity, as the text of an identity file, and its recipient.
pub fn generate(now: DateTime<Utc>) -> (Secret, Recipient) {
    let key = age::x25519::Identity::generate();
    let recipient = Recipient::of_x25519(key.to_public());
    let text = format!(
        "# created: {}\n# public key: {recipient}\n{}\n",
        now.to_rfc3339_opts(SecondsFormat::Secs, true),
        key.to_string().expose_secret()
    );
    (Secret::from(text), recipient)
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// The identities of a file with this text, which needs no passphrase.
    pub fn identities(text: &str) -> Identities {
        IdentityFile::of(Path::new("key.txt"), text.into()).unwrap().identities(None).unwrap()
    }

    /// A new identity as text, and its recipient.
    pub fn pair() -> (String, Recipients) {
        let (text, recipient) = generate(DateTime::UNIX_EPOCH);
        (text.expose_secret().into(), Recipients(vec![recipient]))
    }
}

#[cfg(test)]
mod tests;
