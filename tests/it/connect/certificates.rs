//! Logins by a client certificate, and unusable certificate files.

use std::path::Path;

use bson::doc;
use mongodb::options::ServerAddress;
use uzima_backup::base::secret::{ExposeSecret, Secret};
use uzima_backup::mongo::client::Access;
use uzima_backup::mongo::errors::UriSetting;
use uzima_testkit::mongod::{
    CLIENT_NAME, Mongod, ROOT_PASSWORD, ROOT_USER, TlsFiles, connect, percent_encode,
};

use super::support::{backup, hands_over, official};
use crate::cli::support::{Home, run};
use crate::restore::support::Backup;

#[tokio::test]
async fn a_certificate_logs_in_with_and_without_the_users_name() {
    const TEST: &str = "connect::certificates::a_certificate_logs_in_with_and_without_the_users_name";
    let dir = tempfile::tempdir().expect("a folder");
    let files = TlsFiles::create(dir.path()).expect("certificates");
    let server = Mongod::builder().auth().tls_files(files.clone()).start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let rows = client.database("shop").collection("orders");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    let roles = ["root"].map(|role| doc! {"role": role, "db": "admin"});
    let external = client.database("$external");
    external.run_command(doc! {"createUser": CLIENT_NAME, "roles": &roles[..]}).await.expect("a user");

    let (name, at) = (percent_encode(CLIENT_NAME), server.host());
    let path = |file: &Path| percent_encode(&file.to_string_lossy());
    let tls = format!("tlsCAFile={}&tlsCertificateKeyFile={}", path(&files.ca), path(&files.client));
    for uri in [
        format!("mongodb://{name}@{at}/?authMechanism=MONGODB-X509&tls=true&{tls}"),
        format!("mongodb://{name}@{at}/admin?authMechanism=mongodb-x509&authSource=$external&{tls}"),
        format!("mongodb://{at}/?authMechanism=MONGODB-X509&{tls}"),
        format!("mongodb://{at}/?authSource=%24external&authMechanism=MONGODB-X509&{tls}"),
    ] {
        let home = Home::new();
        backup(&home, &uri, "native").ends(0);
        run(home.to_dir(&uri).env("RESTORE_URI", &uri).args(["restore", "latest", "--yes", "--drop"]))
            .ends(0);
        run(home.to_dir(&uri).env("DRILL_URI", &uri).args(["verify", "--drill"])).ends(0);
        let login = if uri.contains(&format!("{name}@")) { format!("{name}@") } else { String::new() };
        let given = format!(
            "mongodb://{login}{at}/?authMechanism=MONGODB-X509&tls=true&{tls}&authSource=%24external&directConnection=true"
        );
        hands_over(&uri, &given);
        official(TEST, &uri);
    }
    // The message names the user without the right, and its database.
    let drop = doc! {"revokeRolesFromUser": CLIENT_NAME, "roles": &roles[..]};
    // The work above blocked this thread, so that the first client missed heartbeats and takes the server for
    // lost.
    let external = server.client().await.expect("a client").database("$external");
    external.run_command(drop).await.expect("no roles");
    let uri = format!("mongodb://{name}@{at}/?authMechanism=MONGODB-X509&{tls}");
    run(Home::new().to_dir(&uri).arg("backup")).ends(1).says(&[
        &format!("user '{CLIENT_NAME}' may not do this"),
        &format!(
            "db.getSiblingDB(\"$external\").grantRolesToUser(\"{CLIENT_NAME}\", [{{role: \"backup\", db: \"admin\"}}])"
        ),
    ]);
    // No user has this certificate. The error does not mention a password.
    let uri = uri.replace(&path(&files.client), &path(&files.server));
    let said = run(Home::new().to_dir(&uri).arg("backup")).ends(1).says(&["the login of", "was refused"]);
    assert!(said.stderr.contains("certificate") && !said.stderr.contains("percent"), "{}", said.stderr);
}

