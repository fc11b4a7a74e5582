//! Checksums, ETags and part lists, as Amazon S3 checks them.

use std::collections::BTreeMap;

use bytes::Bytes;
use s3s::crypto::{Checksum, Crc32c, Crc64Nvme, Md5};
use s3s::dto::{CompletedPart, ETag};
use s3s::{S3Result, s3_error};

use super::Limits;

/// The checksums in the headers of an object or part.
#[derive(Debug, Clone, Default)]
pub(super) struct Sums {
    pub crc64nvme: Option<String>,
    pub crc32c: Option<String>,
}

impl Sums {
    /// Computes the checksum of a body with the algorithm of its upload.
    pub fn of(algorithm: Option<&str>, body: &[u8]) -> Sums {
        match algorithm {
            Some("CRC64NVME") => {
                Sums { crc64nvme: Some(base64(&Crc64Nvme::checksum(body))), ..Sums::default() }
            }
            Some("CRC32C") => Sums { crc32c: Some(base64(&Crc32c::checksum(body))), ..Sums::default() },
            _ => Sums::default(),
        }
    }

    /// Computes the same checksums for another body.
    pub fn renewed(&self, body: &[u8]) -> Sums {
        let algorithm =
            self.crc64nvme.as_ref().map(|_| "CRC64NVME").or(self.crc32c.as_ref().map(|_| "CRC32C"));
        Sums::of(algorithm, body)
    }

    /// Compares the checksums of a request with its body.
    pub fn check(&self, body: &[u8]) -> S3Result<()> {
        let right = self.crc64nvme.as_ref().is_none_or(|sum| *sum == base64(&Crc64Nvme::checksum(body)))
            && self.crc32c.as_ref().is_none_or(|sum| *sum == base64(&Crc32c::checksum(body)));
        if right { Ok(()) } else { Err(s3_error!(BadDigest, "the checksum does not match the body")) }
    }
}

/// Compares `Content-MD5` with the body.
pub(super) fn content_md5(given: Option<&str>, body: &[u8]) -> S3Result<()> {
    match given {
        Some(given) if given != base64(&Md5::checksum(body)) => {
            Err(s3_error!(BadDigest, "Content-MD5 does not match the body"))
        }
        _ => Ok(()),
    }
}

/// The ETag of an object in one piece: its MD5.
pub(super) fn etag(body: &[u8]) -> String {
    hex(&Md5::checksum(body))
}

/// The ETag of an object in parts: the MD5 of their MD5s, and their number.
pub(super) fn multipart_etag(parts: &[Bytes]) -> String {
    let mut all = Md5::new();
    for part in parts {
        all.update(&Md5::checksum(part));
    }
    format!("{}-{}", hex(&all.finalize()), parts.len())
}

/// Returns the parts that a completion names, if they can become an object.
pub(super) fn parts(
    named: &[CompletedPart],
    stored: &BTreeMap<i32, Bytes>,
    limits: &Limits,
) -> S3Result<Vec<Bytes>> {
    if named.is_empty() {
        return Err(s3_error!(MalformedXML));
    }
    let (mut parts, mut last) = (Vec::new(), 0);
    for part in named {
        let number = part.part_number.unwrap_or(0);
        if number <= last {
            return Err(s3_error!(InvalidPartOrder));
        }
        last = number;
        let body = stored.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
        if part.e_tag.as_ref().map(ETag::value) != Some(etag(body).as_str()) {
            return Err(s3_error!(InvalidPart, "the ETag of part {number} is wrong"));
        }
        parts.push(body.clone());
    }
    let (first, rest) = (parts[0].len(), &parts[..parts.len() - 1]);
    if rest.iter().any(|part| part.len() < limits.min_part) {
        return Err(s3_error!(EntityTooSmall));
    }
    if limits.same_size && rest.iter().any(|part| part.len() != first) {
        return Err(s3_error!(InvalidPart, "all parts but the last must have the same size"));
    }
    Ok(parts)
}

/// Encodes a key for `encoding-type=url`.
pub(super) fn url(key: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    key.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Decodes the result of [`url`].
pub(super) fn undo_url(text: &str) -> S3Result<String> {
    let wrong = || s3_error!(InvalidArgument, "the continuation token is unknown");
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let hex = rest.get(..2).and_then(|h| std::str::from_utf8(h).ok()).ok_or_else(wrong)?;
            bytes.push(u8::from_str_radix(hex, 16).map_err(|_| wrong())?);
            rest = &rest[2..];
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, b| group << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
