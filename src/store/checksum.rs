//! Checksums of objects: CRC-64/NVME, which is computed for a whole from its parts, and the checksum headers
//! of S3.
//!
//! The polynomial is defined by the NVM Express specification; S3 calls it `CRC64NVME`. The CRC of two pieces
//! can be computed from their CRCs and the length of the second, so parts may be summed in any order. S3's
//! headers contain base64 of the big-endian value. The headers are set here, because the SDK ignores an
//! explicit algorithm under `when_required` but forwards an explicit value, and under `when_supported` it
//! would add CRC-32 trailers that some services refuse.

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

/// The length and checksum of a stored part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartSum {
    pub(super) len: u64,
    pub(super) crc64nvme: u64,
}

/// Compares the stored parts, in order, with the object that their writer sent.
///
/// # Errors
/// Returns an error that names the difference.
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
        crc = crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, crc, part.crc64nvme, part.len);
        size += part.len;
        count += 1;
    }
    if count != whole.parts {
        return Err(format!("{count} parts were stored, but {} were written", whole.parts));
    }
    if size != whole.size {
        return Err(format!(
            "{} were stored, but {} were written",
            several(size, "byte"),
            units::count(whole.size)
        ));
    }
    if count == 0 {
        return Err("no part was stored".into());
    }
    if crc != whole.crc64nvme {
        return Err(format!(
            "the CRC64NVME of the stored parts is {crc:016x}, but that of the written bytes is {:016x}",
            whole.crc64nvme
        ));
    }
    Ok(())
}

/// The header values for a body; `None` for headers that the mode does not use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ChecksumHeaders {
    pub(super) crc64nvme: Option<String>,
    pub(super) crc32c: Option<String>,
    pub(super) content_md5: Option<String>,
}

/// The checksum of a body, with the mode's algorithm; `None` for the mode without checksums.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BodySum(Option<(CrcAlgorithm, u64)>);

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
    pub(super) fn sum(self, body: &[u8], crc64nvme: u64) -> BodySum {
        BodySum(match self {
            ChecksumMode::Crc64Nvme => Some((CrcAlgorithm::Crc64Nvme, crc64nvme)),
            ChecksumMode::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, crc_fast::crc32_iscsi(body).into())),
            ChecksumMode::None => None,
        })
    }

    /// The headers for a body that is sent.
    pub(super) fn headers(self, body: &[u8], sum: BodySum) -> ChecksumHeaders {
        let content_md5 = (self == ChecksumMode::None).then(|| STANDARD.encode(Md5::digest(body)));
        ChecksumHeaders { content_md5, ..sum.headers() }
    }
}

impl BodySum {
    pub(super) fn headers(self) -> ChecksumHeaders {
        let mut headers = ChecksumHeaders::default();
        match self.0 {
            Some((CrcAlgorithm::Crc32Iscsi, crc)) => {
                headers.crc32c = Some(STANDARD.encode((crc as u32).to_be_bytes()));
            }
            Some((_, crc)) => headers.crc64nvme = Some(STANDARD.encode(crc.to_be_bytes())),
            None => {}
        }
        headers
    }

    /// The checksum of a whole, from the checksums and lengths of its parts.
    pub(super) fn of_parts(parts: impl Iterator<Item = (BodySum, u64)>) -> BodySum {
        let sum = |whole: Option<(CrcAlgorithm, u64)>, (part, len): (BodySum, u64)| match (whole, part.0) {
            (Some((algorithm, crc)), Some((_, next))) => {
                Some((algorithm, crc_fast::checksum_combine(algorithm, crc, next, len)))
            }
            (_, first) => first,
        };
        BodySum(parts.fold(None, sum))
    }
}

/// The ETag of a multipart object: the MD5 of its parts' MD5s, and their number. `None` if the ETag of a part is
/// not an MD5, which is always the case with KMS encryption, and with some services.
pub(super) fn multipart_etag<'a>(parts: impl Iterator<Item = &'a str>) -> Option<String> {
    let (mut all, mut count) = (Md5::new(), 0);
    for etag in parts {
        let md5 = Some(etag.trim_matches('"')).filter(|hex| hex.len() == 32)?;
        all.update(u128::from_str_radix(md5, 16).ok()?.to_be_bytes());
        count += 1;
    }
    Some(format!("{:032x}-{count}", u128::from_be_bytes(all.finalize().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(bytes: &[u8]) -> PartSum {
        PartSum { len: bytes.len() as u64, crc64nvme: crc64nvme(bytes) }
    }

    /// The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
    #[test]
    fn crc64nvme_has_the_check_value() {
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
    fn checksum_headers_have_the_check_values() {
        let sum = ChecksumMode::Crc32c.sum(b"123456789", 0);
        assert_eq!(sum, BodySum(Some((CrcAlgorithm::Crc32Iscsi, 0xe3069283))));
        assert_eq!(sum.headers().crc32c.as_deref(), Some("4waSgw=="));
        let first = ChecksumMode::Crc32c.sum(b"1234", 0);
        let second = ChecksumMode::Crc32c.sum(b"56789", 0);
        assert_eq!(BodySum::of_parts([(first, 4), (second, 5)].into_iter()), sum);
        let none = ChecksumMode::None;
        assert_eq!(
            none.headers(b"abc", BodySum(None)).content_md5.as_deref(),
            Some("kAFQmDzST7DWlj99KOF/cg==")
        );
    }

    /// One part of `abc`: `md5(md5("abc"))-1`, computed with `printf abc | md5sum | xxd -r -p | md5sum`.
    #[test]
    fn a_multipart_etag_is_the_md5_of_the_parts_md5s() {
        let etag = multipart_etag(["\"900150983cd24fb0d6963f7d28e17f72\""].into_iter());
        assert_eq!(etag.as_deref(), Some("af5da9f45af7a300e3aded972f8ff687-1"));
        assert_eq!(multipart_etag(["not an md5"].into_iter()), None);
    }
}
