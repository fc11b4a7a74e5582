//! A full disk costs the stored mail state, but no mail.

use std::process::{Command, Stdio};

use super::support::{Nights, holds, server};
use crate::cli::support::{NOWHERE, TOOL, run};

/// The state folder is on a full disk: two failures and a success are all mailed.
#[tokio::test(flavor = "multi_thread")]
async fn mails_are_sent_although_the_state_directory_is_full() {
    let (server, nights) = (server().await, Nights::new().await);
    let script = r#"mount -t tmpfs -o size=64k tmpfs "$FULL" || exit 98
dd if=/dev/zero of="$FULL/fill" bs=4k 2> /dev/null
MONGO_URI="$DOWN" "$TOOL" backup; [ $? = 1 ] || exit 97
MONGO_URI="$DOWN" "$TOOL" backup; [ $? = 1 ] || exit 96
[ -e "$FULL/notify.json" ] && exit 95
exec "$TOOL" backup"#;
    let full = nights.home.path().join("full");
    std::fs::create_dir(&full).expect("a folder");
    let tool = nights.tool(&server.uri());
    let mut shell = Command::new("unshare");
    shell.args(["-Urm", "/bin/sh", "-c", script]).env_clear().current_dir("/").stdin(Stdio::null());
    shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TOOL", TOOL).env("FULL", &full);
    shell.env("DOWN", NOWHERE).env("UZIMA_BACKUP_STATE_DIR", &full);
    run(&mut shell).ends(0).says(&["there may be a mail too many", "No space left on device"]);
    let subjects = nights.subjects().await;
    // A failure that cannot be remembered is mailed again.
    assert_eq!(subjects.len(), 3, "{subjects:?}");
    assert!(subjects[..2].iter().all(|s| s.starts_with("backup failed: nightly (2")), "{subjects:?}");
    assert!(subjects[2].starts_with("backup done: nightly (2"), "{subjects:?}");
    holds(&nights.mails().await[0]["text"].to_string(), &["127.0.0.1:1"]);
}
