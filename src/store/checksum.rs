//! CRC-64/NVME of objects: of a whole from its parts, without reading any byte twice.
//!
//! The polynomial is the one of the NVM Express specification, which S3 calls `CRC64NVME`; a CRC of
//! two pieces follows from theirs and the second's length, so parts may be summed in any order.

use crc_fast::CrcAlgorithm;

use crate::base::units;
use crate::base::units::several;

/// CRC-64/NVME of `bytes`.
pub fn crc64nvme(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

/// CRC-64/NVME of a first piece with sum `first`, followed by a piece with sum `second` that is
/// `second_len` bytes long.
pub fn combine_crc64nvme(first: u64, second: u64, second_len: u64) -> u64 {
    crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, first, second, second_len)
}

/// What is known of one stored part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartSum {
    /// Length in bytes.
    pub len: u64,
    /// CRC-64/NVME.
    pub crc64nvme: u64,
}

/// Compares the parts, in order, with the whole that their writer means to have sent. An error says
/// what differs.
pub(super) fn agree(
    parts: impl IntoIterator<Item = (u32, PartSum)>,
    part_size: u64,
    whole: &super::Whole,
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
            "the CRC64NVME of what was stored is {crc:016x}, of what was written {:016x}",
            whole.crc64nvme
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Whole;
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
    fn parts_make_the_whole() {
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
}
