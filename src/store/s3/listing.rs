//! Listing and deleting objects.
//!
//! A listing is complete or fails: an incomplete one would make cleanup forget backups. Objects are deleted
//! one by one, or with up to 1,000 in a request.

use std::collections::{HashMap, HashSet};

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::types::{Delete, EncodingType, ObjectIdentifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use super::super::{
    ArchiveState, Deleted, Result, StoreError, StoreErrorKind, StoredObject, check_key, listable,
};
use super::failure::S3Failure;
use super::{Bucket, protection, time};

impl Bucket {
    pub(super) async fn check(&self) -> Result<()> {
        let prefix = self.full("");
        self.send("ListObjectsV2", |client| {
            client.list_objects_v2().bucket(self.name()).prefix(prefix.clone()).max_keys(1).send()
        })
        .await
        .map(|_| ())
        .map_err(|e| self.error(&e, "s3:ListBucket", "list", ""))
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>> {
        let full = self.full(prefix);
        let broken = |cause: String| {
            StoreError::new(StoreErrorKind::Failed, format!("cannot list {}", self.place(prefix)), cause)
        };
        let (mut objects, mut tokens, mut token) = (Vec::new(), HashSet::new(), None::<String>);
        loop {
            let page = self
                .send("ListObjectsV2", |client| {
                    client
                        .list_objects_v2()
                        .bucket(self.name())
                        .prefix(full.clone())
                        // A foreign key may contain characters that XML cannot.
                        .encoding_type(EncodingType::Url)
                        .set_continuation_token(token.clone())
                        .send()
                })
                .await
                .map_err(|e| self.error(&e, "s3:ListBucket", "list", prefix))?;
            let encoded = page.encoding_type() == Some(&EncodingType::Url);
            for object in page.contents() {
                let key = object.key().ok_or_else(|| broken("an entry has no key".into()))?;
                let key = if encoded { decode(key) } else { Some(key.to_owned()) };
                let key = key.ok_or_else(|| broken("a key is not URL-encoded UTF-8".into()))?;
                if !key.starts_with(&full) {
                    return Err(broken(format!(
                        "the answer contains {key:?}, which does not have the prefix"
                    )));
                }
                let relative = self.relative(&key).unwrap_or(&key).to_owned();
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                let size = size.ok_or_else(|| broken(format!("{relative:?} has no size")))?;
                let tag = object.e_tag().map(str::to_owned);
                let class = object.storage_class().map(|class| class.as_str());
                objects.push(StoredObject {
                    key: relative,
                    size,
                    modified: time(object.last_modified()),
                    tag,
                    archive: protection::is_archive(class).then_some(ArchiveState::Frozen),
                });
                listable(&self.place(prefix), objects.len())?;
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            let Some(next) = page.next_continuation_token().filter(|t| !t.is_empty()) else {
                return Err(broken("a page is marked as truncated, but has no continuation token".into()));
            };
            if !tokens.insert(next.to_owned()) {
                return Err(broken("a continuation token occurs twice".into()));
            }
            token = Some(next.to_owned());
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }
}

/// Decodes `encoding-type=url`: percent signs, and `+` for a space.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(hex, 16).ok()?);
                rest = &rest[2..];
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The most keys of one DeleteObjects (Amazon S3 API reference).
const AT_ONCE: usize = 1_000;

impl Bucket {
    pub(super) async fn delete(&self, key: &str) -> Result<Deleted> {
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

    /// Deletes these objects in batches. An object that a batch does not delete is deleted by a request of
    /// its own, whose answer has the reason. So are all objects if the service lacks DeleteObjects (Google
    /// Cloud Storage answers 400 or 501).
    pub(super) async fn delete_all(&self, keys: &[String]) -> Vec<Result<Deleted>> {
        let mut answers = Vec::with_capacity(keys.len());
        for keys in keys.chunks(AT_ONCE) {
            // An invalid key would fail the whole batch.
            let whole = keys.len() > 1 && self.batches() && keys.iter().all(|key| check_key(key).is_ok());
            let gone = if whole { self.delete_batch(keys).await } else { Ok(HashMap::new()) };
            let gone = match gone {
                Ok(gone) => gone,
                // Each single request would wait as long.
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
        check_key(key)?;
        self.delete(key).await
    }

    /// Sends DeleteObjects. Returns the keys that were deleted, with what remains of each.
    async fn delete_batch(
        &self,
        keys: &[String],
    ) -> std::result::Result<HashMap<String, Deleted>, S3Failure> {
        let unusable = |e: aws_sdk_s3::error::BuildError| S3Failure::lost(&e.to_string());
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

/// Services from before 2022 require `Content-MD5` with DeleteObjects, as Amazon did. The SDK sends a newer
/// checksum.
fn add_md5(request: &mut HttpRequest) {
    let md5 = request.body().bytes().map(|body| STANDARD.encode(Md5::digest(body)));
    if let Some(md5) = md5 {
        request.headers_mut().insert("content-md5", md5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes() {
        assert_eq!(decode("a%2Fb+c%2B%C3%A9").as_deref(), Some("a/b c+\u{e9}"));
        assert_eq!(decode("a%2"), None);
        assert_eq!(decode("%ff"), None);
    }
}
