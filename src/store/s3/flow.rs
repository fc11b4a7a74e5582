//! Sending the body of a request: its rate limit, its progress, and the detection of a stall.
//!
//! A body is signed as a whole and then sent in small chunks. A time limit applies to the pause between two
//! chunks, not to the whole body, because all parts share a line that may be slow.

use std::future::Future;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, SdkError};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::Bucket;
use crate::config::store::Timeouts;

/// The largest chunk that is passed to the connection, in bytes.
const CHUNK: usize = 64 << 10;

/// A limit of bytes per second for all bodies of a bucket. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Rate(Option<Arc<(NonZeroU64, Mutex<Instant>)>>);

impl Rate {
    /// `None` is no limit.
    pub(super) fn new(bytes_per_second: Option<NonZeroU64>) -> Rate {
        Rate(bytes_per_second.map(|rate| Arc::new((rate, Mutex::new(Instant::now())))))
    }

    /// The largest chunk in bytes: the data of an eighth of a second, so that a low rate is steady.
    fn chunk(&self) -> usize {
        let bytes = self.0.as_ref().map_or(u64::MAX, |limit| (limit.0.get() / 8).max(1));
        usize::try_from(bytes).unwrap_or(usize::MAX).min(CHUNK)
    }

    /// Reserves the time for a chunk. Returns the time to send it; `None` means at once.
    fn reserve(&self, bytes: usize) -> Option<Instant> {
        let (rate, next) = &**self.0.as_ref()?;
        let (now, mut next) = (Instant::now(), next.lock().unwrap_or_else(PoisonError::into_inner));
        let at = (*next).max(now);
        *next = at + Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        (at > now).then_some(at)
    }
}

/// An attempt to send a body.
pub(super) struct Flow {
    times: Timeouts,
    length: u64,
    state: FlowShared,
}

/// The progress of a body, which the connection's task updates.
#[derive(Debug, Clone)]
struct FlowShared {
    state: Arc<Mutex<FlowState>>,
    rate: Rate,
    /// Counts the sent bytes of all bodies that the store has not acknowledged yet.
    under_way: Arc<AtomicU64>,
}

#[derive(Debug)]
struct FlowState {
    sent: u64,
    /// When the last chunk was sent.
    moved: Instant,
    /// The rate limit delays the body, so the pause is not a stall.
    held: bool,
    /// The attempt is over, and its bytes no longer count.
    over: bool,
}

impl Bucket {
    /// Prepares to send a body of this length. Sent bytes count as `under_way` until the flow is dropped.
    pub(super) fn flow(&self, length: usize, under_way: &Arc<AtomicU64>) -> Flow {
        Flow::new(self.options.timeouts, length as u64, &self.rate, under_way)
    }
}

impl Flow {
    fn new(times: Timeouts, length: u64, rate: &Rate, under_way: &Arc<AtomicU64>) -> Flow {
        let state = FlowState { sent: 0, moved: Instant::now(), held: false, over: false };
        let (state, rate, under_way) = (Arc::new(Mutex::new(state)), rate.clone(), under_way.clone());
        Flow { times, length, state: FlowShared { state, rate, under_way } }
    }

    /// The interceptor that sends the body of a request through this flow.
    pub(super) fn meter(&self) -> impl Intercept + 'static {
        self.state.clone()
    }

    /// Returns the answer to a request, or a time-out error if the body stalls or the answer is late.
    pub(super) async fn watch<T, E>(
        self,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, SdkError<E, HttpResponse>> {
        tokio::select! {
            answer = request => answer,
            why = self.stalled() => Err(SdkError::timeout_error(why)),
        }
    }

    /// Waits until the body or its answer stalls, and returns the reason.
    async fn stalled(&self) -> String {
        loop {
            let (moved, limit) = {
                let state = self.state.lock();
                let whole = state.sent >= self.length;
                let limit = if whole { self.times.answer_to(self.length) } else { self.times.stall };
                (if state.held { Instant::now() } else { state.moved }, limit)
            };
            if moved.elapsed() >= limit {
                return format!("no data was transferred for {} s", limit.as_secs());
            }
            tokio::time::sleep_until(moved + limit).await;
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.over = true;
        self.state.under_way.fetch_sub(state.sent, Relaxed);
    }
}

impl FlowShared {
    fn lock(&self) -> MutexGuard<'_, FlowState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, held: bool) {
        let mut state = self.lock();
        (state.held, state.moved) = (held, Instant::now());
    }

    fn send(&self, bytes: usize) {
        let mut state = self.lock();
        (state.held, state.moved) = (false, Instant::now());
        if !state.over {
            state.sent += bytes as u64;
            self.under_way.fetch_add(bytes as u64, Relaxed);
        }
    }
}

