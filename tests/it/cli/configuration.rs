//! The sources of settings, end to end, the example configuration, and the checks that `config` makes. A
//! mistake is reported before any network connection is made.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use uzima_backup::config::table::{COPY_SETTINGS, SETTINGS};
use uzima_backup::config::{Raw, file};
use uzima_testkit::mongod::Mongod;

use super::contents::contents;
use super::support::{Home, NOWHERE, TOOL, bare, files, run, server_with_rows};

/// A configuration file that only its owner may read.
fn config(home: &Home, toml: &str, mode: u32) -> PathBuf {
    let path = home.path().join("config.toml");
    std::fs::write(&path, toml).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    path
}

/// A MongoDB address that must not see a connection.
struct Untouched(TcpListener);

impl Untouched {
    fn new() -> Untouched {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        Untouched(listener)
    }

    fn uri(&self) -> String {
        format!("mongodb://{}/?serverSelectionTimeoutMS=300", self.0.local_addr().expect("its port"))
    }

    /// The kernel queues connections that nobody accepted, so a connection attempt is seen here.
    fn asked(&self) -> bool {
        self.0.accept().is_ok()
    }
}

/// Under cron's environment, with a file, with variables, and with neither.
#[tokio::test]
async fn a_backup_runs_in_the_bare_environment_of_cron() {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    let home = Home::new();
    let (dir, state) = (home.backups().display().to_string(), home.state().display().to_string());
    let toml =
        format!("mongo_uri = '{}'\ndir = '{dir}'\nmin_free = 0\nstate_dir = '{state}'\n", server.uri());
    let path = config(&home, &toml, 0o600);
    run(bare().arg("--config").arg(&path).arg("backup")).ends(0);
    run(bare().env("UZIMA_BACKUP_CONFIG", &path).arg("backup")).ends(0);
    let by_variables = || {
        let mut command = bare();
        command.env("MONGO_URI", server.uri()).env("BACKUP_DIR", &dir).env("BACKUP_MIN_FREE", "0");
        command.env("UZIMA_BACKUP_STATE_DIR", &state).env("UZIMA_BACKUP_CONFIG", "/dev/null");
        command
    };
    run(by_variables().arg("backup")).ends(0);
    assert_eq!(home.manifests().len(), 3);
    let ids = |mut command: Command| run(command.args(["list", "--json"])).ends(0).json()["backups"].clone();
    assert_eq!(ids(by_variables()).as_array().expect("a list").len(), 3);
    let before = files(home.path());

    let lost = run(by_variables().env_remove("BACKUP_DIR").arg("backup")).ends(2);
    lost.says(&["S3_BACKUP_BUCKET", "BACKUP_DIR", "next step"]);
    assert_eq!(files(home.path()), before);
    written_only_there(&home, &by_variables);
}

/// Asserts that a run opens and creates files only in its own two folders.
fn written_only_there(home: &Home, tool: &dyn Fn() -> Command) {
    let trace = home.path().join("trace");
    let made = tool();
    let mut traced = Command::new("strace");
    traced.args([
        "-f",
        "-qq",
        // Prints the path of each descriptor, because names are relative to it.
        "-y",
        "-e",
        "trace=openat,open,creat,mkdir,mkdirat,renameat2,rename,link,linkat",
        "-o",
    ]);
    traced.arg(&trace).arg(TOOL).arg("backup").current_dir("/").env_clear();
    traced.envs(made.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = traced.output().expect("strace runs: `apt-get install strace`");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let text = std::fs::read_to_string(&trace).expect("a trace");
    let writes = |line: &&str| {
        !line.contains(" = -1 ")
            && ["O_CREAT", "O_WRONLY", "O_RDWR", "mkdir", "rename", "link"].iter().any(|w| line.contains(w))
    };
    let own = home.path().display().to_string();
    let lines: Vec<&str> = text.lines().filter(writes).collect();
    assert!(lines.iter().any(|line| line.contains("manifest.json")), "nothing was traced: {text}");
    let elsewhere: Vec<&&str> =
        lines.iter().filter(|line| !line.contains(&own) && !line.contains("/dev/null")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
}

/// Variables, arguments, and words that the error must contain.
type Mistake<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str], &'a [&'a str]);

