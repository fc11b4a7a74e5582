//! `verify --drill` through the real binary, and the use of its result by other commands.

use super::support::{assert_gone, drill, processes, scratch};
use crate::cli::support::run;
use crate::restore::support::{Backup, rows, server};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_mongod_or_setting_is_reported_before_anything_is_read() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let verify = |args: &[&str], env: &[(&str, &str)]| {
        let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
        run(command.envs(env.iter().copied()).args(["verify", "latest"]).args(args))
    };
    let none = verify(&["--drill"], &[("MONGOD_PATH", "/nonexistent/mongod")]).ends(2);
    none.says(&["/nonexistent/mongod", "--to-uri", "DRILL_URI", "MONGOD_PATH"]);
    let uri = "mongodb://u:hunter2@127.0.0.1:1";
    let secret = verify(&["--drill", "--to-uri", uri], &[]).ends(2).says(&["DRILL_URI", "password"]);
    assert!(!secret.stderr.contains("hunter2"), "{}", secret.stderr);
    verify(&["--to-uri", "mongodb://127.0.0.1:1"], &[]).ends(2);
    run(backup.home.to_dir("mongodb://127.0.0.1:1").args(["verify", "--all", "--drill"])).ends(2);
    // A drill refuses the server that is backed up and the restore target.
    let other = [("MONGOD_PATH", "/nonexistent/mongod"), ("RESTORE_URI", &*source.uri())]
        .map(|(k, v)| (k, v.to_string()));
    let other: Vec<_> = other.iter().map(|(k, v)| (*k, v.as_str())).collect();
    verify(&["--drill"], &other).ends(2);
    let results = backup.home.files().into_iter().filter(|file| file.contains("/verified-")).count();
    assert_eq!(results, 0, "nothing was read");
}

/// A damaged backup is not restored, and no server is started.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_not_restored() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..300).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let mut bytes = std::fs::read(backup.artifact()).expect("the artifact");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(backup.artifact(), bytes).expect("a file");
    let within = scratch();
    // The log names every drill that starts.
    let ran = run(&mut drill(&backup, within.path())).ends(4);
    assert!(ran.stdout.contains("DAMAGED") && !ran.stderr.contains("drilling"), "{ran:?}");
    assert_eq!(processes(within.path()), Vec::<String>::new());
    assert_gone(within.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_and_health_report_the_last_drill() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..300).await;
    let backup = Backup::of(&source, &["--db", "shop", "--job", "nightly"]);
    let tool = |args: &[&str], days: Option<&str>| {
        let mut command = backup.home.to_dir(&source.uri());
        command.envs(days.map(|days| ("BACKUP_DRILL_MAX_AGE", days)));
        run(command.args(args).args(["--job", "nightly"]))
    };
    let health = ["health", "--only", "drill"];
    let never = tool(&health, None).ends(0);
    assert!(never.stdout.contains("not configured  drill  no backup was ever drilled"), "{}", never.stdout);
    let never = tool(&health, Some("30")).ends(5);
    assert!(never.stdout.contains("verify latest --drill"), "{}", never.stdout);
    assert!(tool(&["stats", "--json"], None).ends(0).json()["drill"].is_null());
    let within = scratch();
    let drilled = run(&mut drill(&backup, within.path())).ends(0);
    assert!(drilled.stdout.contains("recovery time ") && drilled.stdout.contains("/s"), "{}", drilled.stdout);
    let ok = tool(&health, Some("30")).ends(0);
    assert!(ok.stdout.contains("the newest drill, of ") && ok.stdout.contains("took"), "{}", ok.stdout);
    let stats = tool(&["stats", "--json"], None).ends(0).json();
    assert_eq!(stats["drill"]["id"], backup.manifest.id.as_str(), "{stats}");
    let text = tool(&["stats"], None).ends(0).stdout;
    assert!(text.contains("\ndrill        ") && text.contains("restored in"), "{text}");
    // Makes the result older.
    let file = backup.home.files().into_iter().find(|file| file.contains("/verified-")).expect("a result");
    let path = backup.home.backups().join(file);
    let mut result: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    result["drill"]["at"] = (chrono::Utc::now() - chrono::TimeDelta::days(31)).to_rfc3339().into();
    std::fs::write(&path, result.to_string()).expect("an older drill");
    let old = tool(&health, Some("30")).ends(5);
    assert!(old.stdout.contains("(drill_max_age)"), "{}", old.stdout);
    tool(&health, None).ends(0);
    assert_gone(within.path());
}
