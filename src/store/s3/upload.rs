//! A multipart upload: parts in any order, each with its checksum, then the completion, which is verified.
//!
//! The answer to a completion may be lost. The object carries a random token of its upload in its metadata,
//! which shows whether the object under the key belongs to this upload.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode as HeadMode, CompletedMultipartUpload, CompletedPart, StorageClass};
use bytes::Bytes;

use super::super::checksum::{BodySum, ChecksumHeaders, PartSum, agree, crc64nvme, multipart_etag};
use super::super::{StoreError, StoreErrorKind, StoreResult, Upload, UploadSpec, Whole, check_part};
use super::Bucket;
use super::client::time_limit;
use super::failure::S3Failure;
use crate::base::units::{count, several};
use crate::config::store::Sse;

/// The name of the metadata with the token of the upload.
const TOKEN: &str = "upload-token";

pub(super) struct S3Upload {
    bucket: Arc<Bucket>,
    key: String,
    part_size: u64,
    id: String,
    token: String,
    parts: Mutex<BTreeMap<u32, S3Part>>,
    under_way: Arc<AtomicU64>,
    /// A completion was requested and its result is unknown: the object may exist.
    in_doubt: AtomicBool,
    /// The store confirmed the completion.
    completed: AtomicBool,
    ended: AtomicBool,
    /// The object is verified, or the upload and its object are removed.
    settled: AtomicBool,
    /// An answer to CreateMultipartUpload was lost: it may have begun a second upload.
    twin: bool,
    /// As in [`UploadSpec::probe`].
    probe: bool,
}

#[derive(Debug, Clone)]
struct S3Part {
    plain: PartSum,
    sum: BodySum,
    etag: String,
}

impl S3Upload {
    pub(super) async fn begin(bucket: Arc<Bucket>, spec: &UploadSpec) -> StoreResult<S3Upload> {
        let token = format!("{:032x}", (bucket.options.machine.random)());
        let options = &bucket.options;
        let (sse, kms_key) = bucket.encryption();
        let (mut twin, mut waiting) = (false, bucket.start());
        let class = options.storage_class.as_deref().filter(|_| !spec.probe).map(StorageClass::from);
        let (lock, until) = if spec.probe { (None, None) } else { bucket.retention() };
        let answer = loop {
            let answer = bucket
                .send_once(|client| {
                    let metadata = spec.metadata.iter().cloned().chain([(TOKEN.to_owned(), token.clone())]);
                    client
                        .create_multipart_upload()
                        .bucket(bucket.name())
                        .key(bucket.full(&spec.key))
                        .set_metadata(Some(metadata.collect()))
                        .set_checksum_algorithm(options.checksum.algorithm())
                        .set_checksum_type(options.checksum.checksum_type())
                        .set_storage_class(class.clone())
                        .set_object_lock_mode(lock.clone())
                        .set_object_lock_retain_until_date(until)
                        .set_server_side_encryption(sse.clone())
                        .set_ssekms_key_id(kms_key.clone())
                        .send()
                })
                .await;
            match answer {
                Ok(answer) => break answer,
                Err(e) => {
                    twin |= e.lost;
                    if let Err(e) = bucket.pause(&mut waiting, "CreateMultipartUpload", e).await {
                        if twin {
                            bucket.abort_same_key(&spec.key).await;
                        }
                        return Err(bucket.error(&e, "s3:PutObject", "begin the upload of", &spec.key));
                    }
                }
            }
        };
        let Some(id) = answer.upload_id().filter(|id| !id.is_empty()).map(str::to_owned) else {
            let doing = format!("cannot begin the upload of {}", bucket.place(&spec.key));
            return Err(StoreError::failed(doing, "the answer holds no upload id"));
        };
        Ok(S3Upload {
            key: spec.key.clone(),
            part_size: spec.part_size,
            id,
            token,
            parts: Mutex::default(),
            under_way: Arc::default(),
            in_doubt: AtomicBool::new(false),
            completed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            twin,
            probe: spec.probe,
            bucket,
        })
    }

    fn doing(&self) -> String {
        format!("cannot write {}", self.bucket.place(&self.key))
    }

    fn wrong(&self, kind: StoreErrorKind, cause: impl std::fmt::Display) -> StoreError {
        StoreError::new(kind, self.doing(), cause)
    }

    fn damaged(&self, cause: impl std::fmt::Display) -> StoreError {
        self.wrong(StoreErrorKind::Damaged, cause)
    }

    /// The checksum headers of the whole object.
    fn headers(parts: &BTreeMap<u32, S3Part>) -> ChecksumHeaders {
        BodySum::of_parts(parts.values().map(|part| (part.sum, part.plain.len))).headers()
    }

