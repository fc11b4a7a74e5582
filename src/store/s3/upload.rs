//! A multipart upload: parts in any order, each with its checksum, then the whole.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, StorageClass};
use bytes::Bytes;

use super::super::checksum::{PartSum, agree, crc64nvme};
use super::super::{Error, Kind, Result, Upload, UploadSpec, Whole};
use super::bucket::Bucket;
use super::client::time_limit;
use super::flow::UnderWay;
use super::sums::Sum;

/// The name of the metadata that tells this upload's object from any other.
pub(super) const TOKEN: &str = "upload-token";

/// An upload under way.
pub(super) struct S3Upload {
    pub(super) bucket: Arc<Bucket>,
    pub(super) key: String,
    part_size: u64,
    pub(super) id: String,
    pub(super) token: String,
    parts: Mutex<BTreeMap<u32, Part>>,
    under_way: UnderWay,
    /// A completion was asked for and its end is unknown: the object may exist.
    pub(super) in_doubt: AtomicBool,
    /// The store said that the object exists.
    pub(super) completed: AtomicBool,
    ended: AtomicBool,
    /// The object is good, or nothing of the upload is left.
    pub(super) settled: AtomicBool,
    /// Whether an answer to CreateMultipartUpload was lost: it may have begun another upload.
    pub(super) twin: bool,
    /// As in [`UploadSpec::probe`].
    pub(super) probe: bool,
}

/// A part that the store has.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub plain: PartSum,
    pub sum: Sum,
    pub etag: String,
}

impl S3Upload {
    pub async fn begin(bucket: Arc<Bucket>, spec: &UploadSpec) -> Result<S3Upload> {
        let token = format!("{:032x}", rand::random::<u128>());
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
            return Err(Error::new(Kind::Failed, doing, "the answer holds no upload id"));
        };
        Ok(S3Upload {
            key: spec.key.clone(),
            part_size: spec.part_size,
            id,
            token,
            parts: Mutex::default(),
            under_way: UnderWay::default(),
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

    pub(super) fn wrong(&self, kind: Kind, cause: impl std::fmt::Display) -> Error {
        Error::new(kind, self.doing(), cause)
    }

    pub(super) fn parts(&self) -> BTreeMap<u32, Part> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sum of the whole object.
    pub(super) fn sum(&self, parts: &BTreeMap<u32, Part>) -> Sum {
        let sums = parts.values().map(|p| (p.sum, p.plain.len));
        sums.reduce(|(sum, _), (next, len)| (sum.then(next, len), len)).map_or(Sum::None, |(sum, _)| sum)
    }

    pub(super) fn completed(&self, parts: &BTreeMap<u32, Part>) -> CompletedMultipartUpload {
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

    /// Sends one part, again while what arrives is not what was sent.
    async fn send_part(&self, index: u32, body: &Bytes, sum: Sum) -> Result<String> {
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
                            let cause = format!("the store has another checksum of part {}", index + 1);
                            (self.wrong(Kind::Damaged, cause), "another checksum".to_owned())
                        }
                        None => {
                            let cause = format!("the answer for part {} has no ETag", index + 1);
                            (self.wrong(Kind::Failed, cause), "no ETag".to_owned())
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
        self.under_way.bytes()
    }

    async fn put_part(&self, index: u32, body: Bytes) -> Result<()> {
        if self.ended.load(Ordering::Acquire) {
            return Err(self.wrong(Kind::Failed, "the upload has ended"));
        }
        let most = self.bucket.options.limits.max_parts;
        if index >= most {
            let cause = format!("part {} is beyond the limit of {most} parts", index + 1);
            return Err(self.wrong(Kind::Full, cause));
        }
        if body.is_empty() || body.len() as u64 > self.part_size {
            let cause = format!("part {} has {} bytes, not up to {}", index + 1, body.len(), self.part_size);
            return Err(self.wrong(Kind::Failed, cause));
        }
        let plain = PartSum { len: body.len() as u64, crc64nvme: crc64nvme(&body) };
        let sum = self.bucket.options.checksum.sum(&body, plain.crc64nvme);
        let etag = self.send_part(index, &body, sum).await?;
        let part = Part { plain, sum, etag };
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(index, part);
        Ok(())
    }

    async fn complete(&self, whole: &Whole) -> Result<()> {
        if self.ended.swap(true, Ordering::AcqRel) {
            return Err(self.wrong(Kind::Failed, "the upload has ended"));
        }
        let parts = self.parts();
        let sums = parts.iter().map(|(index, part)| (*index, part.plain));
        let done = match agree(sums, self.part_size, whole) {
            Ok(()) => self.finish(&parts, whole).await,
            Err(cause) => Err(self.wrong(Kind::Damaged, cause)),
        };
        if done.is_err()
            && let Err(e) = self.clear().await
        {
            log::warn!("{e}");
        }
        done
    }

    async fn abort(&self) -> Result<()> {
        self.ended.store(true, Ordering::Release);
        if self.settled.load(Ordering::Acquire) {
            return Ok(());
        }
        self.clear().await
    }
}

/// S3 counts parts from 1, to 10,000.
fn number(index: u32) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX - 1) + 1
}