/// Each mistake is exit code 2 and is named, and MongoDB sees no connection.
#[test]
fn mistakes_are_reported_before_any_connection_is_made() {
    let mongo = Untouched::new();
    let cases: &[Mistake] = &[
        (&[], &[], &["S3_BACKUP_BUCKET", "BACKUP_DIR"]),
        (&[("S3_ENDPOINT_URL", "http://127.0.0.1:1")], &[], &["S3_BACKUP_BUCKET is missing"]),
        (
            &[("S3_BACKUP_PREFIX", "x/"), ("BACKUP_DIR", "/nonexistent")],
            &[],
            &["S3_BACKUP_BUCKET is missing"],
        ),
        (
            &[("S3_BACKUP_BUCKET", "shop"), ("S3_BACKUP_PREFIX", "/")],
            &[],
            &["S3_BACKUP_PREFIX", "must not be empty"],
        ),
        (&[("S3_BACKUP_BUCKET", "shop"), ("S3_BACKUP_PREFIX", "")], &[], &["S3_BACKUP_PREFIX", "empty"]),
        (&[("S3_BACKUP_BUCKET", "b"), ("BACKUP_DIR", "/x")], &[], &["as a copy"]),
        (&[("BACKUP_DIR", "relative")], &[], &["BACKUP_DIR", "absolute"]),
        (
            &[("BACKUP_DIR", "/x"), ("UZIMA_BACKUP_STATE_DIR", "state")],
            &[],
            &["UZIMA_BACKUP_STATE_DIR", "absolute"],
        ),
        (
            &[("BACKUP_DIR", "/x"), ("BACKUP_RETENTION_DAYS", "0")],
            &[],
            &["BACKUP_RETENTION_DAYS", "at least 1"],
        ),
        (&[("BACKUP_DIR", "/x"), ("BACKUP_FORMAT", "a$HOME\nb")], &[], &["'a$HOME\\nb'", "tar.zst"]),
        (
            &[("BACKUP_DIR", "/x")],
            &["--format", "zip"],
            &["format = 'zip' (the flag --format)", "archive.gz", "Correct --format; the default is"],
        ),
        (&[("BACKUP_DIR", "/x")], &["--engine", "magic"], &["engine", "mongodump"]),
        (&[("BACKUP_DIR", "/x")], &["--config", "/nonexistent/c.toml"], &["/nonexistent/c.toml"]),
        (
            &[("BACKUP_DIR", "/x"), ("RESTORE_URI_FILE", "/nonexistent/uri")],
            &[],
            &["RESTORE_URI_FILE", "Create that file"],
        ),
    ];
    for (env, args, words) in cases {
        let home = Home::new();
        let mut command = home.tool();
        command.env("MONGO_URI", mongo.uri()).envs(env.iter().copied()).arg("backup").args(*args);
        let ran = run(&mut command).ends(2).says(words);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        assert!(!mongo.asked(), "{env:?} {args:?}");
        home.assert_nothing_stored();
    }
    // Proof that the listener notices a connection.
    let home = Home::new();
    run(home.to_dir(&mongo.uri()).arg("backup")).ends(1);
    assert!(mongo.asked());
    home.assert_nothing_stored();
}

/// A mistake in the file is reported with its place, a suggestion, or the wrong permissions.
#[test]
fn mistakes_in_the_file_are_named_with_their_place() {
    for (toml, mode, words) in [
        ("dir = '/x'\nbuckit = 'b'\n", 0o600, &["config.toml, line 2, column 1", "buckit"][..]),
        ("[s3]\n  bukket = 'b'\n", 0o600, &["line 2, column 3", "s3.bukket", "s3.bucket"]),
        ("[s4]\nbucket = 'b'\n", 0o600, &["line 1", "s4"]),
        ("dir = [1]\n", 0o600, &["line 1, column 1", "dir"]),
        ("dir = '/x'\ndir = '/y'\n", 0o600, &["line 2, column 1"]),
        ("dir = '/x\n", 0o600, &["line 1"]),
        ("dir = /x\n", 0o600, &["line 1, column 7: string values must be quoted", "dir = '/srv/backups'"]),
        (
            "buckit = 'b'\n[s4]\nx = 1\n",
            0o600,
            &["line 1, column 1: there is no setting", "; line 2, column 2: "],
        ),
        ("mongo_uri = 'mongodb://u:hunter2@h'\n", 0o644, &["mongo_uri", "every user can read", "chmod 640"]),
        ("[s3]\nsecret_access_key = 'hunter2'\n", 0o604, &["s3.secret_access_key", "chmod 640"]),
    ] {
        let home = Home::new();
        let path = config(&home, toml, mode);
        for command in ["backup", "list", "config"] {
            let ran = run(bare().arg("--config").arg(&path).arg(command)).ends(2).says(words);
            assert!(!ran.stderr.contains("hunter2") && ran.stdout.is_empty(), "{toml}: {}", ran.stderr);
        }
    }
}