/// Every command names each unusable file of a connection string, its fault and the way to fix it, before it
/// connects.
#[test]
fn an_unusable_certificate_file_is_named_with_the_way_to_fix_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = TlsFiles::create(dir.path()).expect("certificates");
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
    let (ca, client) = (read(&files.ca), read(&files.client));
    let key = client.find("-----BEGIN PRIVATE KEY-----").expect("a key");
    let (certificate, key) = client.split_at(key);
    let pkcs8 = certificate.to_owned() + &key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let old = certificate.to_owned()
        + "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n\
           -----END RSA PRIVATE KEY-----\n";
    let decrypt = "openssl pkey -in";
    for (name, text, option, why, step) in [
        (
            "pkcs8.pem",
            Some(pkcs8.as_str()),
            "tlsCertificateKeyFile",
            "has an encrypted private key, which must be",
            decrypt,
        ),
        (
            "old.pem",
            Some(&old),
            "tlsCertificateKeyFile",
            "has an encrypted private key, which must be",
            decrypt,
        ),
        (
            "cert.pem",
            Some(certificate),
            "tlsCertificateKeyFile",
            "has no private key that can be read",
            "Put certificate",
        ),
        (
            "key.pem",
            Some(key),
            "tlsCertificateKeyFile",
            "has no certificate that can be read",
            "Put certificate",
        ),
        ("empty.pem", Some(""), "tlsCertificateKeyFile", "is empty", "openssl pkcs12"),
        ("der.pem", Some("0\u{1}binary"), "tlsCertificateKeyFile", "is not a PEM file", "openssl pkcs12"),
        ("none.pem", None, "tlsCertificateKeyFile", "does not exist", "Correct the path"),
        ("", None, "tlsCertificateKeyFile", "is not a file with certificates", "Name a PEM file"),
        ("ca-empty.pem", Some(""), "tlsCAFile", "is empty", "Name a file with the CA's certificate"),
        ("ca-der.pem", Some("0\u{1}binary"), "tlsCAFile", "is not a PEM file", "openssl x509 -inform der"),
        (
            "ca-key.pem",
            Some(key),
            "tlsCAFile",
            "has no certificate that can be read",
            "Name the file with the cert",
        ),
        ("ca-none.pem", None, "tlsCAFile", "does not exist", "Correct the path"),
    ] {
        let path = dir.path().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text).expect("a file");
        }
        let shown = path.display().to_string();
        let query = match option {
            "tlsCAFile" => format!("tls=true&tlsCAFile={}", percent_encode(&shown)),
            _ => format!(
                "tlsCertificateKeyFile={}&tlsCertificateKeyFilePassword=hunter2%21",
                percent_encode(&shown)
            ),
        };
        let uri = format!("mongodb://u:swordfish@127.0.0.1:1/?serverSelectionTimeoutMS=300&{query}");
        for command in [
            &["backup"][..],
            &["backup", "--dry-run"],
            &["health", "--only", "mongodb"],
            &["restore", "latest", "--yes"],
        ] {
            let home = Home::new();
            let said = run(home.to_dir(&uri).env("RESTORE_URI", &uri).args(command));
            let text = said.stdout + &said.stderr;
            let restores = command[0] == "restore";
            assert_eq!(said.code, Some(if command[0] == "health" { 5 } else { 1 }), "{text}");
            if !restores {
                assert!(
                    text.contains(&format!("{option}: {shown} {why}")) && text.contains(step),
                    "{name}: {text}"
                );
            }
            for secret in ["hunter2", "swordfish", "AAAA"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
    // A needless password, for a key that is not encrypted, is no mistake.
    let good = format!(
        "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300&tlsCAFile={}&tlsCertificateKeyFile={}&\
         tlsCertificateKeyFilePassword=x",
        percent_encode(&files.ca.to_string_lossy()),
        percent_encode(&files.client.to_string_lossy())
    );
    assert!(ca.contains("BEGIN CERTIFICATE"));
    run(Home::new().to_dir(&good).arg("backup")).ends(1).says(&["connection refused"]);
}

/// With `tlsAllowInvalidHostnames` the name in the certificate is not checked, but its CA is.
#[tokio::test]
async fn with_invalid_hostnames_allowed_the_ca_is_still_checked() {
    const TEST: &str = "connect::certificates::with_invalid_hostnames_allowed_the_ca_is_still_checked";
    let (dir, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let files = TlsFiles::create_for(dir.path(), &["127.0.0.1"]).expect("certificates");
    let stranger = TlsFiles::create(other.path()).expect("certificates");
    let server =
        Mongod::builder().replica_set("rs0").auth().tls_files(files.clone()).start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let rows = client.database("shop").collection("orders");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    let roles = ["root"].map(|role| doc! {"role": role, "db": "admin"});
    let create = doc! {"createUser": CLIENT_NAME, "roles": &roles[..]};
    client.database("$external").run_command(create).await.expect("a user");

    let path = |file: &Path| percent_encode(&file.to_string_lossy());
    let login = format!("{}:{}@", percent_encode(ROOT_USER), percent_encode(ROOT_PASSWORD));
    let at = format!("localhost:{}", server.port());
    let uri = |login: &str, ca: &Path, more: &str| {
        format!(
            "mongodb://{login}{at}/?directConnection=true&tls=true&tlsCAFile={}&serverSelectionTimeoutMS=3000{more}",
            path(ca)
        )
    };
    let any = "&tlsAllowInvalidHostnames=true";
    let x509 = format!("{any}&authMechanism=MONGODB-X509&tlsCertificateKeyFile={}", path(&files.client));
    let good = [uri(&login, &files.ca, &format!("{any}&authSource=admin")), uri("", &files.ca, &x509)];
    for uri in &good {
        let home = Home::new();
        backup(&home, uri, "native").ends(0);
        run(home.to_dir(uri).env("RESTORE_URI", uri).args(["restore", "latest", "--yes", "--drop"])).ends(0);
        run(home.to_dir(uri).env("DRILL_URI", uri).args(["verify", "--drill"])).ends(0);
        official(TEST, uri);
        // The connection string that mongodump gets leads to the server, too.
        let access = Access::read(UriSetting::SOURCE, &Secret::from(uri.clone())).await.expect("access");
        let member = ServerAddress::parse(&at).expect("an address");
        let given = access.for_mongodump(&member, Some("admin")).expect("a socket");
        assert!(given.expose_secret().contains(".sock/") && !given.expose_secret().contains("tls"));
        let names = connect(given.expose_secret()).await.expect("a client").list_database_names().await;
        assert!(names.expect("databases").contains(&"shop".to_string()));
    }
    // With the set name, the member is found under another host name.
    let set = good[0].replace("directConnection=true", "replicaSet=rs0");
    backup(&Home::new(), &set, "native").ends(0);

    let taken = Backup::at(&good[0], &[]);
    for (uri, words) in [
        (uri(&login, &files.ca, ""), ["not valid for name", "tlsAllowInvalidHostnames=true checks"]),
        (
            uri(&login, &files.ca, "&tlsAllowInvalidHostnames=false"),
            ["not valid for name", "Use the host name"],
        ),
        (uri(&login, &stranger.ca, any), ["invalid peer certificate", "tlsCAFile=/path/ca.pem"]),
        (uri("", &stranger.ca, &x509), ["invalid peer certificate", "tlsCAFile=/path/ca.pem"]),
    ] {
        let said = run(Home::new().to_dir(&uri).arg("backup")).ends(1).says(&words);
        assert!(!said.stderr.contains("tlsAllowInvalidCertificates"), "{}", said.stderr);
        let mut restore = taken.home.to_dir("mongodb://127.0.0.1:1");
        run(restore.env("RESTORE_URI", &uri).args(["restore", "latest", "--yes"])).ends(1).says(&words);
    }
}
