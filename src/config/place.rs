//! Where backups are kept: a bucket or a directory, one of them and never none.

use std::num::NonZeroU64;

use bytesize::ByteSize;

use super::bucket;
use super::layers::{Layers, Origin};
use super::settings;
use super::values::{boolean, number};
use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::store::dir::DirOptions;
use crate::store::s3::{ChecksumMode, S3Options, Sse};

/// Where backups are kept.
#[derive(Debug, Clone)]
pub enum Place {
    /// A bucket.
    S3(Box<S3Options>),
    /// A directory.
    Dir(DirOptions),
}

/// Where backups are kept, for every command that needs a store.
pub fn place(layers: &Layers) -> Result<Place> {
    let s3_set: Vec<&str> = [
        "s3.endpoint_url",
        "s3.prefix",
        "s3.force_path_style",
        "s3.storage_class",
        "s3.sse",
        "s3.sse_kms_key_id",
    ]
    .into_iter()
    .filter(|key| layers.is_set(key))
    .collect();
    let by_flag = layers.origin("dir") == Some(&Origin::Flag);
    match (layers.text("s3.bucket"), layers.text("dir")) {
        (Some(_), Some(_)) if !by_flag => Err(Error::usage(
            "both a bucket (S3_BACKUP_BUCKET) and a directory (BACKUP_DIR) are set",
        )
        .hint("Set one of them; a backup goes to one place")),
        (Some(bucket), None) => s3(layers, bucket).map(|options| Place::S3(Box::new(options))),
        (None, _) if !s3_set.is_empty() && !by_flag => Err(Error::usage(format!(
            "{} set, but no bucket: S3_BACKUP_BUCKET is missing",
            are(&s3_set)
        ))
        .hint("Set S3_BACKUP_BUCKET (s3.bucket), or unset the other S3 settings")),
        (_, Some(dir)) => dir_place(layers, dir).map(Place::Dir),
        (None, None) => Err(Error::usage("there is nowhere to put backups: neither S3_BACKUP_BUCKET nor BACKUP_DIR is set")
            .hint("Set S3_BACKUP_BUCKET (s3.bucket) or BACKUP_DIR (dir); under cron, the shell's variables are not there")),
    }
}

fn s3(layers: &Layers, bucket: &str) -> Result<S3Options> {
    bucket::check(bucket, !layers.is_set("s3.endpoint_url")).map_err(|why| {
        let error = layers.wrong("s3.bucket", &why);
        match bucket::is_legacy(bucket) {
            true => error.hint(bucket::LEGACY),
            false => error,
        }
    })?;
    let prefix = layers.text("s3.prefix").expect("it has a default");
    if prefix.trim_matches('/').is_empty() {
        return Err(
            layers.wrong("s3.prefix", "the prefix must not be empty: the bucket may hold other things")
        );
    }
    let mut options = S3Options::new(bucket, prefix.trim_start_matches('/'));
    let text = |key| layers.text(key).map(str::to_string);
    options.region = text("s3.region");
    options.endpoint_url = layers.parsed("s3.endpoint_url", endpoint)?;
    options.patience = settings::patience(layers)?;
    options.bandwidth = layers.parsed("s3.bandwidth", bandwidth)?;
    options.force_path_style = boolean(layers, "s3.force_path_style")?;
    options.storage_class = text("s3.storage_class");
    options.sse = match (text("s3.sse").as_deref(), text("s3.sse_kms_key_id")) {
        (None, None) => None,
        (Some("AES256"), None) => Some(Sse::Aes256),
        (Some("aws:kms") | None, Some(key)) => Some(Sse::Kms(key)),
        (Some("aws:kms"), None) => return Err(layers.wrong("s3.sse", "S3_SSE_KMS_KEY_ID is missing")),
        (Some("AES256"), Some(_)) => {
            return Err(layers.wrong("s3.sse_kms_key_id", "it goes with S3_SSE = aws:kms"));
        }
        (Some(_), _) => return Err(layers.wrong("s3.sse", "it is AES256 or aws:kms")),
    };
    options.checksum = layers
        .parsed("s3.checksum", |mode| match mode {
            "crc64nvme" => Ok(ChecksumMode::Crc64Nvme),
            "crc32c" => Ok(ChecksumMode::Crc32c),
            "none" => Ok(ChecksumMode::None),
            _ => Err("it is crc64nvme, crc32c or none"),
        })?
        .expect("it has a default");
    options.credentials = match (text("s3.access_key_id"), text("s3.secret_access_key")) {
        (Some(id), Some(secret)) => {
            // From the environment alone they are left to the SDK, which knows session tokens too.
            let plain = Origin::Environment("AWS_SECRET_ACCESS_KEY".into());
            (layers.origin("s3.secret_access_key") != Some(&plain)).then(|| (id, Secret::from(secret)))
        }
        (None, None) => None,
        (Some(_), None) => {
            let missing = "the key goes with a secret, and AWS_SECRET_ACCESS_KEY is missing";
            return Err(layers.wrong("s3.access_key_id", missing).hint(
                "Set AWS_SECRET_ACCESS_KEY, or AWS_SECRET_ACCESS_KEY_FILE for a file with it; without both the AWS \
                 default chain is asked",
            ));
        }
        (None, Some(_)) => {
            let missing = "the secret goes with a key, and AWS_ACCESS_KEY_ID is missing";
            return Err(layers
                .wrong("s3.secret_access_key", missing)
                .hint("Set AWS_ACCESS_KEY_ID; without both the AWS default chain is asked"));
        }
    };
    Ok(options)
}

