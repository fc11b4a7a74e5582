//! A refused login, an unreachable server, and certificates that do not match.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bson::rawdoc;
use uzima_backup::base::error::Kind;
use uzima_backup::base::exit::Exit;
use uzima_testkit::mongod::{Mongod, ROOT_PASSWORD, ROOT_USER, TlsFiles, percent_encode};
use uzima_testkit::tcp_proxy::{Direction, TcpProxy};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{failed, insert, only, run};

#[tokio::test]
async fn a_refused_login_names_host_and_user_and_starts_nothing() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    insert(&server.client().await.expect("a client"), "d", "c", &[rawdoc! { "_id": 1 }]).await;
    let cases = [
        ("a wrong password", server.uri_as(ROOT_USER, "wrong-secret", "admin"), ROOT_USER),
        ("no such user", server.uri_as("nobody", "wrong-secret", "admin"), "nobody"),
        ("a wrong authSource", server.uri_as(ROOT_USER, ROOT_PASSWORD, "shop"), ROOT_USER),
    ];
    for (what, uri, user) in cases {
        let (shelf, outcome) = run(&uri, |_| {}).await;
        let text = failed(outcome);
        assert!(text.contains(&server.host()) && text.contains(&format!("'{user}'")), "{what}: {text}");
        assert!(text.contains("the login of") && text.contains("refused"), "{what}: {text}");
        assert!(!text.contains("wrong-secret") && !text.contains(ROOT_PASSWORD), "{what}: {text}");
        shelf.assert_nothing().await;
    }
    let (shelf, outcome) = run(&server.uri_anonymous(), |_| {}).await;
    let text = failed(outcome);
    assert!(text.contains(&server.host()) && text.contains("an anonymous user"), "{text}");
    shelf.assert_nothing().await;

    // The server's code for a missing right, in the middle of a login.
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    for code in [13, 18] {
        let rule = proxy.add(Rule::on("saslContinue").then(Action::fail(code)));
        let (shelf, outcome) = run(&proxy.uri(&server.uri()), |_| {}).await;
        let text = failed(outcome);
        assert!(proxy.hits(rule) >= 1 && text.contains(proxy.host(0)) && text.contains("'root'"), "{text}");
        shelf.assert_nothing().await;
        proxy.clear();
    }
    let (_, outcome) = run(&proxy.uri(&server.uri()), |_| {}).await;
    assert!(outcome.is_ok());
}

#[tokio::test]
async fn an_unreachable_server_fails_the_run_within_the_configured_time() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_at = silent.local_addr().expect("its number");
    for place in [closed, silent_at] {
        let start = Instant::now();
        let uri = format!("mongodb://{place}/?serverSelectionTimeoutMS=700&connectTimeoutMS=700");
        let (shelf, outcome) = run(&uri, |_| {}).await;
        let text = failed(outcome);
        assert!(text.contains(&place.to_string()), "{text}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        shelf.assert_nothing().await;
    }
}

/// The URI names another replica set than the server's. The error says so without terms of the driver.
#[tokio::test]
async fn another_replica_set_is_named() {
    let alone = Mongod::builder().start().await.expect("mongod");
    let set = Mongod::builder().replica_set("own").start().await.expect("a replica set");
    for (host, more, words) in [
        (alone.host(), "", "no server at this address is a member of the replica set 'other'"),
        (alone.host(), "&directConnection=true", "'other', it is a standalone"),
        (set.host(), "", "no server at this address is a member of the replica set 'other'"),
        (set.host(), "&directConnection=true", "'other', its own set is 'own'"),
    ] {
        let uri = format!("mongodb://{host}/?replicaSet=other&serverSelectionTimeoutMS=1000{more}");
        let (shelf, outcome) = run(&uri, |_| {}).await;
        let error = outcome.expect_err("it is of no such set");
        let (text, step) = (error.chain(), error.next_step().unwrap_or_default());
        assert_eq!((error.kind(), error.exit()), (Kind::Away, Exit::Failed), "{text}");
        assert!(text.starts_with(&format!("cannot connect to MongoDB at {host}: ")), "{text}");
        assert!(text.ends_with(words), "{text}");
        assert!(step.starts_with("Correct replicaSet in MONGO_URI"), "{step}");
        for debris in ["Kind:", "labels", "Topology", "Type:"] {
            assert!(!text.contains(debris), "{text}");
        }
        shelf.assert_nothing().await;
    }
}

