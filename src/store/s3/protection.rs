//! What keeps objects that a thief of the key overwrites or deletes: versions and Object Lock.
//!
//! Sources: "Using versioning in S3 buckets", "Locking objects with Object Lock" and "Lifecycle configuration elements"
//! in the Amazon S3 User Guide.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::DateTime as SdkDateTime;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ExpirationStatus, LifecycleRule, ObjectLockEnabled, ObjectLockLegalHoldStatus,
    ObjectLockMode,
};
use chrono::{DateTime, Utc};

use super::super::{Protection, Result};
use super::bucket::Bucket;
use super::object::time;

impl Bucket {
    /// The retention period of an object that is written now. GOVERNANCE keeps out every key without
    /// s3:BypassGovernanceRetention, and leaves the owner of the bucket a way to correct a mistake.
    pub fn retention(&self) -> (Option<ObjectLockMode>, Option<SdkDateTime>) {
        let Some(days) = self.options.object_lock_days else { return (None, None) };
        let until = SystemTime::now() + Duration::from_secs(u64::from(days) * 86_400);
        (Some(ObjectLockMode::Governance), Some(until.into()))
    }

    /// The end of an object's retention period.
    pub async fn locked_until(&self, key: &str) -> Result<Option<DateTime<Utc>>> {
        let Some(head) = self.head_object(key).await? else { return Ok(None) };
        if head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On) {
            return Ok(Some(DateTime::<Utc>::MAX_UTC));
        }
        Ok(head.object_lock_retain_until_date().map(|date| time(Some(date))))
    }

    /// Asks for versioning and, where a bucket may have it, for Object Lock, which needs versioning. Each is asked once: a
    /// question that is refused or not understood leaves its answer unknown.
    pub async fn protection(&self) -> Protection {
        let versioning =
            self.send_once(|client| client.get_bucket_versioning().bucket(self.name()).send()).await;
        let versions = match versioning {
            // A bucket that never had versions answers without a status.
            Ok(answer) => Some(answer.status() == Some(&BucketVersioningStatus::Enabled)),
            Err(_) => None,
        };
        if versions == Some(false) {
            return Protection { versions, locks: Some(false) };
        }
        let lock =
            self.send_once(|client| client.get_object_lock_configuration().bucket(self.name()).send()).await;
        let locks = match lock {
            Ok(answer) => {
                let enabled = answer.object_lock_configuration().and_then(|lock| lock.object_lock_enabled());
                Some(enabled == Some(&ObjectLockEnabled::Enabled))
            }
            Err(e) if e.is(&["ObjectLockConfigurationNotFoundError"]) => Some(false),
            Err(_) => None,
        };
        Protection { versions, locks }
    }

    /// Whether old versions are deleted in time.
    pub async fn versions_expire(&self) -> Option<bool> {
        if self.options.versioned {
            return Some(true);
        }
        let asked = self
            .send_once(|client| client.get_bucket_lifecycle_configuration().bucket(self.name()).send())
            .await;
        match asked {
            Ok(answer) => Some(answer.rules().iter().any(|rule| expires(rule, &self.full("")))),
            Err(e) if e.is(&["NoSuchLifecycleConfiguration"]) => Some(false),
            Err(_) => None,
        }
    }
}

/// Returns true if the rule deletes old versions of all objects below the prefix.
fn expires(rule: &LifecycleRule, prefix: &str) -> bool {
    let filter = rule.filter();
    // Tags and sizes select some objects only.
    let partial = filter.is_some_and(|filter| {
        filter.tag().is_some()
            || filter.and().is_some()
            || filter.object_size_greater_than().is_some()
            || filter.object_size_less_than().is_some()
    });
    #[expect(deprecated, reason = "rules from before 2018 have their prefix here")]
    let of_rule = filter.and_then(|filter| filter.prefix()).or(rule.prefix()).unwrap_or_default();
    rule.status() == &ExpirationStatus::Enabled
        && rule.noncurrent_version_expiration().is_some()
        && !partial
        && prefix.starts_with(of_rule)
}