/// Flags override the environment, which overrides the file, which overrides the default. `config` names the
/// source and hides secrets.
#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let home = Home::new();
    let uri = home.path().join("uri");
    std::fs::write(&uri, "mongodb://u:hunter2@h1,h2/\n").expect("a file");
    let toml = "dir = '/from-file'\nformat = 'archive.gz'\njob = 'file'\nengine = 'native'\n";
    let path = config(&home, toml, 0o644);
    let mut command = bare();
    command.arg("--config").arg(&path).env("MONGO_URI_FILE", &uri).env("BACKUP_FORMAT", "tar.zst");
    let shown = run(command.args(["config", "--json"])).ends(0).json();
    let row = |key: &str| -> Value {
        let rows = shown["settings"].as_array().expect("a list");
        rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("no {key}")).clone()
    };
    let file = path.display().to_string();
    let expected = |key: &str, env: &str, value: &str, origin: &str| json!({"key": key, "env": env, "value": value, "origin": origin});
    assert_eq!(row("dir"), expected("dir", "BACKUP_DIR", "/from-file", &file));
    assert_eq!(row("format"), expected("format", "BACKUP_FORMAT", "tar.zst", "environment, BACKUP_FORMAT"));
    assert_eq!(row("retention_days"), expected("retention_days", "BACKUP_RETENTION_DAYS", "30", "default"));
    let hidden = expected("mongo_uri", "MONGO_URI", "mongodb://u:***@h1,h2/", "environment, MONGO_URI_FILE");
    assert_eq!(row("mongo_uri"), hidden);
    assert_eq!(row("s3.bucket")["origin"], Value::Null);
    assert_eq!(shown["engine"], json!({"name": "native", "why": "engine = native"}));
    let human = run(&mut command_again(&command)).ends(0).stdout;
    for line in
        ["dir = /from-file  (", "format = tar.zst  (environment, BACKUP_FORMAT)", "with the native engine"]
    {
        assert!(human.contains(line), "no {line:?} in:\n{human}");
    }
    // A flag overrides both: its wrong value is the one that is reported.
    let mut flags = bare();
    flags.arg("--config").arg(&path).env("BACKUP_FORMAT", "tar.zst").env("MONGO_URI", NOWHERE);
    run(flags.args(["backup", "--format", "zip"])).ends(2).says(&["'zip' (the flag --format)"]);
}

/// The same command without `--json`.
fn command_again(command: &Command) -> Command {
    let mut again = bare();
    again.args(command.get_args().filter(|arg| *arg != "--json"));
    again.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    again
}

/// `config` shows all settings, and then reports every mistake in them.
#[test]
fn config_shows_all_settings_and_reports_their_mistakes() {
    let home = Home::new();
    let ran = run(home.tool().arg("config")).ends(2).says(&["S3_BACKUP_BUCKET"]);
    assert!(ran.stdout.contains("retention_days = 30 days  (default)"), "{}", ran.stdout);
    let mut tool = bare();
    tool.env("HOME", home.path()).env("MONGO_URI", "mongodb://db1/shop").env("BACKUP_DIR", "/x");
    let found = run(tool.env("STATE_DIRECTORY", "/run/state").arg("config")).ends(0).stdout;
    assert!(found.contains("job = shop@db1  (not set; BACKUP_JOB: "), "{found}");
    assert!(found.contains("state_dir = /run/state  (not set; UZIMA_BACKUP_STATE_DIR: "), "{found}");
    let found = run(tool.args(["--json"])).ends(0).json();
    assert_eq!((&found["job"], &found["state_dir"]), (&json!("shop@db1"), &json!("/run/state")));
    let wrong = run(tool.env("BACKUP_RETENTION_DAYS", "30d").arg("-q")).ends(2);
    wrong.says(&[
        "retention_days = '30d' (environment, BACKUP_RETENTION_DAYS): it must be a whole number, at least 1",
        "do not run `cleanup`",
    ]);
    // All mistakes are reported at once.
    let several = run(tool.env("S3_BACKUP_BUCKET", "b").env("METRICS_FILE", "m.prom")).ends(2);
    several.says(&[
        "retention_days = '30d'",
        "; both a bucket",
        "; metrics_file = 'm.prom'",
        ". Set one of them",
    ]);
    let wrong =
        run(home.tool().env("BACKUP_DIR", "/x").env("BACKUP_FORMAT", "zip").args(["config", "--json"]));
    let wrong = wrong.ends(2).says(&["BACKUP_FORMAT"]);
    assert_eq!(wrong.json()["engine"], Value::Null);
}

