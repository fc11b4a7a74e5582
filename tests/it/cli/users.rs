//! Logins with characters that break connection strings, in every form of connection string.

use std::process::Command;

use bson::doc;
use uzima_testkit::mongod::{Mongod, percent_encode};
use uzima_testkit::official::Official;

use super::support::{Home, run};

const PASSWORDS: [&str; 6] = ["p@ss:w/or%d$ü", "a b", "%40", "'\"\\", "?&=#+", "pä@:/ß漢"];

#[tokio::test]
async fn odd_passwords_in_every_form_of_uri() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    client.database("shop").collection("rows").insert_one(doc! {"_id": 1}).await.expect("a row");
    client.database("blog").collection("rows").insert_one(doc! {"_id": 1}).await.expect("a row");
    let official = Official::find("cli::users::odd_passwords_in_every_form_of_uri (mongodump engine)");
    let host = server.host();
    for (n, password) in PASSWORDS.into_iter().enumerate() {
        // The user name has such characters, too. One of the users is defined in another database.
        let user = format!("back@up:{n}/ü");
        server.create_user(&user, password, &[("backup", "admin")]).await.expect("a user");
        let roles = [doc! {"role": "backup", "db": "admin"}];
        let create = doc! {"createUser": &user, "pwd": password, "roles": &roles[..]};
        client.database("shop").run_command(create).await.expect("a user in shop");
        let login = format!("{}:{}", percent_encode(&user), percent_encode(password));
        let everything = ["admin", "blog", "shop"];
        let forms = [
            (format!("mongodb://{login}@{host}"), &everything[..]),
            (format!("mongodb://{login}@{host}/?authSource=admin"), &everything),
            // `/admin` names the database for authentication only.
            (format!("mongodb://{login}@{host}/admin"), &everything),
            (format!("mongodb://{login}@{host}/admin?authSource=shop"), &everything),
            (format!("mongodb://{login}@{host}/shop"), &["shop"]),
            (format!("mongodb://{login}@{host}/shop?authSource=admin"), &["shop"]),
        ];
        // Each password is used with each engine, and each form of connection string at least once.
        for (uri, databases) in forms.into_iter().cycle().skip(n).take(3) {
            works(&uri, databases, "native", None);
            if let Some(tools) = &official {
                works(&uri, databases, "mongodump", Some(tools));
            }
        }
    }
}

fn works(uri: &str, databases: &[&str], engine: &str, tools: Option<&Official>) {
    let home = Home::new();
    let mut command = home.to_dir(uri);
    if let Some(tools) = tools {
        command.env("MONGODUMP_PATH", &tools.mongodump);
    }
    run(command.args(["backup", "--engine", engine])).ends(0);
    let manifest = home.manifests().pop().expect("a manifest");
    let mut found: Vec<&str> = manifest.namespaces.iter().map(|n| n.db.as_str()).collect();
    found.dedup();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, databases, "{uri} with {engine}");
    assert_eq!(manifest.engine.name, engine);
}

/// Several hosts, the first of which is not there.
#[tokio::test]
async fn a_connection_string_may_name_several_hosts() {
    let server = Mongod::builder().auth().replica_set("rs0").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    client.database("shop").collection("rows").insert_one(doc! {"_id": 1}).await.expect("a row");
    server.create_user("u", "p@ss:w/or%d$ü", &[("backup", "admin")]).await.expect("a user");
    let login = format!("u:{}", percent_encode("p@ss:w/or%d$ü"));
    let uri = format!("mongodb://{login}@127.0.0.1:1,{}/admin?replicaSet=rs0", server.host());
    works(&uri, &["admin", "shop"], "native", None);
    if let Some(tools) =
        Official::find("cli::users::a_connection_string_may_name_several_hosts (mongodump engine)")
    {
        works(&uri, &["admin", "shop"], "mongodump", Some(&tools));
    }
}

/// A password that is not escaped is a configuration error and is not printed.
#[test]
fn an_unescaped_password_is_a_configuration_error_and_is_not_printed() {
    let home = Home::new();
    for password in ["hunt@er2hunter", "hunter2/hunter", "hunter2%hunter", "hunter2:hunter"] {
        let uri = format!("mongodb://u:{password}@127.0.0.1:1/");
        for args in [&["backup"][..], &["config"], &["backup", "--dry-run"]] {
            let mut command: Command = home.to_dir(&uri);
            let ran = run(command.env("RUST_LOG", "trace").args(args)).ends(2).says(&["percent-encode"]);
            let printed = ran.stdout + &ran.stderr;
            assert!(!printed.contains("hunt"), "{password}: {printed}");
        }
    }
    home.assert_nothing_stored();
}
