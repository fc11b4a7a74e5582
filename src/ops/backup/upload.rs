//! Sending finished parts to the store, several at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use crate::artifact::parts::ArtifactPart;
use crate::base::error::{Error, Result};
use crate::base::progress::Meter;
use crate::base::units;
use crate::store::Upload;

/// Bytes of parts that may be under way at once.
const IN_FLIGHT: u64 = 256 << 20;

/// How many parts of `part_size` bytes are sent at once, if `wanted` are.
pub fn concurrency(wanted: usize, part_size: u64) -> usize {
    wanted.min((IN_FLIGHT / part_size) as usize).max(1)
}

/// How often the meter gets to know what the store took.
const MEASURED: Duration = Duration::from_secs(1);

/// Sends parts until there are no more; a part is taken only when it can be sent, so that memory is
/// bounded by what is under way.
pub async fn send(
    upload: &Arc<dyn Upload>,
    mut parts: Receiver<ArtifactPart>,
    at_once: usize,
    meter: &Meter,
) -> Result<()> {
    let mut sending: JoinSet<Result<u64>> = JoinSet::new();
    let mut measured = tokio::time::interval(MEASURED);
    let (mut taken, mut more) = (0, true);
    while more || !sending.is_empty() {
        tokio::select! {
            part = parts.recv(), if more && sending.len() < at_once => match part {
                Some(part) => {
                    let upload = upload.clone();
                    sending.spawn(async move {
                        let bytes = part.body.len() as u64;
                        upload.put_part(part.index, part.body).await?;
                        Ok(bytes)
                    });
                }
                None => more = false,
            },
            Some(sent) = sending.join_next() => {
                let broken = "the upload of a part ended unexpectedly";
                taken += sent.map_err(|e| Error::failed(broken).caused_by(e))??;
            }
            _ = measured.tick() => {}
        }
        meter.take(taken + upload.under_way());
    }
    Ok(())
}

/// The size in bytes of every part but the last: large enough that `estimate` raw bytes fit into 9
/// of 10 of the parts an upload may have, so that a server which grew meanwhile still fits.
pub fn part_size(limits: crate::config::store::Limits, estimate: Option<u64>) -> Result<u64> {
    const MIB: u64 = 1 << 20;
    let parts = u64::from(limits.max_parts) * 9 / 10;
    let needed = estimate.unwrap_or(0).div_ceil(parts.max(1)).next_multiple_of(MIB);
    let size = needed.max(limits.min_part);
    if size > limits.max_part {
        return Err(Error::failed(format!(
            "about {} do not fit into one upload of {} parts of at most {}",
            units::bytes(estimate.unwrap_or(0)),
            units::count(limits.max_parts.into()),
            units::bytes(limits.max_part)
        ))
        .hint("Back up single databases: --db, BACKUP_DATABASES"));
    }
    Ok(size)
}

/// What `raw` bytes will take in the store: as they did in the last backup (`raw` and stored bytes), else
/// a third, which text and numbers reach. A disk that is too small is so found before hours of reading;
/// whether there is room is watched all the same.
pub fn expected_size(raw: Option<u64>, last: Option<(u64, u64)>) -> Option<u64> {
    let (last_raw, last_stored) = last.filter(|(raw, _)| *raw > 0).unwrap_or((3, 1));
    raw.map(|raw| (u128::from(raw) * u128::from(last_stored) / u128::from(last_raw)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::store::Limits;

    const LIMITS: Limits = Limits { min_part: 8 << 20, max_part: 5 << 30, max_parts: 10_000 };

    #[test]
    fn parts_grow_with_the_estimate() {
        assert_eq!(part_size(LIMITS, None).unwrap(), 8 << 20);
        assert_eq!(part_size(LIMITS, Some(1 << 30)).unwrap(), 8 << 20);
        let tib = 1u64 << 40;
        for estimate in [72 << 30, 100 << 30, tib, 40 * tib] {
            let size = part_size(LIMITS, Some(estimate)).unwrap();
            assert!(estimate.div_ceil(size) <= 9_000, "{estimate}");
            assert_eq!(size % (1 << 20), 0);
        }
        assert!(part_size(LIMITS, Some(50 * tib)).is_err());
        let few = Limits { min_part: 1 << 20, max_part: 5 << 30, max_parts: 20 };
        assert_eq!(part_size(few, Some(18 << 20)).unwrap(), 1 << 20);
        assert_eq!(part_size(few, Some(19 << 20)).unwrap(), 2 << 20);
    }

    #[test]
    fn the_last_backup_tells_how_much_is_stored() {
        assert_eq!(expected_size(None, Some((10, 5))), None);
        assert_eq!(expected_size(Some(900), None), Some(300));
        assert_eq!(expected_size(Some(900), Some((0, 0))), Some(300));
        assert_eq!(expected_size(Some(1 << 62), Some((100, 101))), Some(((1u128 << 62) * 101 / 100) as u64));
    }

    #[test]
    fn large_parts_are_fewer_at_once() {
        assert_eq!(concurrency(4, 8 << 20), 4);
        assert_eq!(concurrency(4, 100 << 20), 2);
        assert_eq!(concurrency(4, 1 << 30), 1);
    }
}