/// The slowest limit, in bytes per second: with less, even a manifest takes minutes.
const LEAST_BANDWIDTH: u64 = 1024;

/// Bytes per second, with or without a unit.
fn bandwidth(text: &str) -> Result<NonZeroU64, String> {
    let bytes = text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|n| *n >= LEAST_BANDWIDTH);
    bytes.and_then(NonZeroU64::new).ok_or_else(|| {
        format!(
            "it is a number of bytes per second, at least {LEAST_BANDWIDTH}, such as 500000, 2 MB or 4 MiB"
        )
    })
}

/// An address of a service, with the protocol that it speaks.
fn endpoint(url: &str) -> Result<String, String> {
    match url.split_once("://") {
        Some(("http" | "https", host))
            if host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') =>
        {
            Ok(url.to_string())
        }
        Some(_) => Err("an endpoint is https://HOST or http://HOST, with :PORT if it is another one".into()),
        None => Err(format!(
            "an endpoint begins with https://, or with http:// where no TLS is spoken: https://{url}"
        )),
    }
}

/// Names of settings as a subject: `a is`, `a, b are`.
pub(super) fn are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

fn dir_place(layers: &Layers, dir: &str) -> Result<DirOptions> {
    let mut options = DirOptions::new(dir);
    if !options.root.is_absolute() && layers.origin("dir") != Some(&Origin::Flag) {
        return Err(layers.wrong("dir", "it must be an absolute path: cron starts in another directory"));
    }
    let percent = number::<u8>(layers, "min_free", 0)?.expect("it has a default");
    if percent > 99 {
        return Err(layers.wrong("min_free", "it is a percentage from 0 to 99"));
    }
    options.min_free = f64::from(percent) / 100.0;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::layers::Raw;

    #[test]
    fn there_is_one_place() {
        for (env, word) in [
            (vec![], "S3_BACKUP_BUCKET"),
            (vec![("S3_ENDPOINT_URL", "http://x")], "S3_BACKUP_BUCKET"),
            (vec![("BACKUP_DIR", "/b"), ("S3_ENDPOINT_URL", "http://x")], "S3_BACKUP_BUCKET"),
            (vec![("BACKUP_DIR", "/b"), ("S3_BACKUP_BUCKET", "shop")], "one place"),
            (vec![("BACKUP_DIR", "b")], "absolute"),
            (vec![("S3_BACKUP_BUCKET", "s3://shop/x")], "S3_BACKUP_BUCKET): it is the bucket's name alone"),
            (vec![("S3_BACKUP_BUCKET", "My_Shop")], "not 'M'"),
            (vec![("BACKUP_DIR", "/b"), ("BACKUP_MIN_FREE", "100")], "0 to 99"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_BACKUP_PREFIX", "/")], "empty"),
            (
                vec![("S3_STORAGE_CLASS", "x"), ("S3_ENDPOINT_URL", "http://x")],
                "s3.endpoint_url, s3.storage_class are set, but no bucket",
            ),
            (vec![("S3_BACKUP_BUCKET", "my_shop")], "S3_ENDPOINT_URL=https://s3."),
            (vec![("S3_BACKUP_BUCKET", "my shop")], "Correct S3_BACKUP_BUCKET"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_ENDPOINT_URL", "host:9000")], "https://host:9000"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_ENDPOINT_URL", "https://")], "https://HOST"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_ENDPOINT_URL", "https:///x")], "https://HOST"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_ENDPOINT_URL", "s3://x")], "https://HOST"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_SSE", "kms")], "AES256"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_SSE", "aws:kms")], "S3_SSE_KMS_KEY_ID"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_CHECKSUM", "md5")], "crc32c"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_BANDWIDTH", "fast")], "bytes per second"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_BANDWIDTH", "1000")], "at least 1024"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("BACKUP_PATIENCE", "0")], "at least 1"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("AWS_ACCESS_KEY_ID", "x")], "Set AWS_SECRET_ACCESS_KEY"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("AWS_SECRET_ACCESS_KEY", "x")], "Set AWS_ACCESS_KEY_ID"),
        ] {
            let error = place(&Layers::of(&env)).unwrap_err();
            let words = format!("{error} {}", error.next_step().unwrap_or_default());
            assert!(words.contains(word), "{env:?}: {words}");
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
        }
        assert!(matches!(place(&Layers::of(&[("BACKUP_DIR", "/b")])).unwrap(), Place::Dir(_)));
        assert!(matches!(place(&Layers::of(&[("S3_BACKUP_BUCKET", "shop")])).unwrap(), Place::S3(_)));
        let elsewhere = [("S3_BACKUP_BUCKET", "My_Shop"), ("S3_ENDPOINT_URL", "https://s3.example.com")];
        assert!(matches!(place(&Layers::of(&elsewhere)).unwrap(), Place::S3(_)));
    }

    #[test]
    fn a_flag_for_the_directory_beats_a_bucket() {
        let flags = [("dir", Raw::Text("here".into()))].into_iter().collect();
        let env = |name: &str| (name == "S3_BACKUP_BUCKET").then(|| "shop".into());
        let layers = Layers::load(flags, &env, Some(Path::new("/dev/null"))).unwrap();
        assert!(matches!(place(&layers).unwrap(), Place::Dir(_)));
    }
}
