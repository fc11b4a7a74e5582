//! The child process. It is killed when the handle is dropped, and when the test that started it ends.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::binary;

pub(super) struct Process {
    child: Child,
    /// Dropping this sender ends the thread that spawned the child.
    _keeper: mpsc::Sender<()>,
}

/// Another process took the port between the check and the server's bind. Another port may work.
#[derive(Debug)]
pub(super) struct PortTaken;

impl std::fmt::Display for PortTaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("another process took the port")
    }
}

impl std::error::Error for PortTaken {}

impl Process {
    /// Starts the program with its output appended to `log`.
    ///
    /// The kernel kills the child when the *thread* that spawned it ends (PR_SET_PDEATHSIG), so it is spawned
    /// from a thread that lasts exactly as long as this handle, not from a worker of some test's runtime.
    pub fn spawn(program: &Path, args: Vec<OsString>, log: &Path) -> Result<Self> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let (keeper, until_dropped) = mpsc::channel::<()>();
        let (answer, spawned) = mpsc::channel();
        std::thread::Builder::new().name("mongod-keeper".into()).spawn(move || {
            // SAFETY: prctl is async-signal-safe and uses no memory of this process.
            #[cfg(target_os = "linux")]
            unsafe {
                command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                });
            }
            let _ = answer.send(command.spawn());
            let _ = until_dropped.recv();
        })?;
        let child = spawned.recv()?.with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Process { child, _keeper: keeper })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.end();
    }

    pub fn terminate(mut self, patience: Duration) -> Result<()> {
        // SAFETY: the child has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        let deadline = Instant::now() + patience;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("mongod did not end within {patience:?} of SIGTERM");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the server accepts connections. Returns an error with the reason if the process ends instead.
    pub async fn wait_until_listening(
        &self,
        port: u16,
        patience: Duration,
        log: impl Fn() -> String,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if exited(self.child.id()) {
                return Err(why_it_ended(&log()));
            }
            // The log of the child must say so: another process on that port would accept a connection, too.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
                && log().contains("Waiting for connections")
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("mongod does not listen after {patience:?}; its log ends: {}", last_lines(&log(), 3));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns true if the child has ended. It is not reaped, so that its id stays its own until `wait`.
fn exited(pid: u32) -> bool {
    // SAFETY: an all-zero siginfo_t is valid, and waitid fills in only that.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PID, pid, &mut info, flags) == 0 && info.si_pid() != 0
    }
}

fn why_it_ended(log: &str) -> anyhow::Error {
    if log.contains("Address already in use") {
        return anyhow!(PortTaken);
    }
    if let Some(advice) = binary::missing_library(log) {
        return anyhow!(advice);
    }
    anyhow!("mongod ended at once; its log ends: {}", last_lines(log, 3))
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
