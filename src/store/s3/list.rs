//! Listing: every page or an error. A listing that ends early would make cleanup forget backups.

use std::collections::HashSet;

use aws_sdk_s3::types::EncodingType;

use super::super::{Archive, Error, Kind, Object, Result, listable};
use super::archive;
use super::bucket::Bucket;
use super::object::time;

impl Bucket {
    pub async fn check(&self) -> Result<()> {
        let prefix = self.full("");
        self.send("ListObjectsV2", |client| {
            client.list_objects_v2().bucket(self.name()).prefix(prefix.clone()).max_keys(1).send()
        })
        .await
        .map(|_| ())
        .map_err(|e| self.error(&e, "s3:ListBucket", "list", ""))
    }

    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let full = self.full(prefix);
        let broken =
            |cause: String| Error::new(Kind::Failed, format!("cannot list {}", self.place(prefix)), cause);
        let (mut objects, mut tokens, mut token) = (Vec::new(), HashSet::new(), None::<String>);
        loop {
            let page = self
                .send("ListObjectsV2", |client| {
                    client
                        .list_objects_v2()
                        .bucket(self.name())
                        .prefix(full.clone())
                        // A foreign key may hold what XML cannot.
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
                    return Err(broken(format!("the answer holds {key:?}, which is elsewhere")));
                }
                let relative = self.relative(&key).unwrap_or(&key).to_owned();
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                let size = size.ok_or_else(|| broken(format!("{relative:?} has no size")))?;
                let tag = object.e_tag().map(str::to_owned);
                let class = object.storage_class().map(|class| class.as_str());
                objects.push(Object {
                    key: relative,
                    size,
                    modified: time(object.last_modified()),
                    tag,
                    archive: archive::is_archive(class).then_some(Archive::Frozen),
                });
                listable(&self.place(prefix), objects.len())?;
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            let Some(next) = page.next_continuation_token().filter(|t| !t.is_empty()) else {
                return Err(broken("a page says that more follow, but not how to ask for them".into()));
            };
            if !tokens.insert(next.to_owned()) {
                return Err(broken("a page leads back to one that was read".into()));
            }
            token = Some(next.to_owned());
        }
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(objects)
    }
}

/// Undoes `encoding-type=url`: percent signs, and `+` for a space.
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

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn decodes() {
        assert_eq!(decode("a%2Fb+c%2B%C3%A9").as_deref(), Some("a/b c+\u{e9}"));
        assert_eq!(decode("a%2"), None);
        assert_eq!(decode("%ff"), None);
    }
}
