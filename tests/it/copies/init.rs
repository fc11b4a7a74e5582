//! `init`: a copy and a signing key, from flags, the environment and answers.

use std::process::Command;

use uzima_backup::config::{Raw, file};

use crate::cli::support::{NOWHERE, bare, run};
use crate::cli::terminal::Terminal;
use crate::init_install::support::Machine;

impl Machine {
    fn copy(&self) -> String {
        self.home.path().join("copy").display().to_string()
    }

    fn init(&self, args: &[&str]) -> Command {
        let mut tool = bare();
        tool.env("UZIMA_BACKUP_STATE_DIR", self.home.state()).env("BACKUP_MIN_FREE", "0");
        tool.env("PATH", self.programs.folder());
        tool.args(["init", "--config"]).arg(self.config()).args(["--mongo-uri", NOWHERE, "--dir"]);
        tool.arg(self.home.backups()).args(args);
        tool
    }

    /// The settings of the copy in the written file, with the keys of the first place.
    fn written(&self) -> Vec<(&'static str, String)> {
        let copies = file::read(&self.config()).expect("a file").copies;
        assert_eq!((copies.len(), copies[0].name.as_str()), (1, "copy"));
        let text = |raw: &Raw| match raw {
            Raw::Text(text) => text.clone(),
            Raw::List(items) => items.join(","),
        };
        copies[0].values.iter().map(|(key, raw)| (*key, text(raw))).collect()
    }
}

/// The unreachable server makes the check of the health fail.
const UNHEALTHY: i32 = 5;

#[test]
fn a_flag_sets_a_copy_and_adds_its_job() {
    let machine = Machine::new();
    let args = ["--copy-dir", &machine.copy(), "--install=cron", "--yes", "--json"];
    let report = run(&mut machine.init(&args)).ends(UNHEALTHY).json();
    assert_eq!(machine.written(), [("dir", machine.copy())]);
    let tab = String::from_utf8(machine.programs.tab()).expect("UTF-8");
    let jobs: Vec<&str> = tab.lines().filter(|line| line.ends_with(" copy --missing --quiet")).collect();
    assert!(jobs.len() == 1 && jobs[0].starts_with("30 4 * * * "), "{tab}");
    let checks = report["health"]["checks"].as_array().expect("a list");
    assert!(checks.iter().any(|row| row["place"] == "copy" && row["name"] == "store"), "{report}");
    // Once more, also without the flag.
    for args in [&args[..], &["--install=cron", "--yes"]] {
        assert!(run(&mut machine.init(args)).ends(0).stdout.len() > 2);
        assert_eq!(String::from_utf8(machine.programs.tab()).expect("UTF-8"), tab);
    }
    let other = run(&mut machine.init(&["--copy-dir", "/other", "--install=cron", "--yes"])).ends(2);
    assert!(other.stderr.contains("dir of a copy"), "{}", other.stderr);
}

#[test]
fn the_environment_sets_a_copy_and_its_secret_has_a_file_of_its_own() {
    let machine = Machine::new();
    let mut tool = machine.init(&["--install=cron", "--yes"]);
    for (name, value) in [
        ("COPY_S3_BUCKET", "elsewhere"),
        ("COPY_S3_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("COPY_AWS_ACCESS_KEY_ID", "key"),
        ("COPY_AWS_SECRET_ACCESS_KEY", "s3cr3t"),
        ("COPY_RETENTION_DAYS", "90"),
    ] {
        tool.env(name, value);
    }
    run(&mut tool).ends(UNHEALTHY);
    let written: Vec<&str> = machine.written().iter().map(|(key, _)| *key).collect();
    assert_eq!(written, ["retention_days", "s3.access_key_id", "s3.bucket", "s3.endpoint_url"]);
    let text = std::fs::read_to_string(machine.config()).expect("the file");
    assert!(!text.contains("s3cr3t") && text.contains("COPY_AWS_SECRET_ACCESS_KEY_FILE names"), "{text}");
    let secret = machine.home.path().join("etc/copy_s3_secret");
    assert_eq!(std::fs::read_to_string(&secret).expect("the secret"), "s3cr3t\n");
    let tab = String::from_utf8(machine.programs.tab()).expect("UTF-8");
    let variable = format!("COPY_AWS_SECRET_ACCESS_KEY_FILE={}", secret.display());
    assert!(tab.lines().any(|line| line.contains(&variable) && line.contains(" backup ")), "{tab}");
    // A second run from another shell keeps it.
    run(&mut machine.init(&["--install=cron", "--yes"])).ends(0);
    assert_eq!(String::from_utf8(machine.programs.tab()).expect("UTF-8"), tab);
}

#[test]
fn the_first_installation_asks_for_a_copy_and_a_signing_key() {
    for (sign, copy) in [("y\n", true), ("\n", false)] {
        let machine = Machine::new();
        let mut terminal =
            Terminal::start(machine.init(&["--install=cron", "--no-encryption", "--no-oplog"]), 80);
        terminal.until("Make a signing key on this machine? [y/N] ");
        assert!(terminal.taken().contains("BACKUP_TRUSTED_KEYS"));
        terminal.types(sign.as_bytes());
        terminal.until("Enter for no copy: ");
        terminal.types(if copy { format!("{}\n", machine.copy()) } else { "\n".into() }.as_bytes());
        terminal.until("Do this? [y/N] ");
        terminal.types(b"y\n");
        let (code, screen) = terminal.ends();
        assert_eq!(code, Some(UNHEALTHY), "{screen}");
        let key = machine.home.path().join("etc/signing.key");
        let read = file::read(&machine.config()).expect("a file");
        assert_eq!((key.exists(), read.values.contains_key("signing_key_file")), (copy, copy), "{screen}");
        assert_eq!(read.copies.len(), usize::from(copy));
        assert_eq!(screen.contains("signing.key, a new signing key"), copy, "{screen}");
    }
}

#[test]
fn a_signing_key_is_made_only_on_request() {
    let machine = Machine::new();
    let report = run(&mut machine.init(&["--signing", "--json"])).ends(UNHEALTHY).json();
    let key = machine.home.path().join("etc/signing.key");
    assert_eq!(crate::init::mode(&key), 0o600);
    assert_eq!(report["signing"]["file"], key.display().to_string());
    assert!(report["signing"]["trusted_key"].as_str().expect("a key").starts_with("RW"), "{report}");
    assert!(!report.to_string().contains("secret key"), "{report}");
    let other = Machine::new();
    let report = run(&mut other.init(&["--json"])).ends(UNHEALTHY).json();
    assert!(report.get("signing").is_none() && !other.home.path().join("etc/signing.key").exists());
}
