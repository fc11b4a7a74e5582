//! Mistakes of a first hour are reported with a next step.

use uzima_testkit::mongod::Mongod;

use super::support::{Home, NOWHERE, run};

#[test]
fn a_refused_value_is_answered_with_the_accepted_ones() {
    let home = Home::new();
    for (args, code, words) in [
        (
            &["list", "--limit", "0"][..],
            2,
            &["error: --limit = '0': it must be a whole number, at least 1\nnext step: "][..],
        ),
        (
            &["backup", "--wait", "-1m"],
            2,
            &["--wait = '-1m': it must be a whole number with a unit", "backup --help` shows"],
        ),
        (&["list", "--config", "/nonexistent"], 2, &["next step: Correct --config", "`uzima-backup init`"]),
        (&["restore", "latest", "--ns-from", "a.*"], 2, &["--ns-to not at all: they go in pairs, as in"]),
        (
            &["restore", "--from", "/etc/passwd", "--yes"],
            1,
            &["neither an archive", "next step: --from takes"],
        ),
        (
            &["restore", "--from", "/nonexistent", "--yes"],
            1,
            &["cannot read /nonexistent", "next step: --from takes"],
        ),
    ] {
        let ran = run(home.to_dir(NOWHERE).args(args)).ends(code).says(words);
        assert!(!ran.stderr.contains("Usage:") && ran.stdout.is_empty(), "{}", ran.stderr);
    }
}

#[tokio::test]
async fn a_standalone_server_is_reported_by_dry_runs_and_health_but_not_by_every_backup() {
    let (server, home) = (Mongod::builder().start().await.expect("mongod"), Home::new());
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    let tool = || home.to_dir(&server.uri());
    let why = "a standalone server has no oplog. Make it a replica set of one member";
    let night = run(tool().arg("backup")).ends(0);
    assert!(!night.stderr.contains("no oplog"), "{}", night.stderr);
    assert!(home.manifests()[0].consistency.why.starts_with(why));
    run(tool().args(["-v", "backup"])).ends(0).says(&[why]);
    assert!(run(tool().args(["backup", "--dry-run"])).ends(0).stdout.contains(why));
    assert!(run(tool().args(["health", "--only", "namespaces"])).ends(0).stdout.contains(why));
    let chosen = run(tool().args(["backup", "--dry-run", "--consistency", "none"])).ends(0).stdout;
    assert!(!chosen.contains("oplog"), "{chosen}");

    // A database name is not a pattern that matches its collections.
    run(tool().args(["backup", "--include", "shop"]))
        .ends(1)
        .says(&["next step: To select the whole database shop, write 'shop.*'"]);

    // An artifact that somebody removed.
    let manifest = &home.manifests()[0];
    std::fs::remove_file(home.backups().join(&manifest.artifact.key)).expect("it was there");
    let id = manifest.id.as_str();
    let restored = run(tool().args(["restore", id, "--yes"])).ends(4);
    restored.says(&["is missing", "next step: Restore another backup"]);
    let verified = run(tool().args(["verify", id])).ends(4).stdout;
    assert!(
        verified.contains("is missing") && verified.contains("next step: make a new backup now"),
        "{verified}"
    );
}
