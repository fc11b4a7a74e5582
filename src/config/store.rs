//! The settings of a store: a bucket or a directory.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::clock::ClockAndRandom;
use crate::base::retry::Patience;
use crate::base::secret::Secret;

/// The settings of a bucket. `Debug` prints no secrets.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    pub bucket: String,
    /// The prefix of all keys. A missing `/` at its end is added.
    pub prefix: String,
    /// `None` for the SDK's chain (`AWS_REGION`, profile; with an endpoint only `AWS_REGION`), and then `us-east-1`.
    pub region: Option<String>,
    /// The URL of a service other than Amazon's.
    pub endpoint_url: Option<String>,
    /// Puts the bucket's name into the path instead of the host name. `None` means true with an endpoint.
    pub force_path_style: Option<bool>,
    pub checksum: ChecksumMode,
    /// The storage class of new objects, as S3 spells it (`STANDARD_IA`).
    pub storage_class: Option<String>,
    /// The number of days for which uploads and create-only writes (artifact, index and manifest) are locked,
    /// in mode GOVERNANCE.
    pub object_lock_days: Option<u32>,
    /// True if a lifecycle rule deletes old versions, so that they are expected.
    pub versioned: bool,
    /// A PEM file with the CA certificates to trust instead of this machine's.
    pub ca_bundle: Option<PathBuf>,
    /// `None` for the bucket's default.
    pub sse: Option<Sse>,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// How long to wait for the service when it is down.
    pub patience: Patience,
    /// The most bytes per second that all uploads together send; `None` for no limit.
    pub bandwidth: Option<NonZeroU64>,
    /// Key id and secret; `None` for the SDK's chain of providers.
    pub credentials: Option<(String, Secret)>,
    /// The token of temporary `credentials`.
    pub session_token: Option<Secret>,
    /// The clock for retention periods, and the random names of uploads.
    pub machine: ClockAndRandom,
}

impl S3Options {
    /// The default options for this bucket and prefix.
    pub fn new(bucket: impl Into<String>, prefix: impl Into<String>) -> S3Options {
        S3Options { bucket: bucket.into(), prefix: prefix.into(), ..S3Options::default() }
    }
}

/// The checksum that is sent with each part, and requested for the whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumMode {
    /// CRC-64/NVME of the full object: Amazon S3, MinIO, Versity Gateway.
    #[default]
    Crc64Nvme,
    /// CRC-32C of the full object.
    Crc32c,
    /// Parts are sent with `Content-MD5`, and size and multipart ETag are compared. For services that answer 501 or 400 to
    /// the checksum headers.
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
    /// With a key of the key management service (`aws:kms`), by its id or ARN. `None` for the default key of the bucket or
    /// account.
    Kms(Option<String>),
}

/// The time limits of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// For the answer after a request was sent. The completion of an upload has ten times as long.
    pub answer: Duration,
    /// For a body without progress. The kernel accepts a body in steps of up to 0.9 MB, so that a slow line seems to stand
    /// still in between.
    pub stall: Duration,
    /// The slowest accepted rate in bytes per second, above 0, for the end of a body. The kernel has accepted this end, but
    /// may not have sent it: up to 4 MiB (`tcp_wmem` of Linux), without visible progress.
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

/// The most unsent bytes of a connection in the kernel: the default of Linux's `tcp_wmem`.
const BUFFERED: u64 = 4 << 20;

impl Timeouts {
    /// How long the answer may take after the kernel accepted the last of a body's `bytes`.
    pub fn answer_to(&self, bytes: u64) -> Duration {
        self.answer + Duration::from_secs(bytes.min(BUFFERED) / self.slowest.max(1))
    }
}

/// The limits of one multipart upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The smallest size in bytes of a part that is not the last.
    pub min_part: u64,
    /// The largest size of a part in bytes.
    pub max_part: u64,
    /// The largest number of parts of one upload.
    pub max_parts: u32,
}

impl Default for Limits {
    /// Amazon S3's limits, but with parts of at least 8 MiB, because each part costs a request.
    fn default() -> Limits {
        Limits { min_part: 8 << 20, max_part: 5 << 30, max_parts: 10_000 }
    }
}

/// The settings of a directory.
#[derive(Debug, Clone)]
pub struct DirOptions {
    /// The directory or at least its parent must exist. Otherwise a run would succeed on the root file system if a disk is
    /// not mounted.
    pub root: PathBuf,
    /// The share of the file system, from 0 to 1, that uploads leave free.
    pub min_free: f64,
    pub limits: Limits,
    /// The store's clock, and the random names of partial files.
    pub machine: ClockAndRandom,
}

impl DirOptions {
    /// The default options: a tenth of the file system stays free.
    pub fn new(root: impl Into<PathBuf>) -> DirOptions {
        DirOptions {
            root: root.into(),
            min_free: 0.10,
            limits: Limits::default(),
            machine: ClockAndRandom::default(),
        }
    }
}

/// Directories of the system. Backups would lie among its files, and a cleanup would walk all of them.
const OF_THE_SYSTEM: [&str; 11] =
    ["/", "/bin", "/boot", "/etc", "/lib", "/lib64", "/run", "/sbin", "/usr", "/var", "/dev/shm"];
/// File systems of the kernel. Directories below them are refused, too.
const OF_THE_KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Returns the reason why a directory that exists (or, in `/dev`, could be created) must not hold backups; `None` if it may.
/// Links are followed.
pub fn unfit(root: &Path) -> Option<String> {
    let (place, there) = match root.canonicalize() {
        Ok(place) if place.is_dir() => (place, true),
        Ok(_) => return None,
        Err(_) => (root.parent()?.canonicalize().ok().filter(|above| above.is_dir())?, false),
    };
    let of_system = there && OF_THE_SYSTEM.iter().any(|system| place == Path::new(system));
    // A missing directory in /proc and /sys cannot be created, and that error is clearer.
    let kernel = OF_THE_KERNEL.iter().filter(|kernel| there || **kernel == "/dev");
    let of_kernel =
        kernel.into_iter().any(|kernel| place.starts_with(kernel)) && !place.starts_with("/dev/shm");
    (of_system || of_kernel).then(|| {
        let leads =
            if there && place != root { format!("; it leads to {}", place.display()) } else { String::new() };
        format!("it is a system directory{leads}: give the backups their own directory, such as /srv/backups")
    })
}
