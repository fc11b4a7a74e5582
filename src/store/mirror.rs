//! One upload into several stores, from parts that are made once.
//!
//! Each store has a lane of its own. [`put_part`](Upload::put_part) returns as soon as one store has the part, so the fastest store
//! decides the speed. The others keep a part in memory until they have sent it; also while their uploads begin. A store that fails
//! leaves the upload, and so does one that falls too far behind. Its upload is aborted, and the others go on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::leftovers::Marker;
use super::{StoreError, StoreErrorKind, StoreResult, Upload, Whole};
use crate::base::units;

/// How long one of several stores may take to abort its upload.
const ABORTING: Duration = Duration::from_secs(10);

/// One upload into several stores.
pub struct MirroredUpload {
    lanes: Vec<Arc<Lane>>,
    progress: Arc<Mutex<Progress>>,
    /// The most bytes that a store may fall behind.
    most_behind: u64,
    /// Ends all tasks when the upload is dropped.
    over: CancellationToken,
    _owner: Option<DropGuard>,
}

/// An upload that has begun in one store.
pub struct BegunUpload {
    pub upload: Arc<dyn Upload>,
    /// Lets the next run abort the upload if this run is killed.
    pub marker: Option<Marker>,
}

/// The upload that begins in one store.
pub struct Beginning {
    pub begin: BoxFuture<'static, StoreResult<BegunUpload>>,
    /// The number of parts that are sent at once.
    pub at_once: usize,
}

/// The upload into one store.
struct Lane {
    at: usize,
    /// Set when it has begun, with the marker that lets the next run abort it if this run is killed.
    upload: OnceLock<Arc<dyn Upload>>,
    marker: Mutex<Option<Marker>>,
    /// A part waits for a permit before it is sent.
    permits: Semaphore,
    /// Cancelled when the store leaves.
    left: CancellationToken,
    state: watch::Sender<LaneState>,
}

/// The state of a lane.
#[derive(Debug, Clone, Default)]
struct LaneState {
    begun: bool,
    /// The parts that are given and not stored.
    waiting: usize,
    end: Option<LaneEnd>,
}

/// How the upload into one store ended.
#[derive(Debug, Clone)]
pub enum LaneEnd {
    /// The object is complete.
    Whole,
    /// The store failed or fell behind, and has nothing.
    Left(StoreError),
}

/// The parts that some stores have and others do not.
#[derive(Debug, Default)]
struct Progress {
    /// The lanes that still wait for a part, its size, and whether a store has it.
    parts: BTreeMap<u32, (Vec<usize>, u64, bool)>,
    /// For each lane, the bytes that it has not stored and another one has.
    behind: Vec<u64>,
    /// The lane that was complete first.
    first: Option<usize>,
}

impl MirroredUpload {
    /// Begins one upload in several stores, and returns as soon as it has begun in one. A store that falls more than `most_behind`
    /// bytes behind the fastest one leaves.
    ///
    /// # Errors
    /// Returns an error if the upload cannot begin in any store.
    pub async fn begin(
        stores: impl IntoIterator<Item = Beginning>,
        most_behind: u64,
    ) -> StoreResult<MirroredUpload> {
        let (mut lanes, mut beginnings) = (Vec::new(), Vec::new());
        for (at, Beginning { begin, at_once }) in stores.into_iter().enumerate() {
            lanes.push(Arc::new(Lane {
                at,
                upload: OnceLock::new(),
                marker: Mutex::default(),
                permits: Semaphore::new(at_once),
                left: CancellationToken::new(),
                state: watch::Sender::default(),
            }));
            beginnings.push(begin);
        }
        let progress = Progress { behind: vec![0; lanes.len()], ..Progress::default() };
        let over = CancellationToken::new();
        let owner = Some(over.clone().drop_guard());
        let all = MirroredUpload {
            lanes,
            progress: Arc::new(Mutex::new(progress)),
            most_behind,
            over,
            _owner: owner,
        };
        let (done, any) = mpsc::channel(all.lanes.len().max(1));
        for (lane, begin) in all.lanes.iter().cloned().zip(beginnings) {
            let (shared, done) = (all.share(), done.clone());
            all.spawn(async move {
                match begin.await {
                    Ok(BegunUpload { upload, marker }) => {
                        *lock(&lane.marker) = marker;
                        let _ = lane.upload.set(upload.clone());
                        if lane.left.is_cancelled() {
                            lane.abort(&*upload, shared.aborting()).await;
                        }
                        lane.state.send_modify(|state| state.begun = true);
                        let _ = done.try_send(());
                    }
                    Err(error) => shared.leave(&lane, error),
                }
            });
        }
        drop(done);
        all.one_of(any).await?;
        Ok(all)
    }

    /// The place of the store that was complete first, in the order of the uploads.
    pub fn first(&self) -> Option<usize> {
        lock(&self.progress).first
    }

