//! Runs the tool at a pseudo-terminal, as a person does.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest wait for a text or for the end of the tool.
const LONGEST: Duration = Duration::from_secs(60);

/// The modes of a terminal: its input, output and local flags.
pub type Modes = (libc::tcflag_t, libc::tcflag_t, libc::tcflag_t);

/// A terminal at which the tool runs.
pub struct Terminal {
    person: File,
    child: Child,
    shown: Vec<u8>,
}

impl Terminal {
    /// Starts a command with this terminal, `columns` wide, as its controlling terminal. Standard output goes
    /// elsewhere. A line that is drawn again needs `TERM`, which cron does not set.
    pub fn start(mut command: Command, columns: u16) -> Terminal {
        let (person, program) = pair();
        set_width(&person, columns);
        command.env("TERM", "xterm");
        command.stdin(program.try_clone().expect("a terminal")).stdout(Stdio::null()).stderr(program);
        // SAFETY: setsid(2) and ioctl(2) take no pointers here and are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                match libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        // Dropping the command closes the program's side of the terminal here.
        let child = command.spawn().expect("the tool starts");
        Terminal { person, child, shown: Vec::new() }
    }

    /// Types these bytes.
    pub fn types(&mut self, bytes: &[u8]) {
        self.person.write_all(bytes).expect("the terminal takes input");
    }

    /// Sends a signal to the tool.
    pub fn signals(&self, signal: i32) {
        // SAFETY: the process is our own child and has not been waited for yet.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits until the screen shows the text.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        let began = Instant::now();
        while !self.screen().contains(text) {
            assert!(self.read(began) && began.elapsed() < LONGEST, "no {text:?} in:\n{}", self.screen());
        }
    }

    /// Returns everything that the tool wrote since the start or the last call.
    pub fn taken(&mut self) -> String {
        let screen = self.screen();
        self.shown.clear();
        screen
    }

    /// The present modes.
    pub fn modes(&self) -> Modes {
        let mut modes = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: the descriptor is open, and the structure outlives the call, which fills it.
        let modes = unsafe {
            assert_eq!(libc::tcgetattr(self.person.as_raw_fd(), modes.as_mut_ptr()), 0, "modes");
            modes.assume_init()
        };
        (modes.c_iflag, modes.c_oflag, modes.c_lflag)
    }

    /// Closes the terminal, as if its window was closed. Returns the exit code of the tool.
    pub fn closes(self) -> Option<i32> {
        let Terminal { person, mut child, .. } = self;
        drop(person);
        let began = Instant::now();
        loop {
            if let Some(ended) = child.try_wait().expect("its state") {
                return ended.code();
            }
            if began.elapsed() >= LONGEST {
                let _ = child.kill();
                panic!("the tool does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Changes the width.
    pub fn resize(&mut self, columns: u16) {
        set_width(&self.person, columns);
    }

    /// Waits for the end of the tool. Returns its exit code and everything that it wrote since [`Terminal::taken`].
    #[track_caller]
    pub fn ends(self) -> (Option<i32>, String) {
        let (code, screen, _) = self.ends_with_modes();
        (code, screen)
    }

    /// As [`Terminal::ends`]. Also returns the modes that the tool leaves.
    #[track_caller]
    pub fn ends_with_modes(mut self) -> (Option<i32>, String, Modes) {
        let began = Instant::now();
        while self.read(began) {
            if began.elapsed() >= LONGEST {
                let _ = self.child.kill();
                panic!("the tool does not end:\n{}", self.screen());
            }
        }
        (self.child.wait().expect("its end").code(), self.screen(), self.modes())
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Reads what is there, or waits for it. Returns false after the tool closed the terminal.
    fn read(&mut self, began: Instant) -> bool {
        let mut poll = libc::pollfd { fd: self.person.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let left = LONGEST.saturating_sub(began.elapsed()).as_millis() as i32;
        // SAFETY: the array of one descriptor outlives the call.
        if unsafe { libc::poll(&mut poll, 1, left) } == 0 {
            return true;
        }
        let mut bytes = [0; 4096];
        // Once the tool has closed its side, reading ends with an error after the last output.
        let read = self.person.read(&mut bytes).unwrap_or(0);
        self.shown.extend_from_slice(&bytes[..read]);
        read > 0
    }
}

/// Opens a terminal: the person's side and the program's. No other program inherits them, so the terminal is closed as soon as
/// the person's side is.
fn pair() -> (File, OwnedFd) {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the calls take no pointers, and nothing else owns the descriptors that they return.
    unsafe {
        let person = libc::posix_openpt(flags);
        assert!(person >= 0, "a terminal");
        let person = File::from_raw_fd(person);
        assert_eq!((libc::grantpt(person.as_raw_fd()), libc::unlockpt(person.as_raw_fd())), (0, 0));
        let program = libc::ioctl(person.as_raw_fd(), libc::TIOCGPTPEER, flags);
        assert!(program >= 0, "the other side of the terminal");
        (person, OwnedFd::from_raw_fd(program))
    }
}

fn set_width(person: &File, columns: u16) {
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the size outlives the call.
    let resized = unsafe { libc::ioctl(person.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    assert_eq!(resized, 0, "a width");
}
