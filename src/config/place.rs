//! The place of the backups: a bucket or a directory. Bucket names: "General purpose bucket naming rules" in the Amazon S3
//! User Guide.

use std::num::NonZeroU64;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use bytesize::ByteSize;

use super::choices::choose;
use super::layers::{Layers, NOT_ABSOLUTE, boolean, within};
use super::store::{ChecksumMode, DirOptions, S3Options, Sse, unfit};
pub use super::table::FIRST;
use super::table::{COPY, Origin, copy_setting_like};
use crate::base::error::{Error, Result};
use crate::base::retry::Patience;
use crate::base::secret::Secret;

/// How long a file system may take to find a directory.
const ANSWER: Duration = Duration::from_secs(2);

/// The place where backups are kept.
#[derive(Debug, Clone)]
pub enum Place {
    S3(Box<S3Options>),
    Dir(DirOptions),
}

impl Place {
    /// The name of the place, as `Store::place` returns it, but without a look at the place: links in the path of a
    /// directory are not resolved.
    pub fn name(&self) -> String {
        match self {
            Place::Dir(options) => {
                let path = std::path::absolute(&options.root).unwrap_or_else(|_| options.root.clone());
                path.components().collect::<PathBuf>().display().to_string()
            }
            Place::S3(options) => match options.prefix.trim_matches('/') {
                "" => format!("s3://{}/", options.bucket),
                prefix => format!("s3://{}/{prefix}/", options.bucket),
            },
        }
    }

    /// Returns true if both are the same directory, also by a link or another mount of it, or the same prefix of a bucket.
    pub fn is_same(&self, other: &Place) -> bool {
        if self.name() == other.name() {
            return match (self, other) {
                (Place::S3(a), Place::S3(b)) => service(a) == service(b),
                _ => true,
            };
        }
        match (self, other) {
            (Place::Dir(a), Place::Dir(b)) => inode(a).is_some_and(|one| inode(b) == Some(one)),
            _ => false,
        }
    }
}

/// The service of a bucket; `None` is Amazon's.
fn service(options: &S3Options) -> Option<String> {
    options.endpoint_url.as_ref().map(|url| url.trim_end_matches('/').to_ascii_lowercase())
}

/// The device and the inode of a directory; `None` if it does not exist, or if its file system does not answer.
fn inode(options: &DirOptions) -> Option<(u64, u64)> {
    let (root, (answer, answered)) = (options.root.clone(), mpsc::channel());
    // The thread waits as long as a dead network file system does.
    std::thread::spawn(move || {
        let found = std::fs::metadata(root).ok();
        let _ = answer.send(found.map(|found| (found.dev(), found.ino())));
    });
    answered.recv_timeout(ANSWER).ok().flatten()
}

/// Settings that need a bucket.
const NEED_A_BUCKET: [&str; 8] = [
    "s3.endpoint_url",
    "s3.prefix",
    "s3.force_path_style",
    "s3.storage_class",
    "s3.sse",
    "s3.sse_kms_key_id",
    "s3.versioned",
    "s3.object_lock_days",
];

/// Resolves the place of the backups. The flag `--dir` takes precedence over a bucket.
pub(super) fn place(layers: &Layers) -> Result<Place> {
    if let Some(name) = layers.copy() {
        return place_of_copy(layers, name);
    }
    let by_flag = layers.origin("dir") == Some(&Origin::Flag);
    let bucket = layers.text("s3.bucket").filter(|_| !by_flag);
    let without: Vec<&str> = NEED_A_BUCKET.into_iter().filter(|key| layers.is_set(key) && !by_flag).collect();
    match (bucket, layers.text("dir")) {
        (Some(_), Some(_)) => {
            Err(Error::usage("both a bucket (S3_BACKUP_BUCKET) and a directory (BACKUP_DIR) are set")
                .hint("Set one of them, and the other one as a copy (COPY_DIR, COPY_S3_BUCKET)"))
        }
        (Some(bucket), None) => s3(layers, bucket).map(|options| Place::S3(Box::new(options))),
        (None, _) if !without.is_empty() => {
            let what = format!("{} set, but no bucket: S3_BACKUP_BUCKET is missing", are(&without));
            Err(Error::usage(what).hint("Set S3_BACKUP_BUCKET (s3.bucket), or unset the other S3 settings"))
        }
        (None, Some(dir)) => dir_place(layers, dir).map(Place::Dir),
        (None, None) => Err(Error::usage(
            "there is no place for backups: neither S3_BACKUP_BUCKET nor BACKUP_DIR is set",
        )
        .hint(
            "Set S3_BACKUP_BUCKET (s3.bucket) or BACKUP_DIR (dir); cron does not see the shell's variables",
        )),
    }
}

