//! The rights that records need, and the messages to a user without them.

use std::time::{Duration, Instant};

use bson::doc;
use uzima_testkit::mongod::{Mongod, Version, percent_encode};

use super::support::{guarded, of_each, recorded, recording};
use crate::cli::support::{Home, NOWHERE, run};

const RECORDER: &[(&str, &str)] = &[("backup", "admin"), ("readWrite", "uzima_backup")];

/// The backup is good, and the message names the role to grant.
#[tokio::test]
async fn a_missing_right_to_record_is_reported_with_the_role_to_grant() {
    let ((server, client), home) = (guarded().await, Home::new());
    server.create_user("b", "pw", &[("backup", "admin")]).await.expect("a user");
    let uri = server.uri_as("b", "pw", "admin");
    let report = run(recording(&home, &uri).args(["backup", "--json"])).ends(3).json();
    let problem = report["problems"][0].as_str().expect("a problem");
    let grant =
        "db.getSiblingDB(\"admin\").grantRolesToUser(\"b\", [{role: \"readWrite\", db: \"uzima_backup\"}])";
    for word in ["the run could not be recorded: ", &server.host(), grant, "BACKUP_RECORDS=off"] {
        assert!(problem.contains(word), "no {word} in {problem}");
    }
    let text = run(recording(&home, &uri).arg("backup")).ends(3).stdout;
    assert!(text.contains("  needs a look: the run could not be recorded: "), "{text}");
    let quiet = run(recording(&home, &uri).args(["backup", "-q"])).ends(3);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.lines().count()), ("", 1), "{}", quiet.stderr);
    assert!(quiet.stderr.starts_with("needs a look: the run could not be recorded: "), "{}", quiet.stderr);
    run(home.to_dir(&uri).arg("backup")).ends(0);
    assert_eq!((home.manifests().len(), recorded(&client).await.len()), (4, 0));
    let listed = run(recording(&home, &uri).args(["list", "--json"])).ends(0).json();
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(4));
    let roles = [doc! {"role": "readWrite", "db": "uzima_backup"}];
    let grant = doc! {"grantRolesToUser": "b", "roles": &roles[..]};
    client.database("admin").run_command(grant).await.expect("a grant");
    run(recording(&home, &uri).arg("backup")).ends(0);
    assert_eq!(of_each(&client, "status").await, ["completed"; 5]);
}

/// A password that equals the user name is masked in the connection string, but the user name in a proposed
/// command is not. The role `backup` may not ask for the data size, so the dry run gives the size on disk.
#[tokio::test]
async fn a_password_that_equals_the_user_name_is_not_printed() {
    let ((server, _client), home) = (guarded().await, Home::new());
    server.create_user("backup", "backup", &[("backup", "admin")]).await.expect("a user");
    let uri = server.uri_as("backup", "backup", "admin");
    let ran = run(recording(&home, &uri).args(["backup", "-q"])).ends(3);
    ran.says(&["grantRolesToUser(\"backup\", [{role"]);
    let wrong = server.uri_as("ward", "ward", "admin");
    run(home.to_dir(&wrong).arg("backup")).ends(1).says(&["the login of user 'ward' was refused"]);
    let shown = run(home.to_dir(&uri).arg("config")).ends(0).stdout;
    assert!(shown.contains("mongodb://backup:***@"), "{shown}");
    let plan = run(home.to_dir(&uri).args(["backup", "--dry-run"])).ends(0).stdout;
    assert!(plan.contains(" on the server's disk, of ") && !plan.contains("unknown"), "{plan}");
}

/// Whatever a connection string says about login, database and read preference, runs are recorded.
#[tokio::test]
async fn runs_are_recorded_with_any_login_and_read_preference() {
    let server = Mongod::builder().auth().replica_set("rs0").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    client.database("shop").collection("rows").insert_one(doc! {"_id": 1}).await.expect("a row");
    let passwords = ["p@ss:w/or%d$ü", "a b", "%40", "?&=#+'\"\\"];
    for (n, password) in passwords.into_iter().enumerate() {
        let user = format!("rec@rder:{n}/ü");
        server.create_user(&user, password, RECORDER).await.expect("a user");
        let roles: Vec<_> = RECORDER.iter().map(|(role, db)| doc! {"role": role, "db": db}).collect();
        let create = doc! {"createUser": &user, "pwd": password, "roles": roles};
        client.database("shop").run_command(create).await.expect("a user in shop");
        let (login, host) =
            (format!("{}:{}", percent_encode(&user), percent_encode(password)), server.host());
        for uri in [
            format!("mongodb://{login}@{host}/admin?readPreference=secondaryPreferred"),
            format!("mongodb://{login}@{host}/shop?readPreference=nearest&w=0"),
            format!(
                "mongodb://{login}@127.0.0.1:1,{host}/shop?authSource=admin&replicaSet=rs0&readConcernLevel=linearizable"
            ),
            format!("mongodb://{login}@{host}/?directConnection=true&retryWrites=false"),
        ] {
            let home = Home::new();
            run(recording(&home, &uri).args(["backup", "--job", "j"])).ends(0);
            // The same for a connection string of the records' own.
            let own = uri.replace("secondaryPreferred", "secondary");
            let mut command = recording(&home, &server.uri());
            run(command.env("BACKUP_RECORDS", &own).args(["backup", "--job", "j"])).ends(0);
            let listed = run(recording(&home, &uri).args(["list", "--json"])).ends(0).json();
            assert_eq!(listed["backups"].as_array().map(Vec::len), Some(2), "{uri}");
        }
    }
    let statuses = of_each(&client, "status").await;
    assert_eq!(statuses, vec!["completed"; passwords.len() * 4 * 2]);
}

