//! Turns failed requests into errors: the class, which the caller acts on, and the next step for a person.

use chrono::{DateTime, Utc};

use super::super::{StoreError, StoreErrorKind};
use super::client::{Environment, Proxy, path_style};
use super::failure::{CertificateFault, NO_CREDENTIALS, ProxyFault, S3Failure, skew};
use crate::base::escape::quoted;
use crate::config::store::{S3Options, Sse};

/// Makes the error of a failed request, which needs the permission `action` of a bucket policy. `answered` is
/// true if this service has answered before, which distinguishes an outage from a wrong address.
pub(super) fn explain(
    failure: &S3Failure,
    action: &str,
    doing: String,
    options: &S3Options,
    environment: &Environment,
    answered: bool,
) -> StoreError {
    let (bucket, now) = (&options.bucket, (options.machine.now)());
    let mut cause = failure.text();
    // The first match counts: some codes are ambiguous, and some services send no code.
    let (kind, hint) = if let Some(fault) = failure.certificate {
        (StoreErrorKind::Misconfigured, certificate(fault, options))
    } else if let Some(hint) = proxy(failure, options, environment) {
        // A proxy that is down may come back.
        let down = failure.proxy.is_none();
        (if down { StoreErrorKind::Silent } else { StoreErrorKind::Misconfigured }, hint)
    } else if let Some(hint) = encryption(failure, options).or_else(|| bucket_settings(failure, options)) {
        (StoreErrorKind::Misconfigured, hint)
    } else {
        match failure.code() {
            "NoSuchBucket" => {
                let hint = format!(
                    "Create the bucket {bucket}, or correct its name (S3_BACKUP_BUCKET; of a copy, COPY_S3_BUCKET or bucket); a bucket exists at one endpoint only"
                );
                (StoreErrorKind::NoPlace, hint)
            }
            code if ["RequestTimeTooSkewed", "RequestExpired"].contains(&code)
                || skewed_head(failure, now) =>
            {
                cause += &match failure.date.map(|date| skew(date, now)) {
                    Some(ahead) if ahead >= 0 => {
                        format!("; this machine's clock is {ahead} s behind the store's")
                    }
                    Some(ahead) => format!("; this machine's clock is {} s ahead of the store's", -ahead),
                    None => String::new(),
                };
                let hint = "Set this machine's clock (run `timedatectl` or a time daemon)";
                (StoreErrorKind::ClockSkew, hint.into())
            }
            _ if failure.other_region() => {
                let hint = match &failure.region {
                    Some(region) => format!("The bucket {bucket} is in {region}: set AWS_REGION={region}"),
                    None => format!("Set AWS_REGION to the region of the bucket {bucket}"),
                };
                (StoreErrorKind::Misconfigured, hint)
            }
            _ if failure.no_credentials => (StoreErrorKind::Misconfigured, credentials(failure, environment)),
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
                let hint = "The temporary credentials have expired: get new ones, and set AWS_ACCESS_KEY_ID, \
                            AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN together";
                (StoreErrorKind::Denied, hint.into())
            }
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" => {
                let hint = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)";
                (StoreErrorKind::Denied, hint.into())
            }
            _ if is_locked(failure) => {
                let hint = "It can be deleted when its retention period or legal hold ends";
                (StoreErrorKind::Locked, hint.into())
            }
            _ if failure.denied() => (StoreErrorKind::Denied, allow(failure, action, options)),
            "NoSuchKey" => return StoreError::new(StoreErrorKind::NotFound, doing, cause),
            _ if !answered && no_s3(failure) => {
                // A closed port or a different service means that the setting is wrong. A lost answer may pass.
                let wrong = options.endpoint_url.is_some() && !(failure.status.is_none() && failure.lost);
                let kind = if wrong { StoreErrorKind::Misconfigured } else { StoreErrorKind::Silent };
                (kind, address_hint(failure, options))
            }
            _ if failure.not_found() => return StoreError::new(StoreErrorKind::NotFound, doing, cause),
            "BadDigest" | "InvalidPart" | "XAmzContentChecksumMismatch" => {
                return StoreError::damaged(doing, cause);
            }
            _ if failure.unsupported() => {
                let hint = "If the service does not support this checksum, set S3_CHECKSUM=crc32c or \
                            S3_CHECKSUM=none; `uzima-backup health` tries them";
                (StoreErrorKind::Failed, hint.into())
            }
            "SlowDown"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "RequestLimitExceeded" => {
                let hint = "The service limits the rate of requests: lower S3_UPLOAD_CONCURRENCY, or begin at a \
                            quieter hour";
                (StoreErrorKind::Failed, hint.into())
            }
            code if ["QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"].contains(&code)
                || failure.status == Some(507) =>
            {
                let hint = "Give the bucket more room, or let cleanup keep fewer backups";
                (StoreErrorKind::Full, hint.into())
            }
            _ => return StoreError::failed(doing, cause),
        }
    };
    StoreError::new(kind, doing, cause).hint(hint)
}

