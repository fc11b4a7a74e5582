//! Answers the questions of a restore as a person does.

use std::process::Command;

use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, Ran, TOOL, run};
use crate::cli::terminal::Terminal;

pub const UP: &[u8] = b"\x1b[A";
pub const CTRL_C: &[u8] = b"\x03";

/// The questions, in order. Those about the target's data come after the plan.
pub const BACKUP: &str = "Which backup?";
pub const NAMESPACES: &str = "Which namespaces?";
pub const LIST: &str = "Which of them?";
pub const DOCUMENTS: &str = "Filter for documents";
pub const TARGET: &str = "Into which server?";
pub const NAMES: &str = "Under which names?";
pub const EXISTING: &str = "What happens to it?";
pub const CONFIRM: &str = "Restore this? [y/N] ";
pub const NAME: &str = "Type its name to restore this, ";

/// A restore at a terminal, and the questions that were answered.
pub struct Guided {
    pub terminal: Terminal,
    /// The text on the screen before the last question.
    pub before: String,
}

impl Guided {
    /// Starts `restore` with this tool and these flags.
    pub fn start(mut tool: Command, flags: &[&str]) -> Guided {
        tool.arg("restore").args(flags);
        Guided { terminal: Terminal::start(tool, 80), before: String::new() }
    }

    /// Waits for a question.
    #[track_caller]
    pub fn waits(&mut self, question: &str) -> &mut Guided {
        self.terminal.until(question);
        self
    }

    /// Waits for a question and answers it.
    #[track_caller]
    pub fn answers(&mut self, question: &str, keys: &[u8]) -> &mut Guided {
        self.waits(question);
        self.before.push_str(&self.terminal.taken());
        self.terminal.types(keys);
        self
    }

    /// Takes what Enter chooses.
    #[track_caller]
    pub fn enters(&mut self, question: &str) -> &mut Guided {
        self.answers(question, b"\r")
    }

    /// Chooses the entry of a list with this text.
    #[track_caller]
    pub fn picks(&mut self, question: &str, text: &str) -> &mut Guided {
        self.answers(question, format!("{text}\r").as_bytes())
    }

    /// Chooses one namespace from the list.
    #[track_caller]
    pub fn picks_namespace(&mut self, name: &str) -> &mut Guided {
        self.picks(NAMESPACES, "from a list").answers(LIST, format!("{name} \r").as_bytes())
    }

    /// Waits for the confirmation, and returns the plan and the command line above it.
    #[track_caller]
    pub fn planned(&mut self, question: &str) -> (String, String) {
        self.waits(question);
        let screen = self.terminal.taken().replace('\r', "");
        let (plan, rest) = screen.split_once("\nThis command does the same").expect("a command line");
        let (_, rest) = rest.split_once(":\n\n").expect("a command line");
        let (line, _) = rest.split_once("\n\n").expect("a command line");
        self.before.push_str(&screen);
        (plan.to_string(), line.to_string())
    }

    /// Types a line, and waits for the end.
    #[track_caller]
    pub fn confirms(mut self, line: &str) -> (Option<i32>, String) {
        self.terminal.types(format!("{line}\n").as_bytes());
        let (code, screen) = self.terminal.ends();
        (code, self.before + &screen)
    }
}

/// Runs a printed command line with the environment of `tool`, without its last question.
pub fn pasted(tool: &Command, line: &str) -> Ran {
    let mut bash = Command::new("bash");
    bash.env_clear().current_dir("/");
    bash.envs(tool.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let script = format!("uzima-backup() {{ {TOOL} \"$@\"; }}\n{line} --yes");
    run(bash.args(["-c", &script]))
}

/// The tool of a home that restores into `target`, if there is one, else into `source`.
pub fn tool(home: &Home, source: &Mongod, target: Option<&Mongod>) -> Command {
    let mut command = home.to_dir(&source.uri());
    if let Some(target) = target {
        command.env("RESTORE_URI", target.uri());
    }
    command
}
