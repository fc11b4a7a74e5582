//! Asking for the artifact from its first byte to its last, several requests at once, and handing it on
//! region by region.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm::Crc64Nvme;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc::Sender;

use crate::artifact::read::region::{Stream, Work};
use crate::artifact::read::regions::Region;
use crate::base::error::{Error, Result};
use crate::model::manifest::Manifest;
use crate::store::Store;

/// How much is asked for at once.
const REQUEST: u64 = 8 << 20;
/// How many requests are under way.
const REQUESTS: usize = 4;
/// How many raw pieces of a region may wait for the reader.
const WAITING: usize = 4;

/// What was read.
pub struct Fetched {
    /// How many bytes.
    pub bytes: u64,
    /// CRC-64/NVME of all of them.
    pub crc64nvme: u64,
}

/// Reads everything.
pub async fn all(
    store: &Arc<dyn Store>,
    manifest: &Manifest,
    regions: Vec<Region>,
    work: &Sender<Work>,
    streams: &SyncSender<Stream>,
) -> Result<Fetched> {
    let (key, size) = (manifest.artifact.key.as_str(), manifest.artifact.size);
    let ranges = (0..size.div_ceil(REQUEST)).map(|n| n * REQUEST..size.min((n + 1) * REQUEST));
    let mut answers = stream::iter(ranges).map(|range| store.get_range(key, range)).buffered(REQUESTS);
    let (mut digest, mut at, mut waiting) = (crc_fast::Digest::new(Crc64Nvme), 0, BytesMut::new());
    let mut regions = regions.into_iter();
    let mut next = regions.next();
    while let Some(answer) = answers.next().await {
        let mut bytes: Bytes = answer?;
        digest.update(&bytes);
        while let Some(region) =
            next.take_if(|region| at + (waiting.len() + bytes.len()) as u64 >= region.end)
        {
            let missing = (region.end - at) as usize - waiting.len();
            waiting.extend_from_slice(&bytes.split_to(missing));
            let whole = waiting.split().freeze();
            let (offset, end) = (at, region.end);
            let (raw, stream) = sync_channel(WAITING);
            // The reader of the stream takes as many as there are workers: this waits for them both.
            hand_on(streams, stream).await?;
            let work_on = Work { region, offset, bytes: whole, raw };
            work.send(work_on).await.map_err(|_| Error::aftermath("the workers ended"))?;
            at = end;
            next = regions.next();
        }
        waiting.extend_from_slice(&bytes);
    }
    Ok(Fetched { bytes: size, crc64nvme: digest.finalize() })
}

/// Puts a region's stream in the reader's row without blocking the runtime.
async fn hand_on(streams: &SyncSender<Stream>, stream: Stream) -> Result<()> {
    let streams = streams.clone();
    // The reader ends early when the structure is wrong; the hashes go on without it.
    let _ = tokio::task::spawn_blocking(move || streams.send(stream)).await;
    Ok(())
}
