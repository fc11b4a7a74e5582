//! The data path of one attempt: a thread that reads and packs, compressors, a thread that writes, and the upload of the
//! finished parts on the async runtime.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, FusedFuture};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::place::BackupPlace;
use super::preflight::Preflight;
use super::{BackupOptions, Resources};
use crate::artifact::level::AutoLevel;
use crate::artifact::out::Out;
use crate::artifact::pack::{BLOCK, Decode, Encode, Packer, Pool};
use crate::artifact::parts::ArtifactPart;
use crate::artifact::seal::Sealing;
use crate::artifact::writer::{self, ArtifactSpec, WrittenArtifact};
use crate::base::cancel::{Cancel, LastStep};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::base::units;
use crate::base::waits::{Waits, WaitsFor};
use crate::catalog::layout;
use crate::config::JobSettings;
use crate::config::choices::{Codec, Container};
use crate::config::store::Limits;
use crate::dumpformat::Sink;
use crate::model::id::BackupId;
use crate::model::manifest::TOOL;
use crate::mongo::notes::Notes;
use crate::source::oplog::SliceBounds;
use crate::store::leftovers;
use crate::store::mirror::{Beginning, BegunUpload, MirroredUpload, at_once};
use crate::store::{StoreResult, Upload, UploadSpec};

/// Reads the source into a sink, and returns the times of the oplog slice if there is one. Blocks.
pub(super) type Reader = Box<dyn FnOnce(&mut dyn Sink) -> Result<Option<SliceBounds>> + Send>;

/// Runs the data path until everything is uploaded, but not completed. With a sealing, the artifact is encrypted, and if it is
/// `hashed`, its BLAKE3 is computed. The time in which a stage is blocked is added to `waits`.
///
/// # Errors
/// Returns the error of the step that failed first. If the run is cancelled, the reading thread gets time to end.
pub(super) async fn run(
    (spec, sealing, hashed): (ArtifactSpec, Option<Sealing>, bool),
    read: Reader,
    upload: &ArtifactUpload,
    settings: &JobSettings,
    meter: &Arc<Meter>,
    cancel: &Cancel,
    waits: &Waits,
) -> Result<(WrittenArtifact, Option<SliceBounds>)> {
    let (codec, check, compressors) = (spec.format.codec, settings.check_compression, settings.compressors);
    let crc64 = spec.format.container == Container::Archive;
    // Enough raw data that no compressor has to wait. The compressed data may take as much memory again.
    let budget = compressors * 4 * BLOCK;
    let decode = move || check.then(|| Box::new(move |bytes: &[u8]| codec.decode(bytes, u64::MAX)) as Decode);
    let sizes = (upload.part_size, upload.at_once);
    let auto = settings
        .auto_level
        .then(|| AutoLevel::new(codec, compressors, sizes, Meter::clone(meter), waits.clone()));
    let auto = auto.transpose()?;
    let encode = || auto.as_ref().map_or_else(|| encoder(codec), AutoLevel::encoder);
    let pool = Pool::start(compressors, budget, crc64, encode, decode)?;
    let measured = if settings.auto_level { MEASURED_FOR_LEVEL } else { MEASURED };
    let (parts, sending) = mpsc::channel(1);
    let mut out = Out::new(codec, sealing, upload.part_size, parts, waits.clone())?;
    if hashed {
        out.hash();
    }

    let (mut packer, steps) = Packer::new(pool, compressors * 16, waits.clone());
    let (read_to_end, written_to_end) = (waits.clone(), waits.clone());
    let mut reading = spawn("pack", move || {
        let bounds = read(&mut packer)?;
        packer.finish()?;
        // Nothing is read any more, so the rest of the time belongs to the stages that are not done yet.
        Ok((bounds, read_to_end.begin(WaitsFor::Compression)))
    })?
    .fuse();
    let written = meter.clone();
    let writing = spawn("write", move || {
        let written = writer::write(&steps, &spec, out, &written)?;
        Ok((written, written_to_end.begin(WaitsFor::Store)))
    })?;
    let all = async {
        let sending = send(&upload.parts, sending, upload.at_once, meter, measured);
        let (read, written, sent) = tokio::join!(&mut reading, writing, sending);
        // With this, the waits for the last stages end.
        let ((mut written, _), (bounds, _)) = first_cause(ended(read), ended(written), sent)?;
        written.mean_level = auto.as_ref().map(|auto| auto.mean());
        Ok((written, bounds))
    };
    tokio::select! {
        outcome = all => outcome,
        () = cancel.token().cancelled() => {
            // A child process must not outlive the run. The receiver must not be polled again after the reading ended.
            if !reading.is_terminated() {
                let _ = cancel.within(LastStep::Reading, &mut reading).await;
            }
            Err(Error::aftermath("the run was cancelled"))
        }
    }
}

