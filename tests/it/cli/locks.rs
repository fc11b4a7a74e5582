//! Two runs of the same job, on one host and on two. cleanup/twice.rs tests two cleanups.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{Fault, Rule as S3Rule, S3Server};
use uzima_testkit::standin::{Ending, Play, StandIn, fixture};
use uzima_testkit::wire_proxy::{Action, Gate, Rule, WireProxy};

use super::s3::to_s3;
use super::signals::{ends_by, loaded, start, until};
use super::support::{Home, Ran, run};

/// Starts a backup of the job `nightly` that waits in the middle until the gate is opened.
fn held(home: &Home, server: &Mongod, gate: &Gate) -> (WireProxy, Child) {
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let rule = proxy.add(Rule::on("find").namespace("store.*").nth(2).then(Action::Hold(gate.clone())));
    let child = start(home.to_dir(&proxy.uri(&server.uri())).args(["backup", "--job", "nightly"]));
    until("the run is held", || proxy.hits(rule) == 1);
    (proxy, child)
}

fn lock(home: &Home, name: &str) -> PathBuf {
    home.state().join("locks").join(name)
}

pub fn end(child: Child) -> Ran {
    let output = child.wait_with_output().expect("its end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Starts a backup of the job `nightly`. Returns it with what reads its log.
fn logged(home: &Home, uri: &str, args: &[&str]) -> (Child, impl Fn() -> String + use<>) {
    let path = home.path().join("second.log");
    let log = File::create(&path).expect("a file");
    let child = home.to_dir(uri).args(["backup", "--job", "nightly"]).args(args).stderr(log).spawn();
    (child.expect("it starts"), move || std::fs::read_to_string(&path).unwrap_or_default())
}

#[tokio::test]
async fn a_second_run_of_a_job_exits_at_once_or_waits() {
    let (server, home, gate) = (loaded().await, Home::new(), Gate::default());
    let (_proxy, mut first) = held(&home, &server, &gate);
    let direct = server.uri();
    let backup = |args: &[&str]| run(home.to_dir(&direct).arg("backup").args(args));
    let pid = first.id();
    let said = ["another backup of nightly is under way: process ", "since 20", "next step: ", "--wait"];
    let busy = backup(&["--job", "nightly"]).ends(75).says(&said).says(&[&pid.to_string()]);
    assert!(busy.stdout.is_empty(), "{}", busy.stdout);
    backup(&["--job", "nightly", "--wait", "1s"]).ends(75).says(&["did not end within 1 s"]);
    // Another job, a cleanup of this job, and commands that write nothing do not wait.
    backup(&["--job", "weekly"]).ends(0);
    // Exit code 3, because the job has no backup yet; the lock is not the reason.
    run(home.to_dir(&direct).args(["cleanup", "--job", "nightly"])).ends(3);
    for args in [
        &["cleanup", "--job", "weekly"][..],
        &["backup", "--job", "nightly", "--dry-run"],
        &["list"],
        &["config"],
    ] {
        run(home.to_dir(&direct).args(args)).ends(0);
    }
    assert!(first.try_wait().expect("its state").is_none(), "no run waited for the first one");
    let (mut waiting, log) = logged(&home, &direct, &["--wait", "2m"]);
    until("it waits", || log().contains("waiting up to 120 s: another backup of nightly"));
    gate.open();
    assert_eq!(waiting.wait().expect("its end").code(), Some(0), "{}", log());
    assert_eq!(first.wait().expect("its end").code(), Some(0));
    let jobs: Vec<String> = home.manifests().into_iter().map(|m| m.job).collect();
    assert_eq!(jobs.iter().filter(|job| *job == "nightly").count(), 2);
    assert_eq!(std::fs::read_to_string(lock(&home, "nightly.backup.lock")).expect("it stays"), "");
}

/// The tool cannot react to SIGKILL, and a surviving mongodump must not hold the lock.
#[tokio::test]
async fn a_killed_run_frees_the_lock() {
    let (server, home) = (loaded().await, Home::new());
    let play = Play::archive(fixture("full.archive.gz").expect("the recording")).stop_at(0);
    let mongodump = StandIn::create(&[play.ending(Ending::Hangs).ignores_term()]).expect("a stand-in");
    let mut command = home.to_dir(&server.uri());
    command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", mongodump.program());
    let mut child = start(command.args(["backup", "--job", "nightly"]));
    until("mongodump runs", || mongodump.runs().is_ok_and(|runs| runs.len() == 1));
    let path = lock(&home, "nightly.backup.lock");
    assert!(std::fs::read_to_string(&path).expect("a lock").contains(&format!("pid {}\n", child.id())));
    let folder = format!("/proc/{}/fd", mongodump.runs().expect("runs")[0].pid);
    for entry in std::fs::read_dir(folder).expect("its descriptors") {
        let target = std::fs::read_link(entry.expect("a descriptor").path()).unwrap_or_default();
        assert_ne!(target, path, "the child has the lock open");
    }
    child.kill().expect("a kill");
    child.wait().expect("its end");
    run(home.to_dir(&server.uri()).args(["backup", "--job", "nightly"])).ends(0);
}

#[tokio::test]
async fn a_signal_ends_the_wait_for_a_lock() {
    let (server, home) = (loaded().await, Home::new());
    let (_proxy, mut first) = held(&home, &server, &Gate::default());
    let (mut second, log) = logged(&home, &server.uri(), &["--wait", "1h"]);
    until("it waits", || log().contains("waiting up to 3600 s"));
    assert!(second.try_wait().expect("its state").is_none());
    ends_by(second, libc::SIGTERM, 143);
    first.kill().expect("a kill");
    first.wait().expect("its end");
}

#[test]
fn wait_takes_a_number_with_a_unit() {
    let home = Home::new();
    for wait in ["soon", "10", "-1s", ""] {
        for operation in ["backup", "cleanup"] {
            run(home.to_dir("mongodb://h").args([operation, &format!("--wait={wait}")]))
                .ends(2)
                .says(&[&format!("--wait = '{wait}'"), "10m"]);
        }
    }
}

/// Two runs at once do no harm, so a state folder that cannot be written costs no backup.
#[tokio::test]
async fn a_backup_succeeds_when_the_lock_cannot_be_created() {
    let (server, home) = (loaded().await, Home::new());
    std::fs::write(home.state(), "a file").expect("a file");
    for operation in ["backup", "cleanup"] {
        let ran = run(home.to_dir(&server.uri()).arg(operation)).ends(3).says(&["cannot lock "]);
        assert_eq!(ran.stderr.matches("cannot lock").count(), 1, "{}", ran.stderr);
        assert!(ran.stdout.contains("needs a look: cannot lock "), "{}", ran.stdout);
    }
}

/// The same job on two hosts makes two backups with different ids.
#[tokio::test]
async fn two_hosts_can_back_up_the_same_job_at_once() {
    let (server, bucket) = (loaded().await, S3Server::start());
    bucket.faults().add(S3Rule::first(2, "UploadPart", Fault::Delay(Duration::from_secs(1))));
    let homes = [Home::new(), Home::new()];
    let started = homes.each_ref().map(|home| {
        let mut command = to_s3(home, &server.uri(), &bucket);
        command.args(["backup", "--job", "nightly", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    });
    let ids = started.map(|child| end(child).ends(0).json()["id"].clone());
    assert_ne!(ids[0], ids[1]);
    let listed = run(to_s3(&homes[0], &server.uri(), &bucket).args(["list", "--json"])).ends(0).json();
    let listed = listed["backups"].as_array().expect("backups");
    assert_eq!(listed.len(), 2);
    assert!(ids.iter().all(|id| listed.iter().any(|row| row["id"] == *id)), "{ids:?}");
    assert_eq!(bucket.open_uploads(), []);
}
