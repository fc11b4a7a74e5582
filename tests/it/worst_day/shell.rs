//! The commands of a page, and a shell with only the tool and stock programs, as on a machine after a
//! disaster.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, SECRET_KEY};

use crate::cli::support::{Home, TOOL, run};

/// A stand-in for mongorestore that keeps its input, for machines without it.
const TAKES: &str = "#!/bin/sh
case \" $* \" in
*' --archive '*) cat > \"$TAKEN\" ;;
*) for last; do :; done; cp -R \"$last\" \"$TAKEN\" ;;
esac
";

/// The folder in which the commands run, and the values for their placeholders.
pub struct Shell {
    home: Home,
    /// The folder for backups.
    pub backups: PathBuf,
    /// The connection string of the restored server.
    pub target: String,
    /// The id of the restored backup.
    pub id: String,
    /// The time before the mistake, in RFC 3339.
    pub time: String,
    /// Additional environment variables.
    pub env: Vec<(&'static str, String)>,
}

impl Shell {
    pub fn new(backups: &Path, target: &str) -> Shell {
        Shell {
            home: Home::new(),
            backups: backups.into(),
            target: target.into(),
            id: String::new(),
            time: String::new(),
            env: Vec::new(),
        }
    }

    /// The folder in place of `/var/tmp/rescue`.
    pub fn rescue(&self) -> PathBuf {
        self.home.path().join("rescue")
    }

    /// Replaces every placeholder of the page and of RECOVERY.txt, and nothing else.
    fn filled_in(&self, block: &str) -> String {
        [
            ("mongodb://localhost:27017", self.target.as_str()),
            ("mongodb://db2.example.com:27017", &self.target),
            ("/var/backups/mongodb", &self.backups.display().to_string()),
            ("/var/tmp/rescue", &self.rescue().display().to_string()),
            ("20261123T030000Z-7k3q9d", &self.id),
            ("2026-11-24T13:59:59Z", &self.time),
            ("my-backups", BUCKET),
            ("eu-central-1", "us-east-1"),
            ("AWS_ACCESS_KEY_ID=...", &format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}")),
            ("AWS_SECRET_ACCESS_KEY=...", &format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}")),
        ]
        .into_iter()
        .fold(block.to_string(), |text, (example, real)| text.replace(example, real))
    }

    /// Runs a block of commands and returns its output.
    pub fn run(&self, block: &str) -> String {
        self.run_with(&[], block)
    }

    /// Runs a block with a stand-in for mongorestore. Returns the path of the input that mongorestore would
    /// have read.
    pub fn taken(&self, block: &str) -> PathBuf {
        let bin = self.home.path().join("bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        let program = bin.join("mongorestore");
        std::fs::write(&program, TAKES).expect("a program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        assert!(block.contains("mongorestore "), "{block}");
        self.run_with(&[bin], block);
        self.home.path().join("taken")
    }

    fn run_with(&self, before: &[PathBuf], block: &str) -> String {
        let tool = Path::new(TOOL).parent().expect("its folder").to_path_buf();
        let stock = std::env::var_os("PATH").expect("a PATH");
        let all = before.iter().cloned().chain([tool]).chain(std::env::split_paths(&stock));
        let mut command = Command::new("sh");
        command.arg("-ec").arg(self.filled_in(block)).env_clear().current_dir(self.home.path());
        command.env("PATH", std::env::join_paths(all).expect("a PATH"));
        command.env("TAKEN", self.home.path().join("taken")).env("BACKUP_MIN_FREE", "0");
        command.env("UZIMA_BACKUP_STATE_DIR", self.home.state()).env("UZIMA_BACKUP_CONFIG", "/dev/null");
        command.envs(self.env.iter().cloned());
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(0), "{block}\n{}{}", ran.stdout, ran.stderr);
        ran.stdout + &ran.stderr
    }
}

/// A heading, and the blocks of commands below it.
pub type Section = (String, Vec<String>);

/// The sections of a Markdown page that have commands.
///
/// # Panics
///
/// Panics if a block of code has a language that no shell runs.
pub fn sections(page: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let (mut heading, mut above) = ("", "");
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let marked = std::mem::replace(&mut above, line).starts_with("<!-- not run: ");
        if let Some(language) = line.strip_prefix("```") {
            if marked || language == "js" || language == "text" {
                // The reason is above, or it is a user, which pages::users creates, or a message.
                lines.by_ref().take_while(|line| *line != "```").for_each(drop);
                continue;
            }
            assert_eq!(language, "sh", "a block of code below '{heading}'");
            let block = lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n");
            match sections.last_mut().filter(|(last, _)| last == heading) {
                Some((_, blocks)) => blocks.push(block),
                None => sections.push((heading.into(), vec![block])),
            }
        } else if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
    }
    sections
}

/// The indented blocks of a plain text.
pub fn indented(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(command) if open => {
                blocks.last_mut().expect("one is open").push_str(&format!("\n{command}"))
            }
            Some(command) => blocks.push(command.into()),
            None => {}
        }
        open = line.starts_with("    ");
    }
    blocks
}

#[test]
fn blocks_are_found_by_their_heading() {
    let page = "# A\ntext\n## B\n```sh\none\n\ntwo\n```\nx\n```sh\nthree\n```\n### C\n";
    assert_eq!(sections(page), [("B".to_string(), vec!["one\n\ntwo".to_string(), "three".to_string()])]);
    assert_eq!(indented("a\n    b\n      c\n\n    d\n"), ["b\n  c", "d"]);
}
