//! A user without the right to read everything, with the mongodump engine: the error is the same as with the
//! native engine, and mongodump is not started.

use bson::{DateTime, doc};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::standin::{Ending, Play, StandIn};

use crate::cli::support::{Home, run};
use crate::mongodump::support::recorded;

#[tokio::test]
async fn mongodump_is_not_started_for_a_user_that_may_not_read_a_time_series() {
    const TEST: &str = "connect::rights::mongodump_is_not_started_for_a_user_that_may_not_read_a_time_series";
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
