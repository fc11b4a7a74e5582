//! A full disk, a closed standard output, little memory, few descriptors.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::Mongod;

use super::contents::contents;
use super::support::{Home, TOOL, run};
use crate::notify::support::{KEY, accepted, asked, service};

async fn server(blobs: u64) -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let load = Load { orders: 500, rows: 500, tiny: 3, blobs, ..Load::default() };
    load::fill(&client, &load).await.expect("data");
    server
}

/// A shell that runs `script` with the tool's environment. `$TOOL` is the tool.
pub fn shell(tool: &Command, script: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script]).env_clear().current_dir("/").stdin(Stdio::null());
    shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("TOOL", TOOL);
    shell.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// The same in a mount namespace of its own, so that the script may mount file systems.
pub fn mounting(tool: &Command, script: &str) -> Command {
    let inner = shell(tool, script);
    let args: Vec<_> = inner.get_args().map(ToOwned::to_owned).collect();
    let mut outer = Command::new("unshare");
    outer.args(["-m", "/bin/sh"]).args(args).env_clear().current_dir("/").stdin(Stdio::null());
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer
}

/// The disk fills up during the backup: the new files are removed, and the old backup stays.
#[tokio::test]
async fn a_full_disk_fails_the_backup_and_keeps_the_old_one() {
    let (server, home) = (server(2_000).await, Home::new());
    let script = r#"set -e
mount -t tmpfs -o size=8m tmpfs "$BACKUP_DIR"
"$TOOL" backup --db admin --allow-empty --quiet
before=$(cd "$BACKUP_DIR" && find . -type f -exec sha256sum {} + | sort)
set +e
"$TOOL" backup
code=$?
set -e
after=$(cd "$BACKUP_DIR" && find . -type f ! -name failed.json -exec sha256sum {} + | sort)
[ "$before" = "$after" ] || { echo "before: $before after: $after"; exit 99; }
df --output=avail -k "$BACKUP_DIR" | tail -n 1
"$TOOL" list --status completed
exit $code"#;
    let ran = run(&mut mounting(&home.to_dir(&server.uri()), script)).ends(1);
    assert!(ran.stderr.contains("cannot write ") && ran.stderr.contains("next step: "), "{}", ran.stderr);
    assert_eq!(ran.stdout.matches("completed").count(), 1, "{}", ran.stdout);
}

