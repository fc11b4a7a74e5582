//! The questions end without an answer, or are not asked at all: nothing is changed, and the terminal is as before.

use std::process::{Command, Stdio};

use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{Snapshot, read_all};

use super::support::*;
use crate::cli::support::run;
use crate::cli::terminal::Terminal;
use crate::restore::support::{Backup, rows, server};

/// The questions on the way to a drop, with the keys that answer them.
const WAY: [(&str, &[u8]); 9] = [
    ("Which job?", b"\r"),
    (BACKUP, b"\r"),
    (NAMESPACES, b"from a list\r"),
    (LIST, b"orders \r"),
    (DOCUMENTS, b"\r"),
    (TARGET, b"\r"),
    (NAMES, b"as they\r"),
    (EXISTING, b"drop:\r"),
    (NAME, b""),
];

/// A server with two jobs, of which one is configured, and with other data than its backups.
struct Asked {
    source: Mongod,
    client: Client,
    backup: Backup,
    live: Snapshot,
}

impl Asked {
    async fn new() -> Asked {
        let (source, client) = server().await;
        rows(&client, "shop", "orders", 0..3).await;
        rows(&client, "shop", "carts", 0..3).await;
        let backup = Backup::of(&source, &["--job", "nightly"]);
        run(backup.home.to_dir(&source.uri()).args(["backup", "--job", "hourly", "--db", "shop"])).ends(0);
        rows(&client, "shop", "orders", 3..6).await;
        let live = read_all(&client).await.expect("the server");
        Asked { source, client, backup, live }
    }

    fn tool(&self) -> Command {
        tool(&self.backup.home, &self.source, None)
    }

    /// Answers the questions before this one, and waits for it.
    fn until(&self, question: usize) -> Guided {
        let mut guided = Guided::start(self.tool(), &[]);
        for (text, keys) in &WAY[..question] {
            guided.answers(text, keys);
        }
        guided.waits(WAY[question].0);
        guided
    }

    async fn is_unchanged(&self) {
        let now = read_all(&self.client).await.expect("the server");
        assert_eq!(self.live.diff(&now), Vec::<String>::new());
    }
}

/// Asserts that the cursor is visible at the end.
#[track_caller]
fn shows_the_cursor(screen: &str) {
    assert!(screen.rfind("\u{1b}[?25h") >= screen.rfind("\u{1b}[?25l"), "{screen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_at_every_question_ends_the_restore_and_changes_nothing() {
    let asked = Asked::new().await;
    for (number, (question, _)) in WAY.iter().enumerate() {
        let terminal = Terminal::start(waiting(), 80);
        let modes = terminal.modes();
        drop(terminal);
        let mut guided = asked.until(number);
        guided.terminal.types(CTRL_C);
        let (code, screen, left) = guided.terminal.ends_with_modes();
        assert_eq!(code, Some(130), "{question}: {screen}");
        assert!(
            screen.ends_with("error: ended by SIGINT; nothing was changed\r\n"),
            "{question}: {screen:?}"
        );
        assert_eq!(left, modes, "{question}");
        shows_the_cursor(&screen);
        asked.is_unchanged().await;
    }
}

/// A command that leaves its terminal as it is.
fn waiting() -> Command {
    let mut command = Command::new("true");
    command.env_clear();
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_the_end_of_the_input_and_esc_change_nothing() {
    let asked = Asked::new().await;
    let ends = |guided: Guided, code: i32, why: &str| {
        let modes = Terminal::start(waiting(), 80).modes();
        let (ended, screen, left) = guided.terminal.ends_with_modes();
        assert_eq!(ended, Some(code), "{screen}");
        let error = format!("\r\n\u{1b}[Jerror: {why}; nothing was changed\r\n");
        assert!(screen.ends_with(&error), "{screen:?}");
        assert_eq!(left, modes, "{why}");
        shows_the_cursor(&screen);
    };
    // A list, a list with marks, and a line.
    for question in [1, 3, 4] {
        for (signal, code, name) in [(libc::SIGTERM, 143, "SIGTERM"), (libc::SIGHUP, 129, "SIGHUP")] {
            let guided = asked.until(question);
            guided.terminal.signals(signal);
            ends(guided, code, &format!("ended by {name}"));
        }
        let mut guided = asked.until(question);
        guided.terminal.types(b"\x04");
        ends(guided, 1, "not restored, because the input ended without an answer");
        assert_eq!(asked.until(question).terminal.closes(), Some(129));
    }
    let mut guided = asked.until(0);
    guided.terminal.types(b"\x1b");
    let (code, screen) = guided.terminal.ends();
    assert_eq!(code, Some(1), "{screen}");
    let error = "error: not restored, because it was not confirmed; nothing was changed\r\n";
    assert!(screen.ends_with(error), "{screen:?}");
    shows_the_cursor(&screen);
    asked.is_unchanged().await;
}

/// Without a person to ask, the id is missing as before.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_without_a_terminal_or_with_yes() {
    let asked = Asked::new().await;
    let missing = "error: the following required arguments were not provided: <latest|ID>\n\
                   next step: `uzima-backup restore --help` shows the usage\n";
    let ran = run(asked.tool().arg("restore").stdin(Stdio::null())).ends(2);
    assert_eq!(ran.stderr, missing);
    let ran = run(asked.tool().args(["restore", "--ns-include", "shop.*", "--drop"])).ends(2);
    assert_eq!(ran.stderr, missing);
    let (code, screen) = Terminal::start(
        {
            let mut command = asked.tool();
            command.args(["restore", "--yes"]);
            command
        },
        80,
    )
    .ends();
    assert_eq!((code, screen.replace('\r', "")), (Some(2), missing.to_string()));
    asked.is_unchanged().await;
}
