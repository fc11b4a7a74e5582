//! How this process shares the machine: a backup often runs beside the database that it reads. And what
//! becomes of its children, and of signals that would end it without a word.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::base::memory::Kills;

/// Has the kernel kill a child that is about to be started when the thread ends that starts it: a run that is
/// killed takes its child along, which might never notice.
pub fn die_with_us(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, sched_setscheduler, signal and
    // getppid.
    #[cfg(target_os = "linux")]
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            interactive();
            // What is ignored here is ignored after exec as well.
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            // Killed in between, it would have been too early to be told.
            if libc::getppid() as u32 == parent { Ok(()) } else { Err(io::Error::other("orphaned")) }
        });
    }
}

/// Has a write beyond the file-size limit (`ulimit -f`, setrlimit(2)) fail with EFBIG. By default the kernel ends
/// the process by SIGXFSZ, before it can report anything.
pub fn survive_file_size_limit() {
    // SAFETY: a call without pointers.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The size in bytes that no file of this process may exceed (`RLIMIT_FSIZE`, setrlimit(2)); `None` if it has no
/// limit.
pub fn file_size_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` outlives the call and has room for the answer.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Why a signal ended a child, and the next step; `None` for signals that speak for themselves.
pub fn why_killed(signal: i32, kills: Kills) -> Option<(&'static str, &'static str)> {
    match signal {
        libc::SIGKILL if kills.rose() => Some(("the kernel killed it for lack of memory", MEMORY)),
        libc::SIGKILL => Some(("perhaps the kernel killed it for lack of memory", MEMORY)),
        libc::SIGXFSZ => Some((
            "it reached its file-size limit",
            "Raise the limit: `ulimit -f` in the shell that starts this, LimitFSIZE= in a unit of systemd",
        )),
        _ => None,
    }
}

/// The next step where the kernel killed a child for lack of memory.
const MEMORY: &str = "If `dmesg` or `journalctl -k` says so, raise the memory limit of the container or service (docker \
                      --memory, MemoryMax= of systemd), or give the machine more memory";

/// Returns true if this process ignores a signal, as `nohup` has it ignore SIGHUP.
pub fn ignores(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is changed; `action` has room for the answer, and zeroes are a valid one.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Makes the calling thread, and those it starts, batch work for the scheduler (sched(7), `SCHED_BATCH`):
/// whoever wakes up does not interrupt who computes. A pipeline of threads otherwise interrupts its own
/// compressors for every packet that arrives: 2.5 % of a backup's time. Only a wish.
pub fn batch() {
    // SAFETY: the parameter outlives the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &libc::sched_param { sched_priority: 0 }) };
}

/// Undoes [`batch`], for a child that others wait for. Safe between fork and exec.
pub fn interactive() {
    // SAFETY: the parameter outlives the call.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &libc::sched_param { sched_priority: 0 }) };
}

/// Lets the calling thread yield to others when the processors are busy (setpriority(2)): the server
/// and the threads that feed the compressors go first. Only a wish.
pub fn yielding() {
    // SAFETY: a call without pointers; on Linux 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, libc::getpriority(libc::PRIO_PROCESS, 0) + 10) };
}