/// The next step for a certificate that was rejected.
fn certificate(fault: CertificateFault, options: &S3Options) -> String {
    let endpoint = options.endpoint_url.as_deref().unwrap_or("Amazon S3");
    match fault {
        CertificateFault::Untrusted => format!(
            "If {endpoint} or a proxy before it has a private CA, set AWS_CA_BUNDLE (s3.ca_bundle) to a PEM file with that \
             CA's certificate; on a machine without CA certificates install the package ca-certificates"
        ),
        CertificateFault::Name => format!(
            "Set S3_ENDPOINT_URL (now {endpoint}) to a name in the certificate; S3_FORCE_PATH_STYLE=true keeps the \
             bucket out of the host's name (now {})",
            path_style(options)
        ),
        CertificateFault::Time => {
            format!("Renew the certificate of {endpoint}, or set this machine's clock (`timedatectl`)")
        }
        CertificateFault::Other => format!("Have {endpoint} use a certificate that TLS clients accept"),
    }
}

/// The next step for a request that failed at the proxy; `None` if it did not fail there.
fn proxy(failure: &S3Failure, options: &S3Options, environment: &Environment) -> Option<String> {
    let silent = failure.status.is_none() && !failure.no_credentials;
    if failure.proxy.is_none() && !silent {
        return None;
    }
    let Proxy { variable, address } = environment.proxy.as_ref()?;
    let service = options.endpoint_url.as_deref().unwrap_or("Amazon S3");
    let step = match failure.proxy {
        Some(ProxyFault::Login) => format!(
            "Put the user and password of the proxy {address} into {variable} (http://USER:PASSWORD@HOST:PORT)"
        ),
        Some(ProxyFault::Refused) => {
            format!("Have the proxy {address} ({variable}) allow connections to {service}")
        }
        None => format!(
            "Requests go through the proxy {address} ({variable}): check that it is running and can be reached"
        ),
    };
    Some(format!("{step}, or reach {service} without the proxy: add its host to NO_PROXY"))
}

/// The next step if the SDK found no credentials, or could not load them.
fn credentials(failure: &S3Failure, environment: &Environment) -> String {
    let set = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    match (&environment.profile, &environment.web_identity) {
        (Some(profile), _) if failure.message.contains("profile") || failure.message == NO_CREDENTIALS => {
            format!(
                "Check the profile {profile} (AWS_PROFILE) in ~/.aws/config and ~/.aws/credentials of the user that \
             runs this program: `aws configure list --profile {}`",
                quoted(profile)
            )
        }
        (_, Some(file)) => format!(
            "Check the role's trust policy and AWS_ROLE_ARN, and that this user may read {file} \
             (AWS_WEB_IDENTITY_TOKEN_FILE); or set {set}"
        ),
        _ => format!("Set {set} (or a profile, or the machine's role)"),
    }
}

/// The next step for a request that the policy of the key or the bucket refuses.
fn allow(failure: &S3Failure, action: &str, options: &S3Options) -> String {
    let bucket = &options.bucket;
    let says = |words: &str| failure.message.contains(words);
    if says("kms:") {
        return "Allow kms:GenerateDataKey and kms:Decrypt on the KMS key for these credentials, in the key's policy and \
                in their own"
            .into();
    }
    if says("s3:PutObjectRetention") {
        return format!(
            "Allow s3:PutObjectRetention on the bucket {bucket} for these credentials, or unset S3_OBJECT_LOCK_DAYS"
        );
    }
    let allow = format!("Allow {action} on the bucket {bucket} for these credentials");
    if action != "s3:PutObject" || !(says("explicit deny") || options.sse.is_none()) {
        return allow;
    }
    let sse = match options.sse {
        None => "S3_SSE is not set",
        Some(Sse::Aes256) => "S3_SSE is AES256",
        Some(Sse::Kms(_)) => "S3_SSE is aws:kms",
    };
    format!(
        "{allow}; if the bucket's policy requires encryption, set S3_SSE to its type, AES256 or aws:kms ({sse})"
    )
}

