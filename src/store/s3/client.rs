//! The SDK's client: how it is built, rebuilt for another region, and what it learns from answers.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, ConfigBag, Credentials, Intercept, Region, RequestChecksumCalculation,
    ResponseChecksumValidation, RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use chrono::{DateTime, Utc};

use super::super::Result;
use super::around::Around;
use super::bounded::Bounded;
use super::failure::{Failure, parse_date};
use super::repeats::Repeats;
use super::trust;
use crate::base::secret::ExposeSecret;
use crate::config::store::{ChecksumMode, S3Options};

/// Whether the bucket's name goes into the path.
pub(super) fn path_style(options: &S3Options) -> bool {
    options.force_path_style.unwrap_or(options.endpoint_url.is_some())
}

/// The client in use, with what it needs to be rebuilt.
pub(super) struct Connection {
    client: Mutex<Client>,
    seen: Arc<Seen>,
    /// What was sent again.
    pub repeats: Repeats,
    /// What the environment says about the connection.
    pub around: Around,
}

impl Connection {
    /// Prepares a client; nothing is sent to the store.
    ///
    /// # Errors
    /// Returns an error if the CA certificates to trust cannot be read.
    pub async fn new(options: &S3Options) -> Result<Connection> {
        let region = match (&options.region, &options.endpoint_url) {
            (Some(region), _) => Some(Region::new(region.clone())),
            // The SDK's chain ends in a question to the cloud's metadata service, which answers
            // slowly or not at all elsewhere.
            (None, Some(_)) => Some(Region::new(
                std::env::var("AWS_REGION").ok().filter(|r| !r.is_empty()).unwrap_or("us-east-1".into()),
            )),
            (None, None) => None,
        };
        let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest());
        if let Some(region) = region {
            loader = loader.region(region);
        }
        if let Some(client) = trust::client(options)? {
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
        let seen = Arc::new(Seen::default());
        let mut builder = aws_sdk_s3::config::Builder::from(&shared);
        if shared.region().is_none() {
            builder = builder.region(Region::new("us-east-1"));
        }
        let client = Client::from_conf(configure(builder, options, &seen).build());
        let around = Around::of(options);
        Ok(Connection { client: Mutex::new(client), seen, repeats: Repeats::default(), around })
    }

    /// Sends a request, once more in the region that the answer names if the bucket is there.
    pub async fn send<T, E, F, S>(&self, send: S) -> std::result::Result<T, Failure>
    where
        S: Fn(Client) -> F,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let client = self.client();
        let failure = match send(client.clone()).await {
            Ok(done) => return Ok(done),
            Err(e) => Failure::of(e),
        };
        let region = match &failure.region {
            Some(region) if failure.other_region() => Region::new(region.clone()),
            _ => return Err(failure),
        };
        if client.config().region() == Some(&region) {
            return Err(failure);
        }
        log::info!("the bucket is in {region}: asking there");
        let moved = Client::from_conf(client.config().to_builder().region(region).build());
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = moved.clone();
        send(moved).await.map_err(Failure::of)
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The service's clock now: the date of its last answer and the time since then. `None` before the first answer.
    pub fn clock(&self) -> Option<DateTime<Utc>> {
        let (date, at) = (*self.seen.date.lock().unwrap_or_else(PoisonError::into_inner))?;
        Some(date + at.elapsed())
    }

    /// Whether the service answered an S3 request well before.
    pub fn answered(&self) -> bool {
        *self.seen.well.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_answered(&self) {
        *self.seen.well.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

fn configure(builder: Builder, options: &S3Options, seen: &Arc<Seen>) -> Builder {
    let times = options.timeouts;
    let validation = match options.checksum {
        ChecksumMode::None => ResponseChecksumValidation::WhenRequired,
        _ => ResponseChecksumValidation::WhenSupported,
    };
    // `read_timeout` is left out: it also runs while a body is sent.
    let timeout = TimeoutConfig::builder()
        .connect_timeout(times.connect)
        .operation_attempt_timeout(times.answer)
        .build();
    let stall = StalledStreamProtectionConfig::enabled()
        // Bodies that are sent have a watch of their own (`flow`), which knows of the limit of the rate.
        .upload_enabled(false)
        .download_enabled(true)
        .grace_period(times.stall)
        .build();
    let mut builder = builder
        .force_path_style(path_style(options))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(validation)
        // `Bucket::send` repeats requests: it knows for how long, and says why.
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeout)
        .stalled_stream_protection(stall)
        // A wrong clock also gives wrong backup ids: it is an error, not something to work around.
        .disable_clock_skew_correction(true)
        .interceptor(Bounded)
        .interceptor(Listener(Arc::clone(seen)));
    if let Some(endpoint) = &options.endpoint_url {
        builder = builder.endpoint_url(endpoint);
    }
    builder
}

/// Another time limit for one request, for `customize().config_override`; `None`: something else limits it.
pub(super) fn time_limit(options: &S3Options, limit: Option<Duration>) -> Builder {
    let timeout = TimeoutConfig::builder().connect_timeout(options.timeouts.connect);
    let timeout = match limit {
        Some(limit) => timeout.operation_attempt_timeout(limit),
        None => timeout.disable_operation_attempt_timeout(),
    };
    aws_sdk_s3::config::Config::builder().timeout_config(timeout.build())
}

#[derive(Debug, Default)]
struct Seen {
    /// The date of the last answer, and when the answer came.
    date: Mutex<Option<(DateTime<Utc>, Instant)>>,
    well: Mutex<bool>,
}

/// Notes the `Date` of every answer; the SDK's outputs do not have it.
#[derive(Debug)]
struct Listener(Arc<Seen>);

impl Intercept for Listener {
    fn name(&self) -> &'static str {
        "Listener"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date").and_then(parse_date) {
            *self.0.date.lock().unwrap_or_else(PoisonError::into_inner) = Some((date, Instant::now()));
        }
        Ok(())
    }
}