fn shipped(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The example with every commented-out setting switched on: `#key = value` and `#[table]`. Prose has a space
/// after `#`.
fn all_on(text: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with([' ', '#']) => setting.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| on(line) + "\n").collect()
}

#[test]
fn the_example_configuration_works_unchanged() {
    let home = Home::new();
    let path = home.path().join("config.toml");
    std::fs::write(&path, shipped("examples/config.toml")).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    let shown = run(bare().arg("--config").arg(&path).args(["config", "--json"])).ends(0).json();
    let from_file: Vec<&str> = shown["settings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|row| row["origin"] == path.display().to_string())
        .map(|row| row["key"].as_str().expect("a key"))
        .collect();
    assert_eq!(from_file, ["mongo_uri", "dir"], "the smallest set that works");
}

#[test]
fn the_example_configuration_works_with_every_setting_switched_on() {
    let text = shipped("examples/config.toml");
    let read = file::parse("config.toml", &all_on(&text)).unwrap_or_else(|e| panic!("{}", e.chain()));
    for setting in COPY_SETTINGS {
        let with_it = read.copies.iter().filter(|copy| copy.values.contains_key(setting.like));
        assert_eq!(with_it.count(), 1, "{} of a copy", setting.key);
        assert!(setting.env.is_none_or(|env| text.contains(env)), "{:?} is not named", setting.env);
    }
    let values = read.values;
    for setting in SETTINGS {
        let value = values.get(setting.key).unwrap_or_else(|| panic!("{} is missing", setting.key));
        if let Some(default) = setting.default {
            assert_eq!(*value, Raw::Text(default.into()), "the example shows {}'s default", setting.key);
        }
        assert!(text.contains(setting.env), "{} is not named", setting.env);
        assert_eq!(matches!(value, Raw::List(_)), setting.list, "{}", setting.key);
    }
    assert_eq!(values.len(), SETTINGS.len());
}

/// The setting works as a flag and as a variable, and does not change the artifact.
#[tokio::test]
async fn checked_compression_costs_only_time() {
    let server = server_with_rows(300, 500).await;
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let home = Home::new();
        let tool = |args: &[&str], variable: Option<&str>| {
            let mut command = home.to_dir(&server.uri());
            command.envs(variable.map(|value| ("BACKUP_CHECK_COMPRESSION", value)));
            run(command.args(["backup", "--format", format]).args(args)).ends(0);
            let newest = home.manifests().pop().expect("a manifest");
            (contents(&newest, &home.artifact(&newest)), newest.artifact.size, newest.totals)
        };
        let (plain, _, totals) = tool(&[], None);
        assert_eq!(plain.documents["shop.rows"].len(), 300);
        for (args, variable) in [(&["--check-compression"][..], None), (&[], Some("true"))] {
            let (checked, _, same) = tool(args, variable);
            assert_eq!((plain.diff(&checked), totals), (vec![], same), "{format} {args:?} {variable:?}");
        }
    }
    let shown = |command: &mut Command| run(command.args(["config"])).ends(0).stdout;
    let home = Home::new();
    let on = shown(home.to_dir("mongodb://h").env("BACKUP_CHECK_COMPRESSION", "yes"));
    assert!(on.contains("check_compression = yes  (environment"), "{on}");
    run(home.to_dir("mongodb://h").env("BACKUP_CHECK_COMPRESSION", "maybe").arg("backup")).ends(2);
}
