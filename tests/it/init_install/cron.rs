//! Installing in the user's crontab.

use std::process::Command;

use uzima_testkit::mongod::Mongod;

use super::support::Machine;
use crate::cli::support::{NOWHERE, bare, run};
use crate::cli::terminal::Terminal;
use crate::health::support::server;
use crate::init::{cron, fill, mode};

/// Another line, with bytes that are not UTF-8, and without a line break at its end.
const FOREIGN: &[u8] = b"MAILTO=ops@example.com\n\n# caf\xe9\t\n5 4 * * * /usr/bin/true \\% # mine";

impl Machine {
    /// `init --install=cron` without settings.
    fn install(&self) -> Command {
        let mut tool = bare();
        tool.env("PATH", self.programs.folder())
            .args(["init", "--install=cron", "--no-encryption", "--no-signing", "--no-copy", "--config"])
            .arg(self.config());
        tool
    }

    /// As [`Machine::install`], with a server that cannot be reached and backups in the home.
    fn nowhere(&self) -> Command {
        let mut tool = self.install();
        tool.env("UZIMA_BACKUP_STATE_DIR", self.home.state()).env("BACKUP_MIN_FREE", "0");
        tool.args(["--mongo-uri", NOWHERE, "--dir"]).arg(self.home.backups());
        tool
    }

