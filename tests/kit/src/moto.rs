//! Starts moto, an independent implementation of S3 in Python.
//!
//! If the python3 on PATH does not have it, moto is installed once into `target/` from the package index. Without the
//! package `awscrt`, moto answers a CRC-32 instead of a CRC-64/NVME, so both are needed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The releases that are installed if none is found.
const REQUIREMENTS: [&str; 2] = ["moto[server]==5.2.5", "awscrt==0.38.1"];

/// A running moto. Dropping it stops it.
pub struct Moto {
    child: Child,
    address: SocketAddr,
}

impl Moto {
    /// Starts moto on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// Panics if moto can neither be found nor installed, or does not start. The message says what to do.
    pub fn start() -> Moto {
        let mut command = command();
        for _ in 0..5 {
            let port = free_port();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let child = command
                .args(["-H", "127.0.0.1", "-p", &port.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let child = child.unwrap_or_else(|e| panic!("cannot start moto ({e}): {}", how()));
            let mut moto = Moto { child, address };
            if moto.wait() {
                return moto;
            }
            command = self::command();
        }
        panic!("moto does not start: {}", how());
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates a bucket. moto does not check signatures.
    ///
    /// # Panics
    /// Panics if the answer is not 200.
    pub fn create_bucket(&self, bucket: &str) {
        let answer = self.request("PUT", &format!("/{bucket}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "moto did not create the bucket: {answer}");
    }

    /// The number of multipart uploads of a bucket that are neither completed nor aborted.
    pub fn open_uploads(&self, bucket: &str) -> usize {
        self.request("GET", &format!("/{bucket}?uploads")).matches("<UploadId>").count()
    }

    fn request(&self, method: &str, target: &str) -> String {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        let mut answer = String::new();
        let spoken = TcpStream::connect(self.address).and_then(|mut stream| {
            stream.write_all(head.as_bytes())?;
            stream.read_to_string(&mut answer)
        });
        match spoken {
            Ok(_) => answer,
            Err(e) => panic!("moto does not answer: {e}"),
        }
    }

    /// Waits up to a minute until it listens. Returns false if it does not: another process may have taken the port.
    fn wait(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return false;
            }
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn how() -> String {
    let [moto, crt] = REQUIREMENTS;
    format!("install it with `python3 -m pip install '{moto}' '{crt}'`")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on 127.0.0.1");
    listener.local_addr().expect("the port").port()
}

/// The command that starts moto: with the python3 on PATH, or with the installation in `target/`.
fn command() -> Command {
    let run = |args: &[&str]| {
        let mut command = Command::new("python3");
        command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    if run(&["-c", "import moto.server, flask, awscrt"]) {
        let mut command = Command::new("python3");
        command.args(["-m", "moto.server"]);
        return command;
    }
    let root = cache();
    let site = root.join("site");
    let venv = root.join("venv/bin/moto_server");
    fs::create_dir_all(&root).unwrap_or_else(|e| panic!("cannot create {} ({e}): {}", root.display(), how()));
    let lock = File::create(root.join("lock")).unwrap_or_else(|e| panic!("cannot lock ({e}): {}", how()));
    lock.lock().unwrap_or_else(|e| panic!("cannot lock ({e}): {}", how()));
    if !venv.exists() && !site.join("moto").exists() && !install(&root, &site) {
        panic!("python3 has no moto with awscrt, and it cannot be installed: {}", how());
    }
    if venv.exists() {
        return Command::new(venv);
    }
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", &site).args(["-m", "moto.server"]);
    command
}

/// Installs moto in a virtual environment, or in a plain folder if Debian's Python has no `ensurepip`.
fn install(root: &Path, site: &Path) -> bool {
    let venv = root.join("venv");
    let run = |command: &mut Command| command.stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    if run(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        && run(Command::new(venv.join("bin/python")).args(quiet).args(REQUIREMENTS))
    {
        return true;
    }
    let _ = fs::remove_dir_all(&venv);
    run(Command::new("python3").args(quiet).arg("--target").arg(site).args(REQUIREMENTS))
}

/// `target/testkit/moto` of this workspace.
fn cache() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")).join("testkit/moto")
}
