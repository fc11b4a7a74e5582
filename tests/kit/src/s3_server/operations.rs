//! The operations of the S3 API on objects in memory, with the checks that Amazon S3 makes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::TryStreamExt;
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::checks::{self, Sums};
use super::memory::{Memory, Stored, Uploading};

async fn collect(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let chunks: Vec<Bytes> = body.try_collect().await.map_err(|e| s3_error!(IncompleteBody, "{e}"))?;
    Ok(chunks.concat().into())
}

#[async_trait::async_trait]
impl S3 for Memory {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let body = collect(input.body).await?;
        let sums = Sums { crc64nvme: input.checksum_crc64nvme, crc32c: input.checksum_crc32c };
        sums.check(&body)?;
        checks::content_md5(input.content_md5.as_deref(), &body)?;
        self.check_lock(&input.object_lock_retain_until_date)?;
        let mut state = self.state();
        if matches!(input.if_none_match, Some(ETagCondition::Any)) && state.objects.contains_key(&input.key) {
            return Err(s3_error!(PreconditionFailed));
        }
        let etag = checks::etag(&body);
        let output = PutObjectOutput { e_tag: Some(ETag::Strong(etag.clone())), ..Default::default() };
        let stored = Stored {
            body,
            etag,
            sums,
            metadata: input.metadata,
            modified: SystemTime::now(),
            archived: false,
            retained: input.object_lock_retain_until_date,
        };
        state.objects.insert(input.key, stored);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let object = self.find(&input.bucket, &input.key)?;
        if object.archived {
            return Err(s3_error!(InvalidObjectState));
        }
        let size = object.body.len() as u64;
        let range = input.range.map(|range| range.check(size)).transpose()?;
        let body = match &range {
            Some(range) => object.body.slice(range.start as usize..range.end as usize),
            None => object.body.clone(),
        };
        let said = range.map(|range| format!("bytes {}-{}/{size}", range.start, range.end - 1));
        let whole = said.is_none();
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(body.len() as i64),
            content_range: said,
            checksum_crc64nvme: object.sums.crc64nvme.filter(|_| whole),
            checksum_crc32c: object.sums.crc32c.filter(|_| whole),
            checksum_type: None,
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            metadata: object.metadata,
            body: Some(StreamingBlob::wrap(futures_util::stream::once(async move {
                Ok::<_, std::io::Error>(body)
            }))),
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.find(&req.input.bucket, &req.input.key)?;
        let asked = req.input.checksum_mode.is_some();
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(object.body.len() as i64),
            checksum_crc64nvme: object.sums.crc64nvme.filter(|_| asked),
            checksum_crc32c: object.sums.crc32c.filter(|_| asked),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(object.modified.into()),
            metadata: object.metadata,
            storage_class: object.archived.then(|| StorageClass::from_static(StorageClass::GLACIER)),
            object_lock_retain_until_date: object.retained,
            ..Default::default()
        }))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let on = BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED);
        let status = self.state().versioned.then_some(on);
        Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
    }

    async fn get_object_lock_configuration(
        &self,
        req: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        self.check_bucket(&req.input.bucket)?;
        if !self.state().locks {
            return Err(s3_error!(ObjectLockConfigurationNotFoundError));
        }
        let on = ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED);
        let lock = ObjectLockConfiguration { object_lock_enabled: Some(on), ..Default::default() };
        Ok(S3Response::new(GetObjectLockConfigurationOutput { object_lock_configuration: Some(lock) }))
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        req: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        self.check_bucket(&req.input.bucket)?;
        match self.state().expires {
            None => Err(s3_error!(AccessDenied)),
            Some(false) => Err(s3_error!(NoSuchLifecycleConfiguration)),
            Some(true) => {
                let expiration =
                    NoncurrentVersionExpiration { noncurrent_days: Some(30), ..Default::default() };
                let rule = LifecycleRule {
                    status: ExpirationStatus::from_static(ExpirationStatus::ENABLED),
                    noncurrent_version_expiration: Some(expiration),
                    abort_incomplete_multipart_upload: None,
                    expiration: None,
                    filter: None,
                    id: None,
                    noncurrent_version_transitions: None,
                    prefix: None,
                    transitions: None,
                };
                let rules = Some(vec![rule]);
                Ok(S3Response::new(GetBucketLifecycleConfigurationOutput { rules, ..Default::default() }))
            }
        }
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let mut state = self.state();
        if state.protected.contains(&req.input.key) {
            return Err(s3_error!(AccessDenied));
        }
        state.objects.remove(&req.input.key);
        let delete_marker = state.versioned.then_some(true);
        Ok(S3Response::new(DeleteObjectOutput { delete_marker, ..Default::default() }))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let mut state = self.state();
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in req.input.delete.objects {
            if state.protected.contains(&object.key) {
                let code = Some("AccessDenied".to_owned());
                errors.push(Error { code, key: Some(object.key), ..Default::default() });
            } else {
                state.objects.remove(&object.key);
                let delete_marker = state.versioned.then_some(true);
                deleted.push(DeletedObject { key: Some(object.key), delete_marker, ..Default::default() });
            }
        }
        let output =
            DeleteObjectsOutput { deleted: Some(deleted), errors: Some(errors), request_charged: None };
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.as_deref().map(checks::undo_url).transpose()?;
        let encode = input.encoding_type.as_ref().is_some_and(|e| e.as_str() == EncodingType::URL);
        let page = input.max_keys.map_or(self.limits.page, |keys| self.limits.page.min(keys.max(0) as usize));
        let state = self.state();
        let mut matching = state
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix) && after.as_ref().is_none_or(|after| *key > after));
        let listed: Vec<_> = matching.by_ref().take(page).collect();
        let more = matching.next().is_some();
        let next = listed.last().filter(|_| more).map(|(key, _)| checks::url(key));
        let contents = listed.iter().map(|(key, object)| Object {
            key: Some(if encode { checks::url(key) } else { (*key).clone() }),
            size: Some(object.body.len() as i64),
            last_modified: Some(object.modified.into()),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            storage_class: object
                .archived
                .then(|| ObjectStorageClass::from_static(ObjectStorageClass::GLACIER)),
            ..Default::default()
        });
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            key_count: Some(listed.len() as i32),
            contents: Some(contents.collect()),
            is_truncated: Some(more),
            next_continuation_token: next,
            encoding_type: input.encoding_type,
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        self.check_lock(&input.object_lock_retain_until_date)?;
        let mut state = self.state();
        state.next_upload += 1;
        let id = format!("upload-{}", state.next_upload);
        let uploading = Uploading {
            key: input.key,
            metadata: input.metadata,
            algorithm: input.checksum_algorithm.map(|a| a.as_str().to_owned()),
            retained: input.object_lock_retain_until_date,
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), uploading);
        Ok(S3Response::new(CreateMultipartUploadOutput { upload_id: Some(id), ..Default::default() }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let body = collect(input.body).await?;
        let sums = Sums { crc64nvme: input.checksum_crc64nvme, crc32c: input.checksum_crc32c };
        sums.check(&body)?;
        checks::content_md5(input.content_md5.as_deref(), &body)?;
        if !(1..=self.limits.parts).contains(&input.part_number) {
            return Err(s3_error!(
                InvalidArgument,
                "the part number is not between 1 and {}",
                self.limits.parts
            ));
        }
        let mut state = self.state();
        let upload = state.uploads.get_mut(&input.upload_id).filter(|upload| upload.key == input.key);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        let e_tag = Some(ETag::Strong(checks::etag(&body)));
        upload.parts.insert(input.part_number, body);
        Ok(S3Response::new(UploadPartOutput {
            e_tag,
            checksum_crc64nvme: sums.crc64nvme,
            checksum_crc32c: sums.crc32c,
            ..Default::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        self.check_bucket(&input.bucket)?;
        let mut state = self.state();
        let upload = state.uploads.get(&input.upload_id).filter(|upload| upload.key == input.key);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        if matches!(input.if_none_match, Some(ETagCondition::Any)) && state.objects.contains_key(&input.key) {
            return Err(s3_error!(PreconditionFailed));
        }
        let named = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let parts = checks::parts(&named, &upload.parts, &self.limits)?;
        let body: Bytes = parts.concat().into();
        if input.mpu_object_size.is_some_and(|size| size != body.len() as i64) {
            return Err(s3_error!(InvalidRequest, "the size of the object is {}", body.len()));
        }
        let given = Sums { crc64nvme: input.checksum_crc64nvme, crc32c: input.checksum_crc32c };
        given.check(&body)?;
        let stored = Stored {
            etag: checks::multipart_etag(&parts),
            sums: Sums::of(upload.algorithm.as_deref(), &body),
            metadata: upload.metadata.clone(),
            modified: SystemTime::now(),
            archived: false,
            retained: upload.retained.clone(),
            body,
        };
        let e_tag = Some(ETag::Strong(stored.etag.clone()));
        state.uploads.remove(&input.upload_id);
        state.objects.insert(input.key, stored);
        Ok(S3Response::new(CompleteMultipartUploadOutput { e_tag, ..Default::default() }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.check_bucket(&req.input.bucket)?;
        match self.state().uploads.remove(&req.input.upload_id) {
            Some(_) => Ok(S3Response::new(AbortMultipartUploadOutput::default())),
            None => Err(s3_error!(NoSuchUpload)),
        }
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let prefix = req.input.prefix.unwrap_or_default();
        let state = self.state();
        let uploads = state.uploads.iter().filter(|(_, upload)| upload.key.starts_with(&prefix));
        let uploads = uploads.map(|(id, upload)| MultipartUpload {
            key: Some(upload.key.clone()),
            upload_id: Some(id.clone()),
            initiated: Some(SystemTime::now().into()),
            ..Default::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(req.input.bucket),
            uploads: Some(uploads.collect()),
            is_truncated: Some(false),
            ..Default::default()
        }))
    }
}
