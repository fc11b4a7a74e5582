//! A killed run leaves no listed backup. The next run removes its leftovers and reports that.

use std::process::{Command, Stdio};

use serde_json::json;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{Fault, Rule as S3Rule, S3Server};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::contents::contents;
use super::s3::to_s3;
use super::signals::{STALL, loaded, start, until};
use super::support::{Home, NOWHERE, TOOL, files, run};

#[tokio::test]
async fn a_run_killed_while_it_writes_to_a_directory_leaves_nothing_listed() {
    let (server, home) = (loaded().await, Home::new());
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let uri = proxy.uri(&server.uri());
    run(home.to_dir(&uri).arg("backup")).ends(0);
    let before = bytes(&home);
    let stalled = proxy.add(Rule::on("find").namespace("store.*").nth(3).then(Action::Stall(STALL)));
    let mut child = start(home.to_dir(&uri).arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    proxy.clear();
    let partial =
        home.files().into_iter().find(|file| file.ends_with(".partial")).expect("a partial is left");
    let listed = run(home.to_dir(NOWHERE).args(["list", "--json"])).ends(0).json();
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1));
    let next = run(home.to_dir(&uri).args(["backup", "--json"])).ends(0).json();
    let key = partial.rsplit_once("/.").expect("a folder").0;
    let note = next["notes"][0].as_str().expect("a note");
    assert!(note.starts_with("removed the unfinished upload of ") && note.contains(key), "{note}");
    assert_eq!(home.files().iter().filter(|file| file.ends_with(".partial")).count(), 0);
    assert_eq!(files(&home.state()), Vec::<String>::new());
    for (name, old) in before {
        assert_eq!(std::fs::read(home.backups().join(&name)).expect("an old file"), old, "{name}");
    }
}

fn bytes(home: &Home) -> Vec<(String, Vec<u8>)> {
    let read = |file: String| (file.clone(), std::fs::read(home.backups().join(file)).expect("a file"));
    home.files().into_iter().map(read).collect()
}

/// The state folder remembers the upload. The bucket is not asked, because MinIO would not list it.
#[tokio::test]
async fn an_upload_of_a_killed_run_is_aborted_by_the_next() {
    let (server, home, bucket) = (loaded().await, Home::new(), S3Server::start());
    bucket.faults().add(S3Rule::from(1, "UploadPart", Fault::Delay(STALL)));
    bucket.faults().add(S3Rule::always("ListMultipartUploads", Fault::Answer(501, "NotImplemented")));
    let mut child = start(to_s3(&home, &server.uri(), &bucket).arg("backup"));
    until("a part stalls", || bucket.count("UploadPart") > 1);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    assert_eq!((bucket.open_uploads().len(), bucket.objects().len()), (1, 0));
    assert_eq!(files(&home.state()).len(), 1);
    bucket.faults().clear();
    // A run with another place leaves the upload alone.
    let other = run(home.to_dir(&server.uri()).args(["backup", "--json"])).ends(0).json();
    assert_eq!((&other["notes"], bucket.open_uploads().len()), (&json!([]), 1));
    let next = run(to_s3(&home, &server.uri(), &bucket).args(["backup", "--json"])).ends(0).json();
    let note = next["notes"][0].as_str().expect("a note");
    assert!(note.starts_with("removed the unfinished upload of "), "{note}");
    assert_eq!((bucket.open_uploads(), files(&home.state())), (vec![], vec![]));
    assert_eq!(bucket.count("ListMultipartUploads"), 0);
}

/// The system calls by which a run changes the world; the others are tried in strides.
const CHANGING: &str = "mkdir,mkdirat,flock,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir";

/// A run is killed at every one of its changing system calls, and then at a sample of all calls.
#[tokio::test]
async fn a_run_killed_at_any_system_call_leaves_nothing_broken() {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..20).map(|n| bson::doc! {"_id": n})).await.expect("rows");
    let mut tally = KillTally::default();
    let mut n = 1;
    while killed_at(&server.uri(), CHANGING, n, &mut tally) {
        n += 1;
    }
    assert!(n > 15, "only {n} changing calls in a thread");
    let mut any = 1;
    while killed_at(&server.uri(), "all", any, &mut tally) {
        any += 17;
    }
    eprintln!(
        "SIGKILL at {} system calls of a run: {} left a whole backup, {} something for the next run to remove",
        tally.killed, tally.whole, tally.left
    );
    assert!(tally.killed > 25 && tally.left > 0 && tally.whole < tally.killed, "{tally:?}");
}

#[derive(Debug, Default)]
struct KillTally {
    killed: usize,
    whole: usize,
    left: usize,
}

/// Waits until the kernel has released the locks of a killed process, because strace ends before that.
fn locks_are_free(home: &Home) {
    let held = || {
        let partials =
            home.files().into_iter().filter(|f| f.ends_with(".partial")).map(|f| home.backups().join(f));
        let markers = files(&home.state()).into_iter().map(|f| home.state().join(f));
        partials
            .chain(markers)
            .any(|path| std::fs::File::open(path).is_ok_and(|file| file.try_lock().is_err()))
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while held() {
        assert!(std::time::Instant::now() < until, "a killed process still holds a lock");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Kills a run at the `n`th of `calls` in any of its threads. Returns false if the run made fewer calls.
fn killed_at(uri: &str, calls: &str, n: usize, tally: &mut KillTally) -> bool {
    let home = Home::new();
    let mut tool = home.to_dir(uri);
    tool.arg("backup");
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e"]);
    traced.arg(format!("trace={calls}")).arg("-e");
    traced.arg(format!("inject={calls}:signal=SIGKILL:when={n}")).arg(TOOL).arg("backup");
    traced.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    traced.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let status = traced.status().unwrap_or_else(|e| panic!("strace is needed ({e}): apt-get install strace"));
    let listed = run(home.to_dir(NOWHERE).args(["list", "--json"])).ends(0).json();
    let count = listed["backups"].as_array().map_or(0, Vec::len);
    for manifest in home.manifests() {
        // A listed backup is whole.
        assert_eq!(contents(&manifest, &home.artifact(&manifest)).documents["shop.rows"].len(), 20);
    }
    if std::os::unix::process::ExitStatusExt::signal(&status) != Some(libc::SIGKILL) {
        assert!(status.success() && count == 1, "{calls} {n}: {status}");
        return false;
    }
    tally.killed += 1;
    tally.whole += count;
    let orphan = |file: &str| file.ends_with("/dump.tar.gz") || file.ends_with("/index.json.zst");
    let partials = home.files().iter().filter(|file| file.ends_with(".partial")).count();
    if partials > 0 || !files(&home.state()).is_empty() {
        tally.left += 1;
        locks_are_free(&home);
        run(home.to_dir(uri).arg("backup")).ends(0);
        let manifests = home.manifests();
        assert_eq!(manifests.len(), count + 1, "{calls} {n}");
        let noted = manifests.iter().any(|m| m.notes.iter().any(|note| note.contains("unfinished upload")));
        assert!(partials == 0 || noted, "{calls} {n}: {partials} partials went without a note");
        assert_eq!(files(&home.state()), Vec::<String>::new(), "{calls} {n}");
    }
    for file in home.files() {
        assert!(file.ends_with("/manifest.json") || orphan(&file), "{calls} {n}: {file}");
    }
    true
}
