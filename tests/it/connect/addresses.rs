//! Unix sockets and IPv6 addresses.

use std::net::{Ipv6Addr, TcpListener};

use bson::doc;
use uzima_testkit::mongod::{Mongod, ROOT_PASSWORD, ROOT_USER, percent_encode};

use super::support::{backup, hands_over, official};
use crate::cli::support::{Home, run};

async fn with_a_row(server: &Mongod) {
    let rows = server.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
}

/// Runs a backup with the native engine, its record, a drill on the same server, a restore and `health`, all
/// with `uri`.
async fn serves_everything(uri: &str, shown: &str) {
    let home = Home::new();
    let report = backup(&home, uri, "native").ends(0).json();
    assert_eq!(home.manifests()[0].source.member, shown, "{report}");
    let tool = || {
        let mut command = home.to_dir(uri);
        command.env("BACKUP_RECORDS", uri);
        command
    };
    run(tool().env("DRILL_URI", uri).args(["verify", "latest", "--drill"])).ends(0);
    let plan = run(tool().env("RESTORE_URI", uri).args(["restore", "latest", "--dry-run", "--drop"])).ends(0);
    assert!(plan.stdout.contains(shown), "{}", plan.stdout);
    run(tool().env("RESTORE_URI", uri).args(["restore", "latest", "--yes", "--drop"])).ends(0);
    let health = run(tool().args(["health", "--only", "mongodb,records"])).ends(0);
    assert!(health.stdout.contains(shown), "{}", health.stdout);
}

#[tokio::test]
async fn every_command_works_over_a_unix_socket() {
    const TEST: &str = "connect::addresses::every_command_works_over_a_unix_socket";
    let server = Mongod::builder().auth().socket().start().await.expect("mongod");
    with_a_row(&server).await;
    let path = server.socket().display().to_string();
    let host = percent_encode(&path);
    let login = format!("{}:{}", percent_encode(ROOT_USER), percent_encode(ROOT_PASSWORD));
    let given = format!("mongodb://{login}@{host}/?authSource=admin&directConnection=true");
    for uri in [
        format!("mongodb://{login}@{host}"),
        format!("mongodb://{login}@{host}/admin?retryWrites=true&w=majority"),
        format!("mongodb://{login}@{host}/?authSource=admin"),
    ] {
        serves_everything(&uri, &path).await;
        official(TEST, &uri);
        if uri.contains("admin") {
            hands_over(&uri, &given);
        }
    }
}

/// The host names of the members may be unknown on the socket's machine, so the tool uses only the socket.
#[tokio::test]
async fn a_socket_of_a_replica_set_needs_no_other_address() {
    let server = Mongod::builder().replica_set("rs0").socket().start().await.expect("mongod");
    with_a_row(&server).await;
    let path = server.socket().display().to_string();
    serves_everything(&format!("mongodb://{}/", percent_encode(&path)), &path).await;
}

#[tokio::test]
async fn ipv6_addresses_have_brackets_everywhere() {
    const TEST: &str = "connect::addresses::ipv6_addresses_have_brackets_everywhere";
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("SKIPPED {TEST}: this machine has no ::1");
        return;
    }
    let server = Mongod::builder().replica_set("rs6").ipv6().uninitiated().start().await.expect("mongod");
    let place = format!("[::1]:{}", server.port());
    let members = [doc! {"_id": 0, "host": &place}];
    let config = doc! {"_id": "rs6", "members": &members[..]};
    let admin = server.direct_client().await.expect("a client").database("admin");
    admin.run_command(doc! {"replSetInitiate": config}).await.expect("a set");
    server.wait_for_primary().await.expect("a primary");
    let rows = server.direct_client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");

    for uri in [format!("mongodb://{place}"), format!("mongodb://[::1]:1,{place}/?replicaSet=rs6")] {
        serves_everything(&uri, &place).await;
        hands_over(&uri, &format!("mongodb://{place}/?directConnection=true"));
        official(TEST, &uri);
    }
    let home = Home::new();
    let said = backup(&home, &format!("mongodb://{place}"), "native").ends(0);
    assert!(said.stderr.contains(&format!("of {place} (")), "{}", said.stderr);
    // A closed port.
    let gone = "mongodb://[::1]:1,[::1]:2/?serverSelectionTimeoutMS=300";
    for command in [&["backup"][..], &["health", "--only", "mongodb"]] {
        let said = run(home.to_dir(gone).args(command));
        assert_eq!(said.code, Some(if command[0] == "health" { 5 } else { 1 }), "{said:?}");
        let text = said.stdout + &said.stderr;
        assert!(
            text.contains("cannot connect to MongoDB at [::1]:1,[::1]:2, ") && !text.contains(" ::1"),
            "{text}"
        );
    }
}
