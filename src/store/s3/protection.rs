//! Versions and Object Lock, which preserve objects if a stolen key overwrites or deletes them; and archive
//! classes, whose objects must be thawed before they can be read.
//!
//! Sources: "Using versioning in S3 buckets", "Locking objects with Object Lock", "Lifecycle configuration
//! elements" and "Working with archived objects" in the Amazon S3 User Guide. `GLACIER_IR` can be read at
//! once. The two archive tiers of `INTELLIGENT_TIERING` show only in a HEAD (`x-amz-archive-status`).

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime as SdkDateTime;
use aws_sdk_s3::types::{
    BucketVersioningStatus, ExpirationStatus, LifecycleRule, ObjectLockEnabled, ObjectLockMode,
};
use chrono::TimeDelta;

use super::super::{ArchiveState, Protection, StoreError, StoreErrorKind};
use super::Bucket;
use super::failure::S3Failure;
use crate::base::escape::quoted;
use crate::config::store::S3Options;

impl Bucket {
    /// The mode and end of the retention period of an object that is written now. GOVERNANCE stops every key
    /// without s3:BypassGovernanceRetention, and lets the owner of the bucket correct a mistake.
    pub(super) fn retention(&self) -> (Option<ObjectLockMode>, Option<SdkDateTime>) {
        let Some(days) = self.options.object_lock_days else { return (None, None) };
        let until = (self.options.machine.now)() + TimeDelta::days(days.into());
        (Some(ObjectLockMode::Governance), Some(SdkDateTime::from_secs(until.timestamp())))
    }

    /// Asks whether the bucket has versioning and Object Lock, which needs versioning. Each request is sent
    /// once; the answer is unknown if it fails.
    pub(super) async fn protection(&self) -> Protection {
        let versioning =
            self.send_once(|client| client.get_bucket_versioning().bucket(self.name()).send()).await;
        // The answer has no status if the bucket never had versions.
        let enabled = Some(&BucketVersioningStatus::Enabled);
        let versions = versioning.ok().map(|answer| answer.status() == enabled);
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

    /// Returns true if the settings or a lifecycle rule say that old versions are expected or will be
    /// deleted; `None` if that is unknown.
    pub(super) async fn versions_expire(&self) -> Option<bool> {
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
    // Tags and sizes select only some objects.
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

/// Returns true for the storage classes whose objects must be thawed.
pub(super) fn is_archive(class: Option<&str>) -> bool {
    matches!(class, Some("GLACIER" | "DEEP_ARCHIVE"))
}

/// The archive state of an object, from its HEAD; `None` if the object can be read.
pub(super) fn archive_of_head(head: &HeadObjectOutput) -> Option<ArchiveState> {
    let frozen =
        is_archive(head.storage_class().map(|class| class.as_str())) || head.archive_status().is_some();
    // `ongoing-request="true"` during the thaw, `ongoing-request="false", expiry-date="…"` when there is a
    // copy.
    match head.restore().map(|restore| restore.contains("ongoing-request=\"true\"")) {
        Some(true) if frozen => Some(ArchiveState::Thawing),
        None if frozen => Some(ArchiveState::Frozen),
        _ => None,
    }
}

/// The error for an archived object (403 InvalidObjectState); `key` is the whole key in the bucket.
pub(super) fn archived(
    failure: &S3Failure,
    doing: String,
    key: &str,
    options: &S3Options,
) -> Option<StoreError> {
    let class = failure.class.as_deref().map(|class| format!(" ({class})")).unwrap_or_default();
    failure.is(&["InvalidObjectState"]).then(|| {
        StoreError::new(StoreErrorKind::Archived, doing, format!("the object is in an archive class{class}"))
            .hint(format!("Thaw it, and run this command again when it can be read: {}", thaw(key, options)))
    })
}

/// The command that thaws an object for a week.
pub(super) fn thaw(key: &str, options: &S3Options) -> String {
    let endpoint = options.endpoint_url.as_ref().map(|url| format!(" --endpoint-url {}", quoted(url)));
    format!(
        "aws s3api restore-object --bucket {} --key {} --restore-request 'Days=7,GlacierJobParameters={{Tier=Standard}}'{}",
        quoted(&options.bucket),
        quoted(key),
        endpoint.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thawed_object_can_be_read() {
        let head = |class: &str, restore: Option<&str>| {
            let head = HeadObjectOutput::builder().storage_class(class.into());
            archive_of_head(&head.set_restore(restore.map(str::to_owned)).build())
        };
        assert_eq!(head("GLACIER", None), Some(ArchiveState::Frozen));
        assert_eq!(head("DEEP_ARCHIVE", Some("ongoing-request=\"true\"")), Some(ArchiveState::Thawing));
        let copy = "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"";
        assert_eq!(head("GLACIER", Some(copy)), None);
        for class in ["GLACIER_IR", "STANDARD_IA", "INTELLIGENT_TIERING"] {
            assert_eq!(head(class, None), None, "{class}");
        }
    }

    #[test]
    fn the_command_that_thaws_can_be_pasted() {
        let mut options = S3Options::new("shop", "nightly/");
        let command = thaw("nightly/it's/dump.tar.gz", &options);
        assert!(
            command.contains("--bucket shop --key 'nightly/it'\\''s/dump.tar.gz' --restore-request 'Days=7,"),
            "{command}"
        );
        assert!(!command.contains("--endpoint-url"), "{command}");
        options.endpoint_url = Some("http://store:9000".into());
        assert!(thaw("a", &options).ends_with(" --endpoint-url http://store:9000"));
    }
}
