//! The TLS options of a connection string: the files that they name, and a relay for
//! `tlsAllowInvalidHostnames`.
//!
//! The driver checks a server's certificate including its names, or not at all (3.9.1, src/runtime/tls_rustls.rs). mongodump
//! checks nothing if it does not check names. With `tlsAllowInvalidHostnames` both therefore connect without TLS to a
//! [`Relay`] on this machine, which connects to the server with TLS and checks the certificate's CA but not its names. The
//! driver reaches the relay on the loopback interface with a password, mongodump by a socket in a folder that is closed to
//! other users.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener as StdTcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mongodb::options::{ServerAddress, Socks5Proxy};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::errors;
use crate::base::error::{Error, Result};
use crate::config::uri::MongoUri;

/// The size of the largest file that is read.
const LARGEST_FILE: u64 = 16 << 20;
/// The beginning of each block of a PEM file.
const BEGIN: &str = "-----BEGIN ";

/// Checks the files that the connection string names. The error names the file and its fault, and how to make a valid
/// file.
pub(super) fn check_files(uri: &MongoUri) -> Result<()> {
    uri.option("tlsCAFile").map(|path| roots(path.as_ref())).transpose()?;
    uri.option("tlsCertificateKeyFile").map(|path| client_certificate(path.as_ref())).transpose()?;
    Ok(())
}