/// The server that refused the login is not asked to record the failure, because the run would only wait.
#[tokio::test]
async fn a_server_that_refused_the_login_is_not_asked_to_record() {
    let ((server, _client), home) = (guarded().await, Home::new());
    for uri in [server.uri_as("nobody", "hunter2", "admin"), NOWHERE.to_string()] {
        let began = Instant::now();
        let ran = run(recording(&home, &uri).arg("backup")).ends(1);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(!ran.stderr.contains("could not be recorded"), "{}", ran.stderr);
    }
    assert_eq!(home.failures().len(), 2, "the store has the failure");
}

/// The message names the missing right without the command that the server repeats.
#[tokio::test]
async fn a_missing_right_is_named_without_the_refused_command() {
    let ((server, _client), home) = (guarded().await, Home::new());
    server.create_user("b", "pw", &[("backup", "admin")]).await.expect("a user");
    let ran = run(recording(&home, &server.uri_as("b", "pw", "admin")).args(["backup", "--json"])).ends(3);
    let problem = ran.json()["problems"][0].as_str().expect("a problem").to_string();
    assert!(
        problem.contains("not authorized on uzima_backup to execute update (code 13, Unauthorized)"),
        "{problem}"
    );
    assert!(!problem.contains("lsid") && !problem.contains('$'), "{problem}");
}

/// Whatever goes wrong with the login, the password is neither printed nor stored.
#[tokio::test]
async fn a_refused_login_prints_and_stores_no_password() {
    let ((server, _client), home) = (guarded().await, Home::new());
    server.create_user("b", "pw", &[("backup", "admin")]).await.expect("a user");
    let wrong = format!("mongodb://canary:canary%40Pa55@{}/?authSource=admin", server.host());
    let mut command = recording(&home, &server.uri_as("b", "pw", "admin"));
    let ran = run(command.env("BACKUP_RECORDS", &wrong).env("RUST_LOG", "trace").args(["backup", "--json"]))
        .ends(3);
    let problem = ran.json()["problems"][0].as_str().expect("a problem").to_string();
    assert!(problem.contains("Check user, password and authSource"), "{problem}");
    let ran = [ran.stdout, ran.stderr].concat();
    for word in ["canary%40Pa55", "canary@Pa55"] {
        assert!(!ran.contains(word), "{word} is said");
    }
    let odd =
        run(recording(&home, &server.uri()).env("BACKUP_RECORDS", "canary%40Pa55").arg("backup")).ends(2);
    assert!(odd.stderr.contains("BACKUP_RECORDS") && !odd.stderr.contains("canary"), "{}", odd.stderr);
    run(recording(&home, &server.uri()).env("BACKUP_RECORDS", "nowhere").arg("list")).ends(2);
}

/// Recording needs inserts, updates and deletes. `health` tries each, and leaves nothing.
#[tokio::test]
async fn health_tries_each_kind_of_write() {
    let ((server, client), home) = (guarded().await, Home::new());
    let health = |user: &str, code: i32| {
        let mut command = recording(&home, &server.uri_as(user, "pw", "admin"));
        run(command.args(["health", "--only", "records"])).ends(code).stdout
    };
    let on = doc! {"db": "uzima_backup", "collection": ""};
    for (user, actions, refused) in [
        ("all", &["find", "insert", "update", "remove"][..], None),
        ("no_update", &["find", "insert", "remove"], Some("uzima_backup.runs takes no updates")),
        ("no_remove", &["find", "insert", "update"], Some("uzima_backup.runs takes no deletions")),
    ] {
        let role =
            doc! {"createRole": user, "privileges": [{"resource": &on, "actions": actions}], "roles": []};
        client.database("admin").run_command(role).await.expect("a role");
        server.create_user(user, "pw", &[(user, "admin")]).await.expect("a user");
        let said = health(user, if refused.is_some() { 5 } else { 0 });
        assert!(refused.is_none_or(|words| said.contains(words)), "{said}");
        assert_eq!(recorded(&client).await.len(), 0, "{user}: the probe is gone");
    }
}

/// MongoDB 6.0.5 can delete from capped collections, and 4.4.2 cannot.
#[tokio::test]
async fn health_finds_records_in_a_capped_collection() {
    let server = Mongod::builder().version(Version::V4_4_2).start().await.expect("mongod");
    let (client, home) = (server.client().await.expect("a client"), Home::new());
    let capped = doc! {"create": "runs", "capped": true, "size": 1 << 20};
    client.database("uzima_backup").run_command(capped).await.expect("a capped collection");
    let said = run(recording(&home, &server.uri()).args(["health", "--only", "records"])).ends(5).stdout;
    assert!(said.contains("uzima_backup.runs takes no ") && said.contains("must not be capped"), "{said}");
    assert_eq!(recorded(&client).await.len(), 0, "nothing is left where nothing can be deleted");
}

/// Without the log line the run would seem to hang at its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_records_that_never_answers_is_named() {
    let ((server, _client), home) = (super::support::server().await, Home::new());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("the port");
    let mut command = recording(&home, &server.uri());
    command.env("BACKUP_RECORDS", format!("mongodb://{at}/?serverSelectionTimeoutMS=5000"));
    let ran = run(command.arg("backup")).ends(3);
    let words =
        format!("the server of the records, MongoDB at {at}, has not answered for 3 s; waiting for up to");
    assert!(ran.stderr.contains(&words), "{}", ran.stderr);
    assert!(!ran.stderr.contains("about 0.0 s left"), "{}", ran.stderr);
}
