//! TLS: which CAs are trusted, and what is wrong with a certificate that is not.

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, RootCertStore};

use super::super::{Error, Kind, Result};
use crate::config::store::S3Options;

/// The largest file of CA certificates that is read, in bytes; the bundles of distributions have about 250 KiB.
const LARGEST_BUNDLE: u64 = 16 << 20;

/// A client that trusts the CAs of `ca_bundle`, else of `SSL_CERT_FILE`; `None` where neither is set: the SDK's own
/// client trusts this machine's CAs.
///
/// # Errors
/// Returns an error if the file cannot be read or contains no certificate.
pub(super) fn client(options: &S3Options) -> Result<Option<SharedHttpClient>> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = options.ca_bundle.clone().map(|path| ("AWS_CA_BUNDLE", path));
    let Some((name, path)) = named.or_else(|| Some(("SSL_CERT_FILE", set("SSL_CERT_FILE")?))) else {
        return Ok(None);
    };
    let pem = bundle(&path).map_err(|why| {
        let doing = format!("cannot use the CA certificates in {}, which {name} names", path.display());
        Error::new(Kind::Misconfigured, doing, why)
            .hint(format!("Set {name} to a PEM file with the CA's certificate (BEGIN CERTIFICATE)"))
    })?;
    let store = TrustStore::empty().with_pem_certificate(pem);
    let context = TlsContext::builder()
        .with_trust_store(store)
        .build()
        .map_err(|e| Error::new(Kind::Misconfigured, "cannot set up TLS", e))?;
    // As the SDK builds its own, which has no setting for the CAs.
    let client = Builder::new().build_with_connector_fn(move |settings, components| {
        let provider = Provider::Rustls(CryptoMode::AwsLc);
        let mut connector = Connector::builder().tls_provider(provider).tls_context(context.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.set_proxy_config(Some(ProxyConfig::from_env()));
        connector.build()
    });
    Ok(Some(client))
}

/// The certificates of a PEM file that can be CAs, as PEM. (The SDK panics at others.)
fn bundle(path: &Path) -> std::result::Result<String, String> {
    let meta = fs::metadata(path).map_err(|e| e.to_string())?;
    if !meta.is_file() || meta.len() > LARGEST_BUNDLE {
        return Err(format!("it is not a file of at most {} MiB", LARGEST_BUNDLE >> 20));
    }
    let text = fs::read(path).map_err(|e| e.to_string())?;
    let mut pem = String::new();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|e| format!("it is not PEM: {e}"))?;
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            let base64 = STANDARD.encode(&certificate);
            pem.push_str(&format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n"));
        }
    }
    if pem.is_empty() { Err("it contains no CA certificate".into()) } else { Ok(pem) }
}

/// What is wrong with the service's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// No trusted CA signed it.
    Untrusted,
    /// It is for other names.
    Name,
    /// It has expired, or is not valid yet.
    Time,
    /// Anything else.
    Other,
}

/// What is wrong with the certificate that ended a connection, and in words; `None` if the error is about something
/// else.
pub(super) fn fault(error: &(dyn StdError + 'static)) -> Option<(Fault, String)> {
    let rustls::Error::InvalidCertificate(why) = find::<rustls::Error>(error)? else { return None };
    Some(match why {
        CertificateError::UnknownIssuer => {
            (Fault::Untrusted, "the service's certificate is not signed by a CA that is trusted here".into())
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(String::as_str).collect();
            let asked = expected.to_str();
            (Fault::Name, format!("the service's certificate is for {}, not for {asked}", names.join(", ")))
        }
        CertificateError::NotValidForName => {
            (Fault::Name, "the service's certificate is for another name".into())
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            (Fault::Time, "the service's certificate has expired".into())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            (Fault::Time, "the service's certificate is not valid yet".into())
        }
        other => (Fault::Other, format!("the service's certificate is invalid: {other}")),
    })
}

/// The first error of a type among an error and its causes.
pub(super) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            // The `source` of an I/O error is that of the error it wraps, not that error.
            Some(io) => io.get_ref().map(|e| e as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_found_below_the_layers_of_a_connection() {
        let certificate = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, certificate));
        assert_eq!(fault(&error).map(|(fault, _)| fault), Some(Fault::Untrusted));
        assert_eq!(fault(&io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset))), None);
    }

    #[test]
    fn a_bundle_without_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for (text, words) in [
            ("", "no CA certificate"),
            ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "not PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no CA certificate"),
        ] {
            fs::write(&path, text).unwrap();
            let why = bundle(&path).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        assert!(bundle(folder.path()).unwrap_err().contains("not a file"));
        assert!(bundle(Path::new("/nonexistent")).is_err());
    }
}
