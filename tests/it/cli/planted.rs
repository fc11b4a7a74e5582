//! Files that another user planted where root writes: symbolic links, hard links, FIFOs and devices.

use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use uzima_testkit::mongod::Mongod;

use super::support::{Home, NOWHERE, bare, run};

/// A user id that owns nothing on this machine.
const USER: u32 = 65_534;

const KINDS: [&str; 4] = ["link", "hard link", "FIFO", "device"];

/// A file that only its owner may touch.
struct Victim {
    path: PathBuf,
    was: (u32, u32, u32, Vec<u8>),
}

impl Victim {
    fn new(home: &Home) -> Victim {
        let path = home.path().join("victim");
        std::fs::write(&path, "precious\n").expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        let was = Victim::state(&path);
        Victim { path, was }
    }

    fn state(path: &Path) -> (u32, u32, u32, Vec<u8>) {
        let meta = std::fs::metadata(path).expect("the victim");
        (meta.uid(), meta.gid(), meta.mode(), std::fs::read(path).expect("the victim"))
    }

    /// Puts something at `path`, as the owner of its folder could.
    fn plant(&self, kind: &str, path: &Path) {
        let _ = std::fs::remove_file(path);
        let node = |args: &[&str]| {
            let made = Command::new("mknod").arg(path).args(args).status().expect("mknod");
            assert!(made.success(), "mknod: run the tests as root");
        };
        match kind {
            "link" => symlink(&self.path, path).expect("a link"),
            "hard link" => std::fs::hard_link(&self.path, path).expect("a hard link"),
            "FIFO" => node(&["p"]),
            "device" => node(&["c", "1", "5"]),
            other => panic!("no kind {other}"),
        }
        if kind != "hard link" {
            lchown(path, Some(USER), Some(USER)).expect("an owner: run the tests as root");
        }
    }

    #[track_caller]
    fn is_untouched(&self, when: &str) {
        assert_eq!(Victim::state(&self.path), self.was, "{when}");
    }
}

/// A folder that belongs to the user.
fn of_user(path: &Path) -> PathBuf {
    std::fs::create_dir_all(path).expect("a folder");
    lchown(path, Some(USER), Some(USER)).expect("an owner: run the tests as root");
    path.to_path_buf()
}

/// The nightly backup is still made: a lock only saves work.
#[tokio::test]
async fn a_planted_lock_file_exposes_and_changes_no_other_file() {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..50).map(|n| bson::doc! {"_id": n})).await.expect("rows");
    for kind in KINDS {
        let home = Home::new();
        let victim = Victim::new(&home);
        let locks = of_user(&of_user(&home.state()).join("locks"));
        let lock = locks.join("nightly.backup.lock");
        victim.plant(kind, &lock);
        let ran = run(home.to_dir(&server.uri()).env("BACKUP_JOB", "nightly").arg("backup")).ends(3);
        ran.says(&[&format!("cannot lock {}", lock.display())]);
        victim.is_untouched(kind);
        assert_eq!(home.manifests().len(), 1, "{kind}");
    }
    // A link in place of the lock folder.
    let home = Home::new();
    let elsewhere = of_user(&home.path().join("elsewhere"));
    symlink(&elsewhere, of_user(&home.state()).join("locks")).expect("a link");
    run(home.to_dir(&server.uri()).arg("backup")).ends(3).says(&["cannot lock "]);
    assert_eq!(std::fs::read_dir(&elsewhere).expect("a folder").count(), 0);
}

#[test]
fn a_planted_log_file_or_page_is_refused() {
    let home = Home::new();
    let victim = Victim::new(&home);
    let logs = of_user(&home.path().join("logs"));
    let (log, page) = (logs.join("backup.log"), logs.join("stats.html"));
    for kind in ["link", "hard link", "FIFO"] {
        victim.plant(kind, &log);
        let ran = run(home.to_dir(NOWHERE).env("BACKUP_LOG_FILE", &log).arg("list")).ends(2);
        ran.says(&[&format!("cannot open the log file {}", log.display()), "next step: "]);
        victim.is_untouched(kind);
    }
    let stats = || run(home.to_dir(NOWHERE).args(["stats", "--html"]).arg(&page));
    victim.plant("link", &page);
    stats().ends(2).says(&[&format!("--html {}", page.display()), "another user may have created"]);
    victim.is_untouched("the page is a link");
    // The new page takes over the name. The other name of the hard link keeps the old content.
    victim.plant("hard link", &page);
    stats();
    victim.is_untouched("the page is a hard link");
}

