//! Hooks that fail, hang, are missing, or are ended by a signal.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::support::{all_end, environment, hooked, script, waits, writes_environment};
use crate::cli::signals::{ends_by, start, until};
use crate::cli::support::{Home, NOWHERE, run};
use crate::night::support::{Nights, holds};
use crate::records::support::{recorded, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_hook_is_reported_like_every_failure() {
    let ((server, client), nights) = (crate::records::support::server().await, Nights::new().await);
    let home = &nights.home;
    let env = home.path().join("after.env");
    let tool = |before: &str, after: &str| {
        let mut command = nights.tool(&server.uri());
        hooked(
            command.env_remove("BACKUP_RECORDS"),
            home,
            before,
            &format!("{}\n{after}", writes_environment(&env)),
        );
        command.args(["backup", "--json"]);
        command
    };
    // Before the backup: no backup, and a failure that is recorded, stored and mailed.
    let words =
        ["the hook before_backup (", "before.sh) failed with exit code 9; its last line: disk is away"];
    run(&mut tool("echo disk is away >&2; exit 9", ""))
        .ends(1)
        .says(&words)
        .says(&["next step: No backup was made"]);
    assert_eq!(home.manifests().len(), 0);
    let failure = home.failures().pop().expect("a stored failure");
    assert_eq!(failure.exit, 1);
    holds(&failure.error, &words);
    let record = recorded(&client).await.swap_remove(0);
    assert_eq!((text(&record, "status"), text(&record, "_id")), ("failed", failure.id.as_str()));
    holds(text(&record, "error"), &words);
    let mail = nights.last().await.split_whitespace().collect::<Vec<_>>().join(" ");
    holds(&mail, &["its last line: disk is away"]);
    holds(&nights.subjects().await[0], &["backup failed: nightly", failure.id.as_str()]);
    // The other hook ran in spite of it.
    let found = environment(&env);
    let named = |name: &str| found.get(&format!("UZIMA_{name}")).map(String::as_str);
    assert_eq!((named("STATUS"), named("EXIT_CODE")), (Some("failed"), Some("1")));
    assert_eq!((named("ID"), named("STORED_BYTES")), (Some(failure.id.as_str()), None));
    holds(named("ERROR").expect("the error"), &words);

    // After the backup: a good backup, and a problem that is recorded and mailed.
    let words = ["the hook after_backup (", "after.sh) was killed by signal 15; its last line: not started"];
    let report = run(&mut tool("exit 0", "echo not started; kill $$")).ends(3).json();
    holds(&report["problems"].to_string(), &words);
    assert_eq!(home.manifests().len(), 1);
    run(nights.tool(&server.uri()).args(["verify", "latest"])).ends(0);
    let record = recorded(&client).await.swap_remove(0);
    assert_eq!(text(&record, "status"), "completed");
    holds(&record.get_array("warnings").expect("warnings")[0].to_string(), &words);
    let mail = nights.last().await.split_whitespace().collect::<Vec<_>>().join(" ");
    holds(&mail, &["its last line: not started"]);
    // The next run corrects no record.
    run(&mut tool("", "")).ends(0);
    let records = recorded(&client).await;
    assert_eq!(records[1].get_array("warnings").expect("warnings").len(), 1);
}

/// The hook before the backup runs before the server is asked, and the hook after it also if the server is away.
#[test]
fn the_server_is_not_asked_before_the_first_hook_succeeded() {
    let home = Home::new();
    let env = home.path().join("after.env");
    let mut command = home.to_dir(NOWHERE);
    hooked(&mut command, &home, "exit 1", "exit 5");
    let ran = run(command.arg("backup")).ends(1).says(&["hook before_backup", "hook after_backup"]);
    assert!(!ran.stderr.contains("refused"), "{}", ran.stderr);
    let notes = home.failures().pop().expect("a stored failure").notes;
    assert!(notes.iter().any(|note| note.contains("after.sh) failed with exit code 5")), "{notes:?}");
    let mut command = home.to_dir(NOWHERE);
    hooked(&mut command, &home, "", &writes_environment(&env));
    run(command.arg("backup")).ends(1).says(&["connection refused"]);
    let error = environment(&env)["UZIMA_ERROR"].clone();
    holds(&error, &["connection refused"]);
    // A place that cannot be used ends the run before an attempt.
    let mut command = home.to_dir(NOWHERE);
    hooked(command.env("BACKUP_DIR", "/dev/null/backups"), &home, "", &writes_environment(&env));
    run(command.arg("backup"));
    holds(&environment(&env)["UZIMA_ERROR"], &["/dev/null/backups"]);
}

#[test]
fn a_hook_that_hangs_is_killed_with_its_children() {
    let home = Home::new();
    let pids = home.path().join("pids");
    let mut command = home.to_dir(NOWHERE);
    // The child ignores SIGTERM, but not the signal that follows when the hook itself has ended.
    hooked(&mut command, &home, &waits(&pids).replace("trap \"\" TERM; ", ""), "exit 0");
    command.env("BACKUP_HOOK_TIMEOUT", "2").arg("backup");
    run(&mut command).ends(1).says(&["did not end within 2 s", "BACKUP_HOOK_TIMEOUT"]);
    all_end(&pids);
}

#[test]
fn a_signal_ends_the_hook_and_the_run() {
    let home = Home::new();
    let (pids, env) = (home.path().join("pids"), home.path().join("after.env"));
    let mut command = home.to_dir(NOWHERE);
    hooked(&mut command, &home, &waits(&pids), &writes_environment(&env));
    let child = start(command.arg("backup"));
    until("the hook runs", || pids.exists());
    ends_by(child, libc::SIGTERM, 143);
    all_end(&pids);
    let found = environment(&env);
    assert_eq!((found["UZIMA_STATUS"].as_str(), found["UZIMA_EXIT_CODE"].as_str()), ("failed", "143"));
    home.assert_nothing_stored();
}

/// A second hook that does not end in time is killed, too, and does not delay the end of the run.
#[test]
fn a_signal_ends_the_hook_after_a_backup() {
    let home = Home::new();
    let pids = home.path().join("pids");
    let mut command = home.to_dir(NOWHERE);
    command.env("BACKUP_AFTER_HOOK", script(&home, "after.sh", &waits(&pids)));
    let child = start(command.arg("backup"));
    until("the hook runs", || pids.exists());
    ends_by(child, libc::SIGINT, 1);
    all_end(&pids);
}

/// A mistake is found by the commands that check settings, and by a run before it does anything.
#[test]
fn a_hook_that_cannot_be_run_is_a_wrong_setting() {
    let home = Home::new();
    let mark = home.path().join("mark");
    let before = script(&home, "before.sh", &format!("touch {}", mark.display()));
    let plain = home.path().join("plain");
    std::fs::write(&plain, "").expect("a file");
    for (after, word) in [(Path::new("/nowhere/hook"), "No such file"), (&plain, "is not executable")] {
        for args in [&["backup"][..], &["backup", "--dry-run"], &["config"]] {
            let mut command = home.to_dir(NOWHERE);
            command.env("BACKUP_BEFORE_HOOK", &before).env("BACKUP_AFTER_HOOK", after).args(args);
            run(&mut command).ends(2).says(&["the hook after_backup: ", word, "BACKUP_AFTER_HOOK"]);
        }
        let mut command = home.to_dir(NOWHERE);
        command.env("BACKUP_AFTER_HOOK", after).args(["health", "--only", "configuration"]);
        run(&mut command).ends(5).prints(&["the hook after_backup: ", word]);
        // Other commands need no hook.
        run(home.to_dir(NOWHERE).env("BACKUP_AFTER_HOOK", after).arg("list")).ends(0);
    }
    assert!(!mark.exists() && home.failures().is_empty());
}

/// In a file that others can change, anybody could name a program that runs as this user.
#[test]
fn a_hook_that_others_can_change_is_not_run() {
    let home = Home::new();
    let (config, mark) = (home.path().join("config.toml"), home.path().join("mark"));
    let before = script(&home, "before.sh", &format!("touch {}", mark.display()));
    std::fs::write(&config, format!("[hooks]\nbefore_backup = ['{}']\n", before.display())).expect("a file");
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its mode");
    };
    let backup = || {
        let mut command = home.to_dir(NOWHERE);
        run(command.env("UZIMA_BACKUP_CONFIG", &config).arg("backup"))
    };
    mode(&config, 0o666);
    backup().ends(2).says(&["the hook before_backup is not run", "chmod go-w", "config.toml"]);
    mode(&config, 0o640);
    mode(&before, 0o777);
    backup().ends(2).says(&["before.sh is not run, because other users can change", "chmod go-w"]);
    assert!(!mark.exists());
    mode(&before, 0o755);
    backup().ends(1);
    assert!(mark.exists());
}