/// Replaces the body of a request after it was signed.
impl Intercept for FlowShared {
    fn name(&self) -> &'static str {
        "FlowShared"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let body = std::mem::replace(request.body_mut(), SdkBody::taken());
        let metered = Metered { body, rest: Bytes::new(), pause: None, flow: self.clone() };
        *request.body_mut() = SdkBody::from_body_1_x(metered);
        Ok(())
    }
}

/// A body that is sent in chunks, each when the rate limit allows it.
struct Metered {
    body: SdkBody,
    /// The rest of the last frame.
    rest: Bytes,
    /// The delay of the next chunk.
    pause: Option<Pin<Box<Sleep>>>,
    flow: FlowShared,
}

impl Body for Metered {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.rest = bytes,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = this.rest.len().min(this.flow.rate.chunk());
        if this.pause.is_none()
            && let Some(at) = this.flow.rate.reserve(length)
        {
            this.flow.hold(true);
            this.pause = Some(Box::pin(tokio::time::sleep_until(at)));
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        this.flow.send(length);
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match self.body.content_length() {
            Some(length) => SizeHint::with_exact(length + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = Result<(), SdkError<aws_sdk_s3::Error, HttpResponse>>;

    fn flow(length: u64, stall: Duration, answer: Duration) -> (Flow, Arc<AtomicU64>) {
        let under_way = Arc::default();
        let times = Timeouts { stall, answer, slowest: u64::MAX, ..Timeouts::default() };
        (Flow::new(times, length, &Rate::new(None), &under_way), under_way)
    }

    /// The body takes longer than the limit, but no pause does.
    #[tokio::test]
    async fn a_slow_body_is_not_a_stall() {
        let limit = Duration::from_millis(1_500);
        let (flow, under_way) = flow(30, limit, limit);
        let moving = flow.state.clone();
        let request = async {
            for _ in 0..30 {
                tokio::time::sleep(Duration::from_millis(70)).await;
                moving.send(1);
            }
            Answer::Ok(())
        };
        assert!(flow.watch(request).await.is_ok());
        assert_eq!(under_way.load(Relaxed), 0, "nothing is under way after the answer");
    }

    #[tokio::test]
    async fn a_stalled_body_and_a_late_answer_time_out() {
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(3600));
        for (sent, stall, answer) in [(9, short, long), (10, long, short)] {
            let (flow, under_way) = flow(10, stall, answer);
            flow.state.send(sent);
            assert_eq!(under_way.load(Relaxed), sent as u64);
            let ended = flow.watch(std::future::pending::<Answer>()).await;
            assert!(matches!(ended, Err(SdkError::TimeoutError(_))), "{ended:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_the_rate_limit_delays_is_not_a_stall() {
        let (flow, _) = flow(10, Duration::from_millis(50), Duration::from_secs(3600));
        flow.state.hold(true);
        let request = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Answer::Ok(())
        };
        assert!(flow.watch(request).await.is_ok());
    }

    #[tokio::test]
    async fn chunks_of_all_bodies_share_the_rate() {
        let rate = Rate::new(NonZeroU64::new(1_000));
        let (other, began) = (rate.clone(), Instant::now());
        assert_eq!(rate.chunk(), 125);
        assert_eq!(rate.reserve(500), None);
        let second = other.reserve(500).expect("it waits");
        let third = rate.reserve(1).expect("it waits for both");
        assert!(second >= began + Duration::from_millis(500) && third >= second + Duration::from_millis(500));
        assert_eq!(Rate::new(None).reserve(usize::MAX), None);
    }
}
