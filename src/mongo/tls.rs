//! The files of a connection string: the CA's certificates, and the client's certificate and key.

use std::fs;
use std::io;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::base::error::{Error, Result};
use crate::config::uri::MongoUri;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// Reads the files that the connection string names.
///
/// # Errors
/// Returns an error that names the file, what is wrong with it, and how to make a good one.
pub fn check_files(uri: &MongoUri) -> Result<()> {
    if let Some(path) = uri.option("tlsCAFile") {
        roots(Path::new(path))?;
    }
    if let Some(path) = uri.option("tlsCertificateKeyFile") {
        client_certificate(Path::new(path))?;
    }
    Ok(())
}

/// The certificates of a `tlsCAFile`.
pub fn roots(path: &Path) -> Result<RootCertStore> {
    const OPTION: &str = "tlsCAFile";
    let pem = read(OPTION, path)?;
    if !pem.contains(BEGIN) {
        let why = if pem.trim().is_empty() { "is empty" } else { "is not a PEM file" };
        return Err(unfit(OPTION, path, why).hint(
            "Name a file with the CA's certificate in PEM form; one in DER form is converted by \
             `openssl x509 -inform der -in FILE -out ca.pem`",
        ));
    }
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten();
    let (taken, _) = roots.add_parsable_certificates(certificates);
    if taken == 0 {
        return Err(unfit(OPTION, path, "has no certificate that can be read")
            .hint("Name the file with the certificate of the CA that signed the server's"));
    }
    Ok(roots)
}

/// The certificates and the key of a `tlsCertificateKeyFile`.
pub fn client_certificate(path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    const OPTION: &str = "tlsCertificateKeyFile";
    let pem = read(OPTION, path)?;
    let shown = path.display();
    let fails = |why: &str| unfit(OPTION, path, why);
    if !pem.contains(BEGIN) {
        let why = if pem.trim().is_empty() { "is empty" } else { "is not a PEM file" };
        return Err(fails(why).hint(format!(
            "Name a file with certificate and key in PEM form; one in PKCS #12 form is converted by \
             `openssl pkcs12 -in {shown} -out client.pem -nodes`"
        )));
    }
    // PKCS #8 has a label of its own for an encrypted key, the older forms a header (RFC 1421).
    if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has_encrypted_block(&pem) {
        return Err(fails("has an encrypted private key, which must be decrypted").hint(format!(
            "Decrypt the key: `openssl pkey -in {shown} -out key.pem` asks for its password. Put it behind the \
             certificate: `(openssl x509 -in {shown}; cat key.pem) > client.pem; chmod 600 client.pem`. Name client.pem \
             with tlsCertificateKeyFile, and leave out tlsCertificateKeyFilePassword"
        )));
    }
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect();
    let both = "Put certificate and key into it: `cat CERTIFICATE KEY > client.pem; chmod 600 client.pem`";
    if certificates.is_empty() {
        return Err(fails("has no certificate that can be read").hint(both));
    }
    match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(key) => Ok((certificates, key)),
        Err(_) => Err(fails("has no private key that can be read").hint(both)),
    }
}

const BEGIN: &str = "-----BEGIN ";

fn has_encrypted_block(pem: &str) -> bool {
    pem.lines().any(|line| {
        line.strip_prefix("Proc-Type:")
            .is_some_and(|kind| kind.split(',').any(|word| word.trim() == "ENCRYPTED"))
    })
}

fn read(option: &str, path: &Path) -> Result<String> {
    let failed = |e: io::Error| {
        let (why, hint) = match e.kind() {
            io::ErrorKind::NotFound => ("does not exist", "Correct the path; it must be absolute"),
            io::ErrorKind::PermissionDenied => {
                ("may not be read", "Let the user that this program runs as read it (chown, chmod 600)")
            }
            _ => ("cannot be read", "Name a file"),
        };
        unfit(option, path, why).hint(hint).caused_by(e)
    };
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > LARGEST {
        return Err(unfit(option, path, "is not a file with certificates").hint("Name a PEM file"));
    }
    Ok(String::from_utf8_lossy(&fs::read(path).map_err(failed)?).into_owned())
}

fn unfit(option: &str, path: &Path, why: &str) -> Error {
    Error::failed(format!("{option}: {} {why}", path.display()))
}