/// A link that root made in a folder of root is followed like any other path in a setting.
#[test]
fn a_link_of_root_to_the_log_file_is_followed() {
    let home = Home::new();
    let log = home.path().join("real.log");
    symlink(&log, home.path().join("log")).expect("a link");
    run(home.to_dir(NOWHERE).env("BACKUP_LOG_FILE", home.path().join("log")).arg("list")).ends(0);
    assert!(log.exists());
    run(home.to_dir(NOWHERE).args(["list", "--log-file", "/dev/stderr"])).ends(0);
}

#[test]
fn a_configuration_that_is_too_large_or_no_regular_file_is_refused() {
    let home = Home::new();
    let (fifo, huge, good) =
        (home.path().join("fifo"), home.path().join("huge.toml"), home.path().join("good.toml"));
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    std::fs::File::create(&huge).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
    for path in [&fifo, &huge, Path::new("/dev/zero"), home.path()] {
        let ran = run(bare().arg("--config").arg(path).arg("config")).ends(2);
        let cannot = format!("cannot read the configuration file {}", path.display());
        ran.says(&[&cannot, "next step: Name a regular file"]);
    }
    // The same holds for the file of a secret.
    std::fs::write(&good, "").expect("a file");
    for path in [&fifo, &huge] {
        let mut tool = bare();
        let ran = run(tool.arg("--config").arg(&good).env("MONGO_URI_FILE", path).arg("config")).ends(2);
        ran.says(&[&format!("cannot read {}, which MONGO_URI_FILE names", path.display())]);
    }
}

#[test]
fn a_configuration_that_others_can_change_is_reported() {
    let home = Home::new();
    let path = home.path().join("config.toml");
    std::fs::write(&path, format!("dir = '{}'\n", home.backups().display())).expect("a file");
    let tool = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        let mut tool = home.tool();
        tool.env("UZIMA_BACKUP_CONFIG", &path);
        tool
    };
    let words = format!("other users can change {} (mode 0666, ", path.display());
    let ran = run(tool(0o666).arg("list")).ends(0);
    assert_eq!(ran.stderr.matches(&words).count(), 1, "{}", ran.stderr);
    let health = |mode| {
        let report = run(tool(mode).args(["health", "--only", "configuration", "--json"])).ends(0).json();
        let mut rows = report["checks"].as_array().expect("checks").clone();
        rows.retain(|row| row["name"] == "configuration");
        rows.remove(0)
    };
    let row = health(0o666);
    assert_eq!(row["outcome"], "warning", "{row}");
    assert!(row["detail"].as_str().expect("a text").contains(&words), "{row}");
    assert_eq!(row["next_step"], format!("chmod go-w {}", path.display()));
    assert_eq!(health(0o644)["outcome"], "ok");
    assert!(!run(tool(0o644).arg("list")).ends(0).stderr.contains("other users can change"));
}

/// These directories would mix backups with the system's files, or make every listing walk the whole machine.
#[test]
fn directories_of_the_system_hold_no_backups() {
    let home = Home::new();
    let link = home.path().join("link");
    symlink("/etc", &link).expect("a link");
    let of_system =
        ["/", "//", "/etc/", "/proc", "/proc/self", "/sys", "/sys/fs", "/dev", "/usr/../usr", "/dev/backups"];
    for dir in of_system.map(Path::new).into_iter().chain([link.as_path()]) {
        for command in ["backup", "cleanup", "list"] {
            let ran = run(home.to_dir(NOWHERE).env("BACKUP_DIR", dir).arg(command)).ends(2);
            ran.says(&["is a system directory", "Correct BACKUP_DIR"]);
        }
    }
    run(home.to_dir(NOWHERE).arg("list")).ends(0);
}
