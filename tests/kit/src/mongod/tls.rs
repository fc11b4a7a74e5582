//! A new CA and server certificate for each test.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};

/// The paths of the PEM files.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The CA's certificate, for clients.
    pub ca: PathBuf,
    /// The server's certificate and key in one file, as mongod requires.
    pub server: PathBuf,
    /// A client's certificate and key in one file, for [`CLIENT_NAME`].
    pub client: PathBuf,
}

/// The name in the client's certificate, as MongoDB calls the user (RFC 2253).
pub const CLIENT_NAME: &str = "CN=backup client,OU=operations,O=uzima test";

impl TlsFiles {
    /// A certificate for this machine.
    pub fn create(dir: &Path) -> Result<Self> {
        Self::create_for(dir, &["127.0.0.1", "localhost"])
    }

    /// A certificate for these host names or addresses: give it others to see a client refuse it.
    pub fn create_for(dir: &Path, names: &[&str]) -> Result<Self> {
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "uzima test CA");
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

        let mut leaf = CertificateParams::new(names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>())?;
        leaf.distinguished_name.push(DnType::CommonName, "uzima test server");
        leaf.use_authority_key_identifier_extension = true;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        // Members of a set are each other's clients.
        leaf.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?;

        let mut client = CertificateParams::default();
        // The default already has a name.
        client.distinguished_name = DistinguishedName::new();
        for (kind, text) in [
            (DnType::OrganizationName, "uzima test"),
            (DnType::OrganizationalUnitName, "operations"),
            (DnType::CommonName, "backup client"),
        ] {
            client.distinguished_name.push(kind, text);
        }
        client.use_authority_key_identifier_extension = true;
        client.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let client_key = KeyPair::generate()?;
        let client = client.signed_by(&client_key, &issuer)?;

        let path = |name: &str| dir.join(name);
        let files = TlsFiles { ca: path("ca.pem"), server: path("server.pem"), client: path("client.pem") };
        std::fs::write(&files.client, client.pem() + &client_key.serialize_pem())?;
        std::fs::write(&files.ca, issuer.pem())?;
        std::fs::write(&files.server, certificate.pem() + &key.serialize_pem())?;
        Ok(files)
    }
}
