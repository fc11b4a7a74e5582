//! How this process shares the machine with others, and the programs that it runs: where they are, whether
//! they can be trusted, which version they have, their output, and why the kernel ended one.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{
    Signal, getpid, getppid, getpriority_process, set_parent_process_death_signal, setpriority_process,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::base::files::{self, Strictness};

/// How long a program may take to print its version.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// The next step where the kernel killed a child for lack of memory.
const MEMORY: &str = "If `dmesg` or `journalctl -k` says so, raise the memory limit of the container or service (docker \
                      --memory, MemoryMax= of systemd), or give the machine more memory";

/// Identifies this boot and this PID namespace, within which a process id is unique.
pub fn space() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), namespace.display())
}

/// Returns true if the process `pid` of a [`space`] was one of this machine and no longer runs.
pub fn is_gone(pid: u32, of: &str) -> bool {
    of == space() && !Path::new(&format!("/proc/{pid}")).exists()
}

/// Has the kernel kill a child, which is about to be started, when the thread that starts it ends. A child
/// might never notice that this process was killed.
pub fn die_with_us(command: &mut Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, sched_setscheduler, signal
    // and getppid.
    #[cfg(target_os = "linux")]
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            schedule(libc::SCHED_OTHER);
            // A signal that is ignored here would be ignored after exec as well. (rustix has no signal
            // handlers.)
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            // If the parent was killed before the first call, the kernel does not signal the child.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::other("orphaned")) }
        });
    }
}

