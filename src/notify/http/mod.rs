//! Asking services over HTTP: again when that can help, within a time, and told in words that hold no
//! address.

mod answer;

use std::time::Duration;

use tokio::time::Instant;

pub use answer::{Answer, one_line};

use crate::base::error::{Error, Result};
use crate::base::retry;

/// How often a request is tried.
const TRIES: usize = 4;
/// The pauses between attempts are about 1, 2 and 4 s, unless the service asks for others.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const CONNECT: Duration = Duration::from_secs(10);
/// As much of a good answer as is read.
const BODY: usize = 64 * 1024;

/// What sends requests.
///
/// # Errors
/// If TLS cannot be set up.
pub fn client() -> Result<reqwest::Client> {
    // As `main` does: without a provider the builder panics. A second call changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        // Some services refuse requests without one.
        .user_agent(concat!("uzima-backup/", env!("CARGO_PKG_VERSION")))
        // A secret goes to the service that was set, and to no other.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|e| Error::failed(format!("cannot speak HTTP: {}", chain(e))))
}

/// Sends a request to `whom` until it is answered for good, at the latest by `deadline`; for each answer it
/// waits no longer than `each`. The answer: what was said to a request that was taken, its beginning.
pub async fn tried(
    whom: &str,
    request: reqwest::RequestBuilder,
    each: Duration,
    deadline: Instant,
) -> Result<String, Answer> {
    let mut pauses = retry::pauses(FIRST_PAUSE).take(TRIES - 1);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let copy = request.try_clone().expect("its body is in memory").timeout(left.min(each));
        let answer = match copy.send().await {
            Ok(response) if response.status().is_success() => return Ok(said(response).await),
            Ok(response) => Answer::of(response).await,
            Err(e) if e.is_builder() => return Err(Answer::Unsendable(chain(e))),
            Err(e) => Answer::Lost(chain(e)),
        };
        let Some(pause) = pauses.next().map(|pause| answer.pause().unwrap_or(pause)) else {
            return Err(answer);
        };
        if !answer.may_pass() || Instant::now() + pause >= deadline {
            return Err(answer);
        }
        log::debug!("{whom}: {answer}; trying again in {:.1} s", pause.as_secs_f64());
        tokio::time::sleep(pause).await;
    }
}

/// An answer's body. It was taken, whatever happens to the rest of it.
async fn said(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while body.len() < BODY
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// An error and its causes in one line, without the address, which may be a secret.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
