//! Two machines that run `oplog` at once, and runs that are killed.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::writers::{Options, Writers};

use super::support::*;
use crate::cli::support::{Home, NOWHERE, TOOL, run};

/// Two machines have different state directories, so the lock of one does not stop the other. With `UZIMA_TEST_FULL=1`, the slices
/// of an hour.
#[tokio::test(flavor = "multi_thread")]
async fn two_machines_at_once_store_one_chain() {
    let rounds = if std::env::var_os("UZIMA_TEST_FULL").is_some() { 360 } else { 30 };
    let ((server, client), home, other) = (set().await, Home::new(), Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": -1}).await.expect("a row");
    backup(&home, &server.uri());
    let options = Options { renames: true, pause: Duration::from_millis(3), ..Options::default() };
    let writers = Writers::start(&server.uri(), options).await.expect("writers");
    let mut lost = 0;
    for round in 0..rounds {
        let start = |state: &Home| {
            let mut tool = tool(&home, &server.uri(), &["oplog", "--json"]);
            tool.env("UZIMA_BACKUP_STATE_DIR", state.state()).stdout(Stdio::piped());
            tool.spawn().expect("a run")
        };
        // Each machine is first in half of the rounds.
        let machines = if round % 2 == 0 { [&home, &other] } else { [&other, &home] };
        for child in machines.map(start) {
            let output = child.wait_with_output().expect("its end");
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{said}");
            lost += usize::from(said.contains("stored the same oplog slice first"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writers.stop().await.expect("writers");
    oplog(&home, &server.uri(), 0);
    let slices = one_chain(&home);
    eprintln!("{lost} of {} runs lost a slice to the other machine; {} slices", 2 * rounds, slices.len());
    let bodies: Vec<u8> = slices.iter().flat_map(|slice| body(&home, slice)).collect();
    assert!(bodies == oplog_itself(&client, slices[0].start, slices.last().unwrap().end.at).await);
    // The loser deletes its body and its events.
    let named = |slice: &uzima_backup::model::slice::SliceManifest| {
        1 + usize::from(slice.body.is_some()) + usize::from(slice.events.is_some())
    };
    let stored = home.files().iter().filter(|file| file.starts_with("oplog/")).count();
    assert_eq!(stored, slices.iter().map(named).sum::<usize>(), "orphans");
    let target = Mongod::builder().replica_set("target").start().await.expect("mongod");
    let mut restore = tool(&home, NOWHERE, &["restore", "--yes", "--at", "newest"]);
    run(restore.env("RESTORE_URI", target.uri())).ends(0);
    let restored = target.client().await.expect("a client");
    assert_eq!(live_differences(&client, &restored).await, Vec::<String>::new());
}

/// The system calls by which a run changes the world.
const CHANGING: &str = "mkdir,mkdirat,flock,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir";

/// A server with a backup and a slice.
struct Killed {
    server: Mongod,
    client: Client,
    home: Home,
    inserted: i32,
}

impl Killed {
    async fn new() -> Killed {
        let ((server, client), home) = (set().await, Home::new());
        let mut new = Killed { server, client, home, inserted: 0 };
        new.insert().await;
        backup(&new.home, &new.server.uri());
        new
    }

    async fn insert(&mut self) {
        let rows = self.client.database("live").collection::<Document>("rows");
        rows.insert_one(doc! {"_id": self.inserted}).await.expect("a row");
        self.inserted += 1;
    }

    /// Runs `oplog` below strace with these flags.
    fn traced(&self, flags: &[&str]) -> ExitStatus {
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq"]).args(flags).arg(TOOL).arg("oplog");
        traced.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tool = tool(&self.home, &self.server.uri(), &["oplog"]);
        traced.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        traced.status().unwrap_or_else(|e| panic!("strace is needed ({e}): apt-get install strace"))
    }

    /// Kills a run at the `n`th of these calls in any of its threads. Returns false if the run made fewer calls.
    async fn at(&mut self, calls: &str, n: usize) -> bool {
        self.insert().await;
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:signal=SIGKILL:when={n}"));
        let status = self.traced(&["-o", "/dev/null", "-e", &trace, "-e", &inject]);
        // Every slice that exists is whole.
        if !slices(&self.home).is_empty() {
            one_chain(&self.home).iter().for_each(|slice| drop(body(&self.home, slice)));
        }
        if status.signal() == Some(libc::SIGKILL) {
            return true;
        }
        assert!(status.success(), "{calls} {n}: {status}");
        false
    }

    /// The largest number of system calls that a thread of a run makes.
    async fn calls(&mut self) -> usize {
        self.insert().await;
        let log = self.home.path().join("calls");
        assert!(self.traced(&["-o", log.to_str().expect("UTF-8")]).success());
        let log = std::fs::read_to_string(&log).expect("the calls");
        let mut threads = std::collections::BTreeMap::<&str, usize>::new();
        for line in log.lines() {
            *threads.entry(line.split(' ').next().expect("a thread")).or_default() += 1;
        }
        threads.into_values().max().expect("a thread")
    }

    /// The next run stores the rest, and one more cleans up: the chain is the oplog.
    async fn assert_whole(&self) {
        run(&mut tool(&self.home, &self.server.uri(), &["oplog"])).ends(0);
        let slices = one_chain(&self.home);
        let bodies: Vec<u8> = slices.iter().flat_map(|slice| body(&self.home, slice)).collect();
        let (first, last) = (slices[0].start, slices.last().expect("a slice").end.at);
        assert!(bodies == oplog_itself(&self.client, first, last).await);
        let entries: u64 = slices.iter().map(|slice| slice.entries).sum();
        assert_eq!(entries, self.inserted as u64 - 1);
    }
}

/// The first killed run begins the chain.
#[tokio::test]
async fn a_run_killed_at_any_change_leaves_a_whole_chain() {
    let mut killed = Killed::new().await;
    let mut n = 1;
    while killed.at(CHANGING, n).await {
        n += 1;
    }
    eprintln!("SIGKILL at {} changing system calls of a run", n - 1);
    assert!(n > 10, "{n}");
    killed.assert_whole().await;
}

/// A run is killed at some system calls of any kind; with `UZIMA_TEST_FULL=1`, at every one. `UZIMA_TEST_SEED` chooses others.
#[tokio::test]
async fn a_run_killed_at_any_system_call_leaves_a_whole_chain() {
    let seed = std::env::var("UZIMA_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("UZIMA_TEST_SEED={seed}");
    let (mut random, mut set) = (StdRng::seed_from_u64(seed), Killed::new().await);
    set.insert().await;
    set.assert_whole().await;
    let calls = set.calls().await;
    let mut killed = 0;
    if std::env::var_os("UZIMA_TEST_FULL").is_some() {
        for n in 1..=calls {
            killed += usize::from(set.at("all", n).await);
            if n % 50 == 0 {
                set.assert_whole().await;
            }
        }
    } else {
        // A run that is not killed made fewer calls: which thread does what differs from run to run.
        let mut most = calls;
        while killed < 10 {
            let n = random.random_range(1..=most);
            match set.at("all", n).await {
                true => killed += 1,
                false => most = n - 1,
            }
        }
    }
    eprintln!("SIGKILL at {killed} system calls, of {calls} in a thread");
    assert!(killed >= 10, "{killed}");
    set.assert_whole().await;
}
