//! Two machines that run `oplog` at once, and runs that are killed.

use std::process::{Command, Stdio};

use bson::{Document, doc};

use super::support::*;
use crate::cli::support::{Home, TOOL, run};

/// Two machines have different state directories, so the lock of one does not stop the other.
#[tokio::test(flavor = "multi_thread")]
async fn two_machines_at_once_store_one_chain() {
    let ((server, client), home, other) = (set().await, Home::new(), Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": -1}).await.expect("a row");
    backup(&home, &server.uri());
    let mut lost = 0;
    for round in 0..12 {
        rows.insert_many((0..50).map(|n| doc! {"_id": round * 50 + n})).await.expect("rows");
        let start = |state: &Home| {
            let mut tool = tool(&home, &server.uri(), &["oplog", "--json"]);
            tool.env("UZIMA_BACKUP_STATE_DIR", state.state()).stdout(Stdio::piped());
            tool.spawn().expect("a run")
        };
        for child in [start(&home), start(&other)] {
            let output = child.wait_with_output().expect("its end");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            lost += usize::from(
                String::from_utf8_lossy(&output.stdout).contains("stored the same oplog slice first"),
            );
        }
    }
    eprintln!("{lost} of 24 runs lost a slice to the other machine");
    let slices = one_chain(&home);
    let bodies: Vec<u8> = slices.iter().flat_map(|slice| body(&home, slice)).collect();
    assert!(bodies == oplog_itself(&client, slices[0].start, slices.last().unwrap().end.at).await);
    // The loser deletes its body.
    let stored = home.files().iter().filter(|file| file.ends_with(".bson.zst")).count();
    assert_eq!(stored, slices.iter().filter(|slice| slice.body.is_some()).count());
}

/// The system calls by which a run changes the world.
const CHANGING: &str = "mkdir,mkdirat,flock,write,pwrite64,fsync,fdatasync,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir";

/// A run is killed at its changing system calls. The next run stores the rest.
#[tokio::test]
async fn a_run_killed_at_any_change_leaves_a_whole_chain() {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 0}).await.expect("a row");
    backup(&home, &server.uri());
    let (mut killed, mut n) = (0, 1);
    loop {
        rows.insert_one(doc! {"_id": n}).await.expect("a row");
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={CHANGING}")).arg("-e");
        traced.arg(format!("inject={CHANGING}:signal=SIGKILL:when={n}")).arg(TOOL).arg("oplog");
        traced.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tool = tool(&home, &server.uri(), &["oplog"]);
        traced.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let status =
            traced.status().unwrap_or_else(|e| panic!("strace is needed ({e}): apt-get install strace"));
        if !slices(&home).is_empty() {
            one_chain(&home).iter().for_each(|slice| drop(body(&home, slice)));
        }
        if std::os::unix::process::ExitStatusExt::signal(&status) != Some(libc::SIGKILL) {
            assert!(status.success(), "{n}: {status}");
            break;
        }
        killed += 1;
        n += 1;
    }
    eprintln!("SIGKILL at {killed} changing system calls of a run");
    assert!(killed > 10, "{killed}");
    run(&mut tool(&home, &server.uri(), &["oplog"])).ends(0);
    let slices = one_chain(&home);
    let bodies: Vec<u8> = slices.iter().flat_map(|slice| body(&home, slice)).collect();
    assert!(bodies == oplog_itself(&client, slices[0].start, slices.last().unwrap().end.at).await);
}