/// Has a write beyond the file-size limit (`ulimit -f`, setrlimit(2)) fail with EFBIG. By default the kernel
/// ends the process by SIGXFSZ, before it can report anything.
pub fn survive_file_size_limit() {
    // SAFETY: a call without pointers. rustix has no signal handlers.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Returns why a signal ended a child, and the next step; `None` for signals that need no explanation.
pub fn why_killed(signal: i32, kills: Kills) -> Option<(&'static str, &'static str)> {
    match Signal::from_named_raw(signal)? {
        Signal::KILL if kills.rose() => Some(("the kernel killed it for lack of memory", MEMORY)),
        Signal::KILL => Some(("perhaps the kernel killed it for lack of memory", MEMORY)),
        Signal::XFSZ => Some((
            "it reached its file-size limit",
            "Raise the limit: `ulimit -f` in the shell that starts this, LimitFSIZE= in a unit of systemd",
        )),
        _ => None,
    }
}

/// Returns true if this process ignores a signal, as `nohup` makes it ignore SIGHUP. (rustix has no signal
/// handlers.)
pub fn ignores(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is changed; `action` has room for the answer, and zeroes are a valid one.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Makes the calling thread, and the threads it starts, batch work for the scheduler (`SCHED_BATCH`,
/// sched(7)): a thread that wakes up then does not interrupt a thread that computes. Otherwise every packet
/// that arrives interrupts a compressor, which costs 2.5 % of a backup's time. A failure changes nothing else
/// and is ignored.
pub fn batch() {
    schedule(libc::SCHED_BATCH);
}

/// Sets the scheduling policy of the calling thread. Async-signal-safe. (rustix has no sched_setscheduler.)
fn schedule(policy: libc::c_int) {
    // SAFETY: the parameter outlives the call.
    unsafe { libc::sched_setscheduler(0, policy, &libc::sched_param { sched_priority: 0 }) };
}

/// Lowers the priority of the calling thread (setpriority(2)), so that the server and the threads that feed
/// the compressors go first when the processors are busy. A failure is ignored.
pub fn yielding() {
    // On Linux no process id stands for the calling thread.
    if let Ok(priority) = getpriority_process(None) {
        let _ = setpriority_process(None, priority + 10);
    }
}

/// Keeps freed memory for the next allocation, up to a bound. By default glibc returns a batch or a block of
/// 1 MiB to the kernel as soon as it is free, and the kernel clears its pages when they are needed again: 2 %
/// of a backup's time.
pub fn keep_memory() {
    // SAFETY: calls without pointers, made before there are other threads. mallopt is a function of glibc.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 20);
    }
}

/// Looks for a program in `search_path` (the value of PATH), then in `folders`, because cron's PATH is short.
/// Relative and empty entries of PATH are skipped: they mean the working directory, where another user may
/// have put a program.
pub fn locate(name: &str, search_path: Option<&str>, folders: &[&str]) -> Option<PathBuf> {
    let path = search_path.unwrap_or("").split(':').filter(|folder| folder.starts_with('/'));
    path.chain(folders.iter().copied()).map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

/// Checks that no other user can replace a program before this process runs it.
///
/// # Errors
/// Returns an error that names what others can change, and the command that forbids it.
pub fn trusted(path: &Path) -> Result<(), String> {
    match files::writable_by_others(path, Strictness::Program) {
        Ok(None) => Ok(()),
        Ok(Some(found)) => Err(format!(
            "{} is not run, because {found}; take that right away ({}), or name another program",
            path.display(),
            found.remedy()
        )),
        Err(e) => Err(format!("{} cannot be run: {e}", path.display())),
    }
}

/// Runs a program with `--version`. Returns whether it succeeded, and the first 64 KiB of its output. A
/// program that does not end in time, or whose future is dropped, is killed.
///
/// # Errors
/// Returns an error if the program cannot be run, or does not end within 10 s.
pub async fn version(path: &Path) -> io::Result<(bool, String)> {
    let mut child = tokio::process::Command::new(path)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let output = async {
        let mut text = Vec::new();
        let pipe = child.stdout.take().expect("stdout is piped");
        pipe.take(64 << 10).read_to_end(&mut text).await?;
        Ok((child.wait().await?.success(), String::from_utf8_lossy(&text).into_owned()))
    };
    let late = || format!("it does not answer --version within {} s", VERSION_LIMIT.as_secs());
    tokio::time::timeout(VERSION_LIMIT, output).await.unwrap_or_else(|_| Err(io::Error::other(late())))
}

/// The most output of a program that is read, in bytes.
const MOST_OUTPUT: u64 = 4 << 20;

/// How a program ended, and its output.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    /// The exit status, and the first line of standard error, for an error message.
    pub fn why(&self) -> String {
        match self.stderr.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("{}: {line}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// Runs a program of the system to its end, with this standard input. Its environment has nothing but a PATH and the
/// C locale, so that it sees no secret and its messages are in English. It does not get the signals of the terminal: a
/// program that changes the system is not stopped halfway.
///
/// # Errors
/// Returns an error if the program cannot be run, does not end within `limit`, or prints more than 4 MiB.
pub async fn run(program: &Path, args: &[&str], input: &[u8], limit: Duration) -> io::Result<Ended> {
    let mut child = tokio::process::Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (mut stdin, stdout, stderr) = match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => (stdin, stdout, stderr),
        _ => return Err(io::Error::other("it has no pipes")),
    };
    let write = async move {
        match stdin.write_all(input).await {
            // A program may end without reading its input.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let read = async {
        let (mut stdout, mut stderr) = (stdout.take(MOST_OUTPUT), stderr.take(MOST_OUTPUT));
        tokio::try_join!(write, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err))?;
        child.wait().await
    };
    let late = || io::Error::other(format!("it did not end within {} s", limit.as_secs()));
    let status = tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err(late()))?;
    if out.len() as u64 >= MOST_OUTPUT {
        return Err(io::Error::other("it printed more than 4 MiB"));
    }
    Ok(Ended { status, stdout: out, stderr: String::from_utf8_lossy(&err).into_owned() })
}

/// A count of the processes in this control group that the kernel killed for lack of memory, at the start of
/// a watch. `None` inside if the kernel does not count them.
#[derive(Debug, Clone, Copy)]
pub struct Kills(Option<u64>);

impl Kills {
    /// Starts a watch.
    pub fn watch() -> Kills {
        Kills(kills(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup")))
    }

    /// Returns true if the count has risen since the watch began, and false if it is unknown.
    fn rose(self) -> bool {
        self.0.zip(Kills::watch().0).is_some_and(|(before, now)| now > before)
    }
}

/// Reads the counter `oom_kill` of the memory control group that `own` (/proc/self/cgroup, cgroups(7)) names,
/// below `mount`. Version 2 of control groups has the counter in `memory.events`, version 1 in
/// `memory.oom_control`.
fn kills(own: &Path, mount: &Path) -> Option<u64> {
    let own = fs::read_to_string(own).ok()?;
    let group = |line: &str| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let group = group.trim_start_matches('/').to_string();
        match controllers {
            "" => Some((mount.to_path_buf(), group, "memory.events")),
            some if some.split(',').any(|one| one == "memory") => {
                Some((mount.join("memory"), group, "memory.oom_control"))
            }
            _ => None,
        }
    };
    let counter =
        |text: String| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    own.lines().filter_map(group).find_map(|(mount, group, file)| {
        // A container may see its own group as the root of the mount, but by the name that it has outside.
        let places = [mount.join(group).join(file), mount.join(file)];
        places.iter().find_map(|place| counter(fs::read_to_string(place).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn version_kills_its_child_when_it_is_dropped() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, pid) = (folder.path().join("slow"), folder.path().join("pid"));
        let script = format!(
            "#!/bin/sh\necho $$ > {0}.new\n/bin/mv {0}.new {0}\nexec /bin/sleep 600\n",
            pid.display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let asked = tokio::spawn(async move { version(&path).await });
        let pid: String = loop {
            match fs::read_to_string(&pid) {
                Ok(pid) => break pid,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        asked.abort();
        let process = PathBuf::from("/proc").join(pid.trim());
        while fs::read_to_string(process.join("cmdline")).is_ok_and(|line| line.contains("sleep")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn only_absolute_entries_of_path_are_searched() {
        let folder = tempfile::tempdir_in(".").unwrap();
        fs::write(folder.path().join("some-tool"), "").unwrap();
        let name = folder.path().file_name().unwrap().to_str().unwrap();
        let absolute = folder.path().canonicalize().unwrap();
        for relative in [format!("{name}:./{name}"), String::new(), ":".into(), ".".into()] {
            assert_eq!(locate("some-tool", Some(&relative), &[]), None, "{relative}");
            let both = format!("{relative}:{}", absolute.display());
            assert_eq!(locate("some-tool", Some(&both), &[]), Some(absolute.join("some-tool")));
        }
    }

    #[test]
    fn kills_are_read_from_both_versions_of_control_groups() {
        let home = tempfile::tempdir().unwrap();
        let (own, mount) = (home.path().join("own"), home.path().join("mount"));
        let write = |path: &str, text: &str| {
            let path = mount.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("system.slice/b.service/memory.events", "low 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 1\n");
        write("memory.events", "oom_kill 5\n");
        write("memory/docker/x/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
        for (text, want) in [
            ("0::/system.slice/b.service\n", Some(2)),
            ("0::/../outside/of/the/container\n", Some(5)),
            ("4:cpu,cpuacct:/docker/x\n3:hugetlb,memory:/docker/x\n", Some(3)),
            ("4:cpu:/docker/x\n", None),
            ("", None),
        ] {
            fs::write(&own, text).unwrap();
            assert_eq!(kills(&own, &mount), want, "{text}");
        }
        assert_eq!(kills(Path::new("/nothing/here"), &mount), None);
        assert!(!Kills(None).rose() && !Kills(Some(u64::MAX)).rose());
    }
}
