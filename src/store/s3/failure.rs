//! What the SDK says when a request fails, in one shape for all operations.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use chrono::{DateTime, Utc};

use super::repeats::{LOST, connection};
use super::trust;

/// Why a proxy did not pass a request on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyFault {
    /// It wants a user and a password (407).
    Login,
    /// It refuses to connect to the service.
    Refused,
}

/// The cause where no provider has credentials.
pub(super) const NO_CREDENTIALS: &str = "there are no credentials";

/// A failed request.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure {
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// S3's error code, if the answer held one.
    pub code: Option<String>,
    /// What S3 or the transport said.
    pub message: String,
    /// The region that the answer names, where it names one.
    pub region: Option<String>,
    /// The service's clock in the answer.
    pub date: Option<DateTime<Utc>>,
    /// There was no whole answer: whether the request had an effect is unknown.
    pub lost: bool,
    /// The request never left, for want of credentials.
    pub no_credentials: bool,
    /// What is wrong with the service's certificate.
    pub certificate: Option<trust::Fault>,
    /// What the proxy said instead of passing the request on.
    pub proxy: Option<ProxyFault>,
    /// The object's storage class, in the answer about an object that is archived.
    pub class: Option<String>,
    /// The request was a HEAD, whose errors have no body and therefore no code.
    pub head: bool,
    /// The answer's body ended early.
    pub broken_off: bool,
    /// There was no request: the SDK could not make one of the settings.
    pub unmade: bool,
    /// The request was repeated in vain for this long.
    pub waited: Option<Duration>,
}

impl Failure {
    /// An answer that does not say whether the request was done.
    pub fn lost(message: &str) -> Failure {
        Failure { message: message.into(), lost: true, ..Failure::default() }
    }

    pub fn of<E>(error: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let mut failure = Failure::default();
        if let Some(raw) = error.raw_response() {
            failure.status = Some(raw.status().as_u16());
            failure.region = raw.headers().get("x-amz-bucket-region").map(str::to_owned);
            failure.date = raw.headers().get("date").and_then(parse_date);
            if failure.region.is_none() {
                failure.region = raw.body().bytes().and_then(|body| tag_in_body(body, "Region"));
            }
            failure.class = raw.body().bytes().and_then(|body| tag_in_body(body, "StorageClass"));
        }
        if let Some(meta) = error.as_service_error().map(ProvideErrorMetadata::meta) {
            failure.code = meta.code().map(str::to_owned);
            failure.message = meta.message().unwrap_or_default().to_owned();
        }
        if failure.message.is_empty() {
            failure.message = match &error {
                SdkError::TimeoutError(_) => "no answer in time".into(),
                _ => words(&error),
            };
            // What the SDK's layers say of each other is for who looks closer.
            log::debug!("S3: {}", texts(&error).join(": "));
            // The SDK has no kind of its own for the lack of credentials.
            failure.no_credentials = failure.status.is_none() && failure.message.contains("credential");
        }
        failure.unmade = matches!(&error, SdkError::ConstructionFailure(_));
        if let Some((fault, words)) = trust::fault(&error) {
            (failure.certificate, failure.message) = (Some(fault), words);
        }
        if failure.status == Some(407) {
            (failure.proxy, failure.message) = (Some(ProxyFault::Login), "the proxy wants a login".into());
        } else if let Some((fault, words)) = tunnel(&error) {
            (failure.proxy, failure.message) = (Some(fault), words.into());
        }
        failure.lost = match &error {
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
            // A refused connection or an unknown host: nothing was sent.
            SdkError::DispatchFailure(e) => {
                !failure.no_credentials && !refused(e.as_connector_error().map(|e| e as &dyn StdError))
            }
            SdkError::ServiceError(_) => failure.status.is_some_and(|s| s >= 500),
            _ => false,
        };
        failure
    }

    /// The failure of a HEAD, whose answer has no body: the SDK's words for that say nothing.
    pub fn of_head(failure: Failure) -> Failure {
        let message = match (&failure.code, failure.status) {
            (None, Some(403)) => "access denied".into(),
            _ => failure.message,
        };
        Failure { head: true, message, ..failure }
    }

    /// Nobody answered, or a service in trouble did: another request would fare no better now.
    pub fn away(&self) -> bool {
        let answer = self.status.is_none_or(|status| matches!(status, 429 | 500 | 502 | 503 | 504));
        answer && !self.fails_again()
    }

    /// The same request would fail the same way until a person changes something.
    pub fn fails_again(&self) -> bool {
        self.no_credentials || self.certificate.is_some() || self.proxy == Some(ProxyFault::Login)
    }