    /// Waits until the upload into one store has ended. The upload is completed or aborted.
    pub async fn ended(&self, at: usize) -> LaneEnd {
        let mut state = self.lanes[at].state.subscribe();
        let ended = state.wait_for(|state| state.end.is_some()).await;
        ended.ok().and_then(|state| state.end.clone()).unwrap_or_else(|| LaneEnd::Left(ended_early()))
    }

    fn live(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes.iter().filter(|lane| !lane.left.is_cancelled())
    }

    /// A store has a part. Stores that are too far behind now leave.
    fn stored(&self, lane: usize, index: u32) {
        let mut progress = lock(&self.progress);
        let Some((waiting, size, anywhere)) = progress.parts.get_mut(&index) else { return };
        if !waiting.contains(&lane) {
            return;
        }
        waiting.retain(|other| *other != lane);
        let (size, first, others) = (*size, !std::mem::replace(anywhere, true), waiting.clone());
        if others.is_empty() {
            progress.parts.remove(&index);
        }
        match first {
            true => others.iter().for_each(|other| progress.behind[*other] += size),
            false => progress.behind[lane] -= size,
        }
        let slow: Vec<usize> =
            others.into_iter().filter(|other| progress.behind[*other] > self.most_behind).collect();
        drop(progress);
        for at in slow {
            let cause = format!("it fell more than {} behind", units::bytes(self.most_behind));
            self.leave(&self.lanes[at], StoreError::failed("cannot keep up", cause));
        }
    }

    /// A store leaves. Its parts are dropped.
    fn leave(&self, lane: &Arc<Lane>, why: StoreError) {
        if lane.left.is_cancelled() {
            return;
        }
        lane.left.cancel();
        let mut progress = lock(&self.progress);
        progress.behind[lane.at] = 0;
        progress.parts.retain(|_, (waiting, ..)| {
            waiting.retain(|other| *other != lane.at);
            !waiting.is_empty()
        });
        drop(progress);
        let (lane, within) = (lane.clone(), self.aborting());
        self.spawn(async move {
            if let Some(upload) = lane.upload.get() {
                lane.abort(&**upload, within).await;
            }
            lane.state.send_modify(|state| state.end = Some(LaneEnd::Left(why)));
        });
    }

    /// How long a store may take to abort its upload, so that it does not hold up the others.
    fn aborting(&self) -> Option<Duration> {
        (self.lanes.len() > 1).then_some(ABORTING)
    }

    /// Waits until one store has done its work. If no store does, all have left.
    async fn one_of(&self, mut done: mpsc::Receiver<()>) -> StoreResult<()> {
        match done.recv().await {
            Some(()) => Ok(()),
            None => Err(self.failed().await),
        }
    }

    /// Waits until every upload has ended. Returns why a store left.
    async fn failed(&self) -> StoreError {
        let ends = join_all((0..self.lanes.len()).map(|at| self.ended(at))).await;
        let left = ends.into_iter().find_map(|end| match end {
            LaneEnd::Left(why) => Some(why),
            LaneEnd::Whole => None,
        });
        left.unwrap_or_else(ended_early)
    }

    fn share(&self) -> MirroredUpload {
        MirroredUpload {
            lanes: self.lanes.clone(),
            progress: self.progress.clone(),
            most_behind: self.most_behind,
            over: self.over.clone(),
            _owner: None,
        }
    }

    /// Starts a task that ends with the upload.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let over = self.over.clone();
        tokio::spawn(async move { over.run_until_cancelled(work).await });
    }
}

