//! Completions for the shells.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap_complete::Shell;

/// The files.
pub fn files() -> Vec<(PathBuf, Vec<u8>)> {
    let file = |shell: Shell| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut uzima_backup::cli::command(), "uzima-backup", &mut text);
        let text = String::from_utf8(text).expect("UTF-8");
        // clap_complete 4.6 takes the hyphen of the tool's name for a space where it completes subcommands for
        // bash, and then finds none.
        let text = text.replace("uzima__subcmd__backup__subcmd__", "uzima__backup__subcmd__");
        (PathBuf::from(format!("completions/uzima-backup.{shell}")), text.into_bytes())
    };
    [Shell::Bash, Shell::Zsh, Shell::Fish].map(file).into()
}

/// What bash proposes for the last of the words.
fn proposed(words: &[&str]) -> Vec<String> {
    let script = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _uzima__backup "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions/uzima-backup.bash");
    let ran = Command::new("bash").args(["-c", script, "bash"]).arg(file).args(words).output().expect("bash");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("UTF-8").lines().map(String::from).collect()
}

/// Behind every command, each of its flags.
#[test]
fn bash_knows_the_flags_of_every_command() {
    let mut tool = uzima_backup::cli::command();
    tool.build();
    assert!(proposed(&["uzima-backup", "ver"]).contains(&"verify".to_string()));
    for command in tool.get_subcommands().filter(|command| command.get_name() != "help") {
        for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(|arg| arg.get_long())
        {
            let flag = format!("--{flag}");
            let found = proposed(&["uzima-backup", command.get_name(), &flag]);
            assert!(found.contains(&flag), "{} {flag}: {found:?}", command.get_name());
        }
    }
}
