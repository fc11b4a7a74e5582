//! A bucket of Amazon S3, or of a service that speaks its protocol, as a store.
//!
//! Requests are sent through the AWS SDK, but repeated here, because the SDK's retries are not logged and
//! cannot bridge an outage of minutes. Checksums are computed here and compared with the store's. After a
//! lost answer, a HEAD shows whether the object exists. A listing either reads every page or fails: an
//! incomplete listing would make cleanup forget backups. Protocol: the Amazon S3 API reference. Comments name
//! the services that differ.

mod client;
mod explain;
mod failure;
mod flow;
mod objects;
mod protection;
mod send;
mod upload;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::primitives::DateTime as SdkDateTime;
use aws_sdk_s3::types::{
    Delete, EncodingType, ObjectIdentifier, ObjectLockLegalHoldStatus, ServerSideEncryption,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use md5::{Digest, Md5};
use percent_encoding::percent_decode_str;

use super::{
    ArchiveState, Deleted, Protection, Store, StoreError, StoreErrorKind, StoreResult, StoredObject, Upload,
    UploadSpec, check_key, check_listing, check_upload,
};
use crate::config::store::{Limits, S3Options, Sse};
use client::Connection;
use failure::S3Failure;
use flow::Rate;
use objects::Put;
use send::Repeats;

/// A bucket as a store; see the [module](self).
pub struct S3Store {
    bucket: Arc<Bucket>,
}

impl S3Store {
    /// Prepares the connection: looks up region and credentials, but sends no request.
    ///
    /// # Errors
    /// Returns an error if no bucket is named, or if the CA certificates to trust cannot be read.
    pub async fn connect(options: S3Options) -> StoreResult<S3Store> {
        if options.bucket.is_empty() {
            let (kind, doing) = (StoreErrorKind::Misconfigured, "cannot use the S3 store");
            return Err(StoreError::new(kind, doing, "no bucket is named").hint("Set S3_BACKUP_BUCKET"));
        }
        let trimmed = options.prefix.trim_matches('/');
        let bucket = Bucket {
            prefix: if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") },
            connection: Connection::new(&options).await?,
            repeats: Repeats::default(),
            rate: Rate::new(options.bandwidth),
            conditional: AtomicBool::new(true),
            batches: AtomicBool::new(true),
            options,
        };
        Ok(S3Store { bucket: Arc::new(bucket) })
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Store").field(&self.place()).finish()
    }
}

#[async_trait]
impl Store for S3Store {
    fn place(&self) -> String {
        self.bucket.place("")
    }

    fn limits(&self) -> Limits {
        self.bucket.options.limits
    }

    async fn check(&self) -> StoreResult<()> {
        let bucket = &self.bucket;
        let prefix = bucket.full("");
        let list = |client: Client| {
            client.list_objects_v2().bucket(bucket.name()).prefix(prefix.clone()).max_keys(1).send()
        };
        match bucket.send("ListObjectsV2", list).await {
            Ok(_) => Ok(()),
            Err(e) => Err(bucket.error(&e, "s3:ListBucket", "list", "")),
        }
    }

    async fn put(&self, key: &str, body: Bytes) -> StoreResult<()> {
        check_key(key)?;
        let put = self.bucket.put_object(key, &body, Put::Any).await;
        put.map_err(|e| self.bucket.error(&e, "s3:PutObject", "write", key))
    }

    async fn create(&self, key: &str, body: Bytes) -> StoreResult<()> {
        check_key(key)?;
        self.bucket.create(key, body).await
    }

    async fn get(&self, key: &str, most: u64) -> StoreResult<Bytes> {
        check_key(key)?;
        self.bucket.get(key, None, most).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> StoreResult<Bytes> {
        check_key(key)?;
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let wanted = range.end - range.start;
        let bytes = self.bucket.get(key, Some(&range), wanted).await?;
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        let cause = format!(
            "{wanted} bytes from byte {} were requested, but {} were received",
            range.start,
            bytes.len()
        );
        Err(StoreError::damaged(format!("cannot read {}", self.bucket.place(key)), cause))
    }

    async fn head(&self, key: &str) -> StoreResult<Option<StoredObject>> {
        check_key(key)?;
        self.bucket.head(key).await
    }

    async fn locked_until(&self, key: &str) -> StoreResult<Option<DateTime<Utc>>> {
        check_key(key)?;
        let Some(head) = self.bucket.head_object(key, None).await? else { return Ok(None) };
        if head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On) {
            return Ok(Some(DateTime::<Utc>::MAX_UTC));
        }
        Ok(head.object_lock_retain_until_date().map(|date| time(Some(date))))
    }

    async fn protection(&self) -> StoreResult<Option<Protection>> {
        Ok(Some(self.bucket.protection().await))
    }

    async fn versions_expire(&self) -> Option<bool> {
        self.bucket.versions_expire().await
    }

    fn thaw(&self, key: &str) -> Option<String> {
        Some(protection::thaw(&self.bucket.full(key), &self.bucket.options))
    }

    async fn list(&self, prefix: &str) -> StoreResult<Vec<StoredObject>> {
        let bucket = &self.bucket;
        let (full, place) = (bucket.full(prefix), bucket.place(prefix));
        let broken = |cause: &str| StoreError::failed(format!("cannot list {place}"), cause);
        let (mut objects, mut tokens, mut token) = (Vec::new(), HashSet::new(), None::<String>);
        loop {
            let page = bucket
                .send("ListObjectsV2", |client| {
                    client
                        .list_objects_v2()
                        .bucket(bucket.name())
                        .prefix(full.clone())
                        // A foreign key may contain characters that XML cannot.
                        .encoding_type(EncodingType::Url)
                        .set_continuation_token(token.clone())
                        .send()
                })
                .await
                .map_err(|e| bucket.error(&e, "s3:ListBucket", "list", prefix))?;
            let encoded = page.encoding_type() == Some(&EncodingType::Url);
            for object in page.contents() {
                let key = object.key().ok_or_else(|| broken("an entry has no key"))?;
                let key = if encoded { decode(key) } else { Some(key.to_owned()) };
                let key = key.ok_or_else(|| broken("a key is not URL-encoded UTF-8"))?;
                if !key.starts_with(&full) {
                    return Err(broken(&format!(
                        "the answer contains {key:?}, which does not have the prefix"
                    )));
                }
                let relative = bucket.relative(&key).unwrap_or(&key).to_owned();
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                let size = size.ok_or_else(|| broken(&format!("{relative:?} has no size")))?;
                let class = object.storage_class().map(|class| class.as_str());
                objects.push(StoredObject {
                    key: relative,
                    size,
                    modified: time(object.last_modified()),
                    tag: object.e_tag().map(str::to_owned),
                    archive: protection::is_archive(class).then_some(ArchiveState::Frozen),
                });
                check_listing(&place, objects.len())?;
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            let Some(next) = page.next_continuation_token().filter(|t| !t.is_empty()) else {
                return Err(broken("a page is marked as truncated, but has no continuation token"));
            };
            if !tokens.insert(next.to_owned()) {
                return Err(broken("a continuation token occurs twice"));
            }
            token = Some(next.to_owned());
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }

    async fn delete(&self, key: &str) -> StoreResult<Deleted> {
        check_key(key)?;
        self.bucket.delete(key).await
    }

    /// Deletes these objects in batches. An object that a batch does not delete is deleted by a separate
    /// request, whose answer contains the reason. All objects are deleted this way if the service lacks
    /// DeleteObjects (Google Cloud Storage answers 400 or 501).
    async fn delete_all(&self, keys: &[String]) -> Vec<StoreResult<Deleted>> {
        let bucket = &self.bucket;
        let mut answers = Vec::with_capacity(keys.len());
        for keys in keys.chunks(AT_ONCE) {
            // An invalid key would fail the whole batch.
            let whole = keys.len() > 1
                && bucket.batches.load(Ordering::Relaxed)
                && keys.iter().all(|key| check_key(key).is_ok());
            let gone = if whole { bucket.delete_batch(keys).await } else { Ok(HashMap::new()) };
            let gone = match gone {
                Ok(gone) => gone,
                // Single requests would wait as long, once for each object.
                Err(e) if e.away() => {
                    let error = |key: &String| Err(bucket.error(&e, "s3:DeleteObject", "delete", key));
                    answers.extend(keys.iter().map(error));
                    continue;
                }
                Err(e) => {
                    bucket.set_batchless(&e.text());
                    HashMap::new()
                }
            };
            for key in keys {
                answers.push(match gone.get(key) {
                    Some(left) => Ok(*left),
                    None => self.delete(key).await,
                });
            }
        }
        answers
    }

    async fn begin(&self, spec: &UploadSpec) -> StoreResult<Arc<dyn Upload>> {
        check_upload(&self.limits(), spec, &self.bucket.place(&spec.key))?;
        Ok(Arc::new(upload::S3Upload::begin(Arc::clone(&self.bucket), spec).await?))
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> StoreResult<()> {
        check_key(key)?;
        self.bucket.abort(key, upload_id).await
    }

    fn retries(&self) -> Vec<String> {
        self.bucket.repeats.line().into_iter().collect()
    }

    async fn clock(&self) -> StoreResult<DateTime<Utc>> {
        if self.bucket.connection.clock().is_none() {
            self.check().await?;
        }
        self.bucket.connection.clock().ok_or_else(|| {
            StoreError::failed(format!("cannot read the clock of {}", self.place()), "the answer has no Date")
        })
    }
}

/// The most keys of one DeleteObjects (Amazon S3 API reference).
const AT_ONCE: usize = 1_000;

/// What remains of an object, from the `delete_marker` of the answer.
fn remains(marker: Option<bool>) -> Deleted {
    if marker == Some(true) { Deleted::Hidden } else { Deleted::Gone }
}

/// Decodes `encoding-type=url`: percent signs, and `+` for a space.
fn decode(text: &str) -> Option<String> {
    let is_code = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().ok()?;
    text.split('%').skip(1).all(is_code).then(|| decoded.into_owned())
}

/// The state that all operations share.
struct Bucket {
    options: S3Options,
    /// Empty, or ends in `/`.
    prefix: String,
    connection: Connection,
    repeats: Repeats,
    /// Limits the bodies of all uploads.
    rate: Rate,
    /// The service accepts `If-None-Match`. True until it refuses the header.
    conditional: AtomicBool,
    /// The service accepts DeleteObjects. True until it refuses one.
    batches: AtomicBool,
}

impl Bucket {
    fn name(&self) -> &str {
        &self.options.bucket
    }

    /// The whole key in the bucket.
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key below the prefix; `None` for keys elsewhere.
    fn relative<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&self.prefix)
    }

    /// An object's place for messages.
    fn place(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.name(), self.prefix)
    }

    /// Remembers that the service refuses `If-None-Match`, and logs it the first time.
    fn set_unconditional(&self) {
        if self.conditional.swap(false, Ordering::Relaxed) {
            log::warn!(
                "{} does not support conditional writes (If-None-Match): keys are checked before they are written, \
                 but two runs at the same instant may overwrite each other's objects",
                self.place("")
            );
        }
    }

    /// Remembers that the service refuses DeleteObjects.
    fn set_batchless(&self, why: &str) {
        if self.batches.swap(false, Ordering::Relaxed) {
            log::info!(
                "{} does not support DeleteObjects: objects are deleted one by one ({why})",
                self.place("")
            );
        }
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.sse {
            None => (None, None),
            Some(Sse::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Sse::Kms(key)) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    async fn delete(&self, key: &str) -> StoreResult<Deleted> {
        let delete = |client: Client| client.delete_object().bucket(self.name()).key(self.full(key)).send();
        match self.send("DeleteObject", delete).await {
            Ok(deleted) => Ok(remains(deleted.delete_marker())),
            Err(e) if e.is(&["NoSuchKey"]) => Ok(Deleted::Gone),
            Err(e) => Err(self.error(&e, "s3:DeleteObject", "delete", key)),
        }
    }

    /// Sends DeleteObjects. Returns the keys that were deleted, with what remains of each.
    async fn delete_batch(&self, keys: &[String]) -> Result<HashMap<String, Deleted>, S3Failure> {
        let unusable = |e: aws_sdk_s3::error::BuildError| S3Failure::lost(&e.to_string());
        let identifiers: Result<Vec<_>, _> =
            keys.iter().map(|key| ObjectIdentifier::builder().key(self.full(key)).build()).collect();
        let objects = identifiers.map_err(unusable)?;
        let delete = Delete::builder().set_objects(Some(objects)).build().map_err(unusable)?;
        let answer = self
            .send("DeleteObjects", |client| {
                client
                    .delete_objects()
                    .bucket(self.name())
                    .delete(delete.clone())
                    .customize()
                    .mutate_request(add_md5)
                    .send()
            })
            .await?;
        let went = answer.deleted().iter().filter_map(|object| {
            let key = self.relative(object.key()?)?.to_owned();
            Some((key, remains(object.delete_marker())))
        });
        Ok(went.collect())
    }
}

/// Services from before 2022 require `Content-MD5` with DeleteObjects, as Amazon did. The SDK sends a newer
/// checksum.
fn add_md5(request: &mut HttpRequest) {
    let md5 = request.body().bytes().map(|body| STANDARD.encode(Md5::digest(body)));
    if let Some(md5) = md5 {
        request.headers_mut().insert("content-md5", md5);
    }
}

/// Converts a time of the SDK. A missing or impossible time becomes the epoch.
fn time(time: Option<&SdkDateTime>) -> DateTime<Utc> {
    time.and_then(|t| DateTime::from_timestamp(t.secs(), t.subsec_nanos())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_encoded_keys_are_decoded() {
        assert_eq!(decode("a%2Fb+c%2B%C3%A9").as_deref(), Some("a/b c+\u{e9}"));
        assert_eq!(decode("a%2"), None);
        assert_eq!(decode("%ff"), None);
    }
}
