//! Failed requests, in the same form for all operations: what the service, the SDK, a proxy or TLS reported,
//! and whether the same request may succeed later.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use chrono::{DateTime, Utc};
use rustls::CertificateError;

/// The largest difference of the clocks, in seconds, that is not a fault. S3 allows 15 minutes, so a request that is
/// refused with a smaller difference was delayed after it was signed.
const SMALL_SKEW: i64 = 5 * 60;

/// Codes of failures that may pass, whatever their status. Source: "Error responses" in the Amazon S3 API
/// reference.
const PASSING: [&str; 12] = [
    "InternalError",
    "InternalFailure",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
];

/// Codes of failures that will not pass, although the status is 200 or above 500.
const LASTING: [&str; 6] =
    ["NotImplemented", "QuotaExceeded", "XMinioStorageFull", "AccessDenied", "NoSuchUpload", "InvalidPart"];

/// Parts of messages about failures that will not pass: messages of rustls, and the message about an answer that is
/// too long.
const HOPELESS: [&str; 4] = ["certificate", "corrupt message", "fatal alert", "length limit"];

/// The reason why a proxy did not forward a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyFault {
    /// It requires a user and a password (407).
    Login,
    /// It refuses to connect to the service.
    Refused,
}

/// The message if no provider has credentials.
pub(super) const NO_CREDENTIALS: &str = "there are no credentials";

#[derive(Debug, Clone, Default)]
pub(super) struct S3Failure {
    /// The HTTP status, if there was an answer.
    pub(super) status: Option<u16>,
    /// S3's error code, if the answer held one.
    pub(super) code: Option<String>,
    /// The message of S3 or of the transport.
    pub(super) message: String,
    /// The region that the answer names.
    pub(super) region: Option<String>,
    /// The date in the answer, by the service's clock.
    pub(super) date: Option<DateTime<Utc>>,
    /// There was no complete answer, so it is unknown whether the request took effect.
    pub(super) lost: bool,
    /// The request was not sent, because there are no credentials.
    pub(super) no_credentials: bool,
    pub(super) certificate: Option<CertificateFault>,
    /// Why the proxy did not forward the request.
    pub(super) proxy: Option<ProxyFault>,
    /// The object's storage class, if the object is archived.
    pub(super) class: Option<String>,
    /// The request was a HEAD, whose errors have no body and therefore no code.
    pub(super) head: bool,
    /// The answer's body ended early.
    pub(super) broken_off: bool,
    /// There was no request: the SDK could not construct one from the settings.
    pub(super) unmade: bool,
    /// How long the request was repeated in vain.
    pub(super) waited: Option<Duration>,
}