/// Certificates in a folder. The server's certificate is for `names`.
fn certificates(names: &[&str]) -> (tempfile::TempDir, TlsFiles) {
    let dir = tempfile::tempdir().expect("a folder");
    let files = TlsFiles::create_for(dir.path(), names).expect("certificates");
    (dir, files)
}

#[tokio::test]
async fn a_failed_tls_handshake_never_falls_back_to_plain_text() {
    let (_right, files) = certificates(&["127.0.0.1", "localhost"]);
    let (_wrong, other) = certificates(&["127.0.0.1", "localhost"]);
    let server = Mongod::builder().auth().tls_files(files.clone()).start().await.expect("mongod");
    insert(&server.client().await.expect("a client"), "d", "c", &[rawdoc! { "_id": 1 }]).await;
    let (shelf, outcome) = run(&server.uri(), only(&["d"])).await;
    let report = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(shelf.decode(&report).get("d.c"), [rawdoc! { "_id": 1 }.into_bytes()]);

    let login = format!("{}:{}@", percent_encode(ROOT_USER), percent_encode(ROOT_PASSWORD));
    let ca = |files: &TlsFiles| percent_encode(&files.ca.to_string_lossy());
    let proxy = TcpProxy::start(server.host().parse().expect("an address"));
    let wrong_ca =
        format!("mongodb://{login}{}/?authSource=admin&tls=true&tlsCAFile={}", proxy.address(), ca(&other));
    let unknown_ca = format!("mongodb://{login}{}/?authSource=admin&tls=true", proxy.address());
    for uri in [wrong_ca, unknown_ca] {
        let (shelf, outcome) = run(&format!("{uri}&serverSelectionTimeoutMS=1500"), |_| {}).await;
        let text = failed(outcome);
        assert!(
            text.contains("invalid peer certificate") && text.contains(&proxy.address().to_string()),
            "{text}"
        );
        assert!(!text.contains(ROOT_PASSWORD) && !text.contains(&percent_encode(ROOT_PASSWORD)), "{text}");
        shelf.assert_nothing().await;
    }
    assert!(proxy.connections() >= 2 && proxy.bytes(Direction::Up) > 0);

    // The right CA, but the certificate is for another address than the requested one.
    let other_name = forward("127.0.0.2:0", &server.host());
    let uri = format!("mongodb://{login}{other_name}/?authSource=admin&tls=true&tlsCAFile={}", ca(&files));
    let (shelf, outcome) = run(&format!("{uri}&serverSelectionTimeoutMS=1500"), |_| {}).await;
    let text = failed(outcome);
    assert!(text.contains("invalid peer certificate") && text.contains("not valid for name"), "{text}");
    shelf.assert_nothing().await;
    // No client spoke to the server without TLS.
    let log = server.log();
    assert!(
        !log.contains("requires SSL") && !log.contains("The server is configured to only allow SSL"),
        "{log}"
    );
}

/// Forwards connections to `to`. Returns the address that it listens on.
fn forward(listen: &str, to: &str) -> SocketAddr {
    let (listener, to) = (TcpListener::bind(listen).expect("an address of this machine"), to.to_owned());
    let place = listener.local_addr().expect("its port");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { return };
            let pairs = [(&client, &server), (&server, &client)].map(|(a, b)| (a.try_clone(), b.try_clone()));
            for (from, to) in pairs {
                let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    place
}

/// On each connection the client first sends a TLS hello (record type 22), and nothing in plain text.
#[tokio::test]
async fn not_one_plain_byte_is_sent_to_a_server_without_tls() {
    use std::io::Read;
    let (_dir, files) = certificates(&["127.0.0.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = listener.local_addr().expect("its number");
    let (first, firsts) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut byte = [0];
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            if stream.read_exact(&mut byte).is_ok() && first.send(byte[0]).is_err() {
                return;
            }
        }
    });
    let ca = percent_encode(&files.ca.to_string_lossy());
    let uri = format!("mongodb://{place}/?tls=true&tlsCAFile={ca}&serverSelectionTimeoutMS=1500");
    let (shelf, outcome) = run(&uri, |_| {}).await;
    failed(outcome);
    shelf.assert_nothing().await;
    let firsts: Vec<u8> = firsts.try_iter().collect();
    assert!(!firsts.is_empty() && firsts.iter().all(|byte| *byte == 22), "{firsts:?}");
}
