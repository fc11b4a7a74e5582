//! Checksums as S3 writes them: base64 of the big-endian value, in headers we fill in ourselves.
//!
//! Under `when_required` the SDK ignores an explicit algorithm but passes on an explicit value, and
//! under `when_supported` it would add CRC-32 trailers that some services refuse.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};

use crate::config::store::ChecksumMode;

/// The header values for one body; those that the mode does not want are `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub crc64nvme: Option<String>,
    pub crc32c: Option<String>,
    pub content_md5: Option<String>,
}

/// The sum of one body in the mode's algorithm.
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

    /// The sum of `body`, whose CRC-64/NVME is known.
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
    pub fn headers(self) -> Headers {
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

    /// The sum of a piece followed by one that is `len` bytes long.
    pub fn then(self, next: Sum, len: u64) -> Sum {
        match (self, next) {
            (Sum::Crc64Nvme(a), Sum::Crc64Nvme(b)) => {
                Sum::Crc64Nvme(crate::store::checksum::combine_crc64nvme(a, b, len))
            }
            (Sum::Crc32c(a), Sum::Crc32c(b)) => {
                let crc = crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, a.into(), b.into(), len);
                Sum::Crc32c(crc as u32)
            }
            _ => Sum::None,
        }
    }
}

/// The ETag of an object in parts: MD5 of the MD5s of its parts, and their number. `None` where a
/// part's ETag is no MD5 (services may choose others; with KMS encryption they always are).
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
