//! The SDK's client: its construction, the switch to another region, the CAs that it trusts, and a bound on
//! its answers.
//!
//! The SDK reads proxies and credentials from the environment. They are read here as well, so that an error
//! can name them.

use std::env;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, ConfigBag, Credentials, Intercept, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, RuntimeComponents, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use http::Uri;
use http_body_util::Limited;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::{StoreError, StoreErrorKind, StoreResult};
use super::failure::{S3Failure, parse_date};
use crate::base::heap::on_heap;
use crate::base::secret::ExposeSecret;
use crate::config::store::{ChecksumMode, S3Options};

/// Returns true if the bucket's name is part of the path instead of the host.
pub(super) fn path_style(options: &S3Options) -> bool {
    options.force_path_style.unwrap_or(options.endpoint_url.is_some())
}

/// An answer to a request of the SDK, or its error.
type Answer<T, E> = Result<T, SdkError<E, HttpResponse>>;

/// A request of the SDK.
pub(super) trait Request<T, E>: Future<Output = Answer<T, E>> {}
impl<T, E, F: Future<Output = Answer<T, E>>> Request<T, E> for F {}

/// An error of an operation, as the service reports it.
pub(super) trait ServiceError:
    ProvideErrorMetadata + std::error::Error + Send + Sync + 'static
{
}
impl<E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static> ServiceError for E {}

/// The client in use, and the facts that its answers revealed.
pub(super) struct Connection {
    client: Mutex<Client>,
    seen: Arc<SeenAnswers>,
    pub(super) environment: Environment,
}

