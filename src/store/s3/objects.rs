//! Small objects: writing, reading and looking at one, and create-only writes (`If-None-Match: *`).
//!
//! A create-only write that is repeated after a lost answer meets its own first attempt and gets 412 (seen on
//! MinIO, Versity Gateway and moto). So after a 412 the object is read back and compared.

use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::super::checksum::crc64nvme;
use super::super::{Result, StoreError, StoreErrorKind, StoredObject};
use super::client::time_limit;
use super::failure::S3Failure;
use super::flow::UnderWay;
use super::{Bucket, protection, time};
use crate::base::units::{count, several};

/// How a small object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// It replaces an existing object.
    Any,
    /// Only if the service finds that the key is free, and with the retention period of the settings.
    New,
    /// As `New`, but the caller has checked that the key is free.
    Looked,
}

impl Bucket {
    pub(super) async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.put_object(key, &body, Put::Any).await.map_err(|e| self.error(&e, "s3:PutObject", "write", key))
    }

    /// Sends PutObject, and repeats it while the body is damaged on the way. Small objects have the bucket's
    /// default storage class, because a manifest in an archive class could not be read.
    async fn put_object(&self, key: &str, body: &Bytes, put: Put) -> std::result::Result<(), S3Failure> {
        let mode = self.options.checksum;
        let headers = mode.headers(body, mode.sum(body, crc64nvme(body)));
        let (sse, kms_key) = self.encryption();
        let (lock, until) = if put == Put::Any { (None, None) } else { self.retention() };
        let (mut tried, mut waiting) = (0, self.start());
        loop {
            tried += 1;
            let sent = self
                .send_within(&mut waiting, "PutObject", |client| {
                    let flow = self.flow(body.len(), &UnderWay::default());
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

    pub(super) async fn get(&self, key: &str, most: u64) -> Result<Bytes> {
        self.read(key, None, most).await
    }

    pub(super) async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let wanted = range.end - range.start;
        let bytes = self.read(key, Some(&range), wanted).await?;
        if bytes.len() as u64 != wanted {
            let cause =
                format!("{wanted} bytes from {} on were asked for, {} came", range.start, bytes.len());
            return Err(StoreError::new(
                StoreErrorKind::Damaged,
                format!("cannot read {}", self.place(key)),
                cause,
            ));
        }
        Ok(bytes)
    }

    /// Reads an object or a range of it, at most `most` bytes. A body that ends early is requested again.
    async fn read(&self, key: &str, range: Option<&Range<u64>>, most: u64) -> Result<Bytes> {
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
                    return Err(StoreError::new(
                        StoreErrorKind::Damaged,
                        doing(),
                        format!("it ends before byte {}", header.unwrap_or_default()),
                    ));
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

    pub(super) async fn head(&self, key: &str) -> Result<Option<StoredObject>> {
        Ok(self.head_object(key).await?.map(|head| StoredObject {
            key: key.to_owned(),
            size: u64::try_from(head.content_length().unwrap_or(0)).unwrap_or(0),
            modified: time(head.last_modified()),
            tag: head.e_tag().map(str::to_owned),
            archive: protection::archive_of_head(&head),
        }))
    }

    pub(super) async fn head_object(&self, key: &str) -> Result<Option<HeadObjectOutput>> {
        let answer = self
            .send("HeadObject", |client| client.head_object().bucket(self.name()).key(self.full(key)).send())
            .await
            .map_err(S3Failure::of_head);
        match answer {
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
) -> std::result::Result<Bytes, Unread> {
    let (length, said) = (answer.content_length(), answer.content_range().map(str::to_owned));
    if let (Some(range), Some(said)) = (range, &said)
        && !said.starts_with(&format!("bytes {}-", range.start))
    {
        return Err(Unread::Broken(format!("bytes from {} on were asked for, {said} came", range.start)));
    }
    let length = length.and_then(|l| u64::try_from(l).ok());
    if length.is_some_and(|length| length > most) {
        return Err(Unread::TooLarge(length));
    }
    // A chunked body has no length in its header, and may be endless.
    let (mut chunks, mut size) = (Vec::new(), 0);
    while let Some(chunk) = answer.body.next().await {
        let chunk = chunk.map_err(|e| Unread::Broken(format!("the answer broke off: {e}")))?;
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
            Err(Unread::Broken(format!("the answer broke off after {came} of {length}")))
        }
        _ => Ok(bytes),
    }
}

/// The content of the key after a write with an unclear result.
enum ReadBack {
    Ours,
    Others,
    Nothing,
}

impl Bucket {
    pub(super) async fn create(&self, key: &str, body: Bytes) -> Result<()> {
        let (mut tried, mut waiting) = (0, self.start());
        loop {
            tried += 1;
            let failure = match self.put_new(key, &body).await? {
                None => return Ok(()),
                Some(failure) => failure,
            };
            let taken = failure.status == Some(412) || failure.is(&["PreconditionFailed"]);
            let conflict = failure.status == Some(409);
            if !taken && !conflict && !failure.lost {
                return Err(self.error(&failure, "s3:PutObject", "write", key));
            }
            match self.settle(key, &body).await {
                Ok(ReadBack::Ours) => return Ok(()),
                Ok(ReadBack::Others) => return Err(self.taken(key)),
                // 409 ConditionalRequestConflict: another write of the key was under way and may have failed.
                // S3's documentation says to retry. Other failures were repeated already.
                Ok(ReadBack::Nothing)
                    if conflict && self.repeat(&mut waiting, "PutObject", &failure.reason(), tried).await => {
                }
                Ok(ReadBack::Nothing) | Err(_) => {
                    return Err(self.error(&failure, "s3:PutObject", "write", key));
                }
            }
        }
    }

    /// Sends a conditional put. If the service refuses the header, checks the key and sends a plain put.
    async fn put_new(&self, key: &str, body: &Bytes) -> Result<Option<S3Failure>> {
        if self.conditional() {
            let failure = match self.put_object(key, body, Put::New).await {
                Ok(()) => return Ok(None),
                Err(failure) => failure,
            };
            if !failure.unsupported() {
                return Ok(Some(failure));
            }
            // The condition may be the cause: the result of the plain put shows that.
            let sent = self.look_and_put(key, body).await?;
            if sent.is_none() {
                self.set_unconditional();
            }
            return Ok(sent);
        }
        self.look_and_put(key, body).await
    }

    async fn look_and_put(&self, key: &str, body: &Bytes) -> Result<Option<S3Failure>> {
        if self.head(key).await?.is_some() {
            return match self.settle(key, body).await? {
                ReadBack::Ours => Ok(None),
                _ => Err(self.taken(key)),
            };
        }
        Ok(self.put_object(key, body, Put::Looked).await.err())
    }

    async fn settle(&self, key: &str, body: &Bytes) -> Result<ReadBack> {
        match self.get(key, body.len() as u64).await {
            Ok(found) if found == body => Ok(ReadBack::Ours),
            Ok(_) => Ok(ReadBack::Others),
            Err(e) if e.kind == StoreErrorKind::Damaged => Ok(ReadBack::Others),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(ReadBack::Nothing),
            Err(e) => Err(e),
        }
    }

    fn taken(&self, key: &str) -> StoreError {
        StoreError::new(
            StoreErrorKind::Exists,
            format!("cannot write {}", self.place(key)),
            "it exists with other content",
        )
    }
}
