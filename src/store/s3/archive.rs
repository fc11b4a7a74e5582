//! Objects in archive classes: they exist, and must be thawed before they can be read.
//!
//! Source: "Working with archived objects" in the Amazon S3 User Guide. `GLACIER_IR` is read at once; the two archive
//! tiers of `INTELLIGENT_TIERING` show only in a HEAD (`x-amz-archive-status`).

use aws_sdk_s3::operation::head_object::HeadObjectOutput;

use super::super::{Archive, Error, Kind};
use super::failure::Failure;
use crate::base::escape::quoted;
use crate::config::store::S3Options;

/// Returns true for the storage classes whose objects must be thawed.
pub(super) fn is_archive(class: Option<&str>) -> bool {
    matches!(class, Some("GLACIER" | "DEEP_ARCHIVE"))
}

/// What a HEAD says about an object that cannot be read now; `None` if it can be.
pub(super) fn of_head(head: &HeadObjectOutput) -> Option<Archive> {
    let frozen =
        is_archive(head.storage_class().map(|class| class.as_str())) || head.archive_status().is_some();
    // `ongoing-request="true"` while it is thawed, `ongoing-request="false", expiry-date="…"` once there is a copy.
    match head.restore().map(|restore| restore.contains("ongoing-request=\"true\"")) {
        Some(true) if frozen => Some(Archive::Thawing),
        None if frozen => Some(Archive::Frozen),
        _ => None,
    }
}

/// The error for an object that cannot be read (403 InvalidObjectState); `key` is the whole key in the bucket.
pub(super) fn error(failure: &Failure, doing: String, key: &str, options: &S3Options) -> Option<Error> {
    let class = failure.class.as_deref().map(|class| format!(" ({class})")).unwrap_or_default();
    failure.is(&["InvalidObjectState"]).then(|| {
        Error::new(Kind::Archived, doing, format!("the object is in an archive class{class}"))
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
            of_head(&head.set_restore(restore.map(str::to_owned)).build())
        };
        assert_eq!(head("GLACIER", None), Some(Archive::Frozen));
        assert_eq!(head("DEEP_ARCHIVE", Some("ongoing-request=\"true\"")), Some(Archive::Thawing));
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
