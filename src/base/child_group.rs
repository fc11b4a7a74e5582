//! A program of the administrator that runs in a process group of its own: its output is read line by line, and when its time
//! is over, the whole group is ended.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::process;

/// The longest line in bytes. The rest of a longer line is skipped.
const LONGEST_LINE: usize = 64 << 10;

/// How long the output is read after the program has ended: until it is silent for `IDLE`, but at most for `REST`. A process
/// that the program left behind may write for hours.
const IDLE: Duration = Duration::from_millis(50);
const REST: Duration = Duration::from_secs(1);

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupEnd {
    Exited(ExitStatus),
    /// It did not end within its time, and its group was ended.
    Late,
    /// The caller ended its group.
    Stopped,
}

/// Runs a program to its end, in a process group of its own, so that it does not get the signals of the terminal. `on_line` gets
/// each line of its standard output and standard error, in their order. Processes that the program leaves behind go on.
///
/// When `limit` has passed, or `stop` is ready, the group gets SIGTERM and, if a process of it still runs when `grace` is ready,
/// SIGKILL. A dropped future kills the group at once, and the kernel kills the program if this process is killed.
///
/// # Errors
/// Returns an error if the program cannot be run.
pub async fn run(
    mut command: Command,
    limit: Duration,
    stop: impl Future<Output = ()>,
    grace: impl Future<Output = ()>,
    mut on_line: impl FnMut(&str),
) -> io::Result<GroupEnd> {
    process::die_with_us(&mut command);
    let (reader, writer) = io::pipe()?;
    command.process_group(0).stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = tokio::process::Command::from(command).spawn()?;
    let group = Group::of(child.id());
    let mut output = Output { pipe: Some(Receiver::from_owned_fd(reader.into())?), ..Output::default() };
    let late = sleep_until(Instant::now() + limit);
    tokio::pin!(late, stop);
    let end = loop {
        tokio::select! {
            status = child.wait() => break GroupEnd::Exited(status?),
            () = &mut late => break GroupEnd::Late,
            () = &mut stop => break GroupEnd::Stopped,
            () = output.read(&mut on_line), if output.pipe.is_some() => {}
        }
    };
    match end {
        GroupEnd::Exited(_) => group.forget(),
        GroupEnd::Late | GroupEnd::Stopped => {
            group.signal(Signal::TERM);
            {
                let ended = async {
                    let _ = child.wait().await;
                    while group.is_there() {
                        sleep(Duration::from_millis(20)).await;
                    }
                };
                tokio::pin!(ended, grace);
                loop {
                    tokio::select! {
                        () = &mut ended => break,
                        () = &mut grace => break,
                        () = output.read(&mut on_line), if output.pipe.is_some() => {}
                    }
                }
            }
            drop(group);
        }
    }
    let rest = async {
        let mut has_more = true;
        while has_more && output.pipe.is_some() {
            has_more = timeout(IDLE, output.read(&mut on_line)).await.is_ok();
        }
    };
    let _ = timeout(REST, rest).await;
    output.end(&mut on_line);
    Ok(end)
}

/// A process group, which is killed when this value is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(id: Option<u32>) -> Group {
        Group(id.and_then(|id| Pid::from_raw(id as i32)))
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.0 {
            // The group may have ended.
            let _ = kill_process_group(id, signal);
        }
    }

    /// Returns true if a process of the group exists.
    fn is_there(&self) -> bool {
        self.0.is_some_and(|id| test_kill_process_group(id).is_ok())
    }

    /// Lets the processes of the group go on.
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The output of a program.
#[derive(Default)]
struct Output {
    /// `None` after the end of the output.
    pipe: Option<Receiver>,
    line: Vec<u8>,
    /// The rest of a line that was too long is skipped.
    skipping: bool,
}

