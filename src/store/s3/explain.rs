//! Failures in classes the caller acts on, with the next step for a person.

use super::super::{Error, Kind};
use super::failure::{Failure, skew};
use super::options::S3Options;

/// What a request needs of the bucket's policy.
pub(super) type Action = &'static str;

/// Gives a failed request its class and says what to do.
///
/// `answered`: whether this service answered anything before; it tells an outage from a wrong address.
pub(super) fn explain(
    failure: &Failure,
    action: Action,
    doing: String,
    options: &S3Options,
    answered: bool,
) -> Error {
    let error = |kind| Error::new(kind, doing.clone(), failure.text());
    let bucket = &options.bucket;
    if failure.is(&["NoSuchBucket"]) {
        return error(Kind::NoPlace).hint(format!(
            "Create the bucket {bucket}, or correct S3_BACKUP_BUCKET; a bucket exists at one endpoint only"
        ));
    }
    if failure.is(&["RequestTimeTooSkewed", "RequestExpired"]) || skewed_head(failure) {
        let measured = match failure.date.map(skew) {
            Some(ahead) if ahead >= 0 => format!("; this machine's clock is {ahead} s behind the store's"),
            Some(ahead) => format!("; this machine's clock is {} s ahead of the store's", -ahead),
            None => String::new(),
        };
        return Error::new(Kind::ClockSkew, doing.clone(), failure.text() + &measured)
            .hint("Set this machine's clock (run `timedatectl` or a time daemon)");
    }
    if failure.other_region() {
        return error(Kind::Misconfigured).hint(match &failure.region {
            Some(region) => format!("The bucket {bucket} is in {region}: set AWS_REGION={region}"),
            None => format!("Set AWS_REGION to the region of the bucket {bucket}"),
        });
    }
    if failure.no_credentials {
        return error(Kind::Misconfigured)
            .hint("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or a profile, or the machine's role)");
    }
    if failure.is(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"]) {
        return error(Kind::Denied)
            .hint("Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN)");
    }
    if failure.status == Some(403) || failure.is(&["AccessDenied", "AllAccessDisabled"]) {
        return error(Kind::Denied)
            .hint(format!("Allow {action} on the bucket {bucket} for these credentials"));
    }
    if failure.is(&["NoSuchKey"]) {
        return error(Kind::NotFound);
    }
    if !answered && no_s3(failure) {
        // An address that nobody has, or somebody else, is a slip in the setting. Silence may pass.
        let slip = options.endpoint_url.is_some() && !(failure.status.is_none() && failure.lost);
        let kind = if slip { Kind::Misconfigured } else { Kind::Silent };
        return error(kind).hint(whither(failure, options));
    }
    if failure.not_found() {
        return error(Kind::NotFound);
    }
    if failure.is(&["BadDigest", "InvalidPart", "XAmzContentChecksumMismatch"]) {
        return error(Kind::Damaged);
    }
    if failure.unsupported() {
        return error(Kind::Failed)
            .hint("If the service does not know S3's checksum headers, set S3_CHECKSUM=none for it");
    }
    if failure.is(&[
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "RequestLimitExceeded",
    ]) {
        return error(Kind::Failed).hint(
            "The service wants fewer requests: lower S3_UPLOAD_CONCURRENCY, or begin at a quieter hour",
        );
    }
    if failure.is(&["QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"]) || failure.status == Some(507) {
        return error(Kind::Full).hint("Give the bucket more room, or let cleanup keep fewer backups");
    }
    error(Kind::Failed)
}

/// A HEAD refused without a code, by a service whose clock differs by more than the 15 minutes that
/// S3 allows.
fn skewed_head(failure: &Failure) -> bool {
    let beyond = failure.date.is_some_and(|date| skew(date).abs() > 15 * 60);
    failure.status == Some(403) && failure.code.is_none() && beyond
}

/// Where to look for the service that did not answer, or not as one of S3.
fn whither(failure: &Failure, options: &S3Options) -> String {
    let style = super::client::path_style(options);
    let plain = options.endpoint_url.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let tls = if plain { "; where TLS is spoken it begins with https://" } else { "" };
    match (&options.endpoint_url, failure.status) {
        // rustls's words for an answer that is no TLS.
        (Some(endpoint), None) if failure.message.contains("corrupt message") => format!(
            "No TLS is spoken at S3_ENDPOINT_URL ({endpoint}): begin it with http://, or have the service speak TLS"
        ),
        (Some(endpoint), None) => format!(
            "Check that a service listens at S3_ENDPOINT_URL ({endpoint}){tls}, and S3_FORCE_PATH_STYLE (now {style}): \
             without it the bucket's name is part of the host's"
        ),
        (Some(endpoint), Some(_)) => format!(
            "What answers at S3_ENDPOINT_URL ({endpoint}) is no S3 service with this bucket: check the address{tls}, \
             and S3_FORCE_PATH_STYLE (now {style})"
        ),
        (None, _) => {
            "Check this machine's way to Amazon S3 (network, name server, proxy), and AWS_REGION; another \
                      service needs S3_ENDPOINT_URL"
                .into()
        }
    }
}

/// Nothing answered, or what answered does not speak S3.
fn no_s3(failure: &Failure) -> bool {
    let silent = failure.status.is_none();
    let other = failure.code.is_none() && !failure.head && !matches!(failure.status, Some(500..));
    silent || other || failure.is(&["MethodNotAllowed"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(failure: Failure) -> Error {
        let mut options = S3Options::new("b", "p/");
        options.endpoint_url = Some("http://store:9000".into());
        explain(&failure, "s3:ListBucket", "cannot list".into(), &options, false)
    }

    fn answer(status: u16, code: &str) -> Failure {
        Failure { status: Some(status), code: Some(code.into()), ..Failure::default() }
    }

    #[test]
    fn classes() {
        assert_eq!(said(answer(404, "NoSuchBucket")).kind, Kind::NoPlace);
        assert_eq!(said(answer(404, "NoSuchKey")).kind, Kind::NotFound);
        let slow = said(answer(503, "SlowDown"));
        assert_eq!(slow.kind, Kind::Failed);
        assert!(slow.hint.is_some_and(|hint| hint.contains("S3_UPLOAD_CONCURRENCY")));
        let denied = said(answer(403, "AccessDenied"));
        assert_eq!(denied.kind, Kind::Denied);
        assert!(denied.to_string().contains("s3:ListBucket on the bucket b"));
        let page = said(Failure { status: Some(404), ..Failure::default() });
        assert_eq!(page.kind, Kind::Misconfigured);
        assert!(page.to_string().contains("S3_ENDPOINT_URL (http://store:9000)"));
        assert!(page.to_string().contains("where TLS is spoken it begins with https://"));
        let nobody =
            said(Failure { message: "no credentials".into(), no_credentials: true, ..Failure::default() });
        assert_eq!(nobody.kind, Kind::Misconfigured);
        let refused = said(Failure { message: "connection refused".into(), ..Failure::default() });
        assert_eq!(refused.kind, Kind::Misconfigured);
        assert!(
            refused.to_string().starts_with("cannot list: connection refused. Check that a service listens")
        );
        assert_eq!(said(Failure::lost("no answer in time")).kind, Kind::Silent);
        let moved = said(Failure { region: Some("eu-west-1".into()), ..answer(301, "PermanentRedirect") });
        assert!(moved.to_string().contains("AWS_REGION=eu-west-1"));
    }
}
