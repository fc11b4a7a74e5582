//! The end of an upload: complete it, settle what a lost answer leaves open, ask the store what it
//! has, and clear up after a failure.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ChecksumMode as HeadMode;

use super::super::{Error, Kind, Result, Whole};
use super::bucket::Bucket;
use super::client::time_limit;
use super::failure::Failure;
use super::sums::multipart_etag;
use super::upload::{Part, S3Upload, TOKEN};
use crate::base::units::{count, several};
use crate::config::store::Sse;

impl S3Upload {
    /// Completes the upload and compares what the store has with `whole`.
    pub(super) async fn finish(&self, parts: &BTreeMap<u32, Part>, whole: &Whole) -> Result<()> {
        let (mut tried, mut waiting) = (0, self.bucket.start());
        let mut conditional = self.bucket.conditional() && !self.probe;
        loop {
            tried += 1;
            if !conditional && !self.probe && self.bucket.head(&self.key).await?.is_some() {
                return Err(self.wrong(Kind::Exists, "it exists"));
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
                // Perhaps the condition, perhaps something else: without it the answer tells.
                conditional = false;
                tried -= 1;
                continue;
            }
            // NoSuchUpload and 412 are also what a repeated request gets when its first answer was
            // lost: the object's own token decides.
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
                return Err(self.wrong(Kind::Exists, "it exists"));
            }
            // All else was tried again already.
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

    /// One CompleteMultipartUpload. The SDK takes an error in the body of a 200 for what it is.
    async fn ask(
        &self,
        parts: &BTreeMap<u32, Part>,
        whole: &Whole,
        conditional: bool,
    ) -> std::result::Result<(), Failure> {
        let headers = self.sum(parts).headers();
        self.bucket
            .send("CompleteMultipartUpload", |client| {
                client
                    .complete_multipart_upload()
                    .bucket(self.bucket.name())
                    .key(self.bucket.full(&self.key))
                    .upload_id(&self.id)
                    .multipart_upload(self.completed(parts))
                    .set_checksum_type(self.bucket.options.checksum.checksum_type())
                    .set_checksum_crc64_nvme(headers.crc64nvme.clone())
                    .set_checksum_crc32_c(headers.crc32c.clone())
                    .set_mpu_object_size(i64::try_from(whole.size).ok())
                    .set_if_none_match(conditional.then(|| "*".to_owned()))
                    .customize()
                    // S3 may take minutes to put a large object together.
                    .config_override(time_limit(
                        &self.bucket.options,
                        Some(self.bucket.options.timeouts.answer * 10),
                    ))
                    .send()
            })
            .await
            .map(|_| ())
    }

    /// The object under the key, if it carries this upload's token.
    async fn own_object(&self) -> Result<Option<HeadObjectOutput>> {
        let mode = self.bucket.options.checksum.algorithm().map(|_| HeadMode::Enabled);
        let answer = self
            .bucket
            .send("HeadObject", |client| {
                client
                    .head_object()
                    .bucket(self.bucket.name())
                    .key(self.bucket.full(&self.key))
                    .set_checksum_mode(mode.clone())
                    .send()
            })
            .await
            .map_err(Failure::of_head);
        match answer {
            Ok(head) if head.metadata().and_then(|m| m.get(TOKEN)) == Some(&self.token) => Ok(Some(head)),
            Ok(_) => Ok(None),
            Err(e) if e.not_found() => Ok(None),
            Err(e) => Err(self.bucket.error(&e, "s3:GetObject and s3:ListBucket", "look at", &self.key)),
        }
    }

    /// Compares size and checksum as the store has them; an object that differs is deleted later, by
    /// [`clear`](Self::clear).
    async fn verify(&self, parts: &BTreeMap<u32, Part>, whole: &Whole) -> Result<()> {
        let (mut tried, mut waiting) = (0, self.bucket.start());
        let head = loop {
            tried += 1;
            let absent = "the new object was not there yet";
            match self.own_object().await? {
                Some(head) => break head,
                None if self.bucket.repeat(&mut waiting, "HeadObject", absent, tried).await => {}
                None => return Err(self.wrong(Kind::Failed, "the store took it and does not have it")),
            }
        };
        let size = head.content_length().and_then(|size| u64::try_from(size).ok());
        if size != Some(whole.size) {
            let (sent, has) = (several(whole.size, "byte"), count(size.unwrap_or(0)));
            let cause = format!("{sent} were sent, the store has {has}");
            return Err(self.wrong(Kind::Damaged, cause));
        }
        let ours = self.sum(parts).headers();
        // A composite checksum (`…-3`) is of the parts' checksums, not of the bytes.
        let said = head.checksum_crc64_nvme().or(head.checksum_crc32_c()).filter(|sum| !sum.contains('-'));
        let sent = ours.crc64nvme.as_deref().or(ours.crc32c.as_deref());
        match (said, sent) {
            (Some(said), Some(sent)) if said == sent => Ok(()),
            (Some(said), Some(sent)) => {
                let error = self.wrong(Kind::Damaged, format!("the store's checksum is {said}, ours {sent}"));
                // Of another length, it is of another algorithm: the service does not compute what it was asked for.
                let other = said.len() != sent.len();
                Err(if other {
                    error.hint("Set S3_CHECKSUM to crc32c or none for this service")
                } else {
                    error
                })
            }
            _ => self.verify_etag(head.e_tag(), parts),
        }
    }

    /// Without checksums: the multipart ETag, where it is made of MD5s.
    fn verify_etag(&self, said: Option<&str>, parts: &BTreeMap<u32, Part>) -> Result<()> {
        let kms = matches!(self.bucket.options.sse, Some(Sse::Kms(_)));
        let said = said.map(|etag| etag.trim_matches('"')).filter(|etag| is_multipart_etag(etag));
        let ours = multipart_etag(parts.values().map(|p| p.etag.as_str()));
        match (said, ours) {
            (Some(said), Some(ours)) if !kms && said != ours => {
                Err(self.wrong(Kind::Damaged, format!("the store's ETag is {said}, the parts make {ours}")))
            }
            (Some(_), Some(_)) if !kms => Ok(()),
            _ => {
                log::debug!(
                    "{}: the store gives no checksum and no MD5 ETag: only the size was compared",
                    self.key
                );
                Ok(())
            }
        }
    }

    /// Aborts the upload, and deletes its object should it exist after all.
    pub(super) async fn clear(&self) -> Result<()> {
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
    /// Aborts an upload; one that is gone is a success.
    pub async fn abort(&self, key: &str, id: &str) -> Result<()> {
        let answer = self
            .send("AbortMultipartUpload", |client| {
                client.abort_multipart_upload().bucket(self.name()).key(self.full(key)).upload_id(id).send()
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(e) if e.is(&["NoSuchUpload"]) => Ok(()),
            Err(e) => {
                let error: Error = self.error(&e, "s3:AbortMultipartUpload", "abort the upload of", key);
                Err(error)
            }
        }
    }

    /// Aborts what a CreateMultipartUpload left behind whose answer was lost and which was sent again. The key is this run's alone; the right to list uploads may be missing, so it is no error.
    /// (MinIO lists uploads for an exact key only.)
    pub(super) async fn abort_same_key(&self, key: &str) {
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
