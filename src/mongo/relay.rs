//! TLS to servers whose certificate has another name (`tlsAllowInvalidHostnames`). The driver checks certificates with
//! their names or not at all (3.9.1, src/runtime/tls_rustls.rs), and mongodump checks nothing if it does not check
//! names. So the driver and mongodump connect to this relay without TLS, and the relay connects to the server with TLS. It
//! checks the certificate's CA, but not its names. The driver reaches the relay on the loopback interface with a password,
//! mongodump by a socket in a folder that is closed to other users.

use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener as StdTcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mongodb::options::{ServerAddress, Socks5Proxy};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::base::error::{Error, Result};
use crate::config::uri::MongoUri;

/// How long a server may take to accept a connection and to finish the handshake.
const CONNECTING: Duration = Duration::from_secs(10);

/// A proxy on this machine that connects to servers with TLS; it ends when dropped.
pub struct Relay {
    proxy: Socks5Proxy,
    folder: PathBuf,
    doors: mpsc::UnboundedSender<(StdUnixListener, ServerAddress)>,
    why: Why,
}

/// Why the last connection failed.
type Why = Arc<Mutex<Option<String>>>;

impl Relay {
    /// Starts on a thread of its own.
    ///
    /// # Errors
    /// Returns an error if a file of the connection string cannot be used, or the machine has no port left.
    pub fn start(uri: &MongoUri) -> Result<Relay> {
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
        let why = Why::default();
        let serving = Serving { connector, login, why: why.clone() };
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
                                // No file descriptor is left, for now.
                                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                            }
                        }
                    }
                }
            });
            runtime.shutdown_background();
        });
        Ok(Relay { proxy, folder, doors, why })
    }

    /// The proxy for the driver, which must not use TLS itself.
    pub fn proxy(&self) -> Socks5Proxy {
        self.proxy.clone()
    }

    /// A Unix socket that leads to one server, for mongodump, which must not use TLS itself.
    ///
    /// # Errors
    /// Returns an error if the socket cannot be created.
    pub fn door(&self, to: &ServerAddress) -> Result<ServerAddress> {
        let path = self.folder.join(format!("mongodb-{:08x}.sock", rand::random::<u32>()));
        let failed =
            |e: io::Error| Error::failed(format!("cannot listen at {}", path.display())).caused_by(e);
        let listener = StdUnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        // The thread ends only after this relay was dropped.
        let _ = self.doors.send((listener, to.clone()));
        Ok(ServerAddress::Unix { path })
    }

    /// Why the last connection failed, if one did.
    pub fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Shared by all connections of the relay.
#[derive(Clone)]
struct Serving {
    connector: TlsConnector,
    login: (String, String),
    why: Why,
}

impl Serving {
    /// Serves a socket that leads to one server.
    async fn door(self, listener: StdUnixListener, to: ServerAddress) {
        let ServerAddress::Tcp { host, port } = to else { return };
        let Ok(listener) = UnixListener::from_std(listener) else { return };
        while let Ok((client, _)) = listener.accept().await {
            let (serving, host) = (self.clone(), host.clone());
            tokio::spawn(async move {
                if let Some(server) = serving.reach(&host, port.unwrap_or(27017)).await {
                    pass(client, server).await;
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
        if let (Some(server), Ok(())) = (server, answered) {
            pass(client, server).await;
        }
    }

    /// Checks the driver's login, and returns the server that it asks for.
    async fn asked(&self, client: &mut TcpStream) -> io::Result<(String, u16)> {
        let refused = || io::Error::from(ErrorKind::PermissionDenied);
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
            4 => std::net::Ipv6Addr::from(bytes::<16>(client).await?).to_string(),
            _ => return Err(refused()),
        };
        Ok((host, u16::from_be_bytes(bytes(client).await?)))
    }

    /// Connects with TLS, and keeps the cause of a failure.
    async fn reach(&self, host: &str, port: u16) -> Option<impl AsyncRead + AsyncWrite + Unpin + use<>> {
        let connect = async {
            let server = TcpStream::connect((host, port)).await?;
            server.set_nodelay(true)?;
            let name = ServerName::try_from(host.to_string()).map_err(io::Error::other)?;
            self.connector.connect(name, server).await
        };
        let late = || Err(io::Error::from(ErrorKind::TimedOut));
        let reached = tokio::time::timeout(CONNECTING, connect).await.unwrap_or_else(|_| late());
        let why = reached.as_ref().err().map(|e| super::unfound::plain(&e.to_string()));
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        reached.ok()
    }
}

async fn bytes<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Reads a text that follows its length.
async fn text(client: &mut TcpStream) -> io::Result<String> {
    let [length] = bytes(client).await?;
    let mut text = vec![0; length.into()];
    client.read_exact(&mut text).await?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// Passes bytes both ways until one side ends.
async fn pass(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
) {
    let _ = copy_bidirectional(&mut client, &mut server).await;
}

/// TLS as the connection string asks for it, without a check of the names in certificates.
fn config(uri: &MongoUri) -> Result<ClientConfig> {
    let roots = match uri.option("tlsCAFile") {
        Some(path) => tls::roots(path.as_ref())?,
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
            let (certificates, key) = tls::client_certificate(path.as_ref())?;
            builder.with_client_auth_cert(certificates, key).map_err(failed)
        }
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Checks that a trusted CA signed a certificate, whatever its names.
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
