//! Deleting objects: one by one, or up to 1,000 with a request.

use std::collections::HashMap;

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::super::{Deleted, Result, key};
use super::bucket::Bucket;
use super::failure::Failure;

/// The most keys of one DeleteObjects (Amazon S3 API reference).
const AT_ONCE: usize = 1_000;

impl Bucket {
    pub async fn delete(&self, key: &str) -> Result<Deleted> {
        let answer = self
            .send("DeleteObject", |client| {
                client.delete_object().bucket(self.name()).key(self.full(key)).send()
            })
            .await;
        match answer {
            Ok(deleted) if deleted.delete_marker() == Some(true) => Ok(Deleted::Hidden),
            Ok(_) => Ok(Deleted::Gone),
            Err(e) if e.is(&["NoSuchKey"]) => Ok(Deleted::Gone),
            Err(e) => Err(self.error(&e, "s3:DeleteObject", "delete", key)),
        }
    }

    /// Deletes these objects in batches. What a batch does not delete is deleted on its own, which says why
    /// it stays; so is everything where the service knows no DeleteObjects (Google Cloud Storage answers 400 or
    /// 501).
    pub async fn delete_all(&self, keys: &[String]) -> Vec<Result<Deleted>> {
        let mut answers = Vec::with_capacity(keys.len());
        for keys in keys.chunks(AT_ONCE) {
            // A key that no store takes would spoil the whole batch.
            let whole = keys.len() > 1 && self.batches() && keys.iter().all(|key| key::check(key).is_ok());
            let gone = if whole { self.delete_batch(keys).await } else { Ok(HashMap::new()) };
            let gone = match gone {
                Ok(gone) => gone,
                // Single requests would wait as long, each of them.
                Err(e) if e.away() => {
                    let error = |key: &String| Err(self.error(&e, "s3:DeleteObject", "delete", key));
                    answers.extend(keys.iter().map(error));
                    continue;
                }
                Err(e) => {
                    self.set_batchless(&e.text());
                    HashMap::new()
                }
            };
            for key in keys {
                answers.push(match gone.get(key) {
                    Some(left) => Ok(*left),
                    None => self.delete_checked(key).await,
                });
            }
        }
        answers
    }

    async fn delete_checked(&self, key: &str) -> Result<Deleted> {
        key::check(key)?;
        self.delete(key).await
    }

    /// One DeleteObjects: the keys that went, and what is left of each.
    async fn delete_batch(&self, keys: &[String]) -> std::result::Result<HashMap<String, Deleted>, Failure> {
        let unusable = |e: aws_sdk_s3::error::BuildError| Failure::lost(&e.to_string());
        let identifiers: std::result::Result<Vec<_>, _> =
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
            let left = if object.delete_marker() == Some(true) { Deleted::Hidden } else { Deleted::Gone };
            Some((key, left))
        });
        Ok(went.collect())
    }
}

/// Services from before 2022 want `Content-MD5` with a DeleteObjects, as Amazon did; the SDK sends a newer checksum.
fn add_md5(request: &mut HttpRequest) {
    let md5 = request.body().bytes().map(|body| STANDARD.encode(Md5::digest(body)));
    if let Some(md5) = md5 {
        request.headers_mut().insert("content-md5", md5);
    }
}
