//! Checksums of objects: CRC-64/NVME, which is computed for a whole from its parts, and the checksum headers
//! of S3.
//!
//! The polynomial is defined by the NVM Express specification; S3 calls it `CRC64NVME`. The CRC of two pieces
//! follows from their CRCs and the second length, so parts may be summed in any order. S3's headers contain
//! base64 of the big-endian value. They are set here, because the SDK ignores an explicit algorithm under
//! `when_required` but forwards an explicit value, and under `when_supported` it would add CRC-32 trailers
//! that some services refuse.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};

use super::Whole;
use crate::base::units::{self, several};
use crate::config::store::ChecksumMode;

/// CRC-64/NVME of `bytes`.
pub fn crc64nvme(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

/// CRC-64/NVME of a piece with sum `first`, followed by a piece with sum `second` of `second_len` bytes.
fn combine_crc64nvme(first: u64, second: u64, second_len: u64) -> u64 {
    crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, first, second, second_len)
}

/// The length and checksum of a stored part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartSum {
    pub(super) len: u64,
    pub(super) crc64nvme: u64,
}

/// Compares the stored parts, in order, with the object that their writer sent.
///
/// # Errors
/// Returns a text that names the difference.
pub(super) fn agree(
    parts: impl IntoIterator<Item = (u32, PartSum)>,
    part_size: u64,
    whole: &Whole,
) -> Result<(), String> {
    let (mut count, mut size, mut crc, mut short) = (0u32, 0u64, 0u64, None);
    for (index, part) in parts {
        if index != count {
            return Err(format!("part {count} was never stored"));
        }
        if let Some(short) = short {
            return Err(format!("part {short} is shorter than {part_size} bytes and is not the last"));
        }
        if part.len != part_size {
            short = Some(index);
        }
        crc = if count == 0 { part.crc64nvme } else { combine_crc64nvme(crc, part.crc64nvme, part.len) };
        size += part.len;
        count += 1;
    }
    if count != whole.parts {
        return Err(format!("{count} parts were stored, {} were written", whole.parts));
    }
    if size != whole.size {
        return Err(format!(
            "{} were stored, {} were written",
            several(size, "byte"),
            units::count(whole.size)
        ));
    }
    if count == 0 {
        return Err("no part was stored".into());
    }
    if crc != whole.crc64nvme {
        return Err(format!(
            "the CRC64NVME of the stored parts is {crc:016x}, of the written bytes {:016x}",
            whole.crc64nvme
        ));
    }
    Ok(())
}

/// The header values for a body; `None` for headers that the mode does not use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) crc64nvme: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) content_md5: Option<String>,
}

/// The checksum of a body in the mode's algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Crc64Nvme(u64),
    Crc32c(u32),
    None,
}

impl ChecksumMode {
    pub(super) fn algorithm(self) -> Option<ChecksumAlgorithm> {
        match self {
            ChecksumMode::Crc64Nvme => Some(ChecksumAlgorithm::Crc64Nvme),
            ChecksumMode::Crc32c => Some(ChecksumAlgorithm::Crc32C),
            ChecksumMode::None => None,
        }
    }

    pub(super) fn checksum_type(self) -> Option<ChecksumType> {
        self.algorithm().map(|_| ChecksumType::FullObject)
    }

    /// Computes the checksum of `body`, whose CRC-64/NVME is known.
    pub(super) fn sum(self, body: &[u8], crc64nvme: u64) -> Sum {
        match self {
            ChecksumMode::Crc64Nvme => Sum::Crc64Nvme(crc64nvme),
            ChecksumMode::Crc32c => Sum::Crc32c(crc_fast::crc32_iscsi(body)),
            ChecksumMode::None => Sum::None,
        }
    }

    /// The headers for a body that is sent.
    pub(super) fn headers(self, body: &[u8], sum: Sum) -> Headers {
        let content_md5 = (self == ChecksumMode::None).then(|| STANDARD.encode(Md5::digest(body)));
        Headers { content_md5, ..sum.headers() }
    }
}