/// Resolves the place of a copy.
fn place_of_copy(layers: &Layers, name: &str) -> Result<Place> {
    check_copy(name)?;
    let (bucket, dir) = (layers.text("s3.bucket"), layers.text("dir"));
    let without = NEED_A_BUCKET.into_iter().filter(|key| bucket.is_none() && layers.is_set(key));
    let without: Vec<&str> = without.filter_map(copy_setting_like).map(|setting| setting.key).collect();
    let variables = if name == COPY { " (COPY_DIR, COPY_S3_BUCKET)" } else { "" };
    let wrong = |what: &str| {
        Err(Error::usage(format!("the copy '{name}' {what}"))
            .hint(format!("Set one of dir and bucket for the copy '{name}'{variables}")))
    };
    match (bucket, dir) {
        (Some(_), Some(_)) => wrong("has both a bucket and a directory"),
        (None, _) if !without.is_empty() => wrong(&format!("has no bucket, but {} set", are(&without))),
        (Some(bucket), None) => s3(layers, bucket).map(|options| Place::S3(Box::new(options))),
        (None, Some(dir)) => dir_place(layers, dir).map(Place::Dir),
        (None, None) => wrong("has no place"),
    }
}

/// Checks the name of a copy. Its characters need no quotes in a shell.
fn check_copy(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let what = if name.len() > 64 || name.starts_with('-') || !name.chars().all(fits) {
        "has other characters than A-Z a-z 0-9 . _ -, begins with -, or is longer than 64 characters"
    } else {
        return Ok(());
    };
    Err(Error::usage(format!("the name '{name}' of a copy {what}"))
        .hint("Give the copy another name, such as offsite"))
}

fn s3(layers: &Layers, bucket: &str) -> Result<S3Options> {
    check_bucket(bucket, !layers.is_set("s3.endpoint_url")).map_err(|why| {
        let error = layers.wrong("s3.bucket", &why);
        if is_legacy(bucket) { error.hint(LEGACY) } else { error }
    })?;
    let prefix = layers.value("s3.prefix", check_prefix)?;
    let text = |key| layers.text(key).map(str::to_string);
    let sse = match (text("s3.sse").as_deref(), text("s3.sse_kms_key_id")) {
        (None, None) => None,
        (Some("AES256"), None) => Some(Sse::Aes256),
        (Some("AES256"), Some(_)) => {
            return Err(layers.wrong("s3.sse_kms_key_id", "it requires S3_SSE = aws:kms"));
        }
        (Some("aws:kms") | None, key) => Some(Sse::Kms(key)),
        (Some(_), _) => return Err(layers.wrong("s3.sse", "it must be AES256 or aws:kms")),
    };
    let (credentials, session_token) = credentials(layers)?;
    Ok(S3Options {
        region: text("s3.region"),
        endpoint_url: layers.parsed("s3.endpoint_url", endpoint)?,
        force_path_style: layers.parsed("s3.force_path_style", boolean)?,
        checksum: layers.value("s3.checksum", |name| {
            let modes = [ChecksumMode::Crc64Nvme, ChecksumMode::Crc32c, ChecksumMode::None];
            choose(name, modes.map(ChecksumMode::name), modes)
        })?,
        storage_class: text("s3.storage_class"),
        object_lock_days: layers.parsed("s3.object_lock_days", within(1..=LONGEST_LOCK))?,
        versioned: layers.value("s3.versioned", boolean)?,
        ca_bundle: layers.absolute("s3.ca_bundle")?,
        sse,
        patience: Patience::new(layers.duration("patience")?),
        bandwidth: layers.parsed("s3.bandwidth", bandwidth)?,
        credentials,
        session_token,
        ..S3Options::new(bucket, prefix)
    })
}

