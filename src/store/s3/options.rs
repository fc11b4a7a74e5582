//! Settings of a bucket, all of them given, none read from the environment here.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use super::super::Limits;
use crate::patience::Patience;
use crate::secret::Secret;

/// How a bucket is reached and what is asked of it.
///
/// `Debug` shows no secret: they are wrapped.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// What all keys start with; a `/` is added at its end where it is missing.
    pub prefix: String,
    /// The region; else the SDK's chain (`AWS_REGION`, profile; with an endpoint only `AWS_REGION`),
    /// else `us-east-1`.
    pub region: Option<String>,
    /// The service's URL, where it is not Amazon's.
    pub endpoint_url: Option<String>,
    /// The bucket's name in the path instead of the host name; `None`: on with an endpoint.
    pub force_path_style: Option<bool>,
    /// What the store is asked to check objects with.
    pub checksum: ChecksumMode,
    /// The storage class of new objects, in S3's words (`STANDARD_IA`).
    pub storage_class: Option<String>,
    /// Days for which artifact, index and manifest are locked (mode GOVERNANCE): the objects of uploads and of
    /// [`create`](crate::store::Store::create).
    pub object_lock_days: Option<u32>,
    /// Old versions that a lifecycle rule deletes are expected.
    pub versioned: bool,
    /// A PEM file with the CA certificates to trust instead of this machine's.
    pub ca_bundle: Option<PathBuf>,
    /// Encryption by the service; `None`: the bucket's default.
    pub sse: Option<Sse>,
    /// What one upload may have; tests lower it.
    pub limits: Limits,
    /// When to give up waiting.
    pub timeouts: Timeouts,
    /// How long the service is waited for.
    pub patience: Patience,
    /// The most bytes per second that all uploads together send; `None`: as fast as they go.
    pub bandwidth: Option<NonZeroU64>,
    /// Key id and secret instead of the SDK's chain of providers.
    pub credentials: Option<(String, Secret)>,
    /// The token that goes with temporary `credentials`.
    pub session_token: Option<Secret>,
}

impl S3Options {
    /// Everything by default but the place.
    pub fn new(bucket: impl Into<String>, prefix: impl Into<String>) -> S3Options {
        S3Options {
            bucket: bucket.into(),
            prefix: prefix.into(),
            region: None,
            endpoint_url: None,
            force_path_style: None,
            checksum: ChecksumMode::default(),
            storage_class: None,
            object_lock_days: None,
            versioned: false,
            ca_bundle: None,
            sse: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            patience: Patience::default(),
            bandwidth: None,
            credentials: None,
            session_token: None,
        }
    }
}

/// The checksum that is sent with each part and asked back of the whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumMode {
    /// CRC-64/NVME of the full object: Amazon S3, MinIO, Versity Gateway.
    #[default]
    Crc64Nvme,
    /// CRC-32C of the full object.
    Crc32c,
    /// None: parts carry `Content-MD5`, and size and multipart ETag are compared. For services that
    /// answer 501 or 400 to the checksum headers.
    None,
}

impl ChecksumMode {
    /// Its name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumMode::Crc64Nvme => "crc64nvme",
            ChecksumMode::Crc32c => "crc32c",
            ChecksumMode::None => "none",
        }
    }
}

/// Encryption by the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sse {
    /// With the service's own keys (`AES256`).
    Aes256,
    /// With a key of the key management service (`aws:kms`), by its id or ARN; `None`: the default key of the bucket or
    /// account.
    Kms(Option<String>),
}

/// When to give up waiting for the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For an answer to a request that was sent; ten times as long for the completion of an upload.
    pub answer: Duration,
    /// For a body of which no byte moves. The kernel takes bytes of a body in steps of up to 0.9 MB, so that a slow line
    /// seems to stand still in between.
    pub stall: Duration,
    /// The slowest rate in bytes per second, above 0, at which the end of a body is waited for that the kernel has taken,
    /// but may not have sent: up to 4 MiB (`tcp_wmem` of Linux), whose way nobody sees.
    pub slowest: u64,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(90),
            slowest: 8 << 10,
        }
    }
}

/// Bytes that the kernel holds of a connection at most: the default of Linux's `tcp_wmem`.
const BUFFERED: u64 = 4 << 20;

impl Timeouts {
    /// How long the answer may take after the kernel took the last of a body's `bytes`.
    pub(super) fn answer_to(&self, bytes: u64) -> Duration {
        self.answer + Duration::from_secs(bytes.min(BUFFERED) / self.slowest.max(1))
    }
}