impl Connection {
    /// Prepares a client without sending a request.
    ///
    /// # Errors
    /// Returns an error if the CA certificates to trust cannot be read.
    pub(super) async fn new(options: &S3Options) -> StoreResult<Connection> {
        let region = options.region.clone().or_else(|| {
            // The SDK's chain ends with the cloud's metadata service, which elsewhere answers slowly or not
            // at all.
            options.endpoint_url.as_ref()?;
            Some(set("AWS_REGION").unwrap_or_else(|| "us-east-1".into()))
        });
        let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest());
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        if let Some(client) = trusting_client(options)? {
            loader = loader.http_client(client);
        }
        if let Some((id, secret)) = &options.credentials {
            loader = loader.credentials_provider(Credentials::new(
                id,
                secret.expose_secret(),
                options.session_token.as_ref().map(|token| token.expose_secret().to_string()),
                None,
                "S3Options",
            ));
        }
        let shared = loader.load().await;
        let seen = Arc::new(SeenAnswers::default());
        let mut builder = aws_sdk_s3::config::Builder::from(&shared);
        if shared.region().is_none() {
            builder = builder.region(Region::new("us-east-1"));
        }
        let client = Client::from_conf(configure(builder, options, &seen).build());
        let environment = Environment::of(options);
        Ok(Connection { client: Mutex::new(client), seen, environment })
    }

    /// Sends a request. If the answer names another region, the client switches to it and sends the request
    /// once more.
    pub(super) async fn send<T, E: ServiceError, F: Request<T, E>>(
        &self,
        send: impl Fn(Client) -> F,
    ) -> Result<T, S3Failure> {
        let client = self.client();
        let failure = match on_heap(|| send(client.clone())).await {
            Ok(done) => return Ok(done),
            Err(e) => S3Failure::of(e),
        };
        let region = match &failure.region {
            Some(region) if failure.other_region() => Region::new(region.clone()),
            _ => return Err(failure),
        };
        if client.config().region() == Some(&region) {
            return Err(failure);
        }
        log::info!("the bucket is in {region}: sending requests there");
        let moved = Client::from_conf(client.config().to_builder().region(region).build());
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = moved.clone();
        on_heap(|| send(moved)).await.map_err(S3Failure::of)
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The service's clock: the date of its last answer plus the time since then. `None` before the first
    /// answer.
    pub(super) fn clock(&self) -> Option<DateTime<Utc>> {
        let (date, at) = (*self.seen.date.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(date + at.elapsed())
    }

    /// Returns true if the service has successfully answered an S3 request.
    pub(super) fn answered(&self) -> bool {
        self.seen.well.load(Ordering::Relaxed)
    }

    pub(super) fn set_answered(&self) {
        self.seen.well.store(true, Ordering::Relaxed);
    }
}

fn configure(builder: Builder, options: &S3Options, seen: &Arc<SeenAnswers>) -> Builder {
    let times = options.timeouts;
    let validation = match options.checksum {
        ChecksumMode::None => ResponseChecksumValidation::WhenRequired,
        _ => ResponseChecksumValidation::WhenSupported,
    };
    // No `read_timeout`, because it also runs while a body is sent.
    let timeout = TimeoutConfig::builder()
        .connect_timeout(times.connect)
        .operation_attempt_timeout(times.answer)
        .build();
    let stall = StalledStreamProtectionConfig::enabled()
        // `flow` watches bodies that are sent, because it knows the rate limit.
        .upload_enabled(false)
        .download_enabled(true)
        .grace_period(times.stall)
        .build();
    let mut builder = builder
        .force_path_style(path_style(options))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(validation)
        // `Bucket::send` repeats requests: it knows the time limit, and logs the reason.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeout)
        .stalled_stream_protection(stall)
        // A wrong clock also gives wrong backup ids: it is an error and must not be corrected silently.
        .disable_clock_skew_correction(true)
        .interceptor(AnswerGuard(Arc::clone(seen)));
    if let Some(endpoint) = &options.endpoint_url {
        builder = builder.endpoint_url(endpoint);
    }
    builder
}

/// Makes the time limit of one request for `customize().config_override`. `None` is no limit.
pub(super) fn time_limit(options: &S3Options, limit: Option<Duration>) -> Builder {
    let timeout = TimeoutConfig::builder().connect_timeout(options.timeouts.connect);
    let timeout = match limit {
        Some(limit) => timeout.operation_attempt_timeout(limit),
        None => timeout.disable_operation_attempt_timeout(),
    };
    aws_sdk_s3::config::Config::builder().timeout_config(timeout.build())
}

#[derive(Debug, Default)]
struct SeenAnswers {
    /// The date of the last answer, and when the answer came.
    date: Mutex<Option<(DateTime<Utc>, Instant)>>,
    /// The service has successfully answered an S3 request.
    well: AtomicBool,
}

/// The longest answer in bytes that the SDK may read into memory. A page of a listing has at most 1,000 keys
/// of at most 1,024 bytes, and its encoding triples them.
const LARGEST_ANSWER: usize = 16 << 20;

/// Notes the `Date` of every answer, which the SDK's outputs lack. Makes longer answers than
/// [`LARGEST_ANSWER`] fail: pages of a listing, errors, answers to uploads. Only the body of a successful
/// `GetObject` is streamed, to a reader with its own bound.
#[derive(Debug)]
struct AnswerGuard(Arc<SeenAnswers>);

impl Intercept for AnswerGuard {
    fn name(&self) -> &'static str {
        "AnswerGuard"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        state: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response_mut();
        if let Some(date) = answer.headers().get("date").and_then(parse_date) {
            *self.0.date.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, Instant::now()));
        }
        let streamed = answer.status().is_success()
            && state.load::<Metadata>().is_some_and(|operation| operation.name() == "GetObject");
        if !streamed {
            let body = answer.take_body();
            *answer.body_mut() =
                body.map_preserve_contents(|body| SdkBody::from_body_1_x(Limited::new(body, LARGEST_ANSWER)));
        }
        Ok(())
    }
}

/// The environment variables that affect a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    pub(super) proxy: Option<Proxy>,
    /// The profile that `AWS_PROFILE` names.
    pub(super) profile: Option<String>,
    /// The file that `AWS_WEB_IDENTITY_TOKEN_FILE` names.
    pub(super) web_identity: Option<String>,
}