/// A key id and its secret.
type Key = (String, Secret);

/// Resolves the key, and the session token that goes with it.
fn credentials(layers: &Layers) -> Result<(Option<Key>, Option<Secret>)> {
    let text = |key| layers.text(key).map(str::to_string);
    let incomplete = |key, missing: &str, step: &str| Err(layers.wrong(key, missing).hint(step));
    match (text("s3.access_key_id"), text("s3.secret_access_key")) {
        (Some(id), Some(secret)) => {
            Ok((Some((id, Secret::from(secret))), text("s3.session_token").map(Secret::from)))
        }
        (None, None) => match layers.origin("s3.session_token") {
            // A token without a key in the environment may belong to another program.
            None => Ok((None, None)),
            Some(Origin::Environment(name)) if name == "AWS_SESSION_TOKEN" => Ok((None, None)),
            Some(_) => incomplete(
                "s3.session_token",
                "the token requires a key and its secret, but AWS_ACCESS_KEY_ID is missing",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or leave the token out",
            ),
        },
        (Some(_), None) => incomplete(
            "s3.access_key_id",
            "the key requires a secret, but AWS_SECRET_ACCESS_KEY is missing",
            "Set AWS_SECRET_ACCESS_KEY, or AWS_SECRET_ACCESS_KEY_FILE for a file with it; without both, the AWS default \
             chain applies",
        ),
        (None, Some(_)) => incomplete(
            "s3.secret_access_key",
            "the secret requires a key, but AWS_ACCESS_KEY_ID is missing",
            "Set AWS_ACCESS_KEY_ID; without both, the AWS default chain applies",
        ),
    }
}

/// The lowest limit in bytes per second. Below it, even a manifest takes minutes.
const LEAST_BANDWIDTH: u64 = 1024;

/// Parses bytes per second, with or without a unit.
fn bandwidth(text: &str) -> Result<NonZeroU64, String> {
    let bytes = text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|n| *n >= LEAST_BANDWIDTH);
    bytes.and_then(NonZeroU64::new).ok_or_else(|| {
        format!(
            "it must be a number of bytes per second, at least {LEAST_BANDWIDTH}, such as 500000, 2 MB or 4 MiB"
        )
    })
}

/// The longest retention period in days that Amazon S3 accepts (100 years).
const LONGEST_LOCK: u32 = 36_500;

/// The longest prefix in bytes. S3 accepts keys of up to 1,024 bytes, and the longest key below the prefix
/// has 300.
const LONGEST_PREFIX: usize = 700;

/// Returns the prefix without a slash at its start. Refuses a prefix that services interpret differently: some resolve `..`
/// and join double slashes, so that no listing would find the backups.
fn check_prefix(prefix: &str) -> Result<String, String> {
    if prefix.trim_matches('/').is_empty() {
        return Err("the prefix must not be empty: the bucket may contain other objects".into());
    }
    let prefix = prefix.strip_prefix('/').unwrap_or(prefix);
    let wrong = if prefix.contains('\\') {
        "it contains a backslash"
    } else if prefix.chars().any(char::is_control) {
        "it contains a control character"
    } else if prefix.starts_with('/') || prefix.contains("//") {
        "it contains an empty part between slashes"
    } else if prefix.split('/').any(|part| part == "." || part == "..") {
        "`.` and `..` are not allowed"
    } else if prefix.len() > LONGEST_PREFIX {
        return Err(format!("it is longer than {LONGEST_PREFIX} bytes"));
    } else {
        return Ok(prefix.to_string());
    };
    let plain: String = prefix.chars().filter(|c| !c.is_control()).collect();
    let parts = plain.split(['/', '\\']).filter(|part| !matches!(*part, "" | "." | ".."));
    match parts.collect::<Vec<_>>().join("/") {
        parts if parts.is_empty() => {
            Err(format!("{wrong}; a correct prefix is, for example, daily-backups/"))
        }
        parts => Err(format!("{wrong}; a correct prefix is {parts}/")),
    }
}

