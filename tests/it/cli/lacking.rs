//! Nightly runs on file systems that lack system calls, simulated by refusing those calls.

use std::process::{Command, Stdio};

use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::signals::until;
use super::support::{Home, TOOL, files, run, server_with_rows};

/// The tool, with these system calls refused.
fn refused(tool: &Command, calls: &[&str], args: &[&str]) -> Command {
    let names: Vec<&str> = calls.iter().filter_map(|call| call.split(':').next()).collect();
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={}", names.join(",")));
    for call in calls {
        traced.arg("-e").arg(format!("inject={call}"));
    }
    traced.arg(TOOL).args(args).env_clear().current_dir("/").stdin(Stdio::null());
    traced.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced
}

const ALL: [&str; 4] =
    ["renameat2:error=EOPNOTSUPP", "linkat:error=EPERM", "flock:error=ENOLCK", "fsync:error=EINVAL"];

/// Each missing call is logged once and named by `health`, and the backup is sound.
#[tokio::test]
async fn a_backup_succeeds_on_a_file_system_that_lacks_every_optional_call() {
    let (server, home) = (server_with_rows(50, 0).await, Home::new());
    let tool = home.to_dir(&server.uri());
    let words = ["nor hard links", "no locks (flock)", "no fsync of folders"];
    for night in 1..=2 {
        let ran = run(&mut refused(&tool, &ALL, &["backup"])).ends(0);
        for word in words {
            assert_eq!(ran.stderr.matches(word).count(), 1, "{word}: {}", ran.stderr);
        }
        ran.says(&["a file with a heartbeat replaces the lock"]);
        assert_eq!(home.manifests().len(), night);
    }
    assert!(home.files().iter().all(|file| !file.ends_with(".partial")), "{:?}", home.files());
    assert_eq!(files(&home.state()), Vec::<String>::new());
    let locks = home.state().join("locks").read_dir().expect("locks");
    let held = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().to_string_lossy().contains(".held")
    };
    assert!(!locks.into_iter().any(held));
    let job = home.manifests()[0].job.clone();
    run(home.to_dir(&server.uri()).args(["verify", "--all", "--job", &job])).ends(0);
    let checks = ["health", "--only", "store", "--only", "state", "--json"];
    let health = run(&mut refused(&tool, &ALL, &checks)).ends(0).json();
    let detail = |name: &str| {
        let rows = health["checks"].as_array().expect("checks");
        let row = rows.iter().find(|row| row["name"] == name).expect("the check");
        row["detail"].as_str().expect("a text").to_string()
    };
    assert!(words.iter().all(|word| detail("store").contains(word)), "{health}");
    assert!(detail("state").contains("no locks (flock)"), "{health}");
    assert!(home.files().iter().all(|file| !file.contains(".health")), "{:?}", home.files());
}

/// The second run finds the running first one. After a kill it takes the lock over.
#[tokio::test]
async fn without_file_locks_a_second_run_finds_a_running_one_and_replaces_a_dead_one() {
    let (server, home) = (server_with_rows(50, 0).await, Home::new());
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let stall = Action::Stall(std::time::Duration::from_secs(60));
    let stalled = proxy.add(Rule::on("find").namespace("shop.*").nth(1).then(stall));
    let with = |uri: &str| {
        let mut tool = home.to_dir(uri);
        tool.env("BACKUP_JOB", "nightly");
        refused(&tool, &["flock:error=ENOSYS"], &["backup"])
    };
    let mut first = with(&proxy.uri(&server.uri()));
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    until("it reads", || proxy.hits(stalled) == 1);
    let held = home.state().join("locks/nightly.backup.lock.held");
    let text = std::fs::read_to_string(&held).expect("the holder");
    let pid = text.lines().find_map(|line| line.strip_prefix("pid ")).expect("a process").to_string();
    run(&mut with(&server.uri())).ends(75).says(&[&format!("under way: process {pid} on ")]);
    // SAFETY: the call takes no pointer, and the process belongs to this test.
    unsafe { libc::kill(pid.parse().expect("a number"), libc::SIGKILL) };
    first.wait().expect("its end");
    assert!(held.exists());
    run(&mut with(&server.uri())).ends(0);
    assert!(!held.exists());
}
