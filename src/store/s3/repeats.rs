//! What was sent again, and why: the SDK repeats requests without a word, and nobody would see a service
//! that gets worse until it fails.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::failure::{Failure, tag_in_body};

/// Counts by operation and reason.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<BTreeMap<(String, String), u32>>);

impl Repeats {
    /// Counts a request that is sent again.
    pub fn note(&self, operation: &str, reason: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !counts.keys().any(|(of, _)| of == operation);
        *counts.entry((operation.to_owned(), reason.to_owned())).or_default() += 1;
        drop(counts);
        if first {
            log::info!("S3 {operation} is sent again ({reason}); more of them are only counted");
        } else {
            log::debug!("S3 {operation} is sent again ({reason})");
        }
    }

    /// All of it in a line, if there is anything.
    pub fn line(&self) -> Option<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
        for ((_, reason), count) in &*counts {
            *reasons.entry(reason).or_default() += count;
        }
        let mut sorted: Vec<(&str, u32)> = reasons.into_iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let all: u32 = sorted.iter().map(|(_, count)| count).sum();
        let listed: Vec<String> = sorted.iter().map(|(reason, count)| format!("{reason} ×{count}")).collect();
        let times = if all == 1 { "once".to_owned() } else { format!("{all} times") };
        (all > 0).then(|| format!("S3 requests were sent again {times} ({})", listed.join(", ")))
    }
}

/// Sees every attempt of the SDK.
#[derive(Debug)]
pub(super) struct Watcher(pub Arc<Repeats>);

/// Why the attempt before failed.
#[derive(Debug)]
struct Reason(String);

impl Storable for Reason {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Watcher {
    fn name(&self) -> &'static str {
        "Watcher"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        state: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if state.load::<RequestAttempts>().is_some_and(|attempts| attempts.attempts() > 1) {
            let operation = state.load::<Metadata>().map_or("request", Metadata::name);
            let reason = state.load::<Reason>().map_or("unknown", |reason| &reason.0);
            self.0.note(operation, reason);
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        state: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Err(error)) = context.output_or_error() {
            let reason = match (error.is_timeout_error(), context.response()) {
                (true, _) => "no answer in time".to_owned(),
                (false, Some(answer)) => {
                    let code = answer.body().bytes().and_then(|body| tag_in_body(body, "Code"));
                    said(Some(answer.status().as_u16()), code.as_deref())
                }
                (false, None) => {
                    connection(error.as_connector_error().map(|e| e as &(dyn StdError + 'static))).to_owned()
                }
            };
            state.interceptor_state().store_put(Reason(reason));
        }
        Ok(())
    }
}

impl Failure {
    /// In a few words why it failed, the same for all of a kind.
    pub fn reason(&self) -> String {
        match self.status {
            None => "connection lost or no answer in time".to_owned(),
            status => said(status, self.code.as_deref()),
        }
    }
}

fn said(status: Option<u16>, code: Option<&str>) -> String {
    let words = [status.map(|status| status.to_string()), code.map(str::to_owned)];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A connection that broke in no way that has a name.
pub(super) const LOST: &str = "connection lost";

/// What happened to a connection.
pub(super) fn connection(mut error: Option<&(dyn StdError + 'static)>) -> &'static str {
    while let Some(e) = error {
        if e.to_string().contains("dns error") {
            return "unknown host";
        }
        if let Some(io) = e.downcast_ref::<io::Error>() {
            match io.kind() {
                ErrorKind::ConnectionRefused => return "connection refused",
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return "connection reset",
                ErrorKind::TimedOut => return "no answer in time",
                _ => {}
            }
            // Its `source` is that of the error it wraps, not that error.
            if let Some(inner) = io.get_ref() {
                return connection(Some(inner));
            }
        }
        error = e.source();
    }
    LOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_sums_up() {
        let repeats = Repeats::default();
        assert_eq!(repeats.line(), None);
        repeats.note("PutObject", "connection reset");
        assert_eq!(repeats.line().unwrap(), "S3 requests were sent again once (connection reset ×1)");
        repeats.note("UploadPart", "503 SlowDown");
        repeats.note("PutObject", "503 SlowDown");
        let want = "S3 requests were sent again 3 times (503 SlowDown ×2, connection reset ×1)";
        assert_eq!(repeats.line().unwrap(), want);
    }

    #[test]
    fn connections_fail_in_these_ways() {
        for (kind, want) in [
            (ErrorKind::ConnectionRefused, "connection refused"),
            (ErrorKind::ConnectionReset, "connection reset"),
            (ErrorKind::UnexpectedEof, "connection lost"),
        ] {
            // Wrapped, as the SDK does.
            let error = io::Error::other(io::Error::from(kind));
            assert_eq!(connection(Some(&error)), want);
        }
        assert_eq!(connection(None), "connection lost");
    }
}