impl S3Failure {
    /// Makes a failure after which it is unknown whether the request took effect.
    pub(super) fn lost(message: &str) -> S3Failure {
        S3Failure { message: message.into(), lost: true, ..S3Failure::default() }
    }

    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> S3Failure
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let mut failure = S3Failure::default();
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
            // The messages of all layers of the SDK, for debugging.
            log::debug!("S3: {}", texts(&error).join(": "));
            // The SDK has no error kind for missing credentials.
            failure.no_credentials = failure.status.is_none() && failure.message.contains("credential");
        }
        failure.unmade = matches!(&error, SdkError::ConstructionFailure(_));
        if let Some((fault, words)) = certificate_fault(&error) {
            (failure.certificate, failure.message) = (Some(fault), words);
        }
        if failure.status == Some(407) {
            (failure.proxy, failure.message) = (Some(ProxyFault::Login), "the proxy requires a login".into());
        } else if let Some((fault, words)) = tunnel(&error) {
            (failure.proxy, failure.message) = (Some(fault), words.into());
        }
        failure.lost = match &error {
            SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
            // A refused connection or an unknown host: nothing was sent.
            SdkError::DispatchFailure(e) => {
                let why = e.as_connector_error().map_or(LOST, |e| connection(e));
                !failure.no_credentials && ![REFUSED, UNKNOWN_HOST].contains(&why)
            }
            SdkError::ServiceError(_) => failure.status.is_some_and(|s| s >= 500),
            _ => false,
        };
        failure
    }

    /// The failure of a HEAD. Its answer has no body, so the SDK's message is useless.
    pub(super) fn of_head(failure: S3Failure) -> S3Failure {
        let message = match (&failure.code, failure.status) {
            (None, Some(403)) => "access denied".into(),
            _ => failure.message,
        };
        S3Failure { head: true, message, ..failure }
    }

    /// Returns true if there was no answer, or the service is overloaded: another request would now fail,
    /// too.
    pub(super) fn away(&self) -> bool {
        let answer = self.status.is_none_or(|status| matches!(status, 429 | 500 | 502 | 503 | 504));
        answer && !self.fails_again()
    }

    /// Returns true if the same request would fail again until a person changes a setting.
    fn fails_again(&self) -> bool {
        self.no_credentials || self.certificate.is_some() || self.proxy == Some(ProxyFault::Login)
    }

    pub(super) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    pub(super) fn is(&self, codes: &[&str]) -> bool {
        codes.contains(&self.code())
    }

    /// Returns true if the object does not exist.
    pub(super) fn not_found(&self) -> bool {
        self.is(&["NoSuchKey", "NotFound"]) || (self.status == Some(404) && self.code.is_none())
    }

    /// Returns true if the credentials lack a permission.
    pub(super) fn denied(&self) -> bool {
        self.status == Some(403) || self.is(&["AccessDenied", "AllAccessDisabled"])
    }

    /// Returns true if the body was damaged on its way, so that it should be sent again.
    pub(super) fn damaged_on_the_way(&self) -> bool {
        self.is(&[
            "BadDigest",
            "InvalidDigest",
            "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
            "IncompleteBody",
        ])
    }

    /// Returns true if the service does not know a header or feature. It rarely says which.
    pub(super) fn unsupported(&self) -> bool {
        self.status == Some(501)
            || self.is(&["NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedArgument"])
    }

    /// Returns true if the bucket is in a region other than the client's.
    pub(super) fn other_region(&self) -> bool {
        self.is(&["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"])
            || matches!(self.status, Some(301 | 307))
            // The answer to a HEAD has no body, and so no code.
            || (self.code.is_none() && self.status == Some(400) && self.region.is_some())
    }

    /// The cause in words.
    pub(super) fn text(&self) -> String {
        match (&self.code, self.status) {
            (Some(code), Some(status)) if self.message.is_empty() => format!("{code} (HTTP {status})"),
            (Some(code), Some(status)) => format!("{code}: {} (HTTP {status})", self.message.trim()),
            (None, Some(status)) => format!("HTTP {status}: {}", self.message.trim()),
            _ => self.message.trim().to_owned(),
        }
    }

    /// The cause in a few words, which are the same for all failures of this kind.
    pub(super) fn reason(&self) -> String {
        match self.status {
            _ if self.broken_off => "the body broke off".to_owned(),
            // The words in parentheses come from the innermost layer, and vary.
            None => self.message.split(" (").next().unwrap_or_default().to_owned(),
            Some(status) => match &self.code {
                Some(code) => format!("{status} {code}"),
                None => status.to_string(),
            },
        }
    }

    /// Returns true if the same request may succeed later. `answered` is true if the service has answered an
    /// S3 request before: then an answer without an S3 code comes from a proxy or a load balancer.
    pub(super) fn passes(&self, answered: bool, now: DateTime<Utc>) -> bool {
        let hopeless = self.code.is_none() && HOPELESS.iter().any(|words| self.message.contains(words));
        match self.status {
            _ if self.fails_again() || self.unmade || hopeless || self.is(&LASTING) => false,
            None => true,
            _ if self.is(&["RequestTimeTooSkewed"]) => {
                self.date.is_some_and(|date| skew(date, now).abs() < SMALL_SKEW)
            }
            _ if self.is(&PASSING) => true,
            // An error in the body of a 200, or an answer that is not from S3.
            Some(200..300) => self.code.is_some() || answered,
            Some(501 | 505 | 507) => false,
            Some(status) => status >= 500 || status == 408 || status == 429,
        }
    }
}