/// The next step if the service cannot encrypt the object; `None` for other failures.
fn encryption(failure: &S3Failure, options: &S3Options) -> Option<String> {
    let key = match &options.sse {
        Some(Sse::Kms(Some(key))) => format!("the KMS key {key} (S3_SSE_KMS_KEY_ID)"),
        _ => "the default KMS key of the bucket or account".into(),
    };
    let (message, code) = (failure.message.to_ascii_lowercase(), failure.code().to_ascii_lowercase());
    let unsupported = || {
        code == "serversideencryptionconfigurationnotfounderror"
            || code.contains("kmsnotconfigured")
            || message.contains("kms is not configured")
            || (options.sse.is_some() && failure.unsupported() && message.contains("encryption"))
    };
    Some(match code.as_str() {
        "kms.disabledexception" => {
            format!("Enable {key} (`aws kms enable-key`), or set S3_SSE_KMS_KEY_ID to another key")
        }
        "kms.kmsinvalidstateexception" => format!(
            "Look at {key} (`aws kms describe-key`): it may be about to be deleted (`aws kms cancel-key-deletion`)"
        ),
        _ if code == "kms.notfoundexception" || code == "kms:keynotfound" || code.contains("kmskeynotfound") => {
            format!(
                "The service does not find {key}: correct S3_SSE_KMS_KEY_ID; the key must be in the bucket's region"
            )
        }
        _ if code.starts_with("kms.") => {
            format!("Look at {key} (`aws kms describe-key`), or set S3_SSE_KMS_KEY_ID to another key")
        }
        _ if unsupported() => {
            "This service does not support the encryption that S3_SSE requests: unset S3_SSE and S3_SSE_KMS_KEY_ID, or \
             set up encryption in the service"
                .into()
        }
        _ => return None,
    })
}

/// The next step for a setting that the bucket or the service does not accept; `None` for other failures.
fn bucket_settings(failure: &S3Failure, options: &S3Options) -> Option<String> {
    let message = failure.message.to_ascii_lowercase();
    let lock = message.contains("object lock") || message.contains("objectlock");
    let period = failure.is(&["InvalidRetentionPeriod"]);
    let refused = period || lock && (failure.unsupported() || failure.is(&["MalformedXML"]));
    if options.object_lock_days.is_some() && refused {
        return Some(format!(
            "The bucket {} has no Object Lock: turn it on there (with versioning), or unset S3_OBJECT_LOCK_DAYS",
            options.bucket
        ));
    }
    let class = options.storage_class.as_deref().unwrap_or("none");
    failure
        .is(&["InvalidStorageClass"])
        .then(|| format!("Set S3_STORAGE_CLASS (now {class}) to a class of this service, or unset it"))
}

/// Returns true if Object Lock refused a deletion. (Amazon hides the object instead, unless the request names a
/// version.)
fn is_locked(failure: &S3Failure) -> bool {
    let message = failure.message.to_ascii_lowercase();
    let says = ["object lock", "worm protected", "worm-protected", "under retention", "legal hold"];
    failure.is(&["ObjectLocked"])
        || failure.status.is_some_and(|s| (400..500).contains(&s))
            && says.iter().any(|words| message.contains(words))
}

/// Returns true if a HEAD was refused without a code, and the service's clock differs by more than the 15
/// minutes that S3 allows.
fn skewed_head(failure: &S3Failure, now: DateTime<Utc>) -> bool {
    let beyond = failure.date.is_some_and(|date| skew(date, now).abs() > 15 * 60);
    failure.status == Some(403) && failure.code.is_none() && beyond
}