fn encoder(codec: Codec) -> Result<Encode> {
    let mut encoder = codec.encoder()?;
    Ok(Box::new(move |raw, out| encoder.encode(raw, out)))
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<oneshot::Receiver<Result<T>>> {
    let (answer, answered) = oneshot::channel();
    thread::Builder::new()
        .name(name.into())
        .spawn(move || {
            // The receiver is gone if the run was cancelled.
            let _ = answer.send(work());
        })
        .map_err(|e| Error::failed(format!("cannot start the thread '{name}'")).caused_by(e))?;
    Ok(answered)
}

fn ended<T>(answer: Result<Result<T>, oneshot::error::RecvError>) -> Result<T> {
    answer.unwrap_or_else(|_| Err(Error::failed("a thread of the data path panicked")))
}

/// Returns the error that caused the others, if a step failed.
fn first_cause<R, W>(read: Result<R>, written: Result<W>, sent: Result<()>) -> Result<(W, R)> {
    match (read, written, sent) {
        (Ok(read), Ok(written), Ok(())) => Ok((written, read)),
        (read, written, sent) => {
            let mut errors: Vec<Error> =
                [sent.err(), read.err(), written.err()].into_iter().flatten().collect();
            let first = errors.iter().position(|e| e.kind() != Kind::Aftermath).unwrap_or(0);
            Err(errors.swap_remove(first))
        }
    }
}

pub(super) struct ArtifactUpload {
    /// Into all places of the run, in their order.
    pub parts: Arc<MirroredUpload>,
    /// The size of the parts in bytes.
    pub part_size: u64,
    /// The number of parts that are sent at once.
    at_once: usize,
}

impl ArtifactUpload {
    /// Begins the upload of a backup's artifact to all places.
    ///
    /// # Errors
    /// Returns an error if it can begin at no place.
    pub async fn begin(
        resources: &Resources,
        options: &BackupOptions,
        known: &Preflight,
        id: &BackupId,
    ) -> Result<ArtifactUpload> {
        let raw = known.description.raw_bytes;
        // Without a raw size, the artifact is assumed to need at most twice the space on the server's disk.
        let most = raw.or(known.description.disk_bytes.map(|bytes| bytes.saturating_mul(2)));
        let part_size = part_size(common_limits(resources), most)?;
        let last = known.before.as_deref().map(|m| (m.totals.raw_bytes, m.artifact.size));
        let spec = UploadSpec {
            key: layout::artifact(id, options.settings.format, options.settings.recipients.is_some()),
            part_size,
            estimate: expected_size(raw, last),
            metadata: vec![
                ("backup-id".into(), id.to_string()),
                ("job".into(), options.settings.job.clone()),
                ("tool".into(), TOOL.into()),
            ],
            probe: false,
        };
        log::debug!("the artifact is {}, sent in parts of {part_size} bytes", spec.key);
        let at_once = |place: &BackupPlace| at_once(place.uploads, part_size);
        let beginning = |place: &BackupPlace| Beginning {
            begin: begin_at(place.clone(), spec.clone(), resources.notes.clone(), options, id),
            at_once: at_once(place),
        };
        let parts =
            MirroredUpload::begin(resources.places.iter().map(beginning), options.settings.copy_memory)
                .await?;
        let at_once = resources.places.iter().map(at_once).max().unwrap_or(1);
        Ok(ArtifactUpload { parts: Arc::new(parts), part_size, at_once })
    }

    /// Aborts the uploads of a failed attempt that are not complete.
    pub async fn abort(&self) {
        // Its failures are logged.
        let _ = self.parts.abort().await;
    }
}

/// The limits that every place accepts.
fn common_limits(resources: &Resources) -> Limits {
    let mut limits = resources.places.iter().map(|place| place.store.limits());
    let first = limits.next().unwrap_or_default();
    limits.fold(first, |a, b| Limits {
        min_part: a.min_part.max(b.min_part),
        max_part: a.max_part.min(b.max_part),
        max_parts: a.max_parts.min(b.max_parts),
    })
}

/// Begins the upload to one place.
fn begin_at(
    place: BackupPlace,
    spec: UploadSpec,
    notes: Notes,
    options: &BackupOptions,
    id: &BackupId,
) -> BoxFuture<'static, StoreResult<BegunUpload>> {
    // The markers of all places are in one folder.
    let (name, state_dir) = (format!("{id}.{}", place.name), options.settings.state_dir.clone());
    let begin = async move {
        let upload = place.store.begin(&spec).await?;
        let marker = match &state_dir {
            Some(state) => leftovers::remember(state, &name, &place.store.place(), &spec.key, upload.id()),
            None => Err(Error::failed("there is no state directory")),
        };
        let marker = marker.map_err(|e| {
            notes.add(format!("if this run is killed, the next run will not find its upload: {}", e.chain()))
        });
        Ok(BegunUpload { upload, marker: marker.ok() })
    };
    Box::pin(begin)
}

