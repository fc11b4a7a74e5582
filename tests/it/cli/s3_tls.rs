//! A bucket behind TLS with a private CA, and behind a proxy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use uzima_testkit::mongod::TlsFiles;
use uzima_testkit::s3_server::S3Server;

use super::s3::variables;
use super::support::{Home, NOWHERE, run};

/// Accepts TLS connections, forwards them, and counts them.
fn behind_tls(files: &TlsFiles, to: SocketAddr) -> (u16, Arc<AtomicUsize>) {
    let certificates = CertificateDer::pem_file_iter(&files.server).expect("a file");
    let certificates = certificates.collect::<Result<Vec<_>, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_file(&files.server).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .expect("a certificate with its key");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("the port").port();
    listener.set_nonblocking(true).expect("a listener that does not block");
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            while let Ok((socket, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (Ok(mut client), Ok(mut server)) =
                        (acceptor.accept(socket).await, tokio::net::TcpStream::connect(to).await)
                    else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
    });
    (port, accepted)
}

fn tool(home: &Home, endpoint: &str) -> Command {
    let mut tool = home.tool();
    tool.env("MONGO_URI", NOWHERE).envs(variables(endpoint)).env("BACKUP_PATIENCE", "2").arg("list");
    tool
}

#[test]
fn a_private_ca_is_trusted_where_a_setting_names_it() {
    let (home, bucket) = (Home::new(), S3Server::start());
    let files = TlsFiles::create(home.path()).expect("certificates");
    let (port, accepted) = behind_tls(&files, bucket.address());
    let endpoint = format!("https://localhost:{port}");
    run(tool(&home, &endpoint).env("AWS_CA_BUNDLE", &files.ca)).ends(0);
    run(tool(&home, &endpoint).env("SSL_CERT_FILE", &files.ca)).ends(0);
    let config = home.path().join("ca.toml");
    std::fs::write(&config, format!("[s3]\nca_bundle = {:?}\n", files.ca)).expect("a file");
    run(tool(&home, &endpoint).arg("--config").arg(&config)).ends(0);

    let (before, asked) = (accepted.load(Ordering::Relaxed), bucket.calls().len());
    run(&mut tool(&home, &endpoint))
        .ends(2)
        .says(&["not signed by a CA that is trusted here", "set AWS_CA_BUNDLE (s3.ca_bundle)"]);
    assert_eq!(accepted.load(Ordering::Relaxed) - before, 1, "a bad certificate is not asked for again");
    assert_eq!(bucket.calls().len(), asked);
    let missing = home.path().join("missing.pem");
    run(tool(&home, &endpoint).env("AWS_CA_BUNDLE", &missing))
        .ends(2)
        .says(&["missing.pem", "AWS_CA_BUNDLE"]);
}

#[test]
fn a_bucket_certificate_for_another_name_is_reported() {
    let (home, bucket) = (Home::new(), S3Server::start());
    let files = TlsFiles::create_for(home.path(), &["other.example"]).expect("certificates");
    let (port, accepted) = behind_tls(&files, bucket.address());
    run(tool(&home, &format!("https://localhost:{port}")).env("AWS_CA_BUNDLE", &files.ca)).ends(2).says(&[
        "other.example",
        "not for localhost",
        "S3_ENDPOINT_URL",
    ]);
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

/// Answers every request with `answer`, and closes the connection.
fn proxy(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("the port").port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let mut request = [0; 4096];
            let _ = socket.read(&mut request);
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn a_proxy_that_refuses_or_is_down_is_named_without_its_password() {
    const LOGIN: &str =
        "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let home = Home::new();
    let closed =
        TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("the port").port();
    for (endpoint, variable, port, code, words) in [
        ("https://store.example", "HTTPS_PROXY", proxy(LOGIN), 2, "the proxy requires a login"),
        ("http://store.example", "HTTP_PROXY", proxy(LOGIN), 2, "the proxy requires a login"),
        ("https://store.example", "HTTPS_PROXY", closed, 1, "connection refused"),
    ] {
        let address = format!("http://robot:s3cr3t@127.0.0.1:{port}");
        let ran = run(tool(&home, endpoint).env(variable, &address)).ends(code);
        let shown = format!("http://127.0.0.1:{port}");
        let ran = ran.says(&[words, variable, &shown]);
        assert!(!format!("{ran:?}").contains("s3cr3t"), "{ran:?}");
    }
}
