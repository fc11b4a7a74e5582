//! Starts this test binary again as a child process, which is killed in the middle or runs under `strace`.
//!
//! The child runs only the test [`act`], which does what `UZIMA_TEST_ACT` says, and nothing without that
//! variable.

use std::ffi::OsStr;
use std::process::{Command, Output};

use bytes::Bytes;
use uzima_backup::config::store::{DirOptions, Limits, S3Options};
use uzima_backup::store::{DirStore, S3Store, Store, StoreErrorKind};

use super::support::{bytes, put_parts, spec, upload};

/// The child's command: `action` on `place` (a directory or an endpoint), run by `wrapper` (such as `strace
/// …`).
pub fn child(wrapper: &[&str], action: &str, place: impl AsRef<OsStr>) -> Output {
    let own = std::env::current_exe().expect("this test's own binary");
    let mut command = match wrapper.split_first() {
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args).arg(own);
            command
        }
        None => Command::new(own),
    };
    command.args(["--exact", "store::child::act", "--nocapture", "--test-threads=1"]);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "HOME"] {
        command.env_remove(name);
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    command.env("UZIMA_TEST_ACT", action).env("UZIMA_TEST_PLACE", place);
    let name = wrapper.first().unwrap_or(&"the test itself");
    command.output().unwrap_or_else(|e| panic!("cannot run {name} ({e}): install it, it is needed here"))
}

/// The last line that a child printed: its result.
pub fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.split_once("SAID ").map(|(_, after)| after.lines().next().unwrap_or_default());
    said.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))).to_owned()
}

#[tokio::test]
async fn act() {
    let (Ok(action), Ok(place)) = (std::env::var("UZIMA_TEST_ACT"), std::env::var("UZIMA_TEST_PLACE")) else {
        return;
    };
    if action == "anonymous" {
        let mut options = S3Options::new("backups", "daily-backups/");
        options.endpoint_url = Some(place);
        let store = S3Store::connect(options).await.expect("a client");
        let error = store.check().await.expect_err("there are no credentials");
        return println!("SAID {:?} {error}", error.kind);
    }
    let mut options = DirOptions::new(place);
    options.min_free = 0.0;
    options.limits = Limits { min_part: 1, ..Limits::default() };
    let store = DirStore::new(options).expect("a directory");
    let done = match action.as_str() {
        "die" => {
            let upload = store.begin(&spec("2026/dead/dump", 1_000)).await.expect("an upload");
            put_parts(&upload, &bytes(2_500), 1_000).await.expect("parts");
            // SAFETY: the call takes no pointer, and this process is meant to end here.
            unsafe { libc::raise(libc::SIGKILL) };
            Ok(())
        }
        "create" => store.create("manifest.json", Bytes::from_static(b"{}")).await,
        "upload" => upload(&store, "dump", &bytes(2_500), 1_000).await,
        // All operations of a backup, and a second writer of the same key.
        "all" => {
            store.create("2026/manifest.json", Bytes::from_static(b"{}")).await.expect("a create");
            let taken = store.create("2026/manifest.json", Bytes::from_static(b"[]")).await;
            assert_eq!(taken.expect_err("the name is taken").kind, StoreErrorKind::Exists);
            upload(&store, "2026/dump", &bytes(2_500), 1_000).await.expect("an upload");
            store.put("2026/mark", bytes(3)).await.expect("a put");
            store.put("2026/mark", bytes(4)).await.expect("another put");
            return println!("SAID {}", store.lacking().join(", "));
        }
        "left" => {
            let left = store.leftovers().await.expect("a search");
            return println!("SAID {:?}", left.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
        }
        other => panic!("no action {other}"),
    };
    match done {
        Ok(()) => println!("SAID done"),
        Err(e) => println!("SAID {:?} {e}", e.kind),
    }
}
