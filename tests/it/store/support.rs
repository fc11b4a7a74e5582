//! Support for the tests of stores: options without waiting, bodies, whole uploads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uzima_backup::base::retry::Patience;
use uzima_backup::base::secret::Secret;
use uzima_backup::config::store::{Limits, S3Options};
use uzima_backup::store::checksum::crc64nvme;
use uzima_backup::store::{S3Store, Store, StoreResult, Upload, UploadSpec, Whole};
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

/// The size of a part in tests: small and odd.
pub const PART: u64 = 10_007;

/// A short patience, with pauses too short to notice.
pub fn patience(total: Duration) -> Patience {
    Patience::new(total).first_pause(Duration::from_millis(2))
}

/// Options for the S3 server in this process, with short time limits.
pub fn options(server: &S3Server) -> S3Options {
    let mut options = S3Options::new(BUCKET, "daily-backups");
    options.endpoint_url = Some(server.endpoint());
    options.region = Some("us-east-1".into());
    options.credentials = Some((ACCESS_KEY.into(), Secret::from(SECRET_KEY)));
    options.limits = Limits { min_part: 1, ..Limits::default() };
    options.patience = patience(Duration::from_millis(300));
    options
}

pub async fn connect(options: S3Options) -> S3Store {
    S3Store::connect(options).await.expect("options that make a client")
}

pub async fn store(server: &S3Server) -> S3Store {
    connect(options(server)).await
}

/// A limit in bytes that is larger than any object of a test.
pub const MOST: u64 = 64 << 20;

/// Bytes that do not compress and do not repeat.
pub fn bytes(len: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ len as u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

pub fn spec(key: &str, part_size: u64) -> UploadSpec {
    UploadSpec {
        key: key.into(),
        part_size,
        estimate: None,
        metadata: vec![("job".into(), "all@test".into())],
        probe: false,
    }
}

pub fn whole(body: &[u8], part_size: u64) -> Whole {
    let size = body.len() as u64;
    Whole { size, crc64nvme: crc64nvme(body), parts: size.div_ceil(part_size) as u32 }
}

/// Part `index` of a body.
pub fn part(body: &Bytes, part_size: u64, index: u32) -> Bytes {
    let begin = u64::from(index) * part_size;
    body.slice(begin as usize..body.len().min((begin + part_size) as usize))
}

/// Uploads all parts of a body, the last one first.
pub async fn put_parts(upload: &Arc<dyn Upload>, body: &Bytes, part_size: u64) -> StoreResult<()> {
    for index in (0..whole(body, part_size).parts).rev() {
        upload.put_part(index, part(body, part_size, index)).await?;
    }
    Ok(())
}

/// Uploads a body. After an error the upload is aborted, as a backup does.
pub async fn upload(store: &dyn Store, key: &str, body: &Bytes, part_size: u64) -> StoreResult<()> {
    let upload = store.begin(&spec(key, part_size)).await?;
    let done = match put_parts(&upload, body, part_size).await {
        Ok(()) => upload.complete(&whole(body, part_size)).await,
        Err(e) => Err(e),
    };
    if done.is_err() {
        upload.abort().await?;
    }
    done
}

/// Asserts that there is no object and no upload.
pub fn assert_nothing_left(server: &S3Server) {
    assert_eq!(server.objects().keys().collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(server.open_uploads(), Vec::new());
}