fn endpoint(url: &str) -> Result<String, String> {
    match url.split_once("://") {
        Some(("http" | "https", host))
            if host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') =>
        {
            Ok(url.to_string())
        }
        Some(_) => {
            Err("an endpoint has the form https://HOST or http://HOST, with :PORT for another port".into())
        }
        None => Err(format!("an endpoint begins with https://, or with http:// without TLS: https://{url}")),
    }
}

/// Lists names of settings, with the verb: `a is`, `a, b are`.
pub(super) fn are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

fn dir_place(layers: &Layers, dir: &str) -> Result<DirOptions> {
    let mut options = DirOptions::new(dir);
    if !options.root.is_absolute() && layers.origin("dir") != Some(&Origin::Flag) {
        return Err(layers.wrong("dir", NOT_ABSOLUTE));
    }
    if let Some(why) = unfit(&options.root) {
        return Err(layers.wrong("dir", &why));
    }
    options.min_free = f64::from(layers.value("min_free", within(0_u8..=99))?) / 100.0;
    Ok(options)
}

/// Checks a bucket's name, and returns the broken rule. `amazon` is true for a bucket of Amazon S3. Other services
/// (Backblaze, Google, Ceph) also accept capital letters, `_` and `:`, and so does Amazon for buckets that are older
/// than its rules.
fn check_bucket(name: &str, amazon: bool) -> Result<(), String> {
    // The ARN of an access point is also valid.
    if amazon && name.starts_with("arn:") {
        return Ok(());
    }
    if let Some((_, rest)) = name.split_once("://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!(", and the prefix separately: S3_BACKUP_PREFIX={prefix}/"),
        };
        return Err(format!("write only the bucket's name: {bucket}{prefix}"));
    }
    let (letters, signs) = if amazon { ("lowercase letters", "- .") } else { ("letters", "- . _ :") };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || (!amazon && c.is_ascii_uppercase());
    let odd = name.chars().find(|c| !fits(*c) && (c.is_whitespace() || !signs.contains(*c)));
    let rule = if let Some(odd) = odd {
        let why = if amazon && is_legacy(name) { ": it becomes part of a host name" } else { "" };
        format!("has only {letters}, digits and {signs}, not '{odd}'{why}")
    } else if !(3..=63).contains(&name.len()) {
        format!("has 3 to 63 characters, not {}", name.len())
    } else if !(name.starts_with(fits) && name.ends_with(fits)) {
        "begins and ends with a letter or digit".into()
    } else if name.contains("..") {
        "has no two periods side by side".into()
    } else if name.parse::<std::net::Ipv4Addr>().is_ok() {
        "does not look like an IP address".into()
    } else {
        return Ok(());
    };
    Err(format!("a bucket's name {rule}"))
}

/// Returns true if the name breaks only Amazon's present rules, which older buckets may break.
fn is_legacy(name: &str) -> bool {
    check_bucket(name, false).is_ok() && !name.contains(':')
}

