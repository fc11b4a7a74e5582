//! `init` on different machines: the written file and the schedule work at night, and contain no secret unless
//! requested.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use uzima_backup::config::Raw;
use uzima_backup::config::file;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{BUCKET, S3Server, SECRET_KEY};

use crate::cli::s3::variables;
use crate::cli::support::{Home, NOWHERE, bare, run};
use crate::health::support::server;

/// The tool for `init` in this home, with a state folder, and without a minimum of free space.
fn init(home: &Home) -> Command {
    let mut tool = bare();
    tool.env("UZIMA_BACKUP_STATE_DIR", home.state()).env("BACKUP_MIN_FREE", "0");
    tool.args(["init", "--config"]).arg(config(home));
    tool
}

fn config(home: &Home) -> PathBuf {
    home.path().join("etc/config.toml")
}

pub fn mode(path: &Path) -> u32 {
    path.metadata().expect("a file").permissions().mode() & 0o777
}

fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let rows = report["health"]["checks"].as_array().expect("a list").iter();
    rows.map(|row| (row["name"].as_str().expect("a name"), row["outcome"].as_str().expect("a word")))
        .collect()
}

fn lines(report: &Value, key: &str) -> Vec<String> {
    let lines = report[key].as_array().expect("a list").iter();
    lines.map(|line| line.as_str().expect("a line").to_string()).collect()
}

/// Runs the line of a crontab that contains this word, in cron's environment.
pub fn cron(crontab: &[String], word: &str) -> Command {
    let in_name = |c: char| c.is_ascii_uppercase() || c == '_';
    let mut cron = Command::new("/bin/sh");
    cron.env_clear().current_dir("/");
    for line in crontab {
        if let Some((name, value)) = line.split_once('=').filter(|(name, _)| name.chars().all(in_name)) {
            cron.env(name, value);
        } else if line.contains(word) {
            cron.args(["-c", line.splitn(6, ' ').nth(5).expect("a command")]);
        }
    }
    cron
}

#[tokio::test(flavor = "multi_thread")]
async fn the_written_file_and_the_schedule_work_at_night() {
    let (server, home) = (Mongod::builder().replica_set("rs0").start().await.expect("mongod"), Home::new());
    fill(&server).await;
    let mut tool = init(&home);
    tool.args(["--json", "--mongo-uri", &server.uri(), "--dir", "bk"]).current_dir(home.path());
    let report = run(&mut tool).ends(0).json();
    assert_eq!(mode(&config(&home)), 0o600);
    let values = file::read(&config(&home)).expect("a configuration file").values;
    let dir = home.path().canonicalize().expect("a folder").join("bk");
    assert_eq!(values["dir"], Raw::Text(dir.display().to_string()), "where cron starts, too");
    assert_eq!(report["health"]["checks"][1]["name"], "mongodb");
    assert!(
        report["health"]["checks"][1]["detail"].as_str().expect("words").contains("replica set rs0"),
        "{report}"
    );
    assert!(report["left_out"].as_array().expect("a list").is_empty());
    assert!(outcomes(&report).contains(&("freshness", "skipped")), "{report}");
    let crontab = lines(&report, "crontab");
    run(&mut cron(&crontab, " backup --quiet")).ends(0);
    let list = run(bare().arg("--config").arg(config(&home)).args(["list", "--json"])).ends(0).json();
    assert_eq!(list["backups"].as_array().map(Vec::len), Some(1));
    run(&mut cron(&crontab, " cleanup ")).ends(0);
    run(&mut cron(&crontab, " health ")).ends(0);
    assert!(!crontab.iter().any(|line| line.contains("--email")), "nobody is mailed: {crontab:?}");
    let offer = json!({"replica_set": "rs0", "bytes_per_day": null, "days": 7, "scheduled": false});
    assert_eq!((&report["oplog"], crontab.len()), (&offer, 3));
    let ran = run(tool.args(["--force", "--oplog"])).ends(0);
    let crontab = lines(&ran.json(), "crontab");
    assert_eq!((ran.json()["oplog"]["scheduled"].as_bool(), crontab.len()), (Some(true), 4));
    run(&mut cron(&crontab, " oplog ")).ends(0);
}

