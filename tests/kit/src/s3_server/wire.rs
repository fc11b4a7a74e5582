//! The HTTP level: names and records each call, applies its fault, and passes it on unless the fault prevents that.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::Body;
use s3s::service::S3Service;

use super::faults::{Fault, Faults};
use super::memory::Memory;

/// A recorded call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The operation's name in S3's API, such as `UploadPart`.
    pub operation: &'static str,
    /// The object's key; empty for operations on the bucket.
    pub key: String,
    /// The part's number.
    pub part: Option<i32>,
    /// The length of the request's body in bytes.
    pub bytes: usize,
    /// The `Range` header.
    pub range: Option<String>,
    /// The status of the answer; `None` before the answer, and if the answer was lost.
    pub status: Option<u16>,
}

/// The service with its faults and its recorded calls.
pub(super) struct Wire {
    service: S3Service,
    memory: Memory,
    pub faults: Faults,
    calls: Mutex<Vec<Call>>,
}

/// Closes the connection without an answer.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the test closes this connection")
    }
}

impl std::error::Error for Lost {}

/// Accepts connections forever.
pub(super) async fn serve(listener: tokio::net::TcpListener, wire: Arc<Wire>) {
    while let Ok((socket, _)) = listener.accept().await {
        let wire = Arc::clone(&wire);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let wire = Arc::clone(&wire);
                async move { wire.call(request).await }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            let _ = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

impl Wire {
    pub fn new(service: S3Service, memory: Memory) -> Wire {
        Wire { service, memory, faults: Faults::default(), calls: Mutex::default() }
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn call(&self, request: Request<Incoming>) -> Result<Response<Body>, Lost> {
        let (head, body) = request.into_parts();
        let mut body = body.collect().await.map_err(|_| Lost)?.to_bytes();
        let operation = operation(&head.method, head.uri.path(), head.uri.query().unwrap_or_default());
        let key = key(head.uri.path());
        let index = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let part = parameter(head.uri.query().unwrap_or_default(), "partNumber");
            calls.push(Call {
                operation,
                key: key.clone(),
                part: part.and_then(|n| n.parse().ok()),
                bytes: body.len(),
                range: head.headers.get(header::RANGE).and_then(|r| r.to_str().ok()).map(str::to_owned),
                status: None,
            });
            calls.len() - 1
        };
        let fault = self.faults.next(operation, &key, &head.headers);
        if let Some(answer) = fault.as_ref().and_then(instead) {
            return self.done(index, answer);
        }
        match &fault {
            Some(Fault::LoseRequest) => return Err(Lost),
            Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
            Some(Fault::Damage) => body = flip(&body),
            _ => {}
        }
        let request = Request::from_parts(head, Body::from(body));
        let answer = self.service.call(request).await.map_err(|_| Lost)?;
        match fault {
            Some(Fault::LoseAnswer) => return Err(Lost),
            Some(after @ (Fault::Shorten(_) | Fault::Alter)) if answer.status().is_success() => {
                // A completion is done only when its body has been produced.
                let (head, body) = answer.into_parts();
                let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
                match after {
                    Fault::Shorten(by) => {
                        self.memory.tamper(&key, |bytes| bytes.truncate(bytes.len().saturating_sub(by)));
                    }
                    _ => self.memory.alter(&key),
                }
                return self.done(index, Response::from_parts(head, Body::from(body)));
            }
            Some(Fault::NoToken | Fault::SameToken) => {
                let answer = edit_tokens(answer, &fault).await?;
                return self.done(index, answer);
            }
            Some(Fault::BreakOff(after)) => {
                let answer = break_off(answer, after).await?;
                return self.done(index, answer);
            }
            _ => {}
        }
        self.done(index, answer)
    }

    fn done(&self, index: usize, answer: Response<Body>) -> Result<Response<Body>, Lost> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls[index].status = Some(answer.status().as_u16());
        Ok(answer)
    }
}

/// The answer of a fault that prevents the execution of the call.
fn instead(fault: &Fault) -> Option<Response<Body>> {
    let region = |status, code, region: &'static str, in_header| {
        let body = format!("<Region>{region}</Region>");
        let mut answer = error(status, code, &body);
        if in_header {
            answer.headers_mut().insert("x-amz-bucket-region", HeaderValue::from_static(region));
        }
        answer
    };
    Some(match fault {
        Fault::Answer(status, code) => error(*status, code, ""),
        Fault::OtherRegion(name) => region(301, "PermanentRedirect", name, true),
        Fault::MalformedRegion(name) => region(400, "AuthorizationHeaderMalformed", name, false),
        Fault::ErrorIn200(code) => error(200, code, ""),
        Fault::Skewed(seconds) => {
            let mut answer = error(403, "RequestTimeTooSkewed", "");
            let date = chrono::Utc::now() + chrono::TimeDelta::seconds(*seconds);
            let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            if let Ok(date) = HeaderValue::from_str(&date) {
                answer.headers_mut().insert(header::DATE, date);
            }
            answer
        }
        Fault::WebPage => Response::new(Body::from("<html><body>It works!</body></html>".to_owned())),
        _ => return None,
    })
}