/// The next step for such a name. With an endpoint, requests have the bucket in the path, where any name can stand.
const LEGACY: &str = "Correct S3_BACKUP_BUCKET; for an old Amazon bucket with such a name, set \
                      S3_ENDPOINT_URL=https://s3.REGION.amazonaws.com; for a bucket of another service, set its endpoint";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::base::secret::ExposeSecret;
    use crate::config::Raw;

    #[test]
    fn there_is_exactly_one_place() {
        for (env, word) in [
            (vec![], "S3_BACKUP_BUCKET"),
            (vec![("S3_ENDPOINT_URL", "http://x")], "S3_BACKUP_BUCKET"),
            (vec![("BACKUP_DIR", "/b"), ("S3_ENDPOINT_URL", "http://x")], "S3_BACKUP_BUCKET"),
            (vec![("BACKUP_DIR", "/b"), ("S3_BACKUP_BUCKET", "shop")], "as a copy"),
            (vec![("BACKUP_DIR", "b")], "absolute"),
            (vec![("S3_BACKUP_BUCKET", "s3://shop/x")], "S3_BACKUP_BUCKET): write only the bucket's name"),
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
            (vec![("S3_VERSIONED", "true")], "s3.versioned is set, but no bucket"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_OBJECT_LOCK_DAYS", "0")], "from 1 to"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("S3_OBJECT_LOCK_DAYS", "36501")], "1 to 36500"),
            (vec![("S3_BACKUP_BUCKET", "shop"), ("AWS_CA_BUNDLE", "ca.pem")], "absolute"),
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
            assert_eq!(error.exit(), crate::base::exit::Exit::Usage);
        }
        assert!(matches!(place(&Layers::of(&[("BACKUP_DIR", "/b")])).unwrap(), Place::Dir(_)));
        assert!(matches!(place(&Layers::of(&[("S3_BACKUP_BUCKET", "shop")])).unwrap(), Place::S3(_)));
        let elsewhere = [("S3_BACKUP_BUCKET", "My_Shop"), ("S3_ENDPOINT_URL", "https://s3.example.com")];
        assert!(matches!(place(&Layers::of(&elsewhere)).unwrap(), Place::S3(_)));
    }

    #[test]
    fn a_prefix_that_services_interpret_differently_is_refused() {
        for (prefix, words) in [
            (
                "a//b/",
                "S3_BACKUP_PREFIX): it contains an empty part between slashes; a correct prefix is a/b/",
            ),
            ("//a/", "a correct prefix is a/"),
            ("a//", "a correct prefix is a/"),
            ("./a/", "`.` and `..` are not allowed; a correct prefix is a/"),
            ("a/../b", "a correct prefix is a/b/"),
            ("..", "a correct prefix is, for example, daily-backups/"),
            ("a\\b/", "a backslash; a correct prefix is a/b/"),
            ("a\nb/", "a control character; a correct prefix is ab/"),
            (&"x".repeat(701), "longer than 700 bytes"),
        ] {
            let layers = Layers::of(&[("S3_BACKUP_BUCKET", "shop"), ("S3_BACKUP_PREFIX", prefix)]);
            let error = place(&layers).unwrap_err();
            assert!(error.to_string().contains(words), "{prefix:?}: {error}");
            assert_eq!(error.exit(), crate::base::exit::Exit::Usage, "{prefix:?}");
        }
        for prefix in ["a", "/a/", "a/.b/", "a/...", "a b/é"] {
            let layers = Layers::of(&[("S3_BACKUP_BUCKET", "shop"), ("S3_BACKUP_PREFIX", prefix)]);
            assert!(place(&layers).is_ok(), "{prefix:?}");
        }
    }

    fn bucket(env: &[(&str, &str)], file: &str) -> Result<Box<S3Options>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, format!("[s3]\nbucket = \"shop\"\n{file}")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let value = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        let layers = Layers::load(Default::default(), &value, Some(&path)).unwrap();
        match place(&layers)? {
            Place::S3(options) => Ok(options),
            Place::Dir(_) => panic!("a bucket is set"),
        }
    }

    #[test]
    fn a_session_token_goes_with_its_key_from_any_source() {
        let key = "access_key_id = \"id\"\nsecret_access_key = \"secret\"\n";
        let (token, in_file) = (("AWS_SESSION_TOKEN", "token"), "session_token = \"token\"\n");
        let environment = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret"), token];
        for (env, file) in [
            (vec![token], key.to_string()),
            (vec![], format!("{key}{in_file}")),
            (environment.to_vec(), String::new()),
            (environment[..2].to_vec(), in_file.to_string()),
        ] {
            let options = bucket(&env, &file).unwrap();
            let token = options.session_token.as_ref().map(|token| token.expose_secret().to_string());
            assert_eq!(
                (token.as_deref(), options.credentials.is_some()),
                (Some("token"), true),
                "{env:?} {file}"
            );
            assert!(!format!("{options:?}").contains("token\""), "{options:?}");
        }
        // Without a key a token in the environment is left to the AWS default chain.
        assert!(bucket(&[token], "").unwrap().session_token.is_none());
        let error = bucket(&[], in_file).unwrap_err();
        assert!(error.to_string().contains("AWS_ACCESS_KEY_ID is missing"), "{error}");
    }

    #[test]
    fn kms_needs_no_key_id() {
        assert_eq!(bucket(&[("S3_SSE", "aws:kms")], "").unwrap().sse, Some(Sse::Kms(None)));
        let env = [("S3_SSE_KMS_KEY_ID", "key")];
        assert_eq!(bucket(&env, "").unwrap().sse, Some(Sse::Kms(Some("key".into()))));
    }

    #[test]
    fn a_flag_for_the_directory_beats_a_bucket() {
        let flags = [("dir", Raw::Text("here".into()))].into_iter().collect();
        let env = |name: &str| (name == "S3_BACKUP_BUCKET").then(|| "shop".into());
        let layers = Layers::load(flags, &env, Some(Path::new("/dev/null"))).unwrap();
        assert!(matches!(place(&layers).unwrap(), Place::Dir(_)));
    }
}

