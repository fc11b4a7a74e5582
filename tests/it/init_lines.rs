//! The shell commands that `init` prints work as printed.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::support::{Home, NOWHERE, Ran, bare, run};
use crate::health::support::server;

/// `init` with a configuration file in this home, backups in its folder, and without a minimum of free space.
fn init(home: &Home) -> Command {
    let mut tool = bare();
    tool.env("UZIMA_BACKUP_STATE_DIR", home.state()).env("BACKUP_MIN_FREE", "0");
    tool.args(["init", "--force", "--config"]).arg(home.path().join("config.toml"));
    tool
}

/// Runs a line in a shell that exports `name`, with this file as standard input.
fn shell(line: &str, (name, value): (&str, &str), input: &Path) -> Ran {
    let input = std::fs::File::open(input).expect("a file");
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().env("PATH", "/usr/bin:/bin").env(name, value).current_dir("/");
    run(shell.stdin(Stdio::from(input)).args(["-c", line]))
}

/// The line of a text that contains these words.
fn line<'a>(text: &'a str, words: &str) -> &'a str {
    text.lines()
        .find(|line| line.contains(words))
        .unwrap_or_else(|| panic!("no {words:?} in:\n{text}"))
        .trim()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_commands_find_a_typed_secret() {
    let (server, home) = (server().await, Home::new());
    let roles = [("backup", "admin"), ("readWrite", "uzima_backup")];
    server.create_user("backup", "p@ss/word", &roles).await.expect("a user");
    let uri = server.uri_as("backup", "p@ss/word", "admin");
    let mut tool = init(&home);
    let ran = run(tool.env("MONGO_URI", &uri).arg("--dir").arg(home.backups())).ends(0);
    assert!(ran.stdout.contains("the whole connection string with its password"), "{}", ran.stdout);
    let typed = home.path().join("typed");
    std::fs::write(&typed, format!("{uri}\n")).expect("a file");
    let exported = ("MONGO_URI", uri.as_str());
    shell(line(&ran.stdout, "install -m 0600 /dev/stdin"), exported, &typed).ends(0);
    let written = std::fs::read_to_string(home.path().join("mongo_uri")).expect("the secret's file");
    assert_eq!(written, format!("{uri}\n"));
    // The shell that ran `init` still exports the secret.
    shell(line(&ran.stdout, "config.toml backup"), exported, Path::new("/dev/null")).ends(0);
    assert_eq!(home.manifests().len(), 1);
    // A check fails. The printed command for another check still reaches this server.
    let mut tool = init(&home);
    tool.env("MONGO_URI", &uri).env("RESEND_API_KEY", "re_x").env("ADMIN_EMAILS", "a@example.com");
    tool.env("RESEND_BASE_URL", "http://127.0.0.1:1").arg("--dir").arg(home.backups());
    let ran = run(&mut tool).ends(5);
    let said = line(&ran.stderr, "is kept: correct what failed");
    let command = said.split('`').nth(1).expect("a command");
    std::fs::write(home.path().join("resend_key"), "re_x\n").expect("a file");
    let health = shell(command, exported, Path::new("/dev/null")).ends(5);
    health.says(&["unhealthy: mail\n"]);
}

/// The commands for systemd in the output of `init --json`.
fn systemd(ran: &Ran) -> String {
    let report = ran.json();
    let lines = report["systemd"].as_array().expect("a list").iter();
    lines.map(|line| format!("{}\n", line.as_str().expect("a line"))).collect()
}

/// A log file that root creates would not be writable for the user of the nightly runs.
#[test]
fn init_does_not_create_the_log_file() {
    let home = Home::new();
    let (log, metrics) = (home.path().join("nights.log"), home.path().join("m/b.prom"));
    let mut tool = init(&home);
    tool.env("BACKUP_LOG_FILE", &log).env("METRICS_FILE", &metrics).args(["--json", "--mongo-uri", NOWHERE]);
    let ran = run(tool.arg("--dir").arg(home.path().join("new"))).ends(5);
    assert!(!log.exists(), "{}", ran.stdout);
    let systemd = systemd(&ran);
    let made = line(&systemd, "-m 0640 /dev/null");
    assert!(made.starts_with("test -e ") && made.ends_with("/nights.log"), "{made}");
    assert!(line(&systemd, "-m 0755").ends_with("/m"), "{systemd}");
    assert!(line(&systemd, "ReadWritePaths").contains("/nights.log"), "{systemd}");
}

#[test]
fn a_shared_folder_is_not_taken_over() {
    let home = Home::new();
    std::fs::write(home.backups().join("dpkg.status.0"), "").expect("a file");
    let mut tool = init(&home);
    let ran = run(tool.args(["--json", "--mongo-uri", NOWHERE, "--dir"]).arg(home.backups())).ends(5);
    let systemd = systemd(&ran);
    assert!(!systemd.contains("install -d"), "{systemd}");
    assert!(line(&systemd, "is shared").starts_with("# "), "{systemd}");
    assert!(line(&systemd, "a folder of its own").contains("backups/mongodb"), "{systemd}");
}

#[test]
fn backups_to_a_failed_store_are_not_scheduled() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let mut tool = init(&home);
    tool.args(["--mongo-uri", NOWHERE, "--dir"]).arg(&file);
    let ran = run(&mut tool).ends(5).says(&["store", "correct what failed"]);
    assert!(!ran.stdout.contains("Every night"), "{}", ran.stdout);
    line(&ran.stdout, "correct it; then `init --install` starts the nightly runs");
    let report = run(tool.arg("--json")).ends(5).json();
    assert_eq!((&report["crontab"], &report["systemd"]), (&serde_json::json!([]), &serde_json::json!([])));
}

/// Apart from the health report, the text fits a terminal of 80 columns.
#[test]
fn the_text_has_short_lines() {
    let home = Home::new();
    let mut tool = init(&home);
    tool.env("MONGO_URI", "mongodb://backup:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=300");
    tool.env("BACKUP_LOG_FILE", "/var/log/uzima.log").env("METRICS_FILE", "/srv/m/b.prom");
    let ran = run(tool.arg("--dir").arg(home.backups())).ends(5);
    let (before, rest) = ran.stdout.split_once("\nHealth:\n").expect("the health");
    let after = rest.split_once("\n\n").expect("its end").1;
    for line in before.lines().chain(after.lines()) {
        // The first backup is one command with the paths of this test.
        assert!(line.len() <= 80 || line.contains(home.path().to_str().expect("UTF-8")), "{line}");
    }
    line(&ran.stdout, " init --install");
}

#[test]
fn an_ignored_bucket_is_reported() {
    let home = Home::new();
    let mut tool = init(&home);
    tool.env("S3_BACKUP_BUCKET", "b").args(["--mongo-uri", NOWHERE, "--dir"]).arg(home.backups());
    let ran = run(&mut tool).ends(5);
    line(&ran.stdout, "S3_BACKUP_BUCKET is ignored");
    let sendmail = ["/usr/sbin/sendmail", "/usr/lib/sendmail"].iter().any(|path| Path::new(path).exists());
    assert_eq!(ran.stdout.contains("no sendmail: cron's mails to MAILTO reach nobody"), !sendmail);
}
