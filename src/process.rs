//! How this process shares the machine: a backup often runs beside the database that it reads. And what
//! becomes of its children.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the kernel kill a child that is about to be started when the thread ends that starts it: a run that is
/// killed takes its child along, which might never notice.
pub fn die_with_us(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, sched_setscheduler and getppid.
    #[cfg(target_os = "linux")]
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            interactive();
            // Killed in between, it would have been too early to be told.
            if libc::getppid() as u32 == parent { Ok(()) } else { Err(io::Error::other("orphaned")) }
        });
    }
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
