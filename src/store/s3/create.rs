//! Create-only writes: `If-None-Match: *`, and what to believe when the answer leaves doubt.
//!
//! A put that is repeated after a lost answer meets its own first try and gets 412 (seen on MinIO,
//! Versity Gateway and moto), so a 412 alone says nothing: the object is read back.

use bytes::Bytes;

use super::super::{Error, Kind, Result};
use super::bucket::Bucket;
use super::failure::Failure;
use super::object::Put;

/// What a doubtful write turned out to be.
enum Settled {
    Ours,
    Others,
    Nothing,
}

impl Bucket {
    pub async fn create(&self, key: &str, body: Bytes) -> Result<()> {
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
                Ok(Settled::Ours) => return Ok(()),
                Ok(Settled::Others) => return Err(self.taken(key)),
                // 409 ConditionalRequestConflict: another write of the key was under way and may have
                // failed; S3's documentation says to try again. All else was tried again already.
                Ok(Settled::Nothing)
                    if conflict && self.repeat(&mut waiting, "PutObject", &failure.reason(), tried).await => {
                }
                Ok(Settled::Nothing) | Err(_) => {
                    return Err(self.error(&failure, "s3:PutObject", "write", key));
                }
            }
        }
    }

    /// One conditional put, or where the service refuses the header a look and a plain put.
    async fn put_new(&self, key: &str, body: &Bytes) -> Result<Option<Failure>> {
        if self.conditional() {
            let failure = match self.put_object(key, body, Put::New).await {
                Ok(()) => return Ok(None),
                Err(failure) => failure,
            };
            if !failure.unsupported() {
                return Ok(Some(failure));
            }
            // Perhaps the condition, perhaps something else: the plain put tells.
            let sent = self.look_and_put(key, body).await?;
            if sent.is_none() {
                self.set_unconditional();
            }
            return Ok(sent);
        }
        self.look_and_put(key, body).await
    }

    async fn look_and_put(&self, key: &str, body: &Bytes) -> Result<Option<Failure>> {
        if self.head(key).await?.is_some() {
            return match self.settle(key, body).await? {
                Settled::Ours => Ok(None),
                _ => Err(self.taken(key)),
            };
        }
        Ok(self.put_object(key, body, Put::Looked).await.err())
    }

    async fn settle(&self, key: &str, body: &Bytes) -> Result<Settled> {
        match self.get(key, body.len() as u64).await {
            Ok(found) if found == body => Ok(Settled::Ours),
            Ok(_) => Ok(Settled::Others),
            Err(e) if e.kind == Kind::Damaged => Ok(Settled::Others),
            Err(e) if e.kind == Kind::NotFound => Ok(Settled::Nothing),
            Err(e) => Err(e),
        }
    }

    fn taken(&self, key: &str) -> Error {
        Error::new(Kind::Exists, format!("cannot write {}", self.place(key)), "it exists with other content")
    }
}