/// The next step if no service answers at the address, or if the service there does not speak S3.
fn address_hint(failure: &S3Failure, options: &S3Options) -> String {
    let style = path_style(options);
    let Some(endpoint) = &options.endpoint_url else {
        return "Check this machine's connection to Amazon S3 (network, name server, proxy), and AWS_REGION; another \
                service needs S3_ENDPOINT_URL"
            .into();
    };
    let plain = endpoint.starts_with("http://");
    let tls = if plain { "; if the service speaks TLS, the address begins with https://" } else { "" };
    match failure.status {
        // rustls's words for an answer that is not TLS.
        None if failure.message.contains("corrupt message") => format!(
            "The service at S3_ENDPOINT_URL ({endpoint}) does not speak TLS: begin the address with http://, or turn on \
             TLS in the service"
        ),
        None => format!(
            "Check that a service listens at S3_ENDPOINT_URL ({endpoint}){tls}, and S3_FORCE_PATH_STYLE (now {style}): \
             if it is false, the bucket's name is part of the host name"
        ),
        Some(_) => format!(
            "The server at S3_ENDPOINT_URL ({endpoint}) is not an S3 service with this bucket: check the address{tls}, \
             and S3_FORCE_PATH_STYLE (now {style})"
        ),
    }
}

/// Returns true if nothing answered, or the answer is not from an S3 service.
fn no_s3(failure: &S3Failure) -> bool {
    let silent = failure.status.is_none();
    let other = failure.code.is_none() && !failure.head && !matches!(failure.status, Some(500..));
    silent || other || failure.is(&["MethodNotAllowed"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(failure: S3Failure) -> StoreError {
        let mut options = S3Options::new("b", "p/");
        options.endpoint_url = Some("http://store:9000".into());
        explain(&failure, "s3:ListBucket", "cannot list".into(), &options, &Environment::default(), false)
    }

    /// The error of a refused write with these settings.
    fn of_write(failure: S3Failure, change: impl FnOnce(&mut S3Options)) -> StoreError {
        let mut options = S3Options::new("b", "p/");
        change(&mut options);
        explain(&failure, "s3:PutObject", "cannot write".into(), &options, &Environment::default(), true)
    }

    fn message(status: u16, code: &str, message: &str) -> S3Failure {
        S3Failure { message: message.into(), ..answer(status, code) }
    }

    #[track_caller]
    fn assert_hint(error: &StoreError, kind: StoreErrorKind, words: &[&str]) {
        let hint = error.hint.as_deref().unwrap_or_default();
        assert_eq!(error.kind, kind, "{error}");
        words.iter().for_each(|word| assert!(hint.contains(word), "no {word:?} in {hint:?}"));
    }

    /// Codes and messages of Amazon S3 and MinIO.
    #[test]
    fn each_fault_of_encryption_has_its_own_next_step() {
        let kms = |options: &mut S3Options| options.sse = Some(Sse::Kms(Some("key-1".into())));
        let default = |options: &mut S3Options| options.sse = Some(Sse::Kms(None));
        let aes = |options: &mut S3Options| options.sse = Some(Sse::Aes256);
        let write = |failure: S3Failure| of_write(failure, kms);
        let bad = StoreErrorKind::Misconfigured;
        let missing = "Invalid keyId 'key-1'";
        assert_hint(
            &write(message(400, "KMS.NotFoundException", missing)),
            bad,
            &["not find the KMS key key-1", "region"],
        );
        assert_hint(&write(message(400, "XMinioKMSKeyNotFound", "")), bad, &["correct S3_SSE_KMS_KEY_ID"]);
        assert_hint(
            &write(message(400, "KMS.DisabledException", "key-1 is disabled.")),
            bad,
            &["enable-key", "key-1"],
        );
        assert_hint(
            &write(message(400, "KMS.KMSInvalidStateException", "key-1 is pending deletion.")),
            bad,
            &["cancel-key-deletion"],
        );
        let none = "Server side encryption specified but KMS is not configured";
        for (status, code) in
            [(501, "NotImplemented"), (400, "InvalidArgument"), (400, "XMinioKMSNotConfigured")]
        {
            assert_hint(&write(message(status, code, none)), bad, &["unset S3_SSE"]);
        }
        let unknown = message(400, "InvalidRequest", "The encryption method specified is not supported");
        assert_hint(&of_write(unknown, aes), bad, &["unset S3_SSE"]);
        let gone = answer(404, "ServerSideEncryptionConfigurationNotFoundError");
        assert_hint(&of_write(gone, default), bad, &["unset S3_SSE"]);
        let user = "User: arn:aws:iam::1:user/backup is not authorized to perform: ";
        let data_key = message(403, "AccessDenied", &format!("{user}kms:GenerateDataKey on resource: key-1"));
        assert_hint(
            &write(data_key),
            StoreErrorKind::Denied,
            &["Allow kms:GenerateDataKey and kms:Decrypt", "key's policy"],
        );
        let policy =
            format!("{user}s3:PutObject on resource: \"b\" with an explicit deny in a resource-based policy");
        let denied = || message(403, "AccessDenied", &policy);
        assert_hint(
            &of_write(denied(), |_| {}),
            StoreErrorKind::Denied,
            &["set S3_SSE to its type", "S3_SSE is not set"],
        );
        assert_hint(&of_write(denied(), aes), StoreErrorKind::Denied, &["aws:kms (S3_SSE is AES256)"]);
        // The key can only read, and the service gives no details.
        let plain = of_write(message(403, "AccessDenied", "Access Denied."), aes);
        assert_eq!(plain.hint.as_deref(), Some("Allow s3:PutObject on the bucket b for these credentials"));
    }

    #[test]
    fn a_setting_that_the_bucket_does_not_accept_is_named() {
        let lock = |options: &mut S3Options| options.object_lock_days = Some(7);
        for words in
            ["Bucket is missing ObjectLockConfiguration", "Bucket is missing Object Lock Configuration"]
        {
            let error = of_write(message(400, "InvalidRequest", words), lock);
            assert_hint(
                &error,
                StoreErrorKind::Misconfigured,
                &["has no Object Lock", "unset S3_OBJECT_LOCK_DAYS"],
            );
        }
        let retention = "not authorized to perform: s3:PutObjectRetention on resource";
        let error = of_write(message(403, "AccessDenied", retention), lock);
        assert_hint(&error, StoreErrorKind::Denied, &["Allow s3:PutObjectRetention"]);
        let class = |options: &mut S3Options| options.storage_class = Some("FAST".into());
        let error = of_write(message(400, "InvalidStorageClass", ""), class);
        assert_hint(&error, StoreErrorKind::Misconfigured, &["S3_STORAGE_CLASS (now FAST)"]);
        for (status, code, words) in [
            (403, "AccessDenied", "Access Denied because object protected by object lock."),
            (400, "InvalidRequest", "Object is WORM protected and cannot be overwritten"),
            (400, "ObjectLocked", ""),
        ] {
            assert_eq!(of_write(message(status, code, words), |_| {}).kind, StoreErrorKind::Locked, "{code}");
        }
    }

    #[test]
    fn expired_credentials_are_not_mistaken_for_wrong_ones() {
        let error = said(message(400, "ExpiredToken", "The provided token has expired."));
        assert_hint(&error, StoreErrorKind::Denied, &["have expired", "AWS_SESSION_TOKEN together"]);
        assert_hint(&said(answer(400, "InvalidToken")), StoreErrorKind::Denied, &["(and AWS_SESSION_TOKEN)"]);
    }

    fn beside(failure: S3Failure, environment: &Environment) -> StoreError {
        let mut options = S3Options::new("b", "p/");
        options.endpoint_url = Some("https://store:9000".into());
        explain(&failure, "s3:ListBucket", "cannot list".into(), &options, environment, false)
    }

    #[test]
    fn missing_credentials_are_named_by_their_source() {
        let none = |message: &str| S3Failure {
            message: message.into(),
            no_credentials: true,
            ..S3Failure::default()
        };
        let profile = Environment { profile: Some("back up".into()), ..Environment::default() };
        let missing = none("no credentials: profile `back up` was not defined: could not find it");
        assert_hint(
            &beside(missing, &profile),
            StoreErrorKind::Misconfigured,
            &["the profile back up (AWS_PROFILE)", "'back up'"],
        );
        assert_hint(&beside(none(NO_CREDENTIALS), &profile), StoreErrorKind::Misconfigured, &["AWS_PROFILE"]);
        let identity = Environment { web_identity: Some("/run/token".into()), ..Environment::default() };
        let refused = none("no credentials: InvalidIdentityToken: no OpenID Connect provider found");
        assert_hint(
            &beside(refused, &identity),
            StoreErrorKind::Misconfigured,
            &["/run/token (AWS_WEB_IDENTITY_TOKEN_FILE)", "AWS_ROLE_ARN"],
        );
        assert_hint(
            &beside(none(NO_CREDENTIALS), &Environment::default()),
            StoreErrorKind::Misconfigured,
            &["Set AWS_ACCESS_KEY_ID"],
        );
    }

    #[test]
    fn a_proxy_is_named_only_if_the_request_failed_there() {
        let proxy = Proxy { variable: "HTTPS_PROXY".into(), address: "http://proxy:3128".into() };
        let environment = Environment { proxy: Some(proxy), ..Environment::default() };
        let failure =
            |proxy, status| S3Failure { proxy, status, message: "x".into(), ..S3Failure::default() };
        let down = beside(failure(None, None), &environment);
        assert_hint(
            &down,
            StoreErrorKind::Silent,
            &["the proxy http://proxy:3128 (HTTPS_PROXY)", "NO_PROXY"],
        );
        let login = failure(Some(ProxyFault::Login), Some(407));
        assert!(
            !login.passes(true, chrono::Utc::now()) && failure(None, None).passes(true, chrono::Utc::now())
        );
        assert_hint(
            &beside(login, &environment),
            StoreErrorKind::Misconfigured,
            &["into HTTPS_PROXY (http://USER:PASSWORD@"],
        );
        let refused = beside(failure(Some(ProxyFault::Refused), None), &environment);
        assert_hint(&refused, StoreErrorKind::Misconfigured, &["allow connections to https://store:9000"]);
        assert!(!beside(answer(403, "AccessDenied"), &environment).to_string().contains("proxy"));
    }

    #[test]
    fn a_bad_certificate_is_no_outage() {
        for (fault, words) in [
            (CertificateFault::Untrusted, "AWS_CA_BUNDLE (s3.ca_bundle)"),
            (CertificateFault::Name, "S3_ENDPOINT_URL (now https://store:9000)"),
            (CertificateFault::Time, "Renew the certificate"),
            (CertificateFault::Other, "https://store:9000"),
        ] {
            let failure = S3Failure { certificate: Some(fault), lost: true, ..S3Failure::default() };
            assert!(!failure.passes(true, chrono::Utc::now()));
            assert_hint(&beside(failure, &Environment::default()), StoreErrorKind::Misconfigured, &[words]);
        }
    }

    fn answer(status: u16, code: &str) -> S3Failure {
        S3Failure { status: Some(status), code: Some(code.into()), ..S3Failure::default() }
    }

    #[test]
    fn each_failure_has_its_class_and_next_step() {
        assert_eq!(said(answer(404, "NoSuchBucket")).kind, StoreErrorKind::NoPlace);
        assert_eq!(said(answer(404, "NoSuchKey")).kind, StoreErrorKind::NotFound);
        let slow = said(answer(503, "SlowDown"));
        assert_eq!(slow.kind, StoreErrorKind::Failed);
        assert!(slow.hint.is_some_and(|hint| hint.contains("S3_UPLOAD_CONCURRENCY")));
        let denied = said(answer(403, "AccessDenied"));
        assert_eq!(denied.kind, StoreErrorKind::Denied);
        assert!(denied.to_string().contains("s3:ListBucket on the bucket b"));
        let page = said(S3Failure { status: Some(404), ..S3Failure::default() });
        assert_eq!(page.kind, StoreErrorKind::Misconfigured);
        assert!(page.to_string().contains("S3_ENDPOINT_URL (http://store:9000)"));
        assert!(page.to_string().contains("if the service speaks TLS, the address begins with https://"));
        let nobody = said(S3Failure {
            message: "no credentials".into(),
            no_credentials: true,
            ..S3Failure::default()
        });
        assert_eq!(nobody.kind, StoreErrorKind::Misconfigured);
        let refused = said(S3Failure { message: "connection refused".into(), ..S3Failure::default() });
        assert_eq!(refused.kind, StoreErrorKind::Misconfigured);
        assert!(
            refused.to_string().starts_with("cannot list: connection refused. Check that a service listens")
        );
        assert_eq!(said(S3Failure::lost("no answer in time")).kind, StoreErrorKind::Silent);
        let moved = said(S3Failure { region: Some("eu-west-1".into()), ..answer(301, "PermanentRedirect") });
        assert!(moved.to_string().contains("AWS_REGION=eu-west-1"));
    }
}