fn error(status: u16, code: &str, more: &str) -> Response<Body> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>on purpose</Message>{more}</Error>"
    );
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

async fn edit_tokens(answer: Response<Body>, fault: &Option<Fault>) -> Result<Response<Body>, Lost> {
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    let (open, close) = ("<NextContinuationToken>", "</NextContinuationToken>");
    let text = match (text.split_once(open), text.split_once(close)) {
        (Some((before, _)), Some((_, after))) if *fault == Some(Fault::NoToken) => format!("{before}{after}"),
        (Some((before, _)), Some((_, after))) => format!("{before}{open}0{close}{after}"),
        _ => text,
    };
    head.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(head, Body::from(text)))
}

async fn break_off(answer: Response<Body>, after: usize) -> Result<Response<Body>, Lost> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|_| Lost)?.to_bytes();
    let begin = body.slice(..after.min(body.len()));
    let chunks = [Ok(hyper::body::Frame::data(begin)), Err(Box::new(Lost))];
    let body = http_body_util::StreamBody::new(futures_util::stream::iter(chunks));
    Ok(Response::from_parts(head, Body::http_body_unsync(body)))
}

fn flip(body: &Bytes) -> Bytes {
    let mut body = body.to_vec();
    let middle = body.len() / 2;
    if let Some(byte) = body.get_mut(middle) {
        *byte ^= 1;
    }
    body.into()
}

/// Returns the name in S3's API of a path-style call.
fn operation(method: &Method, path: &str, query: &str) -> &'static str {
    let has = |name| parameter(query, name).is_some();
    let object = path.trim_start_matches('/').split_once('/').is_some_and(|(_, key)| !key.is_empty());
    match (method.as_str(), object) {
        ("GET", false) if has("uploads") => "ListMultipartUploads",
        ("GET", false) if has("versioning") => "GetBucketVersioning",
        ("GET", false) if has("object-lock") => "GetObjectLockConfiguration",
        ("GET", false) if has("lifecycle") => "GetBucketLifecycleConfiguration",
        ("GET", false) => "ListObjectsV2",
        ("HEAD", false) => "HeadBucket",
        ("POST", false) if has("delete") => "DeleteObjects",
        ("GET", true) if has("uploadId") => "ListParts",
        ("GET", true) => "GetObject",
        ("HEAD", true) => "HeadObject",
        ("PUT", true) if has("uploadId") => "UploadPart",
        ("PUT", true) => "PutObject",
        ("POST", true) if has("uploads") => "CreateMultipartUpload",
        ("POST", true) => "CompleteMultipartUpload",
        ("DELETE", true) if has("uploadId") => "AbortMultipartUpload",
        ("DELETE", true) => "DeleteObject",
        _ => "Other",
    }
}

fn key(path: &str) -> String {
    let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
    super::checks::undo_url(key).unwrap_or_else(|_: s3s::S3Error| key.to_owned())
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}