    fn completed(parts: &BTreeMap<u32, S3Part>) -> CompletedMultipartUpload {
        let parts = parts.iter().map(|(index, part)| {
            let headers = part.sum.headers();
            CompletedPart::builder()
                .part_number(number(*index))
                .e_tag(&part.etag)
                .set_checksum_crc64_nvme(headers.crc64nvme)
                .set_checksum_crc32_c(headers.crc32c)
                .build()
        });
        CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build()
    }

    /// Sends a part, and repeats it while it is damaged on the way.
    async fn send_part(&self, index: u32, body: &Bytes, sum: BodySum) -> StoreResult<String> {
        let headers = self.bucket.options.checksum.headers(body, sum);
        let (mut tried, mut waiting) = (0, self.bucket.start());
        loop {
            tried += 1;
            let answer = self
                .bucket
                .send_within(&mut waiting, "UploadPart", |client| {
                    let flow = self.bucket.flow(body.len(), &self.under_way);
                    let request = client
                        .upload_part()
                        .bucket(self.bucket.name())
                        .key(self.bucket.full(&self.key))
                        .upload_id(&self.id)
                        .part_number(number(index))
                        .set_checksum_crc64_nvme(headers.crc64nvme.clone())
                        .set_checksum_crc32_c(headers.crc32c.clone())
                        .set_content_md5(headers.content_md5.clone())
                        .body(ByteStream::from(body.clone()))
                        .customize()
                        .config_override(time_limit(&self.bucket.options, None))
                        .interceptor(flow.meter())
                        .send();
                    flow.watch(request)
                })
                .await;
            let (cause, reason) = match answer {
                Ok(part) => {
                    let same = |said: Option<&str>, ours: &Option<String>| {
                        said.is_none() || ours.is_none() || said == ours.as_deref()
                    };
                    let right = same(part.checksum_crc64_nvme(), &headers.crc64nvme)
                        && same(part.checksum_crc32_c(), &headers.crc32c);
                    match part.e_tag() {
                        Some(etag) if right => return Ok(etag.to_owned()),
                        Some(_) => {
                            let cause = format!("the store reports another checksum of part {}", index + 1);
                            (self.damaged(cause), "another checksum".to_owned())
                        }
                        None => {
                            let cause = format!("the answer for part {} has no ETag", index + 1);
                            (self.wrong(StoreErrorKind::Failed, cause), "no ETag".to_owned())
                        }
                    }
                }
                Err(e) if e.damaged_on_the_way() => {
                    (self.bucket.error(&e, "s3:PutObject", "write", &self.key), e.reason())
                }
                Err(e) => return Err(self.bucket.error(&e, "s3:PutObject", "write", &self.key)),
            };
            if !self.bucket.repeat(&mut waiting, "UploadPart", &reason, tried).await {
                return Err(cause);
            }
            log::debug!("{cause}: sending part {} again", index + 1);
        }
    }
}

#[async_trait]
impl Upload for S3Upload {
    fn id(&self) -> &str {
        &self.id
    }

    fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    async fn put_part(&self, index: u32, body: Bytes) -> StoreResult<()> {
        if self.ended.load(Ordering::Acquire) {
            return Err(self.wrong(StoreErrorKind::Failed, "the upload has ended"));
        }
        let (limits, place) = (&self.bucket.options.limits, self.bucket.place(&self.key));
        check_part(limits, index, &body, self.part_size, &place)?;
        let plain = PartSum { len: body.len() as u64, crc64nvme: crc64nvme(&body) };
        let sum = self.bucket.options.checksum.sum(&body, plain.crc64nvme);
        let etag = self.send_part(index, &body, sum).await?;
        let part = S3Part { plain, sum, etag };
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(index, part);
        Ok(())
    }

    async fn complete(&self, whole: &Whole) -> StoreResult<()> {
        if self.ended.swap(true, Ordering::AcqRel) {
            return Err(self.wrong(StoreErrorKind::Failed, "the upload has ended"));
        }
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sums = parts.iter().map(|(index, part)| (*index, part.plain));
        let done = match agree(sums, self.part_size, whole) {
            Ok(()) => self.finish(&parts, whole).await,
            Err(cause) => Err(self.damaged(cause)),
        };
        if done.is_err()
            && let Err(e) = self.clear().await
        {
            log::warn!("{e}");
        }
        done
    }

    async fn abort(&self) -> StoreResult<()> {
        self.ended.store(true, Ordering::Release);
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        self.clear().await
    }
}