/// Gives a server something to back up.
pub async fn fill(server: &Mongod) {
    let rows = server.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oplog_is_offered_only_of_a_replica_set() {
    let (set, home) = (Mongod::builder().replica_set("rs0").start().await.expect("mongod"), Home::new());
    fill(&set).await;
    let mut tool = init(&home);
    let ran = run(tool.args(["--mongo-uri", &set.uri(), "--dir"]).arg(home.backups())).ends(0);
    let (_, offer) = ran.stdout.split_once("\nAny second between two nights:\n").expect("an offer");
    assert!(offer.contains("The replica set rs0 can be restored to any second,"), "{offer}");
    assert!(offer.trim_end().ends_with(" init --install --oplog"), "{offer}");
    let alone = Mongod::builder().start().await.expect("mongod");
    fill(&alone).await;
    let standalone = || {
        let mut tool = init(&home);
        tool.args(["--force", "--mongo-uri", &alone.uri(), "--dir"]).arg(home.backups());
        tool
    };
    let ran = run(&mut standalone()).ends(0);
    assert!(!ran.stdout.contains("Any second"), "{}", ran.stdout);
    std::fs::remove_file(config(&home)).expect("the file");
    run(standalone().arg("--oplog")).ends(2).says(&[
        "the job that stores the oplog cannot be added: a standalone server has no oplog",
        "next step: Make it a replica set of one member",
        "or leave --oplog out",
    ]);
    assert!(!config(&home).exists(), "nothing was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_written_only_on_request() {
    let (server, home) = (server().await, Home::new());
    let roles = [("backup", "admin"), ("readWrite", "uzima_backup")];
    server.create_user("backup", "p@ss/word", &roles).await.expect("a user");
    let uri = server.uri_as("backup", "p@ss/word", "admin");
    let tool = |extra: &[&str]| {
        let mut tool = init(&home);
        tool.env("MONGO_URI", &uri).env("BACKUP_DIR", home.backups()).args(extra).arg("--json");
        tool
    };
    let ran = run(&mut tool(&[])).ends(0);
    let text = std::fs::read_to_string(config(&home)).expect("the file");
    for said in [&text, &ran.stdout, &ran.stderr] {
        assert!(!said.contains("ss/word") && !said.contains("ss%2Fword"), "{said}");
    }
    let beside = home.path().join("etc/mongo_uri");
    let secret = json!([{"variable": "MONGO_URI_FILE", "file": &beside, "there": false}]);
    assert_eq!(ran.json()["left_out"], secret);
    // Without the secret a nightly run fails, with the right server in its message.
    let alone = run(bare().arg("--config").arg(config(&home)).arg("backup")).ends(1);
    alone.says(&[
        &server.host(),
        "no password supplied",
        "MONGO_URI has a user and no password (",
        "the file that MONGO_URI_FILE names",
    ]);
    std::fs::write(&beside, format!("{uri}\n")).expect("a file");
    run(&mut cron(&lines(&ran.json(), "crontab"), " backup --quiet")).ends(0);

    let ran = run(&mut tool(&["--force", "--with-secrets"])).ends(0);
    assert!(ran.json()["left_out"].as_array().is_some_and(Vec::is_empty));
    assert!(!ran.stdout.contains("ss%2Fword") && mode(&config(&home)) == 0o600);
    run(bare().arg("--config").arg(config(&home)).arg("backup")).ends(0);
    // A secret's file that a setting already names is named again, and not copied.
    let mut named = init(&home);
    named.env("MONGO_URI_FILE", &beside).env("BACKUP_DIR", home.backups());
    let report = run(named.args(["--force", "--with-secrets", "--json"])).ends(0).json();
    assert_eq!(report["left_out"], json!([{"variable": "MONGO_URI_FILE", "file": &beside, "there": true}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn init_writes_settings_for_a_bucket_and_mails() {
    let (server, home, bucket) = (server().await, Home::new(), S3Server::start());
    let mut tool = init(&home);
    tool.env("MONGO_URI", server.uri()).envs(variables(&bucket.endpoint()));
    tool.env("RESEND_API_KEY", "re_hunter2").env("ADMIN_EMAILS", "ops@example.com,b@example.com");
    let ran = run(tool.env("RESEND_BASE_URL", "http://127.0.0.1:1").arg("--json")).ends(5);
    let report = ran.json();
    let failed: Vec<_> = outcomes(&report).into_iter().filter(|(_, outcome)| *outcome == "failed").collect();
    assert_eq!(failed, [("mail", "failed")], "the bucket's secret came from the environment");
    assert!(lines(&report, "found").contains(&"credentials for the bucket: AWS_ACCESS_KEY_ID".into()));
    let text = std::fs::read_to_string(config(&home)).expect("the file is kept");
    assert!(!text.contains("hunter2") && !text.contains(SECRET_KEY), "{text}");
    let values = file::parse("config.toml", &text).expect("TOML").values;
    assert_eq!(values["s3.bucket"], Raw::Text(BUCKET.into()));
    assert_eq!(values["mail.to"], Raw::List(vec!["ops@example.com".into(), "b@example.com".into()]));
    let variables: Vec<&Value> =
        report["left_out"].as_array().expect("a list").iter().map(|secret| &secret["variable"]).collect();
    assert_eq!(variables, ["MONGO_URI_FILE", "RESEND_API_KEY_FILE", "AWS_SECRET_ACCESS_KEY_FILE"]);
    assert!(lines(&report, "crontab").iter().any(|line| line.ends_with("stats --email --quiet")));
    ran.says(&["unhealthy: mail", "is kept", " health`"]);
}

#[test]
fn an_existing_file_is_kept_without_force() {
    let home = Home::new();
    std::fs::create_dir(config(&home).parent().expect("a folder")).expect("a folder");
    let mut tool = init(&home);
    tool.args(["--mongo-uri", NOWHERE, "--dir"]).arg(home.backups());
    std::fs::write(config(&home), "dir = '/mine'\n").expect("a file");
    let ran = run(&mut tool).ends(2).says(&["is there already", "--force"]);
    assert_eq!(ran.stdout, "");
    assert_eq!(std::fs::read_to_string(config(&home)).expect("the file"), "dir = '/mine'\n");
    // The file that the package installs counts as not edited.
    let example = include_str!("../../examples/config.toml");
    std::fs::write(config(&home), example).expect("a file");
    let ran = run(&mut tool).ends(5).says(&["unhealthy: mongodb"]);
    assert_eq!(
        ran.stdout.matches("cannot connect to MongoDB").count(),
        1,
        "it is asked once: {}",
        ran.stdout
    );
    let (correct, cron) = (ran.stdout.find("First correct what failed"), ran.stdout.find("Every night"));
    assert!(correct.is_some() && correct < cron, "{}", ran.stdout);
    assert!(!ran.stdout.contains(".bak"), "{}", ran.stdout);
    assert_ne!(std::fs::read_to_string(config(&home)).expect("the file"), example);
    std::fs::write(config(&home), "dir = '/mine'\n").expect("a file");
    let ran = run(tool.arg("--force")).ends(5);
    let kept = config(&home).with_file_name("config.toml.bak");
    assert!(ran.stdout.contains(&format!("the old file is kept: {}\n", kept.display())), "{}", ran.stdout);
    assert_eq!(std::fs::read_to_string(kept).expect("a copy"), "dir = '/mine'\n");
}

/// Cron's PATH is short: a program that only the current shell finds is named in the file.
#[test]
fn a_mongodump_that_cron_would_not_find_is_named() {
    let home = Home::new();
    let tools = home.path().join("tools");
    std::fs::create_dir(&tools).expect("a folder");
    let program = tools.join("mongodump");
    std::fs::write(&program, "#!/bin/sh\necho 'mongodump version: 100.9.4'\n").expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
    let mut tool = init(&home);
    tool.env("PATH", &tools).args(["--mongo-uri", NOWHERE, "--dir"]).arg(home.backups());
    let report = run(tool.arg("--json")).ends(5).json();
    assert!(outcomes(&report).contains(&("engine", "ok")), "{report}");
    let values = file::read(&config(&home)).expect("a configuration file").values;
    // If one of the usual folders has a mongodump, cron finds that one.
    if !["/usr/bin/mongodump", "/usr/local/bin/mongodump"].iter().any(|path| Path::new(path).exists()) {
        assert_eq!(values["mongodump_path"], Raw::Text(program.display().to_string()));
    }
}

#[test]
fn wrong_settings_write_nothing() {
    let home = Home::new();
    for (env, args, words) in [
        (&[][..], &[][..], &["no place for backups", "--dir"][..]),
        (&[("BACKUP_DIR", "/b"), ("S3_BACKUP_BUCKET", "b")], &[], &["as a copy"]),
        (
            &[],
            &["--dir", "/b", "--mongo-uri", "mongodb://u:hunter2@h"],
            &["--mongo-uri holds a password", "MONGO_URI_FILE"],
        ),
        (&[("BACKUP_FORMAT", "zip")], &["--dir", "/b"], &["archive.zst"]),
        (&[("ADMIN_EMAILS", "a@example.com")], &["--dir", "/b"], &["RESEND_API_KEY"]),
        // Settings that a nightly run would refuse.
        (&[("METRICS_FILE", "m.prom")], &["--dir", "/b"], &["METRICS_FILE", "absolute path"]),
        (&[("BACKUP_LOG_FILE", "b.log")], &["--dir", "/b"], &["BACKUP_LOG_FILE", "absolute path"]),
        (&[("WEBHOOK_URL", "h/x")], &["--dir", "/b"], &["WEBHOOK_URL", "https://"]),
        (&[], &["--dir", "~/b"], &["--dir ~/b", "$HOME"]),
    ] {
        let ran = run(init(&home).args(args).envs(env.iter().copied())).ends(2).says(words);
        assert!(!ran.stderr.contains("hunter2") && !config(&home).exists(), "{}", ran.stderr);
    }
}
