//! This test binary once more as a child: to die in the middle, or to run under `strace`.
//!
//! The child runs the one test [`act`], which does what `UZIMA_TEST_ACT` says; without it it does
//! nothing.

use std::path::Path;
use std::process::{Command, Output};

use bytes::Bytes;
use uzima_backup::store::{DirOptions, DirStore, Limits, Store};

use super::support::{bytes, put_parts, spec, upload};

/// The child's command: `action` on the directory `root`, after `wrapper` (such as `strace …`).
pub fn child(wrapper: &[&str], action: &str, root: &Path) -> Output {
    let own = std::env::current_exe().expect("this test's own binary");
    let mut command = match wrapper.split_first() {
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args).arg(own);
            command
        }
        None => Command::new(own),
    };
    command.args(["--exact", "store::dir_helper::act", "--nocapture", "--test-threads=1"]);
    command.env("UZIMA_TEST_ACT", action).env("UZIMA_TEST_ROOT", root);
    let name = wrapper.first().unwrap_or(&"the test itself");
    command.output().unwrap_or_else(|e| panic!("cannot run {name} ({e}): install it, it is needed here"))
}

/// What a child says of how it ended.
pub fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.split_once("SAID ").map(|(_, after)| after.lines().next().unwrap_or_default());
    said.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

#[tokio::test]
async fn act() {
    let (Ok(action), Ok(root)) = (std::env::var("UZIMA_TEST_ACT"), std::env::var("UZIMA_TEST_ROOT")) else {
        return;
    };
    let mut options = DirOptions::new(root);
    options.min_free = 0.0;
    options.limits = Limits { min_part: 1, ..Limits::default() };
    let store = DirStore::new(options).expect("a directory");
    let done = match action.as_str() {
        "die" => {
            let upload = store.begin(&spec("2026/dead/dump", 1_000)).await.expect("an upload");
            put_parts(&upload, &bytes(2_500), 1_000).await.expect("parts");
            // SAFETY: no arguments, and this process expects to end here.
            unsafe { libc::raise(libc::SIGKILL) };
            Ok(())
        }
        "create" => store.create("manifest.json", Bytes::from_static(b"{}")).await,
        "upload" => upload(&store, "dump", &bytes(2_500), 1_000).await,
        other => panic!("no action {other}"),
    };
    match done {
        Ok(()) => println!("SAID done"),
        Err(e) => println!("SAID {:?} {e}", e.kind),
    }
}
