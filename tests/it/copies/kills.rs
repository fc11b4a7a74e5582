//! A backup to two places that is killed at one of its system calls: no place shows a backup that it does not have whole, and the
//! next run cleans up.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::nights::tool_of_two;
use super::support::{dir, shown};
use crate::cli::support::{Home, TOOL, files, run};
use crate::oplog::support::set;

/// The system calls by which a run changes the world.
const CHANGING: &str = "mkdir,mkdirat,flock,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir";

/// Runs the tool below strace with these flags.
pub fn traced(tool: &Command, flags: &[&str]) -> ExitStatus {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq"]).args(flags).arg(TOOL).args(tool.get_args());
    traced.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    traced.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.status().unwrap_or_else(|e| panic!("strace is needed ({e}): apt-get install strace"))
}

/// With `UZIMA_TEST_FULL=1`: at each of the calls of a thread.
#[tokio::test(flavor = "multi_thread")]
async fn no_place_shows_a_backup_that_a_killed_run_left() {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<bson::Document>("rows");
    rows.insert_many((0..50).map(|id| bson::doc! {"_id": id})).await.expect("rows");
    let copy = home.path().join("copy");
    std::fs::create_dir(&copy).expect("a folder");
    run(&mut tool_of_two(&home, &server.uri(), &["backup"])).ends(0);
    let log = home.path().join("calls");
    let args = ["-o", log.to_str().expect("UTF-8"), "-e", &format!("trace={CHANGING}")];
    assert!(traced(&tool_of_two(&home, &server.uri(), &["backup"]), &args).success());
    let log = std::fs::read_to_string(&log).expect("the calls");
    let mut threads = std::collections::BTreeMap::<&str, usize>::new();
    for line in log.lines() {
        *threads.entry(line.split(' ').next().expect("a thread")).or_default() += 1;
    }
    let most = threads.into_values().max().expect("a thread");
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let moments: Vec<usize> = match std::env::var_os("UZIMA_TEST_FULL") {
        Some(_) => (1..=most).collect(),
        None => (0..16).map(|_| random.random_range(1..=most)).collect(),
    };
    println!("UZIMA_TEST_SEED={seed}: {} of {most} moments", moments.len());
    let mut kills = 0;
    for n in moments {
        for args in [&["backup"][..], &["copy", "--missing"]] {
            let inject = format!("inject={CHANGING}:signal=SIGKILL:when={n}");
            let flags = ["-o", "/dev/null", "-e", &format!("trace={CHANGING}"), "-e", &inject];
            let status = traced(&tool_of_two(&home, &server.uri(), args), &flags);
            kills += usize::from(status.signal() == Some(libc::SIGKILL));
            for place in [&home.backups(), &copy] {
                shown(&*dir(place)).await;
            }
        }
    }
    assert!(kills > 0);
    println!("{kills} runs were killed");
    for args in [&["backup"][..], &["copy", "--missing"], &["copy", "--missing", "--to", "first"]] {
        run(&mut tool_of_two(&home, &server.uri(), args)).ends(0);
    }
    let (one, two) = (shown(&*dir(&home.backups())).await, shown(&*dir(&copy)).await);
    assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>());
    assert!(one == two);
    for place in [&home.backups(), &copy] {
        let partial: Vec<String> =
            files(place).into_iter().filter(|file| file.ends_with(".partial")).collect();
        assert_eq!(partial, Vec::<String>::new());
    }
}
