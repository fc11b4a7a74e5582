//! Runs the real binary in an environment that holds only what a case needs, and reads the files that it
//! leaves.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use uzima_backup::catalog::marks::FailedRun;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;

/// The path of the binary under test.
pub const TOOL: &str = env!("CARGO_BIN_EXE_uzima-backup");

/// A closed port on any machine: a connection is refused at once.
pub const NOWHERE: &str = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300";

/// The tool as cron starts it: an empty environment, the root folder as working directory, and no ignored
/// signal.
pub fn bare() -> Command {
    let mut command = Command::new(TOOL);
    command.env_clear().current_dir("/").stdin(Stdio::null());
    with_signals(&mut command, libc::SIG_DFL);
    command
}

/// Sets the disposition of SIGHUP, SIGINT and SIGTERM with which a command starts. The test runner may itself
/// ignore SIGINT, because a shell without job control starts background processes in that way.
pub fn with_signals(command: &mut Command, disposition: libc::sighandler_t) {
    let set = move || {
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the call takes no pointer and is async-signal-safe, so it is allowed between fork and
            // exec.
            unsafe { libc::signal(signal, disposition) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec only signal(2) is called, which is async-signal-safe.
    unsafe { command.pre_exec(set) };
}

/// A server with `count` documents `{_id, text}` in `shop.rows`. Each text has `length` bytes.
pub async fn server_with_rows(count: i32, length: usize) -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    let documents = (0..count).map(|n| bson::doc! {"_id": n, "text": "x".repeat(length)});
    rows.insert_many(documents).await.expect("rows");
    server
}

/// A temporary folder with a folder for backups and one for the state.
pub struct Home {
    dir: TempDir,
}

impl Home {
    pub fn new() -> Home {
        let home = Home { dir: TempDir::new().expect("a folder") };
        std::fs::create_dir(home.backups()).expect("a folder for backups");
        home
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn backups(&self) -> PathBuf {
        self.dir.path().join("backups")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The tool with this state folder, without a configuration file and records, and with the native engine,
    /// so that nothing depends on the machine.
    pub fn tool(&self) -> Command {
        let mut command = bare();
        command.env("UZIMA_BACKUP_STATE_DIR", self.state()).env("UZIMA_BACKUP_CONFIG", "/dev/null");
        command.env("BACKUP_ENGINE", "native").env("BACKUP_RECORDS", "off");
        // A real night waits longer for an unreachable server.
        command.env("BACKUP_PATIENCE", "2");
        command
    }

    /// The tool that backs `uri` up to this home's folder. A small disk of a test machine is no reason to
    /// fail.
    pub fn to_dir(&self, uri: &str) -> Command {
        let mut command = self.tool();
        command.env("MONGO_URI", uri).env("BACKUP_DIR", self.backups()).env("BACKUP_MIN_FREE", "0");
        // Batches of the same size on a busy machine, too.
        command.env("BACKUP_READERS", "1");
        command
    }

    /// The paths of all files in the folder for backups, relative to it and sorted.
    pub fn files(&self) -> Vec<String> {
        files(&self.backups())
    }

    /// The manifests in the folder for backups, oldest first.
    pub fn manifests(&self) -> Vec<Manifest> {
        let files = self.files();
        let named = files.iter().filter(|file| file.ends_with("/manifest.json"));
        let mut found: Vec<Manifest> = named
            .map(|file| std::fs::read(self.backups().join(file)).expect("a manifest"))
            .map(|bytes| Manifest::decode(&bytes).expect("a sound manifest"))
            .collect();
        found.sort_by(|a, b| (a.started_at, &a.id).cmp(&(b.started_at, &b.id)));
        found
    }

    /// The stored reports of failed runs, oldest first.
    pub fn failures(&self) -> Vec<FailedRun> {
        let files = self.files().into_iter().filter(|file| file.ends_with("/failed.json"));
        let mut found: Vec<FailedRun> = files
            .map(|file| std::fs::read(self.backups().join(file)).expect("a report of a failure"))
            .map(|bytes| serde_json::from_slice(&bytes).expect("sound JSON"))
            .collect();
        found.sort_by_key(|failure| failure.started_at);
        found
    }

    /// The bytes of a backup's artifact.
    pub fn artifact(&self, manifest: &Manifest) -> Vec<u8> {
        std::fs::read(self.backups().join(&manifest.artifact.key)).expect("an artifact")
    }

    /// Asserts that a failed run left no file but the reports of failures, and no partial file.
    pub fn assert_nothing_stored(&self) {
        let said = |file: &String| file.ends_with("/failed.json");
        assert_eq!(
            self.files().into_iter().filter(|file| !said(file)).collect::<Vec<_>>(),
            Vec::<String>::new()
        );
        assert_eq!(files(&self.state()), Vec::<String>::new(), "in the state folder");
    }
}

/// The paths of all files below a folder, relative to it and sorted; empty if the folder does not exist. The
/// folders of locks and of known places are left out, because they stay after a run.
pub fn files(root: &Path) -> Vec<String> {
    fn walk(folder: &Path, root: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() && (path.ends_with("locks") || path.ends_with("places")) {
                continue;
            }
            if path.is_dir() {
                walk(&path, root, out);
            } else {
                out.push(path.strip_prefix(root).expect("below the root").display().to_string());
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.sort();
    out
}

/// The exit code and the output of a run.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Asserts the exit code, and shows the output if it differs.
    #[track_caller]
    pub fn ends(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that standard error contains all these words.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Ran {
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in:\n{}", self.stderr);
        }
        self
    }

    /// Asserts that standard output contains all these words.
    #[track_caller]
    pub fn prints(self, words: &[&str]) -> Ran {
        for word in words {
            assert!(self.stdout.contains(word), "no {word:?} in:\n{}\n{}", self.stdout, self.stderr);
        }
        self
    }

    /// Parses standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e} in:\n{}\n{}", self.stdout, self.stderr))
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs the tool to its end. Returns its peak memory in KiB (`VmHWM`, proc_pid_status(5)).
#[track_caller]
pub fn peak(command: &mut Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().expect("the tool");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        // A process that has ended shows no memory any more.
        peak = now.unwrap_or(0).max(peak);
        if let Some(ended) = child.try_wait().expect("its state") {
            assert!(ended.success(), "{ended}");
            assert!(peak > 0, "it was never seen");
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The artifact of a manifest, decompressed.
pub fn decompressed(manifest: &Manifest, artifact: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if manifest.artifact.format.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(artifact).read_to_end(&mut out).expect("sound gzip");
    } else {
        zstd::Decoder::new(artifact).and_then(|mut d| d.read_to_end(&mut out)).expect("sound zstd");
    }
    out
}
