//! A mongodump that fails, is killed, hangs, or stops early with exit code 0.

use std::time::{Duration, Instant};

use uzima_testkit::standin::{Ending, Play, StandIn};

use super::support::{recorded, server, standin, tool};
use crate::cli::contents::{contents, of_archive};
use crate::cli::support::{Home, Ran, run};

/// Asserts exit code 1, that nothing is stored or listed, and that no child process is left.
async fn fails(plays: &[Play], runs: usize, words: &[&str]) -> Ran {
    let (server, home, mongodump) = (server().await, Home::new(), standin(plays));
    let ran = run(tool(&home, &server, &mongodump).env("BACKUP_STALL_TIMEOUT", "1").arg("backup"));
    let ran = ran.ends(1).says(words);
    home.assert_nothing_stored();
    let list = ["list", "--status", "completed,damaged"];
    let listed = run(home.to_dir("mongodb://127.0.0.1:1").args(list)).ends(0).stdout;
    assert!(listed.starts_with("no backups"), "{listed}");
    left_alone(&mongodump, runs);
    ran
}

fn left_alone(mongodump: &StandIn, runs: usize) {
    let all = mongodump.runs().expect("runs");
    assert_eq!(all.len(), runs);
    assert!(all.iter().all(|run| !run.is_alive()), "{all:?}");
}

fn dies_at(share: usize, ending: Ending) -> Play {
    let archive = recorded();
    let at = archive.len() / 8 * share;
    Play::archive(archive)
        .stop_at(at)
        .ending(ending)
        .stderr("2026-11-24 writing shop.orders")
        .stderr("Failed: it broke")
}

#[tokio::test]
async fn a_mongodump_that_exits_with_an_error_fails_the_backup() {
    // Also after a whole archive, and before the first byte.
    for share in [0, 4, 8] {
        let play = dies_at(share, Ending::Exit(1));
        fails(&[play], 2, &["exit code 1", "writing shop.orders | Failed: it broke"]).await;
    }
}

#[tokio::test]
async fn a_mongodump_that_is_killed_fails_the_backup() {
    let memory = "perhaps the kernel killed it for lack of memory";
    fails(
        &[dies_at(4, Ending::Killed)],
        1,
        &["killed by signal 9", memory, "MemoryMax=", "Failed: it broke"],
    )
    .await;
    fails(&[dies_at(0, Ending::Killed)], 1, &["killed by signal 9"]).await;
}

#[tokio::test]
async fn a_mongodump_that_hangs_fails_the_backup() {
    for share in [0, 4, 8] {
        let began = Instant::now();
        let play = dies_at(share, Ending::Hangs).ignores_term();
        fails(&[play], 1, &["mongodump hangs", "Failed: it broke", "BACKUP_STALL_TIMEOUT"]).await;
        assert!(began.elapsed() > Duration::from_secs(1), "it was not waited for");
    }
}