/// Why a proxy refused a CONNECT.
fn tunnel(error: &(dyn StdError + 'static)) -> Option<(ProxyFault, &'static str)> {
    // hyper-util's `TunnelError` is private, so its messages are compared.
    let texts = texts(error);
    let says = |words: &str| texts.iter().any(|text| text.contains(words));
    if says("proxy authorization required") {
        Some((ProxyFault::Login, "the proxy requires a login"))
    } else if says("tunnel error: unsuccessful") {
        Some((ProxyFault::Refused, "the proxy refuses to connect to the service"))
    } else {
        None
    }
}

/// The error and its causes, the outermost first.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<io::Error>() {
            // The `source` of an I/O error skips the wrapped error.
            Some(io) => io.get_ref().map(|e| e as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

/// The messages of an error and its causes, the innermost last.
fn texts(error: &(dyn StdError + 'static)) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for error in causes(error) {
        // The list of providers without credentials would fill a screen.
        let text =
            error.to_string().lines().next().unwrap_or_default().trim_end_matches(" Attempted:").to_owned();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
    }
    texts
}

/// The beginnings of messages of the SDK that add nothing about credentials.
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

fn words(error: &(dyn StdError + 'static)) -> String {
    let texts = texts(error);
    let last = texts.last().map(String::as_str).unwrap_or_default();
    let says = |word: &str| texts.iter().any(|text| text.contains(word));
    if says("credential") {
        // The last provider is the metadata service of a cloud machine, whose message would mislead.
        let none = says("IMDS") || says("in chain");
        let own = texts.iter().filter(|text| !WRAPPERS.iter().any(|wrapper| text.starts_with(wrapper)));
        let own: Vec<&str> = own.map(String::as_str).collect();
        return if none { NO_CREDENTIALS.into() } else { format!("no credentials: {}", own.join(": ")) };
    }
    match connection(error) {
        // For other causes, only the innermost message is specific.
        LOST if !last.is_empty() => format!("{LOST} ({last})"),
        words => words.to_owned(),
    }
}

/// The content of a tag in an error's XML, if it is a plain word. `AuthorizationHeaderMalformed` names the
/// region only there.
fn tag_in_body(body: &[u8], tag: &str) -> Option<String> {
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

/// The seconds by which the service's clock is ahead of this machine's clock.
pub(super) fn skew(date: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    (date - now).num_seconds()
}

/// The description of a connection to a closed port.
const REFUSED: &str = "connection refused";
/// The description of a connection to a name without an address.
const UNKNOWN_HOST: &str = "unknown host";
/// The description of a connection that failed for no known cause.
const LOST: &str = "connection lost";

fn connection(error: &(dyn StdError + 'static)) -> &'static str {
    let known = causes(error).find_map(|error| {
        if error.to_string().contains("dns error") {
            return Some(UNKNOWN_HOST);
        }
        match error.downcast_ref::<io::Error>()?.kind() {
            ErrorKind::ConnectionRefused => Some(REFUSED),
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Some("connection reset"),
            ErrorKind::TimedOut => Some("no answer in time"),
            _ => None,
        }
    });
    known.unwrap_or(LOST)
}

/// The fault of the service's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CertificateFault {
    /// No trusted CA signed it.
    Untrusted,
    /// It is valid for other names.
    Name,
    /// It has expired, or is not valid yet.
    Time,
    /// Anything else.
    Other,
}

/// The fault of the certificate that ended a connection, with its message; `None` if the error has another
/// cause.
fn certificate_fault(error: &(dyn StdError + 'static)) -> Option<(CertificateFault, String)> {
    let rustls::Error::InvalidCertificate(why) = causes(error).find_map(|e| e.downcast_ref())? else {
        return None;
    };
    Some(match why {
        CertificateError::UnknownIssuer => (
            CertificateFault::Untrusted,
            "the service's certificate is not signed by a CA that is trusted here".into(),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(String::as_str).collect();
            let asked = expected.to_str();
            (
                CertificateFault::Name,
                format!("the service's certificate is for {}, not for {asked}", names.join(", ")),
            )
        }
        CertificateError::NotValidForName => {
            (CertificateFault::Name, "the service's certificate is for another name".into())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (CertificateFault::Time, "the service's certificate has expired".into())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (CertificateFault::Time, "the service's certificate is not valid yet".into())
        }
        other => (CertificateFault::Other, format!("the service's certificate is invalid: {other}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn region_and_date_are_read_from_an_answer() {
        let body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        assert_eq!(tag_in_body(body, "Region").as_deref(), Some("eu-west-1"));
        assert_eq!(tag_in_body(b"<Region>a b</Region>", "Region"), None);
        let date = parse_date("Sun, 06 Nov 1994 08:49:37 GMT").map(|d| d.timestamp());
        assert_eq!(date, Some(784_111_777));
    }

    #[test]
    fn failed_connections_are_described() {
        for (kind, want) in [
            (ErrorKind::ConnectionRefused, "connection refused"),
            (ErrorKind::ConnectionReset, "connection reset"),
            (ErrorKind::UnexpectedEof, "connection lost"),
        ] {
            // The SDK wraps errors in this way.
            let error = io::Error::other(io::Error::from(kind));
            assert_eq!(connection(&error), want);
        }
    }

    #[test]
    fn only_failures_that_may_pass_are_repeated() {
        let now = "2026-11-24T03:00:00Z".parse().unwrap();
        let answer = |status, code: &str| S3Failure {
            status: Some(status),
            code: (!code.is_empty()).then(|| code.to_owned()),
            ..S3Failure::default()
        };
        let skewed = |seconds| S3Failure {
            date: Some(now + chrono::TimeDelta::seconds(seconds)),
            ..answer(403, "RequestTimeTooSkewed")
        };
        let no_answer = |message: &str| S3Failure { message: message.to_owned(), ..S3Failure::default() };
        for (failure, passes) in [
            (answer(503, "SlowDown"), true),
            (answer(503, ""), true),
            (answer(500, "InternalError"), true),
            (answer(429, ""), true),
            (answer(400, "RequestTimeout"), true),
            (answer(200, "InternalError"), true),
            (answer(200, "SlowDown"), true),
            (answer(200, "AccessDenied"), false),
            (answer(501, "NotImplemented"), false),
            (answer(507, ""), false),
            (answer(503, "XMinioStorageFull"), false),
            (answer(403, "AccessDenied"), false),
            (answer(404, "NoSuchKey"), false),
            (answer(400, "BadDigest"), false),
            (skewed(-20), true),
            (skewed(290), true),
            (skewed(-1000), false),
            (answer(403, "RequestTimeTooSkewed"), false),
            (no_answer("connection refused"), true),
            (no_answer("unknown host"), true),
            (no_answer("no answer in time"), true),
            (no_answer("connection lost (invalid peer certificate: UnknownIssuer)"), false),
            (S3Failure { no_credentials: true, ..no_answer("there are no credentials") }, false),
        ] {
            assert_eq!(failure.passes(true, now), passes, "{failure:?}");
        }
        assert!(answer(200, "").passes(true, now) && !answer(200, "").passes(false, now));
        assert_eq!(no_answer("connection lost (of some kind)").reason(), "connection lost");
    }

    #[test]
    fn a_certificate_is_found_below_the_layers_of_a_connection() {
        let certificate = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, certificate));
        assert_eq!(certificate_fault(&error).map(|(fault, _)| fault), Some(CertificateFault::Untrusted));
        assert_eq!(
            certificate_fault(&io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset))),
            None
        );
    }
}