/// S3 numbers parts from 1 to 10,000.
fn number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX - 1) + 1
}

impl S3Upload {
    /// Completes the upload and compares the stored object with `whole`.
    async fn finish(&self, parts: &BTreeMap<u32, S3Part>, whole: &Whole) -> StoreResult<()> {
        let (mut tried, mut waiting) = (0, self.bucket.start());
        let mut conditional = self.bucket.conditional.load(Ordering::Relaxed) && !self.probe;
        loop {
            tried += 1;
            if !conditional && !self.probe && self.bucket.head(&self.key).await?.is_some() {
                return Err(self.wrong(StoreErrorKind::Exists, "it exists"));
            }
            self.in_doubt.store(true, Ordering::Release);
            let failure = match self.ask(parts, whole, conditional).await {
                Ok(()) => {
                    self.completed.store(true, Ordering::Release);
                    break;
                }
                Err(failure) => failure,
            };
            let error = self.bucket.error(&failure, "s3:PutObject", "complete", &self.key);
            if conditional && failure.unsupported() && self.own_object().await?.is_none() {
                // The condition may be the cause: the answer to a request without it shows that.
                conditional = false;
                tried -= 1;
                continue;
            }
            // A repeated request also gets NoSuchUpload or 412 if the answer to the first one was lost. The
            // object's token decides.
            let gone = failure.is(&["NoSuchUpload"]);
            let taken = failure.status == Some(412);
            let conflict = failure.status == Some(409);
            let doubtful = failure.lost || failure.status == Some(200);
            if !gone && !taken && !conflict && !doubtful {
                self.in_doubt.store(false, Ordering::Release);
                return Err(error);
            }
            if self.own_object().await?.is_some() {
                break;
            }
            if taken && self.bucket.head(&self.key).await?.is_some() {
                self.in_doubt.store(false, Ordering::Release);
                return Err(self.wrong(StoreErrorKind::Exists, "it exists"));
            }
            // Other failures were repeated already.
            let operation = "CompleteMultipartUpload";
            if !conflict || !self.bucket.repeat(&mut waiting, operation, &failure.reason(), tried).await {
                return Err(error);
            }
        }
        if !conditional && !self.probe {
            self.bucket.set_unconditional();
        }
        self.verify(parts, whole).await?;
        if self.twin {
            self.bucket.abort_same_key(&self.key).await;
        }
        self.settled.store(true, Ordering::Release);
        Ok(())
    }

    /// Sends CompleteMultipartUpload. The SDK recognises an error in the body of a 200.
    async fn ask(
        &self,
        parts: &BTreeMap<u32, S3Part>,
        whole: &Whole,
        conditional: bool,
    ) -> Result<(), S3Failure> {
        let (headers, limit) = (S3Upload::headers(parts), self.bucket.options.timeouts.answer * 10);
        self.bucket
            .send("CompleteMultipartUpload", |client| {
                client
                    .complete_multipart_upload()
                    .bucket(self.bucket.name())
                    .key(self.bucket.full(&self.key))
                    .upload_id(&self.id)
                    .multipart_upload(S3Upload::completed(parts))
                    .set_checksum_type(self.bucket.options.checksum.checksum_type())
                    .set_checksum_crc64_nvme(headers.crc64nvme.clone())
                    .set_checksum_crc32_c(headers.crc32c.clone())
                    .set_mpu_object_size(i64::try_from(whole.size).ok())
                    .set_if_none_match(conditional.then(|| "*".to_owned()))
                    .customize()
                    // S3 may need minutes to assemble a large object.
                    .config_override(time_limit(&self.bucket.options, Some(limit)))
                    .send()
            })
            .await
            .map(|_| ())
    }

    /// The object under the key, if it carries this upload's token.
    async fn own_object(&self) -> StoreResult<Option<HeadObjectOutput>> {
        let mode = self.bucket.options.checksum.algorithm().map(|_| HeadMode::Enabled);
        let head = self.bucket.head_object(&self.key, mode).await?;
        Ok(head.filter(|head| head.metadata().and_then(|all| all.get(TOKEN)) == Some(&self.token)))
    }

