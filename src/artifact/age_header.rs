//! The header of an age file, and the nonces of its chunks (<https://c2sp.org/age>, version 1).
//!
//! A file is a header, a nonce of 16 bytes, and chunks. The header has a stanza for each recipient, with the file key encrypted to
//! it, and a MAC. The key of the chunks is derived from the file key and the nonce. A chunk is 64 KiB of plaintext, sealed with
//! ChaCha20-Poly1305, and only the last chunk may be shorter. Its nonce is its number and whether it is the last one, so chunks
//! cannot be moved, repeated, left out or cut off unseen.

use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza, read};
use age_core::primitives::hkdf;
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::base::error::{Error, Result};
use crate::base::keys::{Identities, Recipients};
use crate::base::secret::ExposeSecret;

/// The first bytes of an age file.
pub const MAGIC: &[u8] = b"age-encryption.org/v1\n";
/// The plaintext of a chunk in bytes.
pub const CHUNK: usize = 64 << 10;
/// A whole chunk in bytes, as it is stored.
pub(super) const SEALED: usize = CHUNK + TAG;
/// The authentication tag at the end of each chunk in bytes.
pub(super) const TAG: usize = 16;
/// The nonce behind the header in bytes.
pub const NONCE: usize = 16;
/// The longest header that is read in bytes: about 500 recipients.
pub const LARGEST_HEADER: usize = 64 << 10;
/// The characters in a line of a stanza's body.
const COLUMNS: usize = 64;

/// The key of the chunks of one age file.
#[derive(Debug)]
pub struct ChunkKey(LessSafeKey);

impl ChunkKey {
    fn derive(file_key: &FileKey, nonce: &[u8; NONCE]) -> ChunkKey {
        let key = hkdf(nonce, b"payload", file_key.expose_secret());
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).expect("a key of ChaCha20 has 32 bytes");
        ChunkKey(LessSafeKey::new(key))
    }

    /// Encrypts a chunk in place and appends its tag.
    pub(super) fn seal(&self, nonce: [u8; 12], chunk: &mut Vec<u8>) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), chunk);
        chunk.extend_from_slice(tag.expect("a chunk is far shorter than the cipher allows").as_ref());
    }

    /// Decrypts a chunk with its tag in place. Returns the plaintext, or `None` if the chunk is damaged.
    pub(super) fn open<'a>(&self, nonce: [u8; 12], chunk: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), chunk).ok()
    }
}

/// The nonce of the chunk with this number, from 0: eleven bytes big-endian, and a byte that is 1 for the last chunk.
pub(super) fn chunk_nonce(number: u64, last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = last.into();
    nonce
}

/// Makes the header of a new age file with a new random file key. Returns the header, without the nonce; the nonce; and the key
/// of the chunks.
pub(super) fn create(recipients: &Recipients) -> Result<(Vec<u8>, [u8; NONCE], ChunkKey)> {
    let random = |bytes: &mut [u8]| {
        rand::fill(bytes).map_err(|_| Error::failed("the machine gives no random numbers for a key"))
    };
    let file_key = FileKey::try_init_with_mut(|key: &mut [u8; FILE_KEY_BYTES]| random(key))?;
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    let mut header = MAGIC.to_vec();
    recipients.wrap(&file_key)?.iter().for_each(|stanza| push_stanza(&mut header, stanza));
    header.extend_from_slice(b"---");
    let mac = hmac::sign(&mac_key(&file_key), &header);
    header.extend_from_slice(format!(" {}\n", STANDARD_NO_PAD.encode(mac)).as_bytes());
    let key = ChunkKey::derive(&file_key, &nonce);
    Ok((header, nonce, key))
}

fn mac_key(file_key: &FileKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &hkdf(&[], b"header", file_key.expose_secret()))
}

/// Writes `-> type arguments` and the body in lines of 64 characters, of which the last one is shorter.
fn push_stanza(header: &mut Vec<u8>, stanza: &Stanza) {
    let words = [&stanza.tag].into_iter().chain(&stanza.args);
    header.extend_from_slice(b"->");
    words.for_each(|word| header.extend_from_slice(format!(" {word}").as_bytes()));
    header.push(b'\n');
    let body = STANDARD_NO_PAD.encode(&stanza.body);
    let mut rest = body.as_bytes();
    while rest.len() >= COLUMNS {
        header.extend_from_slice(&rest[..COLUMNS]);
        header.push(b'\n');
        rest = &rest[COLUMNS..];
    }
    header.extend_from_slice(rest);
    header.push(b'\n');
}

/// Why an age file cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unopened {
    /// The file is damaged, or no age file of version 1.
    Damaged(String),
    /// No identity fits a recipient of the file.
    NoKey,
}

impl Unopened {
    pub(super) fn damaged(what: &str) -> Unopened {
        Unopened::Damaged(what.into())
    }
}

/// A parsed header whose MAC is not checked yet.
pub(super) struct AgeHeader {
    stanzas: Vec<Stanza>,
    mac: Vec<u8>,
    nonce: [u8; NONCE],
    /// The bytes that the MAC covers.
    covered: Vec<u8>,
    /// The length of the header in bytes, without the nonce.
    pub length: usize,
}

impl AgeHeader {
    /// Parses the header and the nonce at the beginning of a file. `begin` must be the whole file or have at least
    /// [`LARGEST_HEADER`] bytes.
    pub fn parse(begin: &[u8]) -> Result<AgeHeader, Unopened> {
        let wrong = || Unopened::damaged("its header is damaged");
        let Some(mut rest) = begin.strip_prefix(MAGIC) else {
            return Err(Unopened::damaged("it does not begin with the header of an age file"));
        };
        let mut stanzas = Vec::new();
        while rest.starts_with(b"-> ") {
            let (behind, stanza) = read::age_stanza(rest).map_err(|_| wrong())?;
            stanzas.push(Stanza::from(stanza));
            rest = behind;
        }
        let behind = rest.strip_prefix(b"---").ok_or_else(wrong)?;
        let covered = begin[..begin.len() - behind.len()].to_vec();
        let line = behind.strip_prefix(b" ").ok_or_else(wrong)?;
        let end = line.iter().position(|byte| *byte == b'\n').ok_or_else(wrong)?;
        let mac = STANDARD_NO_PAD.decode(&line[..end]).map_err(|_| wrong())?;
        let nonce = line[end + 1..].first_chunk().ok_or_else(wrong)?;
        let length = begin.len() - line.len() + end + 1;
        if stanzas.is_empty() || length + NONCE > LARGEST_HEADER {
            return Err(wrong());
        }
        Ok(AgeHeader { stanzas, mac, nonce: *nonce, covered, length })
    }

    /// Finds the key of the chunks with the identities, and checks the header.
    pub fn key(&self, identities: &Identities) -> Result<ChunkKey, Unopened> {
        let file_key = identities.unwrap(&self.stanzas).ok_or(Unopened::NoKey)?;
        hmac::verify(&mac_key(&file_key), &self.covered, &self.mac)
            .map_err(|_| Unopened::damaged("its header was changed"))?;
        Ok(ChunkKey::derive(&file_key, &self.nonce))
    }
}
