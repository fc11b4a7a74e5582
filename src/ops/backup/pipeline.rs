//! The data path of one attempt: a thread that reads and packs, compressors, a thread that writes, and
//! the upload on the async runtime.

use std::sync::Arc;
use std::thread;

use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use tokio::sync::{mpsc, oneshot};

use super::upload;
use crate::artifact::pack::{BLOCK, Decode, Encode, Packer, Pool};
use crate::artifact::parts::Out;
use crate::artifact::writer::{self, ArtifactSpec, WrittenArtifact};
use crate::base::cancel::{Cancel, LastStep};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::config::choices::Codec;
use crate::config::choices::Container;
use crate::dumpformat::Sink;
use crate::source::oplog::SliceBounds;
use crate::store::Upload;

/// How the data path is laid out.
#[derive(Debug, Clone)]
pub struct Layout {
    /// What the writer must know.
    pub spec: ArtifactSpec,
    /// The size of a part in bytes.
    pub part_size: u64,
    /// How many parts are sent at once.
    pub uploads: usize,
    /// How many threads compress.
    pub compressors: usize,
    /// Whether each block is decompressed again and compared.
    pub check: bool,
}

/// What reads the source into a sink, and says of what time the oplog slice is if it read one. Blocks.
pub type Reader = Box<dyn FnOnce(&mut dyn Sink) -> Result<Option<SliceBounds>> + Send>;

/// Runs the data path until everything is uploaded, but not completed.
///
/// # Errors
/// The error of the part that failed first. When the run is cancelled, that of the cancellation; the
/// reading thread has then ended, or was given time to.
pub async fn run(
    layout: Layout,
    read: Reader,
    upload: &Arc<dyn Upload>,
    meter: Arc<Meter>,
    cancel: &Cancel,
) -> Result<(WrittenArtifact, Option<SliceBounds>)> {
    let codec = layout.spec.format.codec;
    let crc64 = layout.spec.format.container == Container::Archive;
    // Enough that no compressor waits. What is compressed may be as large again.
    let budget = layout.compressors * 4 * BLOCK;
    let decode =
        move || layout.check.then(|| Box::new(move |bytes: &[u8]| codec.decode(bytes, u64::MAX)) as Decode);
    let pool = Pool::start(layout.compressors, budget, crc64, || encoder(codec), decode)?;
    let (parts, sending) = mpsc::channel(1);
    let out = Out::new(codec, layout.part_size, parts)?;

    let (mut packer, steps) = Packer::new(pool, layout.compressors * 16);
    let mut reading = spawn("pack", move || {
        let bounds = read(&mut packer)?;
        packer.finish().map(|()| bounds)
    })?
    .fuse();
    let spec = layout.spec;
    let sent = meter.clone();
    let writing = spawn("write", move || writer::write(&steps, &spec, out, &meter))?;
    let all = async {
        let (read, written, sent) =
            tokio::join!(&mut reading, writing, upload::send(upload, sending, layout.uploads, &sent));
        first_cause(ended(read), ended(written), sent)
    };
    tokio::select! {
        outcome = all => outcome,
        () = cancel.token().cancelled() => {
            // A child process must not outlive the run. Reading may have ended long before the upload
            // does: then there is nothing to wait for, and the answer must not be asked for twice.
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
            // Nobody waits any more when the run was cancelled.
            let _ = answer.send(work());
        })
        .map_err(|e| Error::failed(format!("cannot start the thread '{name}'")).caused_by(e))?;
    Ok(answered)
}

fn ended<T>(answer: Result<Result<T>, oneshot::error::RecvError>) -> Result<T> {
    answer.unwrap_or_else(|_| Err(Error::failed("a thread of the data path panicked")))
}

/// The error that the others follow from.
fn first_cause<R, W>(read: Result<R>, written: Result<W>, sent: Result<()>) -> Result<(W, R)> {
    let mut errors: Vec<Error> = Vec::new();
    errors.extend(sent.err());
    let (read, written) = match (read, written) {
        (Ok(read), Ok(written)) if errors.is_empty() => return Ok((written, read)),
        (read, written) => (read.err(), written.err()),
    };
    errors.extend(read);
    errors.extend(written);
    let first = errors.iter().position(|e| e.kind() != Kind::Aftermath).unwrap_or(0);
    Err(errors.swap_remove(first))
}
