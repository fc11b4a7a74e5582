//! Signatures in the format of minisign (<https://jedisct1.github.io/minisign/>): Ed25519, of the BLAKE2b of a file.
//!
//! A signing key is secret: no error, log or output of this module contains a part of one.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use blake2::digest::consts::U32;
use blake2::{Blake2b, Blake2b512, Digest};

use crate::base::beneath::read_named;
use crate::base::error::{Error, Kind, Result};
use crate::base::secret::{ExposeSecret, Secret};

/// The largest file with a signing key in bytes.
const LARGEST_KEY: u64 = 4 << 10;
/// The largest signature in bytes. minisign writes trusted comments of at most 8 KiB.
pub const LARGEST_SIGNATURE: u64 = 16 << 10;

/// Ed25519, in keys, and in signatures of the file's bytes themselves.
const PURE: &[u8] = b"Ed";
/// Ed25519 of the BLAKE2b of a file, in signatures.
const HASHED: &[u8] = b"ED";
const UNTRUSTED: &str = "untrusted comment: ";
const TRUSTED: &str = "trusted comment: ";

/// The bytes of a decoded secret key: algorithm 2, key derivation 2, checksum's algorithm 2, salt 32, two limits of 8, then the
/// number 8, the seed 32, the public key 32 and the checksum 32.
const SECRET_LENGTH: usize = 158;
/// The beginning of a secret key that is not encrypted: the algorithm, no key derivation, BLAKE2b.
const UNENCRYPTED: &[u8] = b"Ed\0\0B2";
const NUMBER: usize = 54;

/// The random number of a key pair, which a signature names.
type KeyNumber = [u8; 8];

/// A public key of minisign.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    number: KeyNumber,
    key: [u8; 32],
}

impl PublicKey {
    /// The key's number as minisign prints it.
    pub fn number(&self) -> String {
        shown(&self.number)
    }
}

fn shown(number: &KeyNumber) -> String {
    format!("{:016X}", u64::from_le_bytes(*number))
}

impl FromStr for PublicKey {
    type Err = String;

    /// Parses `RW…`, the second line of a file of minisign. The error does not contain the text, which may be a secret key.
    fn from_str(text: &str) -> Result<PublicKey, String> {
        let text = text.trim();
        let decoded = BASE64.decode(text).ok();
        let upper = text.to_ascii_uppercase();
        let secret = ["SECRET KEY", "AGE-SECRET-KEY", "PRIVATE KEY"].iter().any(|word| upper.contains(word));
        if secret || decoded.as_ref().is_some_and(|bytes| bytes.starts_with(PURE) && bytes.len() > 42) {
            return Err(
                "it is a secret key, and trusted keys are public: anybody who reads the settings could sign \
                        forged backups"
                    .into(),
            );
        }
        let wrong = "it is not a public key of minisign, which begins with RW and has 56 characters";
        let bytes: [u8; 42] = decoded.and_then(|bytes| bytes.try_into().ok()).ok_or(wrong)?;
        match bytes.split_first_chunk::<10>() {
            Some((begin, key)) if begin.starts_with(PURE) => {
                let (mut number, mut bytes) = ([0; 8], [0; 32]);
                number.copy_from_slice(&begin[2..]);
                bytes.copy_from_slice(key);
                Ok(PublicKey { number, key: bytes })
            }
            _ => Err(wrong.into()),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode([PURE, &self.number, &self.key].concat()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret key of minisign.
pub struct SigningKey {
    number: KeyNumber,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&shown(&self.number)).finish()
    }
}

impl SigningKey {
    /// Reads the file of a secret key that is not encrypted.
    ///
    /// # Errors
    /// Returns an error of the kind [`Kind::Key`] if the file cannot be read or has no such key.
    pub fn read(path: &Path) -> Result<SigningKey> {
        let what = |why: &str| format!("cannot use the signing key {}{why}", path.display());
        let (bytes, _) = read_named(path, LARGEST_KEY).map_err(|e| {
            Error::new(Kind::Key, what(""))
                .caused_by(e)
                .hint("Name the file that `uzima-backup keygen --signing` wrote in BACKUP_SIGNING_KEY_FILE")
        })?;
        let text = Secret::from(String::from_utf8_lossy(&bytes).into_owned());
        SigningKey::parse(text.expose_secret()).map_err(|why| {
            Error::new(Kind::Key, what(&format!(": {why}")))
                .hint("Make a key with `uzima-backup keygen --signing`, or with `minisign -G -W`")
        })
    }

    fn parse(text: &str) -> Result<SigningKey, &'static str> {
        const WRONG: &str = "it is not a secret key of minisign";
        let mut lines = text.lines();
        let line = lines.next().filter(|line| line.starts_with(UNTRUSTED)).and_then(|_| lines.next());
        let bytes = BASE64.decode(line.ok_or(WRONG)?.trim()).map_err(|_| WRONG)?;
        if bytes.len() != SECRET_LENGTH || !bytes.starts_with(PURE) {
            return Err(WRONG);
        }
        if !bytes.starts_with(UNENCRYPTED) {
            return Err("it is protected by a passphrase, which nobody types at night");
        }
        let (key, checksum) = bytes[NUMBER..].split_at(72);
        // minisign leaves the checksum of an unencrypted key empty.
        if checksum.iter().any(|byte| *byte != 0) && checksum != key_checksum(key).as_slice() {
            return Err("it is damaged");
        }
        let (number, pair) = key.split_first_chunk::<8>().ok_or(WRONG)?;
        let (seed, public) = pair.split_at(32);
        let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| "it is damaged")?;
        Ok(SigningKey { number: *number, pair })
    }

    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey { number: self.number, key }
    }

    /// The text of a file `.minisig` for a file with these bytes. The signature covers `comment`, too, which has one line.
    pub fn sign(&self, bytes: &[u8], comment: &str) -> String {
        let signature = self.pair.sign(&Blake2b512::digest(bytes));
        let global = self.pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        format!(
            "{UNTRUSTED}signature from uzima-backup\n{}\n{TRUSTED}{comment}\n{}\n",
            BASE64.encode([HASHED, &self.number, signature.as_ref()].concat()),
            BASE64.encode(global)
        )
    }
}