#[cfg(test)]
mod bucket_tests {
    use super::*;

    #[test]
    fn the_rule_that_is_broken_is_named() {
        for (name, rule) in [
            (
                "s3://shop/nightly/",
                "only the bucket's name: shop, and the prefix separately: S3_BACKUP_PREFIX=nightly/",
            ),
            ("s3://shop", "only the bucket's name: shop"),
            ("https://shop.s3.amazonaws.com/", "only the bucket's name: shop.s3.amazonaws.com"),
            ("Shop", "lowercase letters, digits and - ., not 'S'"),
            ("my_shop", "not '_'"),
            ("shop/nightly", "not '/'"),
            ("my shop", "not ' '"),
            ("", "3 to 63 characters, not 0"),
            ("ab", "3 to 63 characters, not 2"),
            (&"a".repeat(64), "not 64"),
            ("-shop", "begins and ends"),
            ("shop.", "begins and ends"),
            ("my..shop", "two periods"),
            ("192.168.5.4", "IP address"),
        ] {
            let why = check_bucket(name, true).unwrap_err();
            assert!(why.contains(rule), "{name}: {why}");
        }
    }

    #[test]
    fn names_that_a_service_accepts_are_not_refused() {
        for name in ["abc", "my-shop.backups-2", &"a".repeat(63), "shop--use1-az4--x-s3", "shop-x-s3alias"] {
            assert_eq!((check_bucket(name, true), check_bucket(name, false)), (Ok(()), Ok(())), "{name}");
        }
        assert_eq!(check_bucket("arn:aws:s3:eu-west-1:123456789012:accesspoint/backups", true), Ok(()));
        for name in ["My_Shop", "tenant:shop"] {
            assert!(check_bucket(name, false).is_ok() && check_bucket(name, true).is_err(), "{name}");
        }
        assert!(check_bucket("a/b", false).is_err() && check_bucket("s3://shop", false).is_err());
    }
}
