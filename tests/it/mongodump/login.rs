//! The login of the mongodump engine: the password reaches mongodump only through its standard input, and
//! mongodump is not started for a user without the right to read everything.

use bson::{DateTime, doc};
use uzima_testkit::mongod::{Mongod, ROOT_PASSWORD, percent_encode};
use uzima_testkit::official::Official;
use uzima_testkit::standin::{Ending, Play, StandIn, Via};

use super::support::{recorded, standin, tool};
use crate::cli::support::{Home, run};

#[tokio::test]
async fn mongodump_gets_the_password_on_standard_input_only() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    let encoded = percent_encode(ROOT_PASSWORD);
    // mongodump prints its connection string when it fails, in both forms.
    let leak = Play::archive(recorded())
        .stop_at(100)
        .ending(Ending::Exit(1))
        .stderr(&format!("Failed: error parsing uri mongodb://root:{encoded}@h"))
        .stderr(&format!("password was {ROOT_PASSWORD}"));
    let home = Home::new();
    let mongodump = standin(&[leak, Play::archive(recorded())]);
    let ran = run(tool(&home, &server, &mongodump).env("RUST_LOG", "trace").arg("backup")).ends(0);
    let runs = mongodump.runs().expect("runs");
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_eq!(run.config_via, Some(Via::Pipe));
        let uri =
            format!("mongodb://root:{encoded}@{}/?authSource=admin&directConnection=true", server.host());
        assert!(run.config_has("uri", &uri), "{:?}", run.config);
        assert_eq!(run.argv[..2], ["--config", "/dev/stdin"]);
        let argv = run.argv.join(" ");
        assert!(
            !argv.contains(&encoded) && !argv.contains(ROOT_PASSWORD) && !argv.contains("mongodb"),
            "{argv}"
        );
        // The shell sets these variables by itself.
        let env: Vec<&String> = run
            .env
            .keys()
            .filter(|k| !["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&k.as_str()))
            .collect();
        assert!(env.is_empty(), "{env:?}");
    }
    let manifest = &home.manifests()[0];
    assert!(manifest.notes[0].contains("error parsing uri mongodb://root:***@h"), "{:?}", manifest.notes);
    let bytes = manifest.encode().expect("JSON");
    let printed = [String::from_utf8(bytes).expect("text"), ran.stdout, ran.stderr].concat();
    for form in [encoded.as_str(), ROOT_PASSWORD] {
        assert!(!printed.contains(form), "{form}");
    }
}

#[tokio::test]
async fn mongodump_is_not_started_for_a_user_that_may_not_read_a_time_series() {
    const TEST: &str =
        "mongodump::login::mongodump_is_not_started_for_a_user_that_may_not_read_a_time_series";
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let shop = server.client().await.expect("a client").database("shop");
    let series = doc! {"create": "series", "timeseries": {"timeField": "t"}};
    shop.run_command(series).await.expect("a time series");
    shop.collection("series").insert_one(doc! {"t": DateTime::now()}).await.expect("a row");
    server.create_user("reader", "pw", &[("read", "shop")]).await.expect("a user");
    let uri = server.uri_as("reader", "pw", "admin") + "&appName=x";
    let words = [
        "cannot read shop.series",
        "user 'reader' may not do this",
        "db.getSiblingDB(\"admin\").grantRolesToUser(\"reader\", [\"backup\"])",
    ];
    let mongodump = StandIn::create(&[Play::archive(recorded())]).expect("a stand-in");
    let tool = |program: &std::path::Path, args: &[&str]| {
        let home = Home::new();
        let mut command = home.to_dir(&uri);
        command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", program);
        run(command.args(["backup", "--db", "shop"]).args(args))
    };
    for args in [&[][..], &["--dry-run"]] {
        let said = tool(&mongodump.program(), args).ends(1).says(&words);
        assert!(!said.stderr.contains("once more"), "{}", said.stderr);
    }
    assert!(mongodump.runs().expect("runs").is_empty());
    if let Some(tools) = Official::find(TEST) {
        tool(&tools.mongodump, &[]).ends(1).says(&words);
    }

    // If only mongodump notices the missing right, the run is not repeated, and the error names the role.
    let refused = Play::archive(recorded()).stop_at(100).ending(Ending::Exit(1)).stderr(
        "Failed: error counting shop.series: (Unauthorized) not authorized on shop to execute command { find: \"x\" }",
    );
    server.create_user("more", "pw", &[("backup", "admin")]).await.expect("a user");
    let mongodump = StandIn::create(&[refused]).expect("a stand-in");
    let home = Home::new();
    let mut command = home.to_dir(&server.uri_as("more", "pw", "admin"));
    command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", mongodump.program());
    run(command.args(["backup", "--db", "shop"]))
        .ends(1)
        .says(&["mongodump may not read everything", "grantRolesToUser(\"more\", [\"backup\"])"]);
    assert_eq!(mongodump.runs().expect("runs").len(), 1);
}