/// A long silence is logged once while it lasts.
#[tokio::test]
async fn a_silent_mongodump_is_logged_once() {
    let (server, home) = (server().await, Home::new());
    let mongodump = standin(&[dies_at(4, Ending::Hangs).ignores_term()]);
    let mut backup = tool(&home, &server, &mongodump);
    let ran = run(backup.env("BACKUP_STALL_TIMEOUT", "12").arg("backup")).ends(1).says(&["mongodump hangs"]);
    let logged: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("has sent nothing")).collect();
    let wanted = format!("of MongoDB at {} for 10 s; waiting for up to 12 s", server.host());
    assert!(
        logged.len() == 1 && logged[0].contains("WARN") && logged[0].ends_with(&wanted),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn a_truncated_archive_with_exit_code_0_fails_the_backup() {
    for share in [0, 1, 4, 7] {
        fails(&[dies_at(share, Ending::Exit(0))], 1, &["the archive is damaged or incomplete"]).await;
    }
    let mut archive = recorded();
    archive.pop();
    fails(&[Play::archive(archive)], 1, &["the archive is damaged or incomplete"]).await;
}

#[tokio::test]
async fn an_invalid_archive_fails_the_backup() {
    let rubbish = b"2026-11-24T03:00:00 error: no such thing\n".repeat(1000);
    fails(&[Play::archive(rubbish)], 1, &["does not begin like a mongodump archive"]).await;
    let mut archive = recorded();
    let at = archive.windows(6).position(|w| w == b"total\0").expect("a field") + 8;
    archive[at] ^= 1;
    fails(&[Play::archive(archive)], 1, &["the checksum of shop.orders"]).await;
    let mut longer = recorded();
    longer.extend_from_slice(b"and more");
    fails(&[Play::archive(longer)], 1, &["damaged"]).await;
}

/// mongodump never resumes a lost connection, so the whole run is repeated, under a new id.
#[tokio::test]
async fn after_an_exit_code_mongodump_is_run_once_more() {
    let (server, home) = (server().await, Home::new());
    let mongodump = standin(&[dies_at(4, Ending::Exit(1)), Play::archive(recorded())]);
    let report = run(tool(&home, &server, &mongodump).args(["backup", "--json"])).ends(0).json();
    left_alone(&mongodump, 2);
    let manifests = home.manifests();
    assert_eq!(manifests.len(), 1);
    let note = &manifests[0].notes[0];
    assert!(
        note.starts_with("started once more from the beginning") && note.contains("exit code 1"),
        "{note}"
    );
    assert_eq!(report["notes"][0], serde_json::json!(note));
    let truth = of_archive(&recorded());
    assert_eq!(truth.diff(&contents(&manifests[0], &home.artifact(&manifests[0]))), Vec::<String>::new());
    // The first attempt's folder held only its artifact, which is gone.
    assert_eq!(home.files().len(), 3, "{:?}", home.files());
    // There is no third attempt.
    fails(
        &[dies_at(4, Ending::Exit(1)), dies_at(2, Ending::Exit(3)), Play::archive(recorded())],
        2,
        &["exit code 3"],
    )
    .await;
}

/// mongodump fails like this when a collection that it reads is dropped or renamed. After the second failure
/// the native engine reads, with a warning if mongodump was requested.
#[tokio::test]
async fn renames_that_end_mongodump_twice_do_not_cost_the_backup() {
    let (server, home) = (server().await, Home::new());
    let killed =
        "Failed: error reading collection: (QueryPlanKilled) collection renamed from 'shop.a' to 'shop.b'";
    let play = || dies_at(4, Ending::Exit(1)).stderr(killed);
    let mongodump = standin(&[play()]);
    let report = run(tool(&home, &server, &mongodump).args(["backup", "--json"])).ends(3).json();
    left_alone(&mongodump, 2);
    let warnings = report["warnings"].as_array().expect("a list");
    assert!(
        warnings.len() == 1 && warnings[0].as_str().expect("a text").contains("QueryPlanKilled"),
        "{report}"
    );
    let manifest = &home.manifests()[0];
    assert_eq!((manifest.engine.name.as_str(), manifest.totals.namespaces), ("native", 2));
    assert!(
        manifest.engine.why.starts_with("engine = mongodump, but that fails when"),
        "{:?}",
        manifest.engine
    );
    // After one failure, mongodump is tried again.
    let (home, mongodump) = (Home::new(), standin(&[play(), Play::archive(recorded())]));
    let report = run(tool(&home, &server, &mongodump).args(["backup", "--json"])).ends(0).json();
    left_alone(&mongodump, 2);
    assert_eq!(report["engine"], "mongodump");
}

/// A wrapper that waits for input when it is asked for its version does not block `auto`.
#[tokio::test]
async fn a_mongodump_that_never_prints_its_version_is_not_waited_for() {
    let (server, home) = (server().await, Home::new());
    let script = home.path().join("mongodump");
    let text = "#!/bin/sh\nexec sleep 100000\n";
    let write = std::process::Command::new("/bin/sh")
        .args(["-c", "printf '%s' \"$1\" >\"$0\" && chmod 755 \"$0\""])
        .arg(&script)
        .arg(text)
        .status();
    assert!(write.expect("sh").success());
    let mut command = home.to_dir(&server.uri());
    command.env("BACKUP_ENGINE", "auto").env("MONGODUMP_PATH", &script).arg("backup");
    run(&mut command).ends(0);
    let engine = &home.manifests()[0].engine;
    assert!(engine.name == "native" && engine.why.contains("--version within 10 s"), "{engine:?}");
}

#[tokio::test]
async fn a_collection_missing_from_the_archive_fails_the_backup() {
    let (server, home, mongodump) = (server().await, Home::new(), standin(&[Play::archive(recorded())]));
    let client = server.client().await.expect("a client");
    let unknown = client.database("shop").collection("not_in_the_recording");
    unknown.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    let ran = run(tool(&home, &server, &mongodump).arg("backup"));
    ran.ends(1).says(&["shop.not_in_the_recording exists, but was not read"]);
    home.assert_nothing_stored();
}

/// A user who can replace the program, or put another one before it in PATH, would have root run it.
#[tokio::test]
async fn a_mongodump_that_others_can_change_is_not_run() {
    let (server, home) = (server().await, Home::new());
    let standin = standin(&[Play::archive(recorded())]);
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a mode");
    };
    let (program, bin) = (standin.program(), standin.bin());
    let changed = |path: &std::path::Path| format!("other users can change {} (mode 0777, ", path.display());
    mode(&program, 0o777);
    let ran = run(tool(&home, &server, &standin).arg("backup")).ends(2);
    ran.says(&[
        &format!("{} is not run", program.display()),
        &changed(&program),
        &format!("chmod go-w {}", program.display()),
    ]);
    mode(&program, 0o755);
    mode(&bin, 0o777);
    run(tool(&home, &server, &standin).arg("backup")).ends(2).says(&[&changed(&bin)]);
    // A program found by PATH is refused, too, and `auto` uses the native engine.
    let mut auto = home.to_dir(&server.uri());
    auto.env("BACKUP_ENGINE", "auto").env("PATH", &bin);
    run(auto.arg("backup")).ends(0).says(&[&changed(&bin)]);
    assert_eq!(home.manifests().len(), 1);
    // Relative entries of PATH are not searched.
    mode(&bin, 0o755);
    for path in [".", "", ":", "bin:."] {
        let mut here = home.to_dir(&server.uri());
        here.env("BACKUP_ENGINE", "mongodump").env("PATH", path).current_dir(&bin);
        let ran = run(here.arg("backup"));
        assert!(!ran.stderr.contains(&bin.display().to_string()), "{path}: {}", ran.stderr);
    }
    assert_eq!((standin.version_calls(), standin.runs().expect("runs").len()), (0, 0));
    run(tool(&home, &server, &standin).arg("backup")).ends(0);
}