impl Output {
    /// Waits for output and passes its lines on.
    async fn read(&mut self, on_line: &mut impl FnMut(&str)) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut bytes = [0; 4096];
        match pipe.read(&mut bytes).await {
            Ok(0) | Err(_) => self.pipe = None,
            Ok(len) => {
                for part in bytes[..len].split_inclusive(|byte| *byte == b'\n') {
                    self.take(part, on_line);
                }
            }
        }
    }

    /// Takes a part of a line, with the line break if it is the last part.
    fn take(&mut self, part: &[u8], on_line: &mut impl FnMut(&str)) {
        let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
        if !self.skipping {
            let room = LONGEST_LINE - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ends || self.line.len() == LONGEST_LINE {
                self.pass_on(on_line);
                self.skipping = !ends;
            }
        } else if ends {
            self.skipping = false;
        }
    }

    /// Passes the last line on, if it has no line break.
    fn end(&mut self, on_line: &mut impl FnMut(&str)) {
        if !self.line.is_empty() {
            self.pass_on(on_line);
        }
    }

    fn pass_on(&mut self, on_line: &mut impl FnMut(&str)) {
        on_line(String::from_utf8_lossy(&self.line).trim_end());
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    async fn ran(script: &str, limit: Duration) -> (GroupEnd, Vec<String>) {
        let mut lines = Vec::new();
        let grace = async { sleep(Duration::from_millis(300)).await };
        let end = run(shell(script), limit, std::future::pending(), grace, |line| lines.push(line.into()));
        (end.await.unwrap(), lines)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn lines_of_both_outputs_come_in_their_order() {
        let (end, lines) =
            ran("echo one; echo two >&2; printf 'three\r\n\n'; printf four; exit 3", LONG).await;
        assert!(matches!(end, GroupEnd::Exited(status) if status.code() == Some(3)), "{end:?}");
        assert_eq!(lines, ["one", "two", "three", "", "four"]);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let (_, lines) = ran("head -c 200000 /dev/zero | tr '\\0' x; echo; echo next", LONG).await;
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LONGEST_LINE, 4]);
    }

    #[tokio::test]
    async fn a_process_that_is_left_behind_goes_on_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (pid, pipe) = (folder.path().join("pid"), folder.path().join("pipe"));
        // The process keeps the output open until the test opens the pipe.
        let script = format!(
            "mkfifo {pipe}; (read line < {pipe}; echo $line > {pid}.end) & echo $! > {pid}; echo done",
            pipe = pipe.display(),
            pid = pid.display()
        );
        let (end, lines) = ran(&script, LONG).await;
        assert!(matches!(end, GroupEnd::Exited(status) if status.success()), "{end:?}");
        assert_eq!(lines, ["done"]);
        std::fs::write(&pipe, "alive\n").unwrap();
        let end = folder.path().join("pid.end");
        while std::fs::read_to_string(&end).ok().as_deref() != Some("alive\n") {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Returns once no process with these ids runs. A zombie, which nobody has waited for, counts as ended.
    async fn all_end(pids: &str) {
        for pid in pids.split_whitespace() {
            let state = || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                stat.rsplit(") ").next()?.chars().next()
            };
            while state().is_some_and(|state| state != 'Z') {
                sleep(Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test]
    async fn late_programs_end_with_their_children_even_if_these_ignore_sigterm() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let script = format!(
            "sh -c 'trap \"\" TERM; echo $$ >> {0}; while :; do sleep 1; done' & echo $$ $! >> {0}; echo ready; wait",
            pids.display()
        );
        let (end, lines) = ran(&script, Duration::from_secs(2)).await;
        assert_eq!((end, lines), (GroupEnd::Late, vec!["ready".to_string()]));
        all_end(&std::fs::read_to_string(&pids).unwrap()).await;
    }

    #[tokio::test]
    async fn a_stopped_program_may_clean_up() {
        let stop = tokio_util::sync::CancellationToken::new();
        let mut lines = Vec::new();
        let script = "trap 'echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        let end = run(shell(script), LONG, stop.cancelled(), std::future::pending(), |line| {
            lines.push(line.to_string());
            stop.cancel();
        });
        assert_eq!(end.await.unwrap(), GroupEnd::Stopped);
        // In between, the shell may report that the signal ended its `sleep`, too.
        assert_eq!((lines[0].as_str(), lines.last().map(String::as_str)), ("ready", Some("cleaned")));
    }

    #[tokio::test]
    async fn a_dropped_run_kills_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let pids = folder.path().join("pids");
        let script = format!("sleep 600 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", pids.display());
        let running = tokio::spawn(async move { ran(&script, LONG).await });
        while !pids.exists() {
            sleep(Duration::from_millis(10)).await;
        }
        running.abort();
        all_end(&std::fs::read_to_string(&pids).unwrap()).await;
    }
}