    /// Compares the size and checksum that the store reports. [`clear`](Self::clear) later deletes an object
    /// that differs.
    async fn verify(&self, parts: &BTreeMap<u32, S3Part>, whole: &Whole) -> StoreResult<()> {
        let (mut tried, mut waiting) = (0, self.bucket.start());
        let head = loop {
            tried += 1;
            let absent = "the new object was not visible yet";
            match self.own_object().await? {
                Some(head) => break head,
                None if self.bucket.repeat(&mut waiting, "HeadObject", absent, tried).await => {}
                None => {
                    let cause = "the store confirmed the upload, but the object does not exist";
                    return Err(self.wrong(StoreErrorKind::Failed, cause));
                }
            }
        };
        let size = head.content_length().and_then(|size| u64::try_from(size).ok());
        if size != Some(whole.size) {
            let (sent, has) = (several(whole.size, "byte"), count(size.unwrap_or(0)));
            let cause = format!("{sent} were sent, but the store has {has}");
            return Err(self.damaged(cause));
        }
        let ours = S3Upload::headers(parts);
        // A composite checksum (`…-3`) is computed from the parts' checksums, not from the bytes.
        let said = head.checksum_crc64_nvme().or(head.checksum_crc32_c()).filter(|sum| !sum.contains('-'));
        let sent = ours.crc64nvme.as_deref().or(ours.crc32c.as_deref());
        match (said, sent) {
            (Some(said), Some(sent)) if said == sent => Ok(()),
            (Some(said), Some(sent)) => {
                let error = self.damaged(format!("the store's checksum is {said}, but {sent} was sent"));
                // Another length shows another algorithm: the service does not support the requested one.
                Err(match said.len() == sent.len() {
                    true => error,
                    false => error.hint("Set S3_CHECKSUM to crc32c or none for this service"),
                })
            }
            _ => self.verify_etag(head.e_tag(), parts),
        }
    }

    /// Compares the multipart ETag, if it consists of MD5s. For services without checksums.
    fn verify_etag(&self, said: Option<&str>, parts: &BTreeMap<u32, S3Part>) -> StoreResult<()> {
        let kms = matches!(self.bucket.options.sse, Some(Sse::Kms(_)));
        let said = said.map(|etag| etag.trim_matches('"')).filter(|etag| !kms && is_multipart_etag(etag));
        match (said, multipart_etag(parts.values().map(|part| part.etag.as_str()))) {
            (Some(said), Some(ours)) if said == ours => Ok(()),
            (Some(said), Some(ours)) => Err(self.damaged(format!(
                "the store's ETag is {said}, but the ETag computed from the parts is {ours}"
            ))),
            _ => {
                let key = &self.key;
                log::debug!("{key}: the store gives no checksum and no MD5 ETag: only the size was compared");
                Ok(())
            }
        }
    }

    /// Aborts the upload, and deletes its object if that exists.
    async fn clear(&self) -> StoreResult<()> {
        self.bucket.abort(&self.key, &self.id).await?;
        if self.twin {
            self.bucket.abort_same_key(&self.key).await;
        }
        let exists = self.completed.load(Ordering::Acquire)
            || self.in_doubt.load(Ordering::Acquire) && self.own_object().await?.is_some();
        if exists {
            self.bucket.delete(&self.key).await?;
        }
        self.settled.store(true, Ordering::Release);
        Ok(())
    }
}

impl Bucket {
    /// Aborts an upload. An upload that no longer exists is a success.
    pub(super) async fn abort(&self, key: &str, id: &str) -> StoreResult<()> {
        let answer = self
            .send("AbortMultipartUpload", |client| {
                client.abort_multipart_upload().bucket(self.name()).key(self.full(key)).upload_id(id).send()
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(e) if e.is(&["NoSuchUpload"]) => Ok(()),
            Err(e) => Err(self.error(&e, "s3:AbortMultipartUpload", "abort the upload of", key)),
        }
    }

    /// Aborts all uploads of a key. A CreateMultipartUpload whose answer was lost left an upload with an unknown id.
    /// Only this run uses the key. The key may lack the permission to list uploads, so failures are only
    /// logged. (MinIO lists uploads for an exact key only.)
    async fn abort_same_key(&self, key: &str) {
        let full = self.full(key);
        let listed = self
            .send("ListMultipartUploads", |client| {
                client.list_multipart_uploads().bucket(self.name()).prefix(full.clone()).send()
            })
            .await;
        match listed {
            Ok(listed) => {
                let same = listed.uploads().iter().filter(|u| u.key() == Some(&full));
                for id in same.filter_map(|u| u.upload_id()) {
                    if let Err(e) = self.abort(key, id).await {
                        log::debug!("{e}");
                    }
                }
            }
            Err(e) => log::debug!("cannot list the uploads of {}: {}", self.place(key), e.text()),
        }
    }
}

fn is_multipart_etag(etag: &str) -> bool {
    etag.split_once('-').is_some_and(|(md5, count)| md5.len() == 32 && count.parse::<u32>().is_ok())
}