/// The certificates of a `tlsCAFile`.
fn roots(path: &Path) -> Result<RootCertStore> {
    const OPTION: &str = "tlsCAFile";
    let form = "Name a file with the CA's certificate in PEM form; `openssl x509 -inform der -in FILE -out ca.pem` converts a \
                file in DER form";
    let pem = read_pem(OPTION, path, form)?;
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
fn client_certificate(path: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    const OPTION: &str = "tlsCertificateKeyFile";
    let shown = path.display();
    let form = format!(
        "Name a file with certificate and key in PEM form; `openssl pkcs12 -in {shown} -out client.pem -nodes` converts a \
         file in PKCS #12 form"
    );
    let pem = read_pem(OPTION, path, &form)?;
    let fails = |why: &str| unfit(OPTION, path, why);
    // PKCS #8 has its own label for an encrypted key; the older forms have a header (RFC 1421).
    if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has_encrypted_block(&pem) {
        return Err(fails("has an encrypted private key, which must be decrypted").hint(format!(
            "Decrypt the key: `openssl pkey -in {shown} -out key.pem` asks for its password. Append the key to the \
             certificate: `(openssl x509 -in {shown}; cat key.pem) > client.pem; chmod 600 client.pem`. Name client.pem \
             with tlsCertificateKeyFile, and leave out tlsCertificateKeyFilePassword"
        )));
    }
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().collect();
    let both = "Put certificate and key into it: `cat CERTIFICATE KEY > client.pem; chmod 600 client.pem`";
    if certificates.is_empty() {
        return Err(fails("has no certificate that can be read").hint(both));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    let key = key.map_err(|_| fails("has no private key that can be read").hint(both))?;
    Ok((certificates, key))
}

fn has_encrypted_block(pem: &str) -> bool {
    let mut kinds = pem.lines().filter_map(|line| line.strip_prefix("Proc-Type:"));
    kinds.any(|kind| kind.split(',').any(|word| word.trim() == "ENCRYPTED"))
}

/// Reads a PEM file. `form` is the next step for a file in another form.
fn read_pem(option: &str, path: &Path, form: &str) -> Result<String> {
    let failed = |e: io::Error| {
        let (why, hint) = match e.kind() {
            io::ErrorKind::NotFound => ("does not exist", "Correct the path; it must be absolute"),
            io::ErrorKind::PermissionDenied => {
                ("may not be read", "Allow the user that runs this program to read it (chown, chmod 600)")
            }
            _ => ("cannot be read", "Name a file"),
        };
        unfit(option, path, why).hint(hint).caused_by(e)
    };
    let about = fs::metadata(path).map_err(failed)?;
    if !about.is_file() || about.len() > LARGEST_FILE {
        return Err(unfit(option, path, "is not a file with certificates").hint("Name a PEM file"));
    }
    let text = String::from_utf8_lossy(&fs::read(path).map_err(failed)?).into_owned();
    match text.as_str() {
        pem if pem.contains(BEGIN) => Ok(text),
        blank if blank.trim().is_empty() => Err(unfit(option, path, "is empty").hint(form)),
        _ => Err(unfit(option, path, "is not a PEM file").hint(form)),
    }
}

fn unfit(option: &str, path: &Path, why: &str) -> Error {
    Error::failed(format!("{option}: {} {why}", path.display()))
}

/// How long a server may take to accept a connection and to finish the handshake.
const CONNECTING: Duration = Duration::from_secs(10);

/// A proxy on this machine that connects to servers with TLS. It ends when dropped.
pub(super) struct Relay {
    /// The proxy for the driver, which must not use TLS itself.
    pub(super) proxy: Socks5Proxy,
    folder: PathBuf,
    doors: mpsc::UnboundedSender<(StdUnixListener, ServerAddress)>,
    last_failure: LastFailure,
}

/// Why the last connection failed; `None` if it succeeded.
type LastFailure = Arc<Mutex<Option<String>>>;

impl Relay {
    /// Starts the relay on its own thread. Its password and the name of its folder are random secrets, so they do not come
    /// from the caller.
    pub(super) fn start(uri: &MongoUri) -> Result<Relay> {
        let connector = TlsConnector::from(Arc::new(config(uri)?));
        let failed =
            |e: io::Error| Error::failed("cannot start the relay for tlsAllowInvalidHostnames").caused_by(e);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listener = StdTcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let password = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        let login = ("uzima-backup".to_string(), password);
        let proxy = Socks5Proxy::builder().host("127.0.0.1").port(port).authentication(login.clone()).build();
        let folder = std::env::temp_dir().join(format!("uzima-backup-{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let (doors, mut opened) = mpsc::unbounded_channel();
        let last_failure = LastFailure::default();
        let serving = RelayServer { connector, login, last_failure: last_failure.clone() };
        thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                loop {
                    tokio::select! {
                        door = opened.recv() => match door {
                            Some((listener, address)) => {
                                tokio::spawn(serving.clone().door(listener, address));
                            }
                            // The relay was dropped.
                            None => break,
                        },
                        client = listener.accept() => {
                            match client {
                                Ok((client, _)) => drop(tokio::spawn(serving.clone().socks(client))),
                                // Accepting fails while the process has no free file descriptor.
                                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                            }
                        }
                    }
                }
            });
            runtime.shutdown_background();
        });
        Ok(Relay { proxy, folder, doors, last_failure })
    }

    /// A Unix socket that leads to one server, for mongodump, which must not use TLS itself.
    pub(super) fn door(&self, to: &ServerAddress) -> Result<ServerAddress> {
        let path = self.folder.join(format!("mongodb-{:08x}.sock", rand::random::<u32>()));
        let failed =
            |e: io::Error| Error::failed(format!("cannot listen at {}", path.display())).caused_by(e);
        let listener = StdUnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        // The receiving thread lives as long as this relay.
        let _ = self.doors.send((listener, to.clone()));
        Ok(ServerAddress::Unix { path })
    }

    /// Why the last connection failed; `None` if it succeeded.
    pub(super) fn why(&self) -> Option<String> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The state that all connections of the relay share.
#[derive(Clone)]
struct RelayServer {
    connector: TlsConnector,
    login: (String, String),
    last_failure: LastFailure,
}

impl RelayServer {
    /// Serves a socket that leads to one server.
    async fn door(self, listener: StdUnixListener, to: ServerAddress) {
        let ServerAddress::Tcp { host, port } = to else { return };
        let Ok(listener) = UnixListener::from_std(listener) else { return };
        while let Ok((mut client, _)) = listener.accept().await {
            let (serving, host) = (self.clone(), host.clone());
            tokio::spawn(async move {
                if let Some(mut server) = serving.reach(&host, port.unwrap_or(27017)).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    }

    /// Serves one connection of the driver (RFC 1928, and RFC 1929 for the login).
    async fn socks(self, mut client: TcpStream) {
        let _ = client.set_nodelay(true);
        let asked = tokio::time::timeout(CONNECTING, self.asked(&mut client)).await;
        let Ok(Ok((host, port))) = asked else { return };
        let server = self.reach(&host, port).await;
        let reply = if server.is_some() { 0 } else { 5 };
        let answered = client.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        if let (Some(mut server), Ok(())) = (server, answered) {
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    }

    /// Checks the driver's login, and returns the host and port that the driver asks for.
    async fn asked(&self, client: &mut TcpStream) -> io::Result<(String, u16)> {
        let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
        let [5, methods] = bytes(client).await? else { return Err(refused()) };
        let mut offered = vec![0; methods.into()];
        client.read_exact(&mut offered).await?;
        if !offered.contains(&2) {
            client.write_all(&[5, 255]).await?;
            return Err(refused());
        }
        client.write_all(&[5, 2]).await?;
        let [1] = bytes(client).await? else { return Err(refused()) };
        let login = (text(client).await?, text(client).await?);
        let known = login == self.login;
        client.write_all(&[1, u8::from(!known)]).await?;
        let [5, 1, 0, kind] = bytes(client).await? else { return Err(refused()) };
        if !known {
            return Err(refused());
        }
        let host = match kind {
            1 => Ipv4Addr::from(bytes::<4>(client).await?).to_string(),
            3 => text(client).await?,
            4 => Ipv6Addr::from(bytes::<16>(client).await?).to_string(),
            _ => return Err(refused()),
        };
        Ok((host, u16::from_be_bytes(bytes(client).await?)))
    }

    /// Connects with TLS, and records the cause of a failure.
    async fn reach(&self, host: &str, port: u16) -> Option<impl AsyncRead + AsyncWrite + Unpin + use<>> {
        let connect = async {
            let server = TcpStream::connect((host, port)).await?;
            server.set_nodelay(true)?;
            let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
            self.connector.connect(name, server).await
        };
        let late = || Err(io::Error::from(io::ErrorKind::TimedOut));
        let reached = tokio::time::timeout(CONNECTING, connect).await.unwrap_or_else(|_| late());
        let why = reached.as_ref().err().map(|e| errors::plain(&e.to_string()));
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = why;
        reached.ok()
    }
}

async fn bytes<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Reads a text after its length, which is one byte.
async fn text(client: &mut TcpStream) -> io::Result<String> {
    let [length] = bytes(client).await?;
    let mut text = vec![0; length.into()];
    client.read_exact(&mut text).await?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// The TLS settings of the connection string, without a check of the names in certificates.
fn config(uri: &MongoUri) -> Result<ClientConfig> {
    let roots = match uri.option("tlsCAFile") {
        Some(path) => roots(path.as_ref())?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let failed = |e: rustls::Error| Error::failed("the TLS options cannot be used").caused_by(e);
    let checks = AnyName { roots, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(checks));
    match uri.option("tlsCertificateKeyFile") {
        Some(path) => {
            let (certificates, key) = client_certificate(path.as_ref())?;
            builder.with_client_auth_cert(certificates, key).map_err(failed)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Checks that a trusted CA signed a certificate, and ignores its names.
#[derive(Debug)]
struct AnyName {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