/// A closed or full standard output changes neither the exit code nor the backup.
#[tokio::test]
async fn a_closed_standard_output_changes_neither_the_exit_code_nor_the_backup() {
    let server = server(0).await;
    for (redirected, code) in [
        (r#""$TOOL" backup >&-"#, 0),
        (r#""$TOOL" backup >&- 2>&- <&-"#, 0),
        (r#""$TOOL" backup >/dev/full"#, 0),
        (r#""$TOOL" backup >/dev/full 2>/dev/full"#, 0),
        (r#""$TOOL" backup --json >/dev/full"#, 0),
        (r#"RUST_LOG=trace "$TOOL" backup 2>/dev/full"#, 0),
        (r#"{ "$TOOL" backup; echo $? >"$HOME/code"; } 2>&1 | true; exit $(cat "$HOME/code")"#, 0),
        (r#"{ "$TOOL" list --json; echo $? >"$HOME/code"; } | true; exit $(cat "$HOME/code")"#, 0),
        (r#"{ "$TOOL" --help; echo $? >"$HOME/code"; } | true; exit $(cat "$HOME/code")"#, 0),
        (r#""$TOOL" --help >&-"#, 0),
        (r#""$TOOL" backup --format zip 2>&-"#, 2),
        (r#""$TOOL" backup --no-such-flag 2>/dev/full"#, 2),
        (r#"MONGO_URI=mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200 "$TOOL" backup 2>/dev/full"#, 1),
    ] {
        let home = Home::new();
        let mut tool = home.to_dir(&server.uri());
        tool.env("HOME", home.path());
        run(&mut shell(&tool, redirected)).ends(code);
        let stored = usize::from(code == 0 && redirected.contains("backup"));
        assert_eq!(home.manifests().len(), stored, "{redirected}");
        for manifest in home.manifests() {
            assert_eq!(contents(&manifest, &home.artifact(&manifest)).documents["store.orders"].len(), 500);
        }
    }
}

/// A library that gives up by abort(3), as glibc does when a thread gets no memory, is reported as a failure,
/// too.
#[test]
fn an_abort_by_a_library_is_reported_as_a_failure() {
    let (home, silent) = (Home::new(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let uri = format!("mongodb://{}/", silent.local_addr().expect("bound"));
    let mut child = home.to_dir(&uri).arg("backup").stderr(Stdio::piped()).spawn().expect("the tool");
    silent.set_nonblocking(true).expect("a non-blocking listener");
    while silent.accept().is_err() {
        assert!(child.try_wait().expect("its state").is_none(), "it ended without asking the server");
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: the call takes no pointer, and the child has not been waited for, so its process id is still
    // its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGABRT) }, 0);
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{} {said}", ended.status);
    assert!(said.contains("error: ") && said.contains("next step: Free memory"), "{said}");
}

/// With too little of a resource a run fails or succeeds, but every listed backup is whole.
#[tokio::test]
async fn a_listed_backup_is_whole_however_little_memory_or_descriptors_there_were() {
    let server = server(600).await;
    let uri = format!("{}&serverSelectionTimeoutMS=1000", server.uri());
    let mut failed = [0, 0];
    let mut done = [0, 0];
    let memory = (1..=14).map(|n| ("-v", n * 24 * 1024, 0));
    let descriptors = (4..=40).step_by(4).map(|n| ("-n", n, 1));
    for (flag, limit, kind) in memory.chain(descriptors) {
        let home = Home::new();
        let script = format!(r#"ulimit {flag} {limit}; exec timeout 120 "$TOOL" backup"#);
        let output = shell(&home.to_dir(&uri), &script).output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stderr);
        let what = format!("ulimit {flag} {limit}: {} {said}", output.status);
        match output.status.code() {
            Some(0) => {
                let manifest = &home.manifests()[0];
                let got = contents(manifest, &home.artifact(manifest));
                assert_eq!(
                    (got.documents["store.blobs"].len(), got.documents["store.orders"].len()),
                    (600, 500)
                );
                done[kind] += 1;
            }
            // The shell or the loader lacks the resource: exit code 127, or killed before `main`.
            Some(2 | 126 | 127) if !said.contains("INFO") => {}
            // The kernel or the loader ends it before `main`, and `timeout` ends in the same way.
            None if said.is_empty() => {}
            code => {
                assert_eq!(code, Some(1), "{what} (signal {:?})", output.status.signal());
                assert_eq!(home.manifests().len(), 0, "{what}");
                let partials = home.files().iter().filter(|file| file.ends_with(".partial")).count();
                assert!(partials == 0 || said.contains("memory"), "{what}");
                failed[kind] += 1;
            }
        }
    }
    assert!(failed.iter().all(|n| *n > 0) && done.iter().all(|n| *n > 0), "{failed:?} {done:?}");
}

/// A file-size limit is reported: the write fails, and the mail, the record and standard error name the
/// limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_size_limit_is_named_in_the_error_the_mail_and_health() {
    let (server, service) = (server(600).await, service(vec![accepted()]).await);
    let limited = |home: &Home, blocks: u32, args: &str| {
        let mut tool = home.to_dir(&server.uri());
        tool.envs([("RESEND_API_KEY", KEY), ("ADMIN_EMAILS", "ops@example.com")]);
        tool.env("RESEND_BASE_URL", service.uri());
        // A block of `ulimit -f` has 512 bytes (POSIX).
        let script = format!(r#"ulimit -f {blocks}; exec "$TOOL" {args}"#);
        let log = home.path().join("log");
        std::fs::File::create(&log).and_then(|file| file.set_len(6 << 20)).expect("a log above the limit");
        run(shell(&tool, &script).env("BACKUP_LOG_FILE", log))
    };
    // 10 MiB of incompressible data: the estimate is below 5 MiB and the artifact is larger, so the write
    // fails. A limit of 32 KiB is below the estimate.
    for (blocks, limit, mails) in [(10 << 10, "5.0 MiB", 1), (64, "32.0 KiB", 2)] {
        let home = Home::new();
        let named = format!("the file-size limit of this process is {limit}");
        limited(&home, blocks, "backup").ends(1).says(&[
            "error: ",
            &named,
            "ulimit -f",
            "LimitFSIZE=",
            "log file",
        ]);
        assert_eq!(home.manifests().len(), 0);
        assert_eq!(home.files().iter().filter(|file| !file.ends_with("/failed.json")).count(), 0);
        assert!(home.failures()[0].error.contains(&named), "{:?}", home.failures());
        let sent = asked(&service).await;
        assert_eq!(sent.len(), mails);
        assert!(String::from_utf8_lossy(&sent[mails - 1].body).contains(&named), "the mail names the limit");
    }
    // A small backup succeeds, although the log file takes no line.
    let home = Home::new();
    limited(&home, 10 << 10, "backup --db admin --allow-empty").ends(0).says(&["log file", "5.0 MiB"]);
    assert_eq!(home.manifests().len(), 1);
    // `health` reports the limit before the next backup.
    run(home.to_dir(&server.uri()).arg("backup")).ends(0);
    let health = limited(&home, 10 << 10, "health --skip mail --json");
    let disk =
        health.json()["checks"].as_array().expect("a list").iter().find(|row| row["name"] == "disk").cloned();
    let disk = disk.expect("the check").to_string();
    assert!(disk.contains("failed") && disk.contains("5.0 MiB") && disk.contains("LimitFSIZE="), "{disk}");
}

/// A file system without free inodes has space, but takes no file.
#[tokio::test]
async fn a_file_system_without_free_inodes_is_named() {
    let (server, home) = (server(0).await, Home::new());
    let on = |inodes: u32, args: &str| {
        let script = format!(
            r#"mount -t tmpfs -o size=8m,nr_inodes={inodes} tmpfs "$BACKUP_DIR" && exec "$TOOL" {args}"#
        );
        run(&mut mounting(&home.to_dir(&server.uri()), &script))
    };
    let named = ["there are no free inodes on the file system of ", "df -i"];
    for inodes in [1, 3, 5] {
        on(inodes, "backup").ends(1).says(&named);
    }
    on(64, "backup").ends(0);
    let check = |inodes: u32, name: &str| {
        let report = on(inodes, "health --json").json();
        let rows = report["checks"].as_array().expect("a list").iter();
        rows.clone().find(|row| row["name"] == name).expect("the check").clone()
    };
    let store = check(1, "store");
    assert_eq!(store["outcome"], "failed", "{store}");
    assert!(named.iter().all(|words| store.to_string().contains(words)), "{store}");
    let disk = check(20, "disk");
    assert_eq!(disk["outcome"], "warning", "{disk}");
    assert!(disk.to_string().contains("only 19 inodes free"), "{disk}");
    assert_eq!(check(100, "disk")["outcome"], "ok");
}