    #[track_caller]
    fn assert_unchanged(&self, tab: &[u8]) {
        assert!(!self.config().exists(), "no configuration file");
        assert_eq!(self.programs.tab(), tab);
        assert_eq!(self.programs.calls(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_added_and_a_second_run_changes_nothing() {
    let (server, machine) = (server().await, Machine::new());
    machine.programs.write("tab", FOREIGN);
    let roles = [("backup", "admin"), ("readWrite", "uzima_backup")];
    server.create_user("backup", "p@ss/word", &roles).await.expect("a user");
    let uri = server.uri_as("backup", "p@ss/word", "admin");
    let tool = |args: &[&str]| {
        let mut tool = machine.install();
        tool.env("MONGO_URI", &uri).env("BACKUP_DIR", machine.home.backups()).env("BACKUP_MIN_FREE", "0");
        tool.env("UZIMA_BACKUP_STATE_DIR", machine.home.state()).args(args);
        tool
    };
    let ran = run(&mut tool(&["--yes"])).ends(0);
    assert_eq!(machine.programs.calls(), ["crontab -"]);
    let tab = machine.programs.tab();
    let block = tab.strip_prefix(FOREIGN).expect("the other lines as they were");
    let block = String::from_utf8(block.to_vec()).expect("UTF-8");
    let lines: Vec<String> = block.lines().map(String::from).collect();
    assert!(lines[1].starts_with("# BEGIN uzima-backup init ") && lines[6].starts_with("# END "), "{block}");
    let config = std::fs::read_to_string(machine.config()).expect("the file");
    for text in [&block, &config, &ran.stdout, &ran.stderr] {
        assert!(!text.contains("ss/word") && !text.contains("ss%2Fword"), "{text}");
    }
    let secret = machine.config().with_file_name("mongo_uri");
    assert_eq!(std::fs::read_to_string(&secret).expect("the secret"), format!("{uri}\n"));
    assert_eq!(mode(&secret), 0o600);
    // The jobs work in cron's environment.
    run(&mut cron(&lines, " backup --quiet")).ends(0);
    run(&mut cron(&lines, " cleanup ")).ends(0);
    run(&mut cron(&lines, " health ")).ends(0);
    assert_eq!(machine.home.manifests().len(), 1);
    // The same command again, and one from a shell that has none of the variables. Neither has a question.
    for mut tool in [tool(&["--yes"]), tool(&[]), machine.install()] {
        let ran = run(&mut tool).ends(0);
        assert!(ran.stdout.starts_with("nothing to change: "), "{}", ran.stdout);
        assert_eq!((machine.programs.calls(), machine.programs.tab()), (vec![], tab.clone()));
    }
    assert_eq!(std::fs::read_to_string(machine.config()).expect("the file"), config);
    let again = run(machine.install().arg("--json")).ends(0).json();
    assert_eq!(again["install"]["schedule"], serde_json::json!([]));
    assert!(again["health"].is_null(), "{again}");
}

#[test]
fn a_changed_setting_replaces_the_block_in_its_place() {
    let machine = Machine::new();
    run(machine.nowhere().arg("--yes")).ends(5);
    let below = b"1 2 * * * /usr/bin/true\n";
    let first = machine.programs.tab();
    machine.programs.write("tab", [FOREIGN, b"\n", &first, below].concat());
    let mut text = std::fs::read_to_string(machine.config()).expect("the file");
    text.push_str(
        "[mail]\nresend_api_key = 're_x'\nto = ['ops@example.com']\nbase_url = 'http://127.0.0.1:1'\n",
    );
    std::fs::write(machine.config(), text).expect("a file");
    let planned = run(machine.install().args(["--dry-run", "--json"])).ends(0).json();
    let step = &planned["install"]["schedule"][0];
    assert_eq!((&step["kind"], &step["done"]), (&"crontab".into(), &false.into()), "{planned}");
    assert!(step["removed"][0].as_str().is_some_and(|line| line.ends_with(" health --quiet")), "{step}");
    run(machine.install().arg("--yes")).ends(5);
    let tab = machine.programs.tab();
    assert!(tab.starts_with(FOREIGN) && tab.ends_with(below));
    let tab = String::from_utf8_lossy(&tab).into_owned();
    assert_eq!(tab.matches("# BEGIN uzima-backup").count(), 1, "{tab}");
    assert_eq!(tab.matches(" stats --email --quiet\n").count(), 1, "{tab}");
    // Another configuration file has a block of its own.
    let mut other = bare();
    other.env("PATH", machine.programs.folder()).args([
        "init",
        "--install=cron",
        "--yes",
        "--mongo-uri",
        NOWHERE,
    ]);
    other
        .arg("--config")
        .arg(machine.home.path().join("other.toml"))
        .arg("--dir")
        .arg(machine.home.path().join("b2"));
    run(other.env("UZIMA_BACKUP_STATE_DIR", machine.home.state()).env("BACKUP_MIN_FREE", "0")).ends(5);
    let both = String::from_utf8_lossy(&machine.programs.tab()).into_owned();
    assert!(both.starts_with(&tab), "{both}");
    assert_eq!(both.matches("# BEGIN uzima-backup").count(), 2, "{both}");
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_changed() {
    let machine = Machine::new();
    let ran = run(&mut machine.nowhere()).ends(2);
    ran.says(&["there is no terminal to ask", "next step: Check the plan with --dry-run, then add --yes"]);
    machine.assert_unchanged(b"");
}

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let machine = Machine::new();
    machine.programs.write("tab", "0 1 * * * uzima-backup backup\n");
    let mut tool = machine.nowhere();
    tool.env("MONGO_URI_FILE", "")
        .env_remove("MONGO_URI_FILE")
        .env("PING_URL", "https://hc.example.com/hunter2");
    let ran = run(tool.arg("--dry-run")).ends(0);
    let config = machine.config().display().to_string();
    for words in [
        &format!("1. write {config} (mode 0600, owner "),
        &format!("     + dir = \"{}\"\n", machine.home.backups().display()),
        "2. write ",
        "/etc/ping_url (mode 0600, owner ",
        "     + (the value of PING_URL, which is not shown)\n",
        "3. add 3 jobs to the crontab of ",
        "     + # BEGIN uzima-backup init ",
        "note: the crontab starts the tool in another line, too, which stays: 0 1 * * * uzima-backup backup\n",
    ] {
        assert!(ran.stdout.contains(words), "no {words:?} in:\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains("hunter2"), "{}", ran.stdout);
    machine.assert_unchanged(b"0 1 * * * uzima-backup backup\n");
}

#[test]
fn a_refused_crontab_is_reported_with_what_was_done_and_the_next_run_goes_on() {
    let machine = Machine::new();
    machine.programs.write("tab", FOREIGN);
    machine.programs.write("refuse", "");
    let ran = run(machine.nowhere().arg("--yes")).ends(1);
    let config = machine.config().display().to_string();
    ran.says(&[
        "error: step 2 of 2, add 3 jobs to the crontab of ",
        &format!(", failed; done before it: write {config}"),
        "`crontab -` refused the new crontab; it is as it was: exit status: 1: \"-\":7: bad minute",
        "next step: The same `init --install` goes on from there; to go back: rm ",
    ]);
    assert_eq!(machine.programs.tab(), FOREIGN);
    std::fs::remove_file(machine.programs.file("refuse")).expect("a file");
    machine.programs.calls();
    let ran = run(machine.nowhere().arg("--yes")).ends(5);
    assert!(ran.stdout.contains(&format!("{config} stays as it is (mode 0600)\n")), "{}", ran.stdout);
    assert!(ran.stdout.contains("Done:\n    1. add 3 jobs"), "{}", ran.stdout);
    assert_eq!(machine.programs.calls(), ["crontab -"]);
}

/// A crontab that cannot be read must not be taken for an empty one.
#[test]
fn a_crontab_that_cannot_be_read_is_not_replaced() {
    let machine = Machine::new();
    machine.programs.write("tab", FOREIGN);
    machine.programs.write("unreadable", "");
    run(machine.nowhere().arg("--yes")).ends(1).says(&["so it is not changed", "You are not allowed"]);
    machine.assert_unchanged(FOREIGN);
    let mut tool = machine.nowhere();
    std::fs::remove_file(machine.programs.folder().join("crontab")).expect("a program");
    if !["/usr/bin/crontab", "/bin/crontab"].iter().any(|path| std::path::Path::new(path).exists()) {
        run(tool.arg("--yes")).ends(1).says(&["there is no program crontab", "package `cron`"]);
    }
}

#[test]
fn a_store_that_fails_is_not_scheduled() {
    let machine = Machine::new();
    let file = machine.home.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let mut tool = machine.install();
    tool.args(["--yes", "--mongo-uri", NOWHERE, "--dir"]).arg(&file);
    tool.env("UZIMA_BACKUP_STATE_DIR", machine.home.state());
    let ran = run(&mut tool).ends(5).says(&["correct what failed, then run the same `init --install` again"]);
    assert!(ran.stdout.contains("the nightly runs are not installed"), "{}", ran.stdout);
    assert_eq!((machine.programs.tab(), machine.programs.calls()), (vec![], vec![]));
    // Once the store works, the same command goes on.
    std::fs::remove_file(&file).expect("a file");
    run(&mut tool).ends(5).says(&["unhealthy: mongodb"]);
    assert_eq!(machine.programs.calls(), ["crontab -"]);
}

#[test]
fn an_existing_file_stays_and_other_settings_are_refused() {
    let machine = Machine::new();
    std::fs::create_dir(machine.config().parent().expect("a folder")).expect("a folder");
    let (dir, state) = (machine.home.backups(), machine.home.state());
    let text = format!(
        "mongo_uri = '{NOWHERE}'\ndir = '{}'\nstate_dir = '{}'\nmin_free = 0\n",
        dir.display(),
        state.display()
    );
    std::fs::write(machine.config(), &text).expect("a file");
    let mut tool = machine.install();
    tool.env("BACKUP_JOB", "shop").args(["--yes", "--dir", "/srv/other"]);
    let ran = run(&mut tool).ends(2);
    ran.says(&["these settings differ there: dir (--dir), job (BACKUP_JOB)", "--force"]);
    assert_eq!(machine.programs.calls(), Vec::<String>::new());
    let mut tool = machine.install();
    tool.arg("--dir").arg(machine.home.backups());
    run(tool.args(["--yes", "--mongo-uri", NOWHERE])).ends(5);
    assert_eq!(std::fs::read_to_string(machine.config()).expect("the file"), text);
    assert_eq!(machine.programs.calls(), ["crontab -"]);
}

#[test]
fn a_secret_of_another_value_is_not_replaced() {
    let machine = Machine::new();
    std::fs::create_dir(machine.config().parent().expect("a folder")).expect("a folder");
    let secret = machine.config().with_file_name("ping_url");
    std::fs::write(&secret, "https://hc.example.com/other\n").expect("a file");
    let mut tool = machine.nowhere();
    let ran = run(tool.env("PING_URL", "https://hc.example.com/hunter2").arg("--yes")).ends(2);
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    ran.says(&["ping_url exists, and does not hold the value of PING_URL", "PING_URL_FILE="]);
    machine.assert_unchanged(b"");
}

#[test]
fn only_yes_at_the_question_changes_something() {
    let machine = Machine::new();
    for (typed, code, words) in [
        (&b"n\n"[..], 1, "not installed, because it was not confirmed; nothing was changed"),
        (b"\x03", 130, "ended by SIGINT; nothing was changed"),
        (b"\x04", 1, "nothing was changed"),
    ] {
        let mut terminal = Terminal::start(machine.nowhere(), 80);
        terminal.until("Do this? [y/N] ");
        terminal.types(typed);
        let (ended, screen) = terminal.ends();
        assert_eq!(ended, Some(code), "{screen}");
        assert!(screen.contains(words) && screen.contains("+ # BEGIN uzima-backup init "), "{screen}");
        machine.assert_unchanged(b"");
    }
    let mut terminal = Terminal::start(machine.nowhere(), 80);
    terminal.until("Do this? [y/N] ");
    terminal.types(b"y\n");
    let (ended, screen) = terminal.ends();
    assert_eq!(ended, Some(5), "{screen}");
    assert_eq!(machine.programs.calls(), ["crontab -"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_set_is_asked_about_its_oplog_once() {
    let (set, machine) =
        (Mongod::builder().replica_set("rs0").start().await.expect("mongod"), Machine::new());
    fill(&set).await;
    let tool = |server: &Mongod| {
        let mut tool = machine.install();
        tool.env("UZIMA_BACKUP_STATE_DIR", machine.home.state()).env("BACKUP_MIN_FREE", "0");
        tool.args(["--mongo-uri", &server.uri(), "--dir"]).arg(machine.home.backups());
        tool
    };
    let job = |tab: Vec<u8>| String::from_utf8_lossy(&tab).matches("\n*/10 * * * * ").count();
    // A signal at the first question, and yes only to the second one.
    let mut terminal = Terminal::start(tool(&set), 80);
    terminal.until("Add this job? [y/N] ");
    terminal.types(b"\x03");
    assert_eq!(terminal.ends().0, Some(130));
    machine.assert_unchanged(b"");
    let mut terminal = Terminal::start(tool(&set), 80);
    terminal.until("Add this job? [y/N] ");
    terminal.types(b"n\n");
    terminal.until("Do this? [y/N] ");
    let screen = terminal.taken();
    assert!(screen.contains("The replica set rs0 can be restored to any second,"), "{screen}");
    assert!(screen.contains("kept for 7 days.") && !screen.contains("oplog --quiet"), "{screen}");
    terminal.types(b"n\n");
    assert_eq!(terminal.ends().0, Some(1));
    machine.assert_unchanged(b"");
    let mut terminal = Terminal::start(tool(&set), 80);
    terminal.until("Add this job? [y/N] ");
    terminal.types(b"y\n");
    terminal.until("Do this? [y/N] ");
    let screen = terminal.taken();
    assert!(screen.contains("     + */10 * * * * ") && screen.contains("note: It costs "), "{screen}");
    terminal.types(b"y\n");
    assert_eq!(terminal.ends().0, Some(0));
    assert_eq!(job(machine.programs.tab()), 1);
    let lines: Vec<String> =
        String::from_utf8(machine.programs.tab()).expect("UTF-8").lines().map(String::from).collect();
    run(&mut cron(&lines, " backup --quiet")).ends(0);
    run(&mut cron(&lines, " oplog --quiet")).ends(0);
    // A later installation keeps the job without a question, and removes it on request.
    let ran = run(&mut machine.install()).ends(0);
    assert!(ran.stdout.starts_with("nothing to change: "), "{}", ran.stdout);
    run(machine.install().args(["--yes", "--no-oplog"])).ends(0);
    assert_eq!(job(machine.programs.tab()), 0);
    let added = run(machine.install().args(["--yes", "--oplog", "--json"])).ends(0).json();
    assert_eq!((job(machine.programs.tab()), &added["oplog"]["scheduled"]), (1, &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_replica_set_there_is_one_question() {
    let (alone, machine) = (Mongod::builder().start().await.expect("mongod"), Machine::new());
    for uri in [alone.uri().as_str(), NOWHERE] {
        let mut tool = machine.install();
        tool.args(["--mongo-uri", uri, "--dir"]).arg(machine.home.backups());
        let mut terminal = Terminal::start(tool, 80);
        terminal.until("Do this? [y/N] ");
        let screen = terminal.taken();
        assert!(!screen.contains("Add this job?"), "{screen}");
        terminal.types(b"n\n");
        assert_eq!(terminal.ends().0, Some(1));
    }
    // The trial of the settings reports a server that does not answer.
    run(machine.nowhere().args(["--yes", "--oplog"])).ends(5).says(&["unhealthy: mongodb"]);
    assert!(String::from_utf8_lossy(&machine.programs.tab()).contains(" oplog --quiet\n"));
}
