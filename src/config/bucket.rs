//! What can be a bucket's name. Source: "General purpose bucket naming rules" in the Amazon S3 User Guide.

/// Checks a name; `amazon`: the bucket is Amazon's. Other services (Backblaze, Google, Ceph) also take capital
/// letters, `_` and `:`, and so do addresses of Amazon for a bucket that is older than its rules.
///
/// # Errors
/// With the rule that is broken.
pub fn check(name: &str, amazon: bool) -> Result<(), String> {
    // An access point stands for a bucket.
    if amazon && name.starts_with("arn:") {
        return Ok(());
    }
    if let Some((_, rest)) = name.split_once("://") {
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!(", and the prefix apart: S3_BACKUP_PREFIX={prefix}/"),
        };
        return Err(format!("it is the bucket's name alone: {bucket}{prefix}"));
    }
    let more = if amazon { "-." } else { "-._:" };
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || (!amazon && c.is_ascii_uppercase());
    let letters = if amazon { "lowercase letters" } else { "letters" };
    if let Some(odd) = name.chars().find(|c| !fits(*c) && !more.contains(*c)) {
        let signs: Vec<String> = more.chars().map(String::from).collect();
        let why = if amazon && is_legacy(name) { ": it is part of a host's name" } else { "" };
        return Err(format!(
            "a bucket's name has only {letters}, digits and {}, not '{odd}'{why}",
            signs.join(" ")
        ));
    }
    if !(3..=63).contains(&name.len()) {
        return Err(format!("a bucket's name has 3 to 63 characters, not {}", name.len()));
    }
    if !(name.starts_with(fits) && name.ends_with(fits)) {
        return Err("a bucket's name begins and ends with a letter or digit".into());
    }
    if name.contains("..") {
        return Err("a bucket's name has no two periods side by side".into());
    }
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err("a bucket's name does not look like an IP address".into());
    }
    Ok(())
}

/// Whether Amazon's rules of today are all that is wrong with a name.
pub fn is_legacy(name: &str) -> bool {
    check(name, false).is_ok() && !name.contains(':')
}

/// What to do with such a name. With an endpoint the bucket is asked for in the path, where any name can stand.
pub const LEGACY: &str = "Correct S3_BACKUP_BUCKET; a bucket of Amazon's that is so old that it has such a name is \
                          reached by S3_ENDPOINT_URL=https://s3.REGION.amazonaws.com, that of another service by its \
                          own endpoint";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_that_is_broken_is_named() {
        for (name, rule) in [
            ("s3://shop/nightly/", "name alone: shop, and the prefix apart: S3_BACKUP_PREFIX=nightly/"),
            ("s3://shop", "name alone: shop"),
            ("https://shop.s3.amazonaws.com/", "name alone: shop.s3.amazonaws.com"),
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
            let why = check(name, true).unwrap_err();
            assert!(why.contains(rule), "{name}: {why}");
        }
    }

    #[test]
    fn what_a_service_takes_is_not_refused() {
        for name in ["abc", "my-shop.backups-2", &"a".repeat(63), "shop--use1-az4--x-s3", "shop-x-s3alias"] {
            assert_eq!((check(name, true), check(name, false)), (Ok(()), Ok(())), "{name}");
        }
        assert_eq!(check("arn:aws:s3:eu-west-1:123456789012:accesspoint/backups", true), Ok(()));
        for name in ["My_Shop", "tenant:shop"] {
            assert!(check(name, false).is_ok() && check(name, true).is_err(), "{name}");
        }
        assert!(check("a/b", false).is_err() && check("s3://shop", false).is_err());
    }
}