impl Sum {
    pub(super) fn headers(self) -> Headers {
        match self {
            Sum::Crc64Nvme(crc) => {
                Headers { crc64nvme: Some(STANDARD.encode(crc.to_be_bytes())), ..Headers::default() }
            }
            Sum::Crc32c(crc) => {
                Headers { crc32c: Some(STANDARD.encode(crc.to_be_bytes())), ..Headers::default() }
            }
            Sum::None => Headers::default(),
        }
    }

    /// The checksum of this piece followed by another of `len` bytes.
    pub(super) fn then(self, next: Sum, len: u64) -> Sum {
        match (self, next) {
            (Sum::Crc64Nvme(a), Sum::Crc64Nvme(b)) => Sum::Crc64Nvme(combine_crc64nvme(a, b, len)),
            (Sum::Crc32c(a), Sum::Crc32c(b)) => {
                let crc = crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, a.into(), b.into(), len);
                Sum::Crc32c(crc as u32)
            }
            _ => Sum::None,
        }
    }
}

/// The ETag of a multipart object: the MD5 of its parts' MD5s, and their number. `None` if a part's ETag is
/// no MD5, which is always so with KMS encryption, and with some services.
pub(super) fn multipart_etag<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let (mut all, mut count) = (Md5::new(), 0);
    for etag in parts {
        all.update(unhex(etag.trim_matches('"'))?);
        count += 1;
    }
    let hex: String = all.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Some(format!("{hex}-{count}"))
}

fn unhex(hex: &str) -> Option<[u8; 16]> {
    if hex.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: &[u8]) -> PartSum {
        PartSum { len: bytes.len() as u64, crc64nvme: crc64nvme(bytes) }
    }

    /// The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
    #[test]
    fn check_value() {
        assert_eq!(crc64nvme(b"123456789"), 0xae8b14860a799888);
    }

    #[test]
    fn parts_must_agree_with_the_whole() {
        let whole = Whole { size: 9, crc64nvme: crc64nvme(b"123456789"), parts: 3 };
        let parts = [(0, part(b"1234")), (1, part(b"5678")), (2, part(b"9"))];
        assert_eq!(agree(parts, 4, &whole), Ok(()));
        assert!(agree(parts, 4, &Whole { size: 8, ..whole }).unwrap_err().contains("9 bytes"));
        assert!(agree(parts, 4, &Whole { crc64nvme: 1, ..whole }).unwrap_err().contains("CRC64NVME"));
        assert!(agree(parts, 4, &Whole { parts: 4, ..whole }).unwrap_err().contains("3 parts"));
        let holed = [(0, part(b"1234")), (2, part(b"9"))];
        assert!(agree(holed, 4, &whole).unwrap_err().contains("part 1"));
        let short = [(0, part(b"123")), (1, part(b"4567"))];
        assert!(agree(short, 4, &whole).unwrap_err().contains("part 0 is shorter"));
        assert!(agree([], 4, &Whole { size: 0, crc64nvme: 0, parts: 0 }).is_err());
    }

    /// Check values of the catalogue of parametrised CRC algorithms, and RFC 1321's MD5.
    #[test]
    fn values() {
        let sum = ChecksumMode::Crc32c.sum(b"123456789", 0);
        assert_eq!(sum, Sum::Crc32c(0xe3069283));
        assert_eq!(sum.headers().crc32c.as_deref(), Some("4waSgw=="));
        let first = ChecksumMode::Crc32c.sum(b"1234", 0);
        assert_eq!(first.then(ChecksumMode::Crc32c.sum(b"56789", 0), 5), sum);
        let none = ChecksumMode::None;
        assert_eq!(none.headers(b"abc", Sum::None).content_md5.as_deref(), Some("kAFQmDzST7DWlj99KOF/cg=="));
    }

    /// One part of `abc`: `md5(md5("abc"))-1`, computed with `printf abc | md5sum | xxd -r -p | md5sum`.
    #[test]
    fn etag() {
        let etag = multipart_etag(["\"900150983cd24fb0d6963f7d28e17f72\""].into_iter());
        assert_eq!(etag.as_deref(), Some("af5da9f45af7a300e3aded972f8ff687-1"));
        assert_eq!(multipart_etag(["not an md5"].into_iter()), None);
    }
}