/// A proxy, without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// The variable that sets it, such as `HTTPS_PROXY`.
    pub(super) variable: String,
    /// For example `http://proxy:3128`; without user and password.
    pub(super) address: String,
}

impl Environment {
    pub(super) fn of(options: &S3Options) -> Environment {
        Environment {
            proxy: proxy(options),
            profile: set("AWS_PROFILE"),
            web_identity: set("AWS_WEB_IDENTITY_TOKEN_FILE"),
        }
    }
}

/// The value of an environment variable; `None` if it is empty.
fn set(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn proxy(options: &S3Options) -> Option<Proxy> {
    let region = options.region.as_deref().unwrap_or("us-east-1");
    let amazon = || format!("https://{}.s3.{region}.amazonaws.com", options.bucket);
    let service: Uri = options.endpoint_url.clone().unwrap_or_else(amazon).parse().ok()?;
    let uri = Matcher::from_env().intercept(&service)?.uri().clone();
    let own = format!("{}_PROXY", service.scheme_str()?.to_ascii_uppercase());
    let names = [own.clone(), own.to_ascii_lowercase(), "ALL_PROXY".into(), "all_proxy".into()];
    let variable = names.into_iter().find(|name| set(name).is_some())?;
    // The matcher removes the login from the address.
    Some(Proxy {
        variable,
        address: format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority()?.as_str()),
    })
}

/// The largest file of CA certificates, in bytes. The bundles of distributions have about 250 KiB.
const LARGEST_BUNDLE: u64 = 16 << 20;

/// An HTTP client that trusts the CAs of `ca_bundle`, or else of `SSL_CERT_FILE`. `None` if neither is set:
/// the SDK's own client trusts this machine's CAs.
///
/// # Errors
/// Returns an error if the file cannot be read or contains no certificate.
fn trusting_client(options: &S3Options) -> StoreResult<Option<SharedHttpClient>> {
    let other = env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let named = options.ca_bundle.clone().map(|path| ("AWS_CA_BUNDLE", path));
    let Some((name, path)) = named.or_else(|| other.map(|path| ("SSL_CERT_FILE", path))) else {
        return Ok(None);
    };
    let pem = bundle(&path).map_err(|why| {
        let doing = format!("cannot use the CA certificates in {}, which {name} names", path.display());
        StoreError::new(StoreErrorKind::Misconfigured, doing, why)
            .hint(format!("Set {name} to a PEM file with the CA's certificate (BEGIN CERTIFICATE)"))
    })?;
    let store = TrustStore::empty().with_pem_certificate(pem);
    let context = TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|e| StoreError::new(StoreErrorKind::Misconfigured, "cannot set up TLS", e))?;
    // Built like the SDK's own client, which has no setting for CAs.
    let client = HttpBuilder::new().build_with_connector_fn(move |settings, components| {
        let provider = Provider::Rustls(CryptoMode::AwsLc);
        let mut connector = Connector::builder().tls_provider(provider).tls_context(context.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    Ok(Some(client))
}

/// The certificates of a PEM file that can be CAs, as PEM. (Other certificates make the SDK panic.)
fn bundle(path: &Path) -> Result<String, String> {
    let meta = fs::metadata(path).map_err(|e| e.to_string())?;
    if !meta.is_file() || meta.len() > LARGEST_BUNDLE {
        return Err(format!("it is not a file of at most {} MiB", LARGEST_BUNDLE >> 20));
    }
    let text = fs::read(path).map_err(|e| e.to_string())?;
    let mut pem = String::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|e| format!("it is not PEM: {e}"))?;
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            let base64 = STANDARD.encode(&certificate);
            pem.push_str(&format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n"));
        }
    }
    if pem.is_empty() { Err("it contains no CA certificate".into()) } else { Ok(pem) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for (text, words) in [
            ("", "no CA certificate"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "not PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no CA certificate"),
        ] {
            fs::write(&path, text).unwrap();
            let why = bundle(&path).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        assert!(bundle(folder.path()).unwrap_err().contains("not a file"));
        assert!(bundle(Path::new("/nonexistent")).is_err());
    }
}
