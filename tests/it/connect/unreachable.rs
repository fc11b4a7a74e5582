//! Servers that answer but cannot be used: the error and its next step.

use bson::doc;
use uzima_testkit::mongod::{Mongod, ROOT_PASSWORD, ROOT_USER, percent_encode};
use uzima_testkit::raw;
use uzima_testkit::replica_set::ReplicaSet;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use crate::cli::support::{Home, run};
use crate::restore::support::Backup;

/// Asserts that the errors of a backup, of a dry run and of `health` contain all these words.
fn all_say(uri: &str, words: &[&str]) {
    for command in [&["backup"][..], &["backup", "--dry-run"], &["health", "--only", "mongodb"]] {
        let said = run(Home::new().to_dir(uri).args(command));
        let text = said.stdout.clone() + &said.stderr;
        assert_eq!(said.code, Some(if command[0] == "health" { 5 } else { 1 }), "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "no {word:?} in: {text}"));
        for wrong in ["check TLS", "TLS settings", "names the right server", "Kind:", "Topology"] {
            assert!(!text.contains(wrong), "{text}");
        }
    }
}

/// Asserts that the error of a restore contains all these words.
fn restore_says(backup: &Backup, uri: &str, words: &[&str]) {
    let mut restore = backup.home.to_dir("mongodb://127.0.0.1:1");
    run(restore.env("RESTORE_URI", uri).args(["restore", "latest", "--yes"])).ends(1).says(words);
}

#[tokio::test]
async fn a_set_without_a_primary_is_backed_up_from_a_secondary() {
    let mut set = ReplicaSet::builder("rs0").arbiter().start().await.expect("a set");
    let rows = set.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    let backup = Backup::at(&set.uri(), &[]);
    let primary = set.primary().await.expect("a primary");
    let (second, third) = (1 - primary, set.arbiter.as_ref().expect("an arbiter").host());
    let (left, gone) = (set.members[second].host(), set.members[primary].host());

    // A secondary alone accepts no writes, and an arbiter has no data.
    restore_says(
        &backup,
        &format!("mongodb://{left}/?directConnection=true"),
        &[
            &format!("MongoDB at {left} does not accept writes: it is a secondary"),
            "Name the whole replica set",
        ],
    );
    let arbiter = format!("mongodb://{third}/?directConnection=true");
    all_say(&arbiter, &[&format!("MongoDB at {third} cannot be read: it is an arbiter"), "rs.status()"]);
    restore_says(&backup, &arbiter, &["does not accept writes: it is an arbiter, which holds no data"]);

    // A member in recovery.
    let client = set.members[second].direct_client().await.expect("a client");
    client.database("admin").run_command(doc! {"replSetMaintenance": true}).await.expect("maintenance");
    let recovering = format!("mongodb://{left}/?directConnection=true");
    all_say(
        &recovering,
        &[&format!("{left} cannot be read: it is neither primary nor secondary"), "wait until one is"],
    );
    client.database("admin").run_command(doc! {"replSetMaintenance": false}).await.expect("no maintenance");

    // Two of three members are down.
    set.members[primary].kill();
    if let Some(arbiter) = &mut set.arbiter {
        arbiter.kill();
    }
    let short = "serverSelectionTimeoutMS=3000";
    for uri in [
        format!("mongodb://{left},{gone},{third}/?replicaSet=rs0&{short}"),
        format!("mongodb://{left}/?{short}"),
    ] {
        wait_until(&left, "secondary").await;
        all_say(
            &uri,
            &[
                "the replica set 'rs0' has no primary: ",
                &format!("{left} is a secondary"),
                &format!("{gone}: connection refused"),
                "readPreference=secondaryPreferred to MONGO_URI",
            ],
        );
        let separator = if uri.ends_with('?') { "" } else { "&" };
        let works = format!("{uri}{separator}readPreference=secondaryPreferred");
        run(Home::new().to_dir(&works).args(["backup"])).ends(0);
    }
    let uri = format!("mongodb://{left}/?{short}");
    restore_says(&backup, &uri, &["has no primary", "until the set has a primary"]);
    let said = run(backup
        .home
        .to_dir(&format!("{uri}&readPreference=secondaryPreferred"))
        .env("BACKUP_RECORDS", &uri)
        .args(["health", "--only", "records"]));
    assert!(said.code == Some(1) || said.stdout.contains("primary"), "{said:?}");
}

/// Waits until the member has this state. After it lost the others it may call itself primary for some
/// seconds, and after its start it knows no set for a moment.
async fn wait_until(member: &str, is: &str) {
    let uri = format!("mongodb://{member}/?directConnection=true");
    let admin = uzima_testkit::mongod::connect(&uri).await.expect("a client").database("admin");
    for _ in 0..600 {
        if admin.run_command(doc! {"hello": 1}).await.is_ok_and(|hello| hello.get_bool(is).unwrap_or(false)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{member} does not say {is}");
}

#[tokio::test]
async fn a_set_that_was_not_initiated_is_named_with_rs_initiate() {
    let plain = Mongod::builder().replica_set("rs0").uninitiated().start().await.expect("mongod");
    let (at, short) = (plain.host(), "serverSelectionTimeoutMS=1000");
    let words = ["a member of a replica set that was not initiated", "Run rs.initiate() on the server"];
    let (_, source) = (Home::new(), Mongod::builder().start().await.expect("mongod"));
    let backup = Backup::of(&source, &["--allow-empty"]);
    for query in ["directConnection=true", "replicaSet=rs0", "directConnection=false"] {
        let uri = format!("mongodb://{at}/?{query}&{short}");
        all_say(&uri, &words);
        restore_says(&backup, &uri, &words);
    }
    // The server has no users yet, so every login is refused.
    let closed = Mongod::builder().replica_set("rs0").uninitiated().auth().start().await.expect("mongod");
    let login = format!("{}:{}", percent_encode(ROOT_USER), percent_encode(ROOT_PASSWORD));
    for query in ["directConnection=true", "replicaSet=rs0"] {
        let uri = format!("mongodb://{login}@{}/?{query}&{short}", closed.host());
        all_say(&uri, &words);
        restore_says(&backup, &uri, &words);
    }
}

#[tokio::test]
async fn a_server_that_is_too_old_is_named_with_the_required_version() {
    let server = Mongod::builder().start().await.expect("mongod");
    let backup = Backup::of(&server, &["--allow-empty"]);
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let at = proxy.host(0).to_string();
    let uri = format!("mongodb://{at}/?serverSelectionTimeoutMS=1500");
    for (wire, words) in [(8_i32, "MongoDB 4.2"), (6, "MongoDB 3.6"), (0, "a version before MongoDB 3.0")] {
        let edit = move |answer: &[u8]| {
            raw::rewrite(answer, &["maxWireVersion"], &|_, _| Some((16, wire.to_le_bytes().to_vec())))
        };
        let rule = proxy.add(Rule::on("hello").then(Action::edit(edit)));
        let words = [&*format!("{at} runs {words}"), "MongoDB 4.4 or later is needed", "Update the server"];
        all_say(&uri, &words);
        restore_says(&backup, &uri, &words);
        assert!(proxy.hits(rule) > 0);
        proxy.clear();
    }
    // The driver connects with the older name of the command.
    proxy.add(Rule::on("hello").having("hello").then(Action::fail(59)));
    proxy
        .add(Rule::on("hello").then(Action::edit(|answer| raw::rewrite(answer, &["helloOk"], &|_, _| None))));
    let words = ["it does not know the command hello", "MongoDB 4.4 or later is needed"];
    all_say(&uri, &words);
    restore_says(&backup, &uri, &words);
}