    pub fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    pub fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code())
    }

    /// The object, or something of it, is not there.
    pub fn not_found(&self) -> bool {
        self.is(&["NoSuchKey", "NotFound"]) || (self.status == Some(404) && self.code.is_none())
    }

    /// The credentials may not do this.
    pub fn denied(&self) -> bool {
        self.status == Some(403) || self.is(&["AccessDenied", "AllAccessDisabled"])
    }

    /// What arrived at the service was not what was sent: sending it again is right.
    pub fn damaged_on_the_way(&self) -> bool {
        self.is(&[
            "BadDigest",
            "InvalidDigest",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
            "IncompleteBody",
        ])
    }

    /// A header or feature that the service does not know. Which one, it rarely says.
    pub fn unsupported(&self) -> bool {
        self.status == Some(501)
            || self.is(&["NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedArgument"])
    }

    /// The bucket is in another region than the one asked.
    pub fn other_region(&self) -> bool {
        self.is(&["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"])
            || matches!(self.status, Some(301 | 307))
            // The answer to a HEAD, which has no body to hold a code.
            || (self.code.is_none() && self.status == Some(400) && self.region.is_some())
    }

    /// The cause in words.
    pub fn text(&self) -> String {
        match (&self.code, self.status) {
            (Some(code), Some(status)) if self.message.is_empty() => format!("{code} (HTTP {status})"),
            (Some(code), Some(status)) => format!("{code}: {} (HTTP {status})", self.message.trim()),
            (None, Some(status)) => format!("HTTP {status}: {}", self.message.trim()),
            _ => self.message.trim().to_owned(),
        }
    }
}

/// What a proxy said to CONNECT.
fn tunnel(error: &(dyn StdError + 'static)) -> Option<(ProxyFault, &'static str)> {
    // hyper-util's `TunnelError` is private; these are its words.
    let texts = texts(error);
    let says = |words: &str| texts.iter().any(|text| text.contains(words));
    if says("proxy authorization required") {
        Some((ProxyFault::Login, "the proxy wants a login"))
    } else if says("tunnel error: unsuccessful") {
        Some((ProxyFault::Refused, "the proxy refuses to connect to the service"))
    } else {
        None
    }
}

/// The error and its causes, the innermost last.
fn texts(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // The list of providers that have no credentials takes a screen.
        let text =
            error.to_string().lines().next().unwrap_or_default().trim_end_matches(" Attempted:").to_owned();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts
}

/// How the SDK's layers begin that say nothing of their own about credentials.
const WRAPPERS: [&str; 8] = [
    "dispatch failure",
    "other",
    "failed to construct request",
    "an error occurred while loading credentials",
    "the credentials provider was not properly configured",
    "the credential provider was not enabled",
    "unexpected credentials error",
    "service error",
];

/// The cause in plain words.
fn words(error: &(dyn StdError + 'static)) -> String {
    let texts = texts(error);
    let last = texts.last().map(String::as_str).unwrap_or_default();
    let says = |word: &str| texts.iter().any(|text| text.contains(word));
    if says("credential") {
        // The last of many providers, the metadata service of a machine in a cloud, speaks for none of them.
        let none = says("IMDS") || says("in chain");
        let own = texts.iter().filter(|text| !WRAPPERS.iter().any(|wrapper| text.starts_with(wrapper)));
        let own: Vec<&str> = own.map(String::as_str).collect();
        return if none { NO_CREDENTIALS.into() } else { format!("no credentials: {}", own.join(": ")) };
    }
    match connection(Some(error)) {
        // What breaks a connection in another way, a certificate say, is known to the innermost layer alone.
        LOST if !last.is_empty() => format!("{LOST} ({last})"),
        words => words.to_owned(),
    }
}

/// Whether nothing listened or the name is unknown.
fn refused(mut error: Option<&(dyn StdError + 'static)>) -> bool {
    while let Some(e) = error {
        if let Some(io) = e.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        if e.to_string().contains("dns error") {
            return true;
        }
        error = e.source();
    }
    false
}

/// A plain word in an error's XML: `AuthorizationHeaderMalformed` names the region only there.
pub(super) fn tag_in_body(body: &[u8], tag: &str) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, after) = text.split_once(&format!("<{tag}>"))?;
    let (word, _) = after.split_once(&format!("</{tag}>"))?;
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    plain.then(|| word.to_owned())
}

/// An HTTP date (RFC 9110, IMF-fixdate).
pub(super) fn parse_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc())
}

/// How far the service's clock is ahead of ours, in seconds.
pub(super) fn skew(date: DateTime<Utc>) -> i64 {
    (date - DateTime::<Utc>::from(SystemTime::now())).num_seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_answers_say() {
        let body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(tag_in_body(body, "Region").as_deref(), Some("eu-west-1"));
        assert_eq!(tag_in_body(b"<Region>a b</Region>", "Region"), None);
        let date = parse_date("Sun, 06 Nov 1994 08:49:37 GMT").map(|d| d.timestamp());
        assert_eq!(date, Some(784_111_777));
    }
}
