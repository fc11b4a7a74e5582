//! Small objects: writing, reading and inspecting them, and create-only writes (`If-None-Match: *`).
//!
//! A create-only write that is repeated after a lost answer meets its own first attempt and gets 412 (seen on
//! MinIO, Versity Gateway and moto). So after a 412 the object is read back and compared.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;

use super::super::checksum::crc64nvme;
use super::super::{StoreError, StoreErrorKind, StoreResult, StoredObject};
use super::client::time_limit;
use super::failure::S3Failure;
use super::{Bucket, protection, time};
use crate::base::units::{count, several};

/// How a small object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It replaces an existing object.
    Any,
    /// Only if the service finds that the key is free, and with the retention period of the settings.
    New,
    /// As `New`, but the caller has checked that the key is free.
    KnownFree,
}

impl Bucket {
    /// Sends PutObject, and repeats it while the body is damaged on the way. Small objects have the bucket's
    /// default storage class, because a manifest in an archive class could not be read.
    pub(super) async fn put_object(&self, key: &str, body: &Bytes, put: Put) -> Result<(), S3Failure> {
        let mode = self.options.checksum;
        let headers = mode.headers(body, mode.sum(body, crc64nvme(body)));
        let (sse, kms_key) = self.encryption();
        let (lock, until) = if put == Put::Any { (None, None) } else { self.retention() };
        let (mut tried, mut waiting) = (0, self.start());
        loop {
            tried += 1;
            let sent = self
                .send_within(&mut waiting, "PutObject", |client| {
                    let flow = self.flow(body.len(), &Arc::default());
                    let request = client
                        .put_object()
                        .bucket(self.name())
                        .key(self.full(key))
                        .set_checksum_crc64_nvme(headers.crc64nvme.clone())
                        .set_checksum_crc32_c(headers.crc32c.clone())
                        .set_content_md5(headers.content_md5.clone())
                        .set_server_side_encryption(sse.clone())
                        .set_ssekms_key_id(kms_key.clone())
                        .set_object_lock_mode(lock.clone())
                        .set_object_lock_retain_until_date(until)
                        .set_if_none_match((put == Put::New).then(|| "*".to_owned()))
                        .body(ByteStream::from(body.clone()))
                        .customize()
                        .config_override(time_limit(&self.options, None))
                        .interceptor(flow.meter())
                        .send();
                    flow.watch(request)
                })
                .await;
            match sent {
                Ok(put) if put.e_tag().is_some() => return Ok(()),
                // Every S3 service sends an ETag. An answer without one may be the web page of a proxy.
                Ok(_) => return Err(S3Failure::lost("the answer to the put has no ETag")),
                Err(e)
                    if e.damaged_on_the_way()
                        && self.repeat(&mut waiting, "PutObject", &e.reason(), tried).await => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Reads an object or a range of it, at most `most` bytes. A body that ends early is requested again.
    pub(super) async fn get(&self, key: &str, range: Option<&Range<u64>>, most: u64) -> StoreResult<Bytes> {
        let doing = || format!("cannot read {}", self.place(key));
        let mut waiting = self.start();
        loop {
            let header = range.map(|r| format!("bytes={}-{}", r.start, r.end - 1));
            let answer = self
                .send_within(&mut waiting, "GetObject", |client| {
                    client
                        .get_object()
                        .bucket(self.name())
                        .key(self.full(key))
                        .set_range(header.clone())
                        .send()
                })
                .await;
            let answer = match answer {
                Ok(answer) => answer,
                Err(e) if range.is_some() && (e.status == Some(416) || e.is(&["InvalidRange"])) => {
                    let cause = format!("it ends before byte {}", header.unwrap_or_default());
                    return Err(StoreError::damaged(doing(), cause));
                }
                Err(e) => {
                    let archived = protection::archived(&e, doing(), &self.full(key), &self.options);
                    return Err(archived.unwrap_or_else(|| self.error(&e, "s3:GetObject", "read", key)));
                }
            };
            match whole_body(answer, range, most).await {
                Ok(bytes) => return Ok(bytes),
                Err(Unread::TooLarge(size)) => return Err(StoreError::too_large(doing(), size, most)),
                Err(Unread::Broken(cause)) => {
                    log::debug!("{}: {cause}", doing());
                    let broken = S3Failure { message: cause, broken_off: true, ..S3Failure::default() };
                    if let Err(broken) = self.pause(&mut waiting, "GetObject", broken).await {
                        return Err(self.error(&broken, "s3:GetObject", "read", key));
                    }
                }
            }
        }
    }

    pub(super) async fn head(&self, key: &str) -> StoreResult<Option<StoredObject>> {
        Ok(self.head_object(key, None).await?.map(|head| StoredObject {
            key: key.to_owned(),
            size: u64::try_from(head.content_length().unwrap_or(0)).unwrap_or(0),
            modified: time(head.last_modified()),
            tag: head.e_tag().map(str::to_owned),
            archive: protection::archive_of_head(&head),
        }))
    }

    /// Sends HeadObject. The answer is `None` if the object does not exist.
    pub(super) async fn head_object(
        &self,
        key: &str,
        checksum: Option<ChecksumMode>,
    ) -> StoreResult<Option<HeadObjectOutput>> {
        let head = |client: Client| {
            let request = client.head_object().bucket(self.name()).key(self.full(key));
            request.set_checksum_mode(checksum.clone()).send()
        };
        match self.send("HeadObject", head).await.map_err(S3Failure::of_head) {
            Ok(head) => Ok(Some(head)),
            Err(e) if e.not_found() => Ok(None),
            Err(e) => Err(self.error(&e, "s3:GetObject and s3:ListBucket", "look at", key)),
        }
    }
}

/// Why a body was rejected.
enum Unread {
    /// It is larger than the caller accepts. The size is `None` if the header lacks it.
    TooLarge(Option<u64>),
    /// It ended early, or is not the requested range.
    Broken(String),
}

/// Returns the body if its length matches the header and, for a range, its start matches the request.
async fn whole_body(
    mut answer: GetObjectOutput,
    range: Option<&Range<u64>>,
    most: u64,
) -> Result<Bytes, Unread> {
    let (length, said) = (answer.content_length(), answer.content_range().map(str::to_owned));
    if let (Some(range), Some(said)) = (range, &said)
        && !said.starts_with(&format!("bytes {}-", range.start))
    {
        return Err(Unread::Broken(format!(
            "bytes from byte {} were requested, but {said} were received",
            range.start
        )));
    }
    let length = length.and_then(|l| u64::try_from(l).ok());
    if length.is_some_and(|length| length > most) {
        return Err(Unread::TooLarge(length));
    }
    // A chunked body has no length in its header, and may be endless.
    let (mut chunks, mut size) = (Vec::new(), 0);
    while let Some(chunk) = answer.body.next().await {
        let chunk = chunk.map_err(|e| Unread::Broken(format!("the answer ended early: {e}")))?;
        size += chunk.len() as u64;
        if size > most {
            return Err(Unread::TooLarge(None));
        }
        chunks.push(chunk);
    }
    let bytes = match &mut chunks[..] {
        [only] => std::mem::take(only),
        _ => chunks.concat().into(),
    };
    match length {
        Some(length) if length != bytes.len() as u64 => {
            let (came, length) = (count(bytes.len() as u64), several(length, "byte"));
            Err(Unread::Broken(format!("the answer ended after {came} of {length}")))
        }
        _ => Ok(bytes),
    }
}

impl Bucket {
    pub(super) async fn create(&self, key: &str, body: Bytes) -> StoreResult<()> {
        let (mut tried, mut waiting) = (0, self.start());
        loop {
            tried += 1;
            let Some(failure) = self.put_new(key, &body).await? else { return Ok(()) };
            let taken = failure.status == Some(412) || failure.is(&["PreconditionFailed"]);
            let conflict = failure.status == Some(409);
            let error = || self.error(&failure, "s3:PutObject", "write", key);
            if !taken && !conflict && !failure.lost {
                return Err(error());
            }
            match self.holds(key, &body).await {
                Ok(Some(true)) => return Ok(()),
                Ok(Some(false)) => return Err(self.taken(key)),
                // 409 ConditionalRequestConflict: another write of the key was under way and may have failed.
                // S3's documentation says to retry. Other failures were repeated already.
                Ok(None)
                    if conflict && self.repeat(&mut waiting, "PutObject", &failure.reason(), tried).await => {
                }
                Ok(None) | Err(_) => return Err(error()),
            }
        }
    }

    /// Sends a conditional put. If the service refuses the header, checks the key and sends a plain put.
    async fn put_new(&self, key: &str, body: &Bytes) -> StoreResult<Option<S3Failure>> {
        let conditional = self.conditional.load(Ordering::Relaxed);
        if conditional {
            match self.put_object(key, body, Put::New).await {
                Ok(()) => return Ok(None),
                // The condition may be the cause: the result of the plain put shows that.
                Err(failure) if failure.unsupported() => {}
                Err(failure) => return Ok(Some(failure)),
            }
        }
        let failure = match self.head(key).await? {
            Some(_) if self.holds(key, body).await? == Some(true) => None,
            Some(_) => return Err(self.taken(key)),
            None => self.put_object(key, body, Put::KnownFree).await.err(),
        };
        if conditional && failure.is_none() {
            self.set_unconditional();
        }
        Ok(failure)
    }

    /// Returns true if the object has exactly these bytes; `None` if it does not exist.
    async fn holds(&self, key: &str, body: &Bytes) -> StoreResult<Option<bool>> {
        match self.get(key, None, body.len() as u64).await {
            Ok(found) => Ok(Some(found == body)),
            Err(e) if e.kind == StoreErrorKind::Damaged => Ok(Some(false)),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn taken(&self, key: &str) -> StoreError {
        let doing = format!("cannot write {}", self.place(key));
        StoreError::new(StoreErrorKind::Exists, doing, "it exists with other content")
    }
}
