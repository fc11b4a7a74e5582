//! A signal ends a backup within 10 s at any point, and leaves nothing behind.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{Fault, Rule as S3Rule, S3Server};
use uzima_testkit::standin::{Ending, Play, StandIn, fixture};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::s3::to_s3;
use super::support::{Home, run, with_signals};

/// The signals and their exit codes.
const SIGNALS: [(i32, i32); 3] = [(libc::SIGTERM, 143), (libc::SIGINT, 130), (libc::SIGHUP, 129)];

/// Longer than any run may take after a signal.
pub const STALL: Duration = Duration::from_secs(60);

pub async fn loaded() -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let load = Load { orders: 2_000, rows: 2_000, tiny: 5, blobs: 1_500, ..Load::default() };
    load::fill(&client, &load).await.expect("data");
    server
}

/// Waits at most a minute until a condition holds.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let began = Instant::now();
    while !happened() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts")
}

/// Sends a signal, and asserts the exit code and that the process ends in time.
pub fn ends_by(mut child: Child, signal: i32, code: i32) {
    assert!(child.try_wait().expect("its state").is_none(), "it ended before the signal");
    let began = Instant::now();
    // SAFETY: the process is our own child and has not been waited for yet.
    unsafe { libc::kill(child.id() as i32, signal) };
    until("the process ends", || child.try_wait().expect("its state").is_some());
    let (status, took) = (child.wait().expect("its status"), began.elapsed());
    assert_eq!(status.code(), Some(code), "{status}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// With the native engine and a directory: the server stops answering at a random command of the run.
#[tokio::test]
async fn a_signal_ends_a_backup_whose_server_stops_answering() {
    let server = loaded().await;
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let uri = proxy.uri(&server.uri());
    let all = proxy.add(Rule::on("*"));
    run(Home::new().to_dir(&uri).arg("backup")).ends(0);
    let commands = proxy.seen(all);
    assert!(commands > 20, "{commands}");
    let mut random = SmallRng::seed_from_u64(38);
    let mut reported = 0;
    for turn in 0..24 {
        let home = Home::new();
        let (signal, code) = SIGNALS[turn % 3];
        // The last command ends the sessions, after the backup is complete.
        let nth = random.random_range(1..commands);
        proxy.clear();
        let stalled = proxy.add(Rule::on("*").nth(nth).then(Action::Stall(STALL)));
        let child = start(home.to_dir(&uri).arg("backup"));
        until("the server falls silent", || proxy.hits(stalled) == 1);
        ends_by(child, signal, code);
        home.assert_nothing_stored();
        // The connection check before the first attempt belongs to no run.
        let said = home.failures();
        assert!(said.len() <= 1 && said.iter().all(|failure| failure.exit == code as u8), "{said:?}");
        reported += said.len();
        let folders = std::fs::read_dir(home.backups()).expect("a folder").count();
        assert_eq!(folders, said.len(), "empty folders");
        proxy.close_all();
    }
    assert_eq!(reported, 24, "the store has a report of every run");
    proxy.clear();
    let (home, stalled) = (Home::new(), proxy.add(Rule::on("find").nth(2).then(Action::Stall(STALL))));
    let child = home.to_dir(&uri).arg("backup").stderr(Stdio::piped()).spawn().expect("the program starts");
    until("the server falls silent", || proxy.hits(stalled) == 1);
    // SAFETY: the process is our own child and has not been waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let said = child.wait_with_output().expect("its end").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("error: ended by SIGTERM; nothing new was stored"), "{said}");
}

/// A mongodump that hangs and ignores SIGTERM ends with the run.
#[tokio::test]
async fn a_signal_ends_a_backup_whose_mongodump_hangs() {
    let server = loaded().await;
    let archive = fixture("full.archive.gz").expect("the recording");
    for (stop_at, (signal, code)) in
        [(0, SIGNALS[0]), (archive.len() / 2, SIGNALS[1]), (archive.len(), SIGNALS[2])]
    {
        let play = Play::archive(archive.clone()).stop_at(stop_at).ending(Ending::Hangs).ignores_term();
        let (home, mongodump) = (Home::new(), StandIn::create(&[play]).expect("a stand-in"));
        let mut command = home.to_dir(&server.uri());
        command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", mongodump.program());
        let child = start(command.arg("backup"));
        until("mongodump runs", || mongodump.runs().is_ok_and(|runs| runs.len() == 1));
        let before = Instant::now();
        ends_by(child, signal, code);
        assert!(
            before.elapsed() < Duration::from_secs(9),
            "the child is not given time: {:?}",
            before.elapsed()
        );
        assert!(!mongodump.runs().expect("runs")[0].is_alive());
        home.assert_nothing_stored();
    }
}

/// The kernel ends mongodump when its run is killed.
#[tokio::test]
async fn a_killed_run_leaves_no_mongodump() {
    let server = loaded().await;
    let play = Play::archive(Vec::new()).ending(Ending::Hangs).ignores_term();
    let (home, mongodump) = (Home::new(), StandIn::create(&[play]).expect("a stand-in"));
    let mut command = home.to_dir(&server.uri());
    command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", mongodump.program());
    let mut child = start(command.arg("backup"));
    until("mongodump runs", || mongodump.runs().is_ok_and(|runs| runs.len() == 1));
    assert!(mongodump.runs().expect("runs")[0].is_alive());
    child.kill().expect("a kill");
    child.wait().expect("its end");
    until("mongodump is gone", || !mongodump.runs().expect("runs")[0].is_alive());
}

/// The bucket stalls at each operation of a backup in turn.
#[tokio::test]
async fn a_signal_ends_a_backup_whose_bucket_stalls() {
    let server = loaded().await;
    let operations = [
        ("ListObjectsV2", SIGNALS[0]),
        ("CreateMultipartUpload", SIGNALS[1]),
        ("UploadPart", SIGNALS[2]),
        ("UploadPart", SIGNALS[0]),
        ("CompleteMultipartUpload", SIGNALS[1]),
        ("PutObject", SIGNALS[2]),
    ];
    for (turn, (operation, (signal, code))) in operations.into_iter().enumerate() {
        let (home, bucket) = (Home::new(), S3Server::start());
        // The second stall of UploadPart comes after other parts have been uploaded.
        let index = u64::from(turn == 3) * 2;
        bucket.faults().add(S3Rule::from(index, operation, Fault::Delay(STALL)));
        let child = start(to_s3(&home, &server.uri(), &bucket).arg("backup"));
        until(operation, || bucket.count(operation) as u64 > index);
        ends_by(child, signal, code);
        bucket.faults().clear();
        let left: Vec<String> =
            bucket.objects().into_keys().filter(|key| key.ends_with("manifest.json")).collect();
        assert_eq!(left, Vec::<String>::new(), "{operation}");
        if matches!(operation, "ListObjectsV2" | "UploadPart") {
            assert_eq!(bucket.open_uploads(), [], "{operation}");
            assert!(bucket.objects().keys().all(|key| key.ends_with("/failed.json")), "{operation}");
            assert_eq!(super::support::files(&home.state()), Vec::<String>::new(), "{operation}");
        }
        let list = ["list", "--json", "--status", "completed", "--status", "damaged"];
        let listed = run(to_s3(&home, &server.uri(), &bucket).args(list)).ends(0).json();
        assert_eq!(listed["backups"], serde_json::json!([]), "{operation}");
    }
}

/// If even the abort stalls, the next run aborts the upload and reports that.
#[tokio::test]
async fn an_upload_that_could_not_be_aborted_is_aborted_by_the_next_run() {
    let (server, home, bucket) = (loaded().await, Home::new(), S3Server::start());
    bucket.faults().add(S3Rule::from(1, "UploadPart", Fault::Delay(STALL)));
    bucket.faults().add(S3Rule::always("AbortMultipartUpload", Fault::Delay(STALL)));
    let child = start(to_s3(&home, &server.uri(), &bucket).arg("backup"));
    until("a part stalls", || bucket.count("UploadPart") > 1);
    ends_by(child, libc::SIGTERM, 143);
    assert_eq!((bucket.open_uploads().len(), super::support::files(&home.state()).len()), (1, 1));
    bucket.faults().clear();
    let next = run(to_s3(&home, &server.uri(), &bucket).args(["backup", "--json"])).ends(0).json();
    let note = next["notes"][0].as_str().expect("a note");
    assert!(note.contains("removed the unfinished upload"), "{note}");
    assert_eq!((bucket.open_uploads(), super::support::files(&home.state())), (vec![], vec![]));
}

/// A list that waits for its bucket ends at the first Ctrl-C.
#[test]
fn a_signal_ends_a_list_that_waits_for_its_bucket() {
    let (home, bucket) = (Home::new(), S3Server::start());
    bucket.faults().add(S3Rule::always("*", Fault::Delay(STALL)));
    let child = start(to_s3(&home, super::support::NOWHERE, &bucket).arg("list"));
    until("it asks", || !bucket.calls().is_empty());
    ends_by(child, libc::SIGINT, 130);
}

/// A second signal of any of the three kinds ends the run at once, here while the cleanup after the first
/// one hangs.
#[tokio::test]
async fn a_second_signal_of_any_kind_ends_the_run_at_once() {
    let server = loaded().await;
    for (first, (second, code)) in [
        (libc::SIGINT, SIGNALS[0]),
        (libc::SIGTERM, SIGNALS[1]),
        (libc::SIGTERM, SIGNALS[2]),
        (libc::SIGTERM, SIGNALS[0]),
    ] {
        let (home, bucket) = (Home::new(), S3Server::start());
        bucket.faults().add(S3Rule::from(1, "UploadPart", Fault::Delay(STALL)));
        bucket.faults().add(S3Rule::always("AbortMultipartUpload", Fault::Delay(STALL)));
        let child = start(to_s3(&home, &server.uri(), &bucket).arg("backup"));
        until("a part stalls", || bucket.count("UploadPart") > 1);
        // SAFETY: the process is our own child and has not been waited for yet.
        unsafe { libc::kill(child.id() as i32, first) };
        until("it clears up", || bucket.count("AbortMultipartUpload") == 1);
        ends_by(child, second, code);
    }
}

/// If a signal ends the trial run of `init`, the output names the files that exist by then.
#[test]
fn a_signal_during_the_trial_of_init_names_the_written_file() {
    let (home, silent) = (Home::new(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let file = home.path().join("config.toml");
    let mut init = home.to_dir(&format!("mongodb://{}/", silent.local_addr().expect("bound")));
    init.arg("--config").arg(&file).arg("init").env_remove("UZIMA_BACKUP_CONFIG");
    let log = home.path().join("log");
    let said = std::fs::File::create(&log).expect("a file");
    let child = init.stdout(Stdio::null()).stderr(said).spawn().expect("the program starts");
    until("it is written", || file.exists());
    until("the server is asked", || {
        silent.set_nonblocking(true).expect("a non-blocking listener");
        silent.accept().is_ok()
    });
    ends_by(child, libc::SIGINT, 130);
    let said = std::fs::read_to_string(&log).expect("its output");
    for words in [
        format!("{} is written: continue with `", file.display()),
        "`uzima-backup init --install` installs".into(),
    ] {
        assert!(said.contains(&words), "{said}");
    }
}

/// `nohup` makes a process ignore SIGHUP; `trap '' HUP INT TERM` makes it ignore all three.
#[tokio::test]
async fn a_signal_that_is_ignored_at_the_start_stays_ignored() {
    let server = loaded().await;
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let uri = proxy.uri(&server.uri());
    let home = Home::new();
    let stalled = proxy.add(Rule::on("find").nth(2).then(Action::Stall(Duration::from_secs(2))));
    let mut backup = home.to_dir(&uri);
    with_signals(&mut backup, libc::SIG_IGN);
    let mut child = start(backup.arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    for (signal, _) in SIGNALS {
        // SAFETY: the process is our own child and has not been waited for yet.
        unsafe { libc::kill(child.id() as i32, signal) };
    }
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    assert_eq!(home.manifests().len(), 1);

    // If only one signal is ignored, another one still ends the run.
    let home = Home::new();
    proxy.clear();
    let stalled = proxy.add(Rule::on("find").nth(2).then(Action::Stall(STALL)));
    let mut backup = home.to_dir(&uri);
    // SAFETY: between fork and exec only signal(2) is called, which is async-signal-safe.
    unsafe {
        backup.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            Ok(())
        })
    };
    let child = start(backup.arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    // SAFETY: the process is our own child and has not been waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGHUP) };
    ends_by(child, libc::SIGTERM, 143);
    proxy.close_all();
}
