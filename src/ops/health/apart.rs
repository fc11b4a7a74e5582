//! The check of all places together: whether one accident could destroy two of them.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Context, Finding, blocking};
use crate::base::error::Result;
use crate::base::secret::Secret;
use crate::config::place::{FIRST, Place};
use crate::config::store::S3Options;

/// Warns if two places share a bucket, an account and region, or a file system: one accident could destroy both.
pub(super) async fn apart(context: &Context) -> Result<Finding> {
    let copies = context.subject.copies.iter();
    let copies =
        copies.filter_map(|copy| Some((copy.name.clone(), copy.subject.as_ref().ok()?.place.clone())));
    let places: Vec<(String, Place)> =
        [(FIRST.to_string(), context.subject.place.clone())].into_iter().chain(copies).collect();
    if context.subject.copies.is_empty() {
        return Finding::not_configured("there is only one place");
    }
    blocking(move || {
        let (mut shared, mut unknown) = (Vec::new(), Vec::new());
        for (at, (one, place)) in places.iter().enumerate() {
            for (other, second) in &places[at + 1..] {
                match (place, second) {
                    (Place::Dir(a), Place::Dir(b)) => {
                        if device(&a.root).is_some_and(|device| device_is(&b.root, device)) {
                            shared.push(format!("{one} and {other} are on the same file system"));
                        }
                    }
                    (Place::S3(a), Place::S3(b)) => match Kinship::of(a, b) {
                        Kinship::Bucket => shared.push(format!("{one} and {other} share the bucket {}", a.bucket)),
                        Kinship::Account => shared.push(format!(
                            "{one} and {other} belong to the same account and region (the same login and endpoint)"
                        )),
                        Kinship::Unknown => unknown.push(format!(
                            "it is unknown if {one} and {other}, in the same region, belong to the same account: their logins differ"
                        )),
                        Kinship::None => {}
                    },
                    (Place::Dir(_), Place::S3(_)) | (Place::S3(_), Place::Dir(_)) => {}
                }
            }
        }
        let names: Vec<&str> = places.iter().map(|(name, _)| name.as_str()).collect();
        let beside: String = unknown.iter().map(|unknown| format!("; {unknown}")).collect();
        match shared.is_empty() {
            true => Finding::ok(format!("{}: no two share a bucket, a login or a file system{beside}", names.join(", "))),
            false => Finding::warning(
                format!("{}{beside}", shared.join("; ")),
                "One accident, or one stolen key, could destroy both: keep a copy on another disk, or in another account or region",
            ),
        }
    })
    .await
}

/// The similarity of two buckets, as far as the settings show it.
#[derive(Debug, PartialEq, Eq)]
enum Kinship {
    Bucket,
    Account,
    /// The logins differ, but may belong to the same account.
    Unknown,
    None,
}

impl Kinship {
    fn of(a: &S3Options, b: &S3Options) -> Kinship {
        let login =
            |options: &S3Options| options.credentials.as_ref().map(|(id, _): &(String, Secret)| id.clone());
        if a.endpoint_url != b.endpoint_url {
            Kinship::None
        } else if a.bucket == b.bucket {
            Kinship::Bucket
        } else if a.region != b.region {
            Kinship::None
        } else if login(a) == login(b) {
            Kinship::Account
        } else {
            Kinship::Unknown
        }
    }
}

/// The file system of a directory, or of the folder in which the first backup creates it.
fn device(root: &Path) -> Option<u64> {
    root.ancestors().find_map(|folder| folder.metadata().ok()).map(|found| found.dev())
}

fn device_is(root: &Path, wanted: u64) -> bool {
    device(root) == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str, region: &str, login: Option<&str>) -> S3Options {
        S3Options {
            region: Some(region.into()),
            credentials: login.map(|id| (id.into(), Secret::from("x".to_string()))),
            ..S3Options::new(name, "")
        }
    }

    #[test]
    fn buckets_of_one_login_and_region_belong_together() {
        let first = bucket("a", "eu-central-1", Some("k1"));
        for (second, want) in [
            (bucket("a", "eu-central-1", Some("k2")), Kinship::Bucket),
            (bucket("b", "eu-central-1", Some("k1")), Kinship::Account),
            (bucket("b", "eu-central-1", Some("k2")), Kinship::Unknown),
            (bucket("b", "eu-central-1", None), Kinship::Unknown),
            (bucket("b", "us-east-1", Some("k1")), Kinship::None),
            (S3Options { endpoint_url: Some("https://s3.example".into()), ..first.clone() }, Kinship::None),
        ] {
            assert_eq!(Kinship::of(&first, &second), want, "{second:?}");
        }
    }
}