/// The checksum of number, seed and public key.
fn key_checksum(key: &[u8]) -> Vec<u8> {
    Blake2b::<U32>::digest([PURE, key].concat()).to_vec()
}

/// A new key, as the text of a file for its secret part, and its public part.
///
/// # Errors
/// Returns an error if the machine gives no random numbers.
pub fn generate() -> Result<(Secret, PublicKey)> {
    let (mut number, mut seed) = ([0; 8], [0; 32]);
    rand::fill(&mut number)
        .and_then(|()| rand::fill(&mut seed))
        .map_err(|_| Error::failed("the machine gives no random numbers for a key"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
        .map_err(|_| Error::failed("the random numbers give no key"))?;
    let public = SigningKey { number, pair }.public();
    let key = [&number[..], &seed, &public.key].concat();
    let bytes = [UNENCRYPTED, &[0; NUMBER - 6], &key, &key_checksum(&key)].concat();
    let text =
        format!("{UNTRUSTED}secret key {} of uzima-backup\n{}\n", public.number(), BASE64.encode(bytes));
    Ok((Secret::from(text), public))
}

/// Checks the signature of a file. Returns the key that made it.
///
/// # Errors
/// Returns the reason why none of the keys made this signature of the file.
pub fn verify<'k>(keys: &'k [PublicKey], bytes: &[u8], signature: &[u8]) -> Result<&'k PublicKey, String> {
    let broken = || "it is not a signature of minisign".to_string();
    let text = std::str::from_utf8(signature).map_err(|_| broken())?;
    let lines: Vec<&str> = text.strip_suffix('\n').unwrap_or(text).split('\n').collect();
    let [untrusted, signed, comment, global] = lines[..] else { return Err(broken()) };
    let comment = comment.strip_prefix(TRUSTED).filter(|_| untrusted.starts_with(UNTRUSTED));
    let comment = comment.ok_or_else(broken)?;
    let signed: [u8; 74] = BASE64.decode(signed).ok().and_then(|b| b.try_into().ok()).ok_or_else(broken)?;
    let global = BASE64.decode(global).map_err(|_| broken())?;
    let (algorithm, rest) = signed.split_at(2);
    let (number, signature) = rest.split_at(8);
    let mut shown_number = [0; 8];
    shown_number.copy_from_slice(number);
    let key = keys.iter().find(|key| key.number == number);
    let key = key.ok_or_else(|| format!("the key {} made it, which is not trusted", shown(&shown_number)))?;
    let public = UnparsedPublicKey::new(&ED25519, &key.key);
    let valid = match algorithm {
        HASHED => public.verify(&Blake2b512::digest(bytes), signature),
        PURE => public.verify(bytes, signature),
        _ => return Err(broken()),
    };
    valid.map_err(|_| "it is not of this content".to_string())?;
    let whole = [signature, comment.as_bytes()].concat();
    public.verify(&whole, &global).map_err(|_| "its trusted comment was changed".to_string())?;
    Ok(key)
}

#[cfg(test)]
mod tests;