/// How often the meter is updated.
const MEASURED: Duration = Duration::from_secs(1);
/// How often the meter is updated if the compression level follows the line.
const MEASURED_FOR_LEVEL: Duration = Duration::from_millis(100);

/// Sends all parts, up to `at_once` at a time. A part is taken from the queue only when it can be sent, which bounds the
/// memory.
async fn send(
    upload: &Arc<MirroredUpload>,
    mut parts: mpsc::Receiver<ArtifactPart>,
    at_once: usize,
    meter: &Meter,
    measured: Duration,
) -> Result<()> {
    let mut sending: JoinSet<Result<u64>> = JoinSet::new();
    let mut measured = tokio::time::interval(measured);
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
        meter.take(taken + upload.under_way(), sending.len());
    }
    Ok(())
}

/// The size in bytes of every part but the last. `estimate` raw bytes fit into nine tenths of the parts that an upload may
/// have, so that there is room for data that is written during the backup.
fn part_size(limits: Limits, estimate: Option<u64>) -> Result<u64> {
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

/// The expected stored size of `raw` bytes, from the raw and stored bytes of the last backup; without one a third, a usual
/// ratio for text and numbers. With it, a disk that is too small is found before hours of reading.
fn expected_size(raw: Option<u64>, last: Option<(u64, u64)>) -> Option<u64> {
    let (last_raw, last_stored) = last.filter(|(raw, _)| *raw > 0).unwrap_or((3, 1));
    raw.map(|raw| (u128::from(raw) * u128::from(last_stored) / u128::from(last_raw)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_stored_size_is_expected_from_the_last_backup() {
        assert_eq!(expected_size(None, Some((10, 5))), None);
        assert_eq!(expected_size(Some(900), None), Some(300));
        assert_eq!(expected_size(Some(900), Some((0, 0))), Some(300));
        assert_eq!(expected_size(Some(1 << 62), Some((100, 101))), Some(((1u128 << 62) * 101 / 100) as u64));
    }
}
