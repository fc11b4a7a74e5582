//! A namespace that the user may not read is reported, never left out silently.

use bson::{doc, rawdoc};
use mongodb::Client;
use uzima_backup::base::exit::Exit;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::torture;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Shelf, failed, insert, only, run};

async fn server() -> (Mongod, Client) {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    for (db, collection) in [("shop", "orders"), ("shop", "secret"), ("crm", "people")] {
        insert(&client, db, collection, &[rawdoc! { "_id": 1 }]).await;
    }
    (server, client)
}

async fn grant_backup(client: &Client, user: &str) {
    let grant = doc! { "grantRolesToUser": user, "roles": ["backup"] };
    client.database("admin").run_command(grant).await.expect("a grant");
}

/// Asserts that the backup fails, names the namespace and the user, proposes a role and leaves nothing
/// behind, and that it succeeds once the role is granted.
async fn refused_until_granted(server: &Mongod, client: &Client, user: &str, dbs: &[&str], what: &str) {
    let uri = server.uri_as(user, "pw", "admin");
    let (shelf, outcome) = run(&uri, only(dbs)).await;
    let text = failed(outcome);
    assert!(text.contains(what) && text.contains(&format!("'{user}'")), "{text}");
    assert!(text.contains("grantRolesToUser") && text.contains("\"backup\""), "{text}");
    shelf.assert_nothing().await;
    grant_backup(client, user).await;
    let (shelf, outcome) = run(&uri, only(dbs)).await;
    let report = outcome.unwrap_or_else(|e| panic!("{user}: {}", e.chain()));
    assert_eq!(report.exit(), Exit::Done);
    let decoded = shelf.decode(&report);
    assert!(decoded.documents.contains_key("shop.secret"));
    assert_eq!(decoded.documents.contains_key("crm.people"), dbs.is_empty());
}

#[tokio::test]
async fn a_collection_or_a_database_that_may_not_be_read_is_named() {
    let (server, client) = server().await;
    // The user may list all of shop, but not read one of its collections.
    let role = |name: &str, actions: &[&str]| {
        let all = doc! { "resource": { "db": "shop", "collection": "" }, "actions": ["listCollections", "listIndexes"] };
        let one = doc! { "resource": { "db": "shop", "collection": "orders" }, "actions": actions };
        doc! { "createRole": name, "privileges": [all, one], "roles": [] }
    };
    client.database("admin").run_command(role("lister", &["find"])).await.expect("a role");
    server.create_user("limited", "pw", &[("lister", "admin")]).await.expect("a user");
    refused_until_granted(&server, &client, "limited", &["shop"], "shop.secret").await;

    // The user may not even list its indexes.
    let some = doc! { "resource": { "db": "shop", "collection": "" }, "actions": ["listCollections"] };
    let one =
        doc! { "resource": { "db": "shop", "collection": "orders" }, "actions": ["find", "listIndexes"] };
    let role = doc! { "createRole": "half", "privileges": [some, one], "roles": [] };
    client.database("admin").run_command(role).await.expect("a role");
    server.create_user("half", "pw", &[("half", "admin")]).await.expect("a user");
    refused_until_granted(&server, &client, "half", &["shop"], "shop.secret").await;

    server.create_user("foreign", "pw", &[("read", "crm")]).await.expect("a user");
    refused_until_granted(&server, &client, "foreign", &["shop"], "'shop'").await;
}

#[tokio::test]
async fn a_user_who_may_list_only_some_databases_cannot_make_a_whole_backup() {
    let (server, client) = server().await;
    server.create_user("shopper", "pw", &[("read", "shop")]).await.expect("a user");
    // A backup of the user's own database succeeds.
    let (shelf, outcome) = run(&server.uri_as("shopper", "pw", "admin"), only(&["shop"])).await;
    let report = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(shelf.decode(&report).documents.len(), 2);
    refused_until_granted(&server, &client, "shopper", &[], "cannot list all databases").await;

    // The user may read all user databases, but not the server's own data that a whole backup contains.
    server.create_user("reader", "pw", &[("readAnyDatabase", "admin")]).await.expect("a user");
    refused_until_granted(&server, &client, "reader", &[], "'config'").await;
}

#[tokio::test]
async fn the_built_in_backup_role_is_enough_for_everything() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let made =
        torture::fill_with(&client, torture::Options { big: false, users: true }).await.expect("a fill");
    server.create_user("backup", "pw", &[("backup", "admin")]).await.expect("a user");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let count = proxy.add(Rule::on("dbStats").then(Action::Pass));
    let shelf = Shelf::new();
    let uri = proxy.uri(&server.uri_as("backup", "pw", "admin"));
    let report = shelf.run(&uri, |_| {}).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(report.exit(), Exit::Done);
    let decoded = shelf.decode(&report);
    for namespace in &made.namespaces {
        let name = format!("{}.{}", namespace.database, namespace.collection);
        assert!(decoded.metadata.contains_key(&name), "{name}");
    }
    assert!(decoded.get("admin.system.users").len() >= 3 && decoded.get("admin.system.roles").len() == 1);
    assert!(!decoded.get("opts.system.buckets.weather").is_empty());
    // The role lacks dbStats: the first refusal ends the estimate, not the backup.
    assert_eq!(proxy.seen(count), 1);
}