impl Lane {
    /// Waits until the upload has begun. Never returns if it cannot begin.
    async fn begun(&self) -> Arc<dyn Upload> {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| state.begun).await;
        match self.upload.get() {
            Some(upload) => upload.clone(),
            None => std::future::pending().await,
        }
    }

    /// Aborts the upload. `within` is how long that may take.
    async fn abort(&self, upload: &dyn Upload, within: Option<Duration>) {
        let aborted = match within {
            Some(within) => tokio::time::timeout(within, upload.abort()).await,
            None => Ok(upload.abort().await),
        };
        let why = match aborted {
            Ok(Ok(())) => return self.forget(),
            Ok(Err(e)) => e.to_string(),
            Err(_) => "the store does not answer".into(),
        };
        log::warn!("the unfinished upload could not be removed; the next run will try again: {why}");
    }

    /// The upload is over: the next run need not know it.
    fn forget(&self) {
        if let Some(marker) = lock(&self.marker).take() {
            marker.forget();
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ended_early() -> StoreError {
    StoreError::new(StoreErrorKind::Failed, "cannot upload", "the upload ended early")
}

#[async_trait]
impl Upload for MirroredUpload {
    fn id(&self) -> &str {
        self.live().find_map(|lane| lane.upload.get()).map_or("", |upload| upload.id())
    }

    fn under_way(&self) -> u64 {
        self.live().filter_map(|lane| lane.upload.get()).map(|upload| upload.under_way()).max().unwrap_or(0)
    }

    /// Returns as soon as one store has the part.
    async fn put_part(&self, index: u32, body: Bytes) -> StoreResult<()> {
        let (done, any) = mpsc::channel(self.lanes.len().max(1));
        let lanes: Vec<_> = self.live().cloned().collect();
        let waiting = lanes.iter().map(|lane| lane.at).collect();
        lock(&self.progress).parts.insert(index, (waiting, body.len() as u64, false));
        for lane in lanes {
            lane.state.send_modify(|state| state.waiting += 1);
            let (all, body, done) = (self.share(), body.clone(), done.clone());
            self.spawn(async move {
                let sent = async {
                    let _permit = lane.permits.acquire().await;
                    lane.begun().await.put_part(index, body).await
                };
                let sent = tokio::select! {
                    biased;
                    () = lane.left.cancelled() => return,
                    sent = sent => sent,
                };
                match sent {
                    Ok(()) => {
                        all.stored(lane.at, index);
                        // The receiver may be gone, because another store was faster.
                        let _ = done.try_send(());
                    }
                    Err(error) => all.leave(&lane, error),
                }
                lane.state.send_modify(|state| state.waiting -= 1);
            });
        }
        drop((done, body));
        self.one_of(any).await
    }

    /// Returns as soon as the object is complete in one store. The other stores go on.
    async fn complete(&self, whole: &Whole) -> StoreResult<()> {
        let (done, any) = mpsc::channel(self.lanes.len().max(1));
        for lane in self.live().cloned() {
            let (all, whole, done) = (self.share(), *whole, done.clone());
            self.spawn(async move {
                let mut state = lane.state.subscribe();
                let completed = async {
                    let _ = state.wait_for(|state| state.waiting == 0).await;
                    lane.begun().await.complete(&whole).await
                };
                let completed = tokio::select! {
                    biased;
                    () = lane.left.cancelled() => return,
                    completed = completed => completed,
                };
                match completed {
                    Ok(()) => {
                        lock(&all.progress).first.get_or_insert(lane.at);
                        lane.forget();
                        lane.state.send_modify(|state| state.end = Some(LaneEnd::Whole));
                        let _ = done.try_send(());
                    }
                    Err(error) => all.leave(&lane, error),
                }
            });
        }
        drop(done);
        self.one_of(any).await
    }

    /// Aborts the uploads that are not complete. A failure is logged.
    async fn abort(&self) -> StoreResult<()> {
        let unfinished = self.live().filter(|lane| lane.state.borrow().end.is_none());
        unfinished.for_each(|lane| self.leave(lane, ended_early()));
        self.failed().await;
        Ok(())
    }
}

/// The largest total size of the parts that are sent at once, in bytes.
const IN_FLIGHT: u64 = 256 << 20;

/// How many parts of `part_size` bytes are sent at once, at most `wanted`.
pub fn at_once(wanted: usize, part_size: u64) -> usize {
    wanted.min((IN_FLIGHT / part_size) as usize).max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use tokio::sync::Notify;

    use super::*;

    /// An upload whose parts wait until the gate opens.
    #[derive(Default)]
    struct Gated {
        open: watch::Sender<bool>,
        fails: bool,
        parts: Mutex<Vec<u32>>,
        completed: AtomicU32,
        aborted: Notify,
    }

    #[async_trait]
    impl Upload for Gated {
        fn id(&self) -> &str {
            "gated"
        }

        async fn put_part(&self, index: u32, _: Bytes) -> StoreResult<()> {
            let _ = self.open.subscribe().wait_for(|open| *open).await;
            if self.fails {
                return Err(StoreError::failed("cannot write", "no"));
            }
            lock(&self.parts).push(index);
            Ok(())
        }

        async fn complete(&self, _: &Whole) -> StoreResult<()> {
            self.completed.fetch_add(1, SeqCst);
            Ok(())
        }

        async fn abort(&self) -> StoreResult<()> {
            self.aborted.notify_one();
            Ok(())
        }
    }

    const PART: u64 = 10;
    const WHOLE: Whole = Whole { size: 0, crc64nvme: 0, parts: 0 };

    fn upload(open: bool, fails: bool) -> Arc<Gated> {
        Arc::new(Gated { open: watch::Sender::new(open), fails, ..Gated::default() })
    }

    async fn mirrored(uploads: &[&Arc<Gated>], most_behind: u64) -> MirroredUpload {
        let beginning = |upload: &&Arc<Gated>| {
            let upload: Arc<dyn Upload> = (*upload).clone();
            Beginning { begin: Box::pin(async move { Ok(BegunUpload { upload, marker: None }) }), at_once: 1 }
        };
        MirroredUpload::begin(uploads.iter().map(beginning), most_behind).await.unwrap()
    }

    fn part() -> Bytes {
        Bytes::from(vec![7; PART as usize])
    }

    fn is_whole(end: &LaneEnd) -> bool {
        matches!(end, LaneEnd::Whole)
    }

    #[tokio::test]
    async fn the_fastest_store_decides_and_a_slow_one_ends_later() {
        let (fast, slow) = (upload(true, false), upload(false, false));
        let all = mirrored(&[&slow, &fast], 3 * PART).await;
        for index in 0..3 {
            all.put_part(index, part()).await.unwrap();
        }
        all.complete(&WHOLE).await.unwrap();
        assert_eq!(all.first(), Some(1), "the slow store has nothing yet");
        slow.open.send_replace(true);
        assert!(is_whole(&all.ended(0).await) && is_whole(&all.ended(1).await));
        for upload in [&fast, &slow] {
            assert_eq!((lock(&upload.parts).len(), upload.completed.load(SeqCst)), (3, 1));
        }
    }

    #[tokio::test]
    async fn a_store_that_falls_too_far_behind_leaves() {
        let (fast, slow) = (upload(true, false), upload(false, false));
        let all = mirrored(&[&slow, &fast], 3 * PART).await;
        for index in 0..4 {
            all.put_part(index, part()).await.unwrap();
        }
        slow.aborted.notified().await;
        match all.ended(0).await {
            LaneEnd::Left(why) => assert!(why.to_string().contains("30 B behind"), "{why}"),
            LaneEnd::Whole => panic!("it has nothing"),
        }
        all.complete(&WHOLE).await.unwrap();
        assert!(is_whole(&all.ended(1).await));
        assert_eq!((slow.completed.load(SeqCst), lock(&fast.parts).len()), (0, 4));
    }

    #[tokio::test]
    async fn a_store_that_fails_does_not_fail_the_others() {
        for at in 0..3 {
            let uploads: Vec<Arc<Gated>> = (0..3).map(|n| upload(true, n == at)).collect();
            let all = mirrored(&uploads.iter().collect::<Vec<_>>(), 100).await;
            for index in 0..5 {
                all.put_part(index, part()).await.unwrap();
            }
            all.complete(&WHOLE).await.unwrap();
            for (n, upload) in uploads.iter().enumerate() {
                assert_eq!(is_whole(&all.ended(n).await), n != at, "{n}");
                assert_eq!(upload.completed.load(SeqCst), u32::from(n != at), "{n}");
            }
        }
    }

    #[tokio::test]
    async fn the_upload_fails_only_if_every_store_fails() {
        let uploads = [upload(true, true), upload(true, true)];
        let all = mirrored(&uploads.iter().collect::<Vec<_>>(), 100).await;
        let why = all.put_part(0, part()).await.unwrap_err();
        assert!(why.to_string().contains("no"), "{why}");
        assert!(all.complete(&WHOLE).await.is_err());
    }

    #[tokio::test]
    async fn a_store_whose_upload_does_not_begin_does_not_stop_the_others() {
        let fast = upload(true, false);
        let begins = |upload: Option<Arc<dyn Upload>>| Beginning {
            begin: Box::pin(async move {
                match upload {
                    Some(upload) => Ok(BegunUpload { upload, marker: None }),
                    None => Err(StoreError::failed("cannot begin", "no")),
                }
            }),
            at_once: 1,
        };
        let hangs = Beginning { begin: Box::pin(std::future::pending()), at_once: 1 };
        let all = [begins(None), hangs, begins(Some(fast.clone()))];
        let all = MirroredUpload::begin(all, 2 * PART).await.unwrap();
        for index in 0..3 {
            all.put_part(index, part()).await.unwrap();
        }
        all.complete(&WHOLE).await.unwrap();
        assert_eq!(all.first(), Some(2));
        assert!(!is_whole(&all.ended(0).await) && !is_whole(&all.ended(1).await));
        assert!(MirroredUpload::begin([begins(None)], PART).await.is_err());
    }

    #[tokio::test]
    async fn an_abort_ends_every_upload_that_is_not_complete() {
        let (fast, slow) = (upload(true, false), upload(false, false));
        let all = mirrored(&[&fast, &slow], 100).await;
        all.put_part(0, part()).await.unwrap();
        all.complete(&WHOLE).await.unwrap();
        all.abort().await.unwrap();
        slow.aborted.notified().await;
        assert!(is_whole(&all.ended(0).await) && !is_whole(&all.ended(1).await));
    }

    #[test]
    fn large_parts_are_fewer_at_once() {
        assert_eq!(at_once(4, 8 << 20), 4);
        assert_eq!(at_once(4, 100 << 20), 2);
        assert_eq!(at_once(4, 1 << 30), 1);
    }
}
