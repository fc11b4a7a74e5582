//! Completions for the shells: what clap generates, and functions that offer what this machine knows: ids, jobs, places and namespaces.

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
        let text = match shell {
            Shell::Bash => with_offers_in_bash(&text),
            Shell::Zsh => with_offers_in_zsh(&text),
            Shell::Fish => with_offers_in_fish(&text),
            other => panic!("no offers for {other}"),
        };
        (PathBuf::from(format!("completions/uzima-backup.{shell}")), text.into_bytes())
    };
    [Shell::Bash, Shell::Zsh, Shell::Fish].map(file).into()
}

/// The flags whose values this machine may know.
const FLAGS: [&str; 11] = [
    "job",
    "accept",
    "allow-unsigned",
    "place",
    "to",
    "from",
    "include",
    "exclude",
    "ns-include",
    "ns-exclude",
    "ns",
];

/// Offers what this machine knows before everything else. The tool is the one on PATH, not the one in the command line, so that a key
/// press runs nothing that the user has not confirmed.
const BASH: &str = r#"# Ids, jobs, places and namespaces that this machine knows. No network, and nothing that a file names is expanded.
_uzima_backup_offers() {
    local current="${COMP_WORDS[COMP_CWORD]}" value offers=()
    _uzima__backup "$@"
    [[ ${current} == = ]] && current=""
    while IFS=$'\t' read -r value _; do
        [[ ${value} == "${current}"* ]] && offers+=("${value}")
    done < <(uzima-backup __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" "${current}" 2>/dev/null </dev/null)
    if [[ ${#offers[@]} -gt 0 ]]; then
        COMPREPLY=("${offers[@]}")
        # A flag without known values asks for no space.
        [[ ${BASH_VERSINFO[0]} -ge 4 ]] && compopt +o nospace
    fi
    return 0
}

"#;

fn with_offers_in_bash(text: &str) -> String {
    let (functions, end) = text.rsplit_once("if [[ \"${BASH_VERSINFO[0]}\"").expect("the end of the script");
    let end = end.replace("complete -F _uzima__backup ", "complete -F _uzima_backup_offers ");
    format!("{functions}{BASH}if [[ \"${{BASH_VERSINFO[0]}}\"{end}")
}

const ZSH: &str = r#"# Ids, jobs, places and namespaces that this machine knows, without the network.
(( $+functions[_uzima_backup_offers] )) ||
_uzima_backup_offers() {
    local value described
    local -a offers
    while IFS=$'\t' read -r value described; do
        offers+=("${value}${described:+:$described}")
    done < <(uzima-backup __complete "${_uzima_backup_words[@]}" 2>/dev/null </dev/null)
    # Without a cache, the value that is always there.
    (( $#offers )) || offers=("$@")
    _describe -V 'known' offers
}

"#;

fn with_offers_in_zsh(text: &str) -> String {
    let text = text.replace(
        "_uzima-backup() {\n",
        "_uzima-backup() {\n    local -a _uzima_backup_words; _uzima_backup_words=(\"${(@)words[2,CURRENT]}\")\n",
    );
    let text = text.replace(":(latest)' \\\n", ": _uzima_backup_offers latest' \\\n");
    let with_values = |line: &str| match line.split_once("]:") {
        Some((flag, name))
            if !name.starts_with("TIME") && FLAGS.iter().any(|of| flag.contains(&format!("--{of}=["))) =>
        {
            format!("{flag}]:{}", name.replace(":'", ": _uzima_backup_offers'")) + "\n"
        }
        // The namespaces of `get` and `diff`.
        _ if line.starts_with("':namespace --") || line.starts_with("'::ns --") => {
            line.replace(":' \\", ": _uzima_backup_offers' \\") + "\n"
        }
        _ => format!("{line}\n"),
    };
    let text: String = text.lines().map(with_values).collect();
    let (functions, end) = text.rsplit_once("if [ \"$funcstack[1]\"").expect("the end of the script");
    format!("{functions}{ZSH}if [ \"$funcstack[1]\"{end}")
}

const FISH: &str = r#"# Ids, jobs, places and namespaces that this machine knows, without the network.
function __uzima_backup_offers
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    uzima-backup __complete $words[2..] "$current" 2>/dev/null </dev/null
end

"#;

fn with_offers_in_fish(text: &str) -> String {
    let offers = "-a \"(__uzima_backup_offers)\"";
    // Elsewhere, `--from` and `--to` take a time or a file.
    let is_place = |line: &str| line.contains("using_subcommand copy\"");
    let knows = |line: &str, flag: &str| match flag {
        "from" | "to" => line.contains(&format!(" -l {flag} ")) && is_place(line),
        _ => line.contains(&format!(" -l {flag} ")),
    };
    let with_values = |line: &str| match FLAGS.iter().any(|flag| knows(line, flag)) {
        true => format!("{line} {offers}\n"),
        false => format!("{line}\n"),
    };
    let mut text: String = FISH.to_string() + &text.lines().map(with_values).collect::<String>();
    let mut tool = uzima_backup::cli::command();
    tool.build();
    for command in tool.get_subcommands().filter(|command| takes_an_id(command)) {
        let name = command.get_name();
        text += &format!(
            "complete -c uzima-backup -n \"__fish_uzima_backup_using_subcommand {name}\" -f -k {offers}\n"
        );
    }
    text
}

fn takes_an_id(command: &clap::Command) -> bool {
    command.get_positionals().any(|arg| arg.get_id() == "which" || arg.get_id() == "from_backup")
}

/// The proposals of bash for the last word, in a folder with a file and a folder.
fn proposed(words: &[&str]) -> Vec<String> {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("file"), "").expect("a file");
    std::fs::create_dir(home.path().join("folder")).expect("a folder");
    // The builtin works below a terminal only.
    let script = r#"
        compopt() { printf '%s\n' "$*"; }
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _uzima__backup "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions/uzima-backup.bash");
    let mut bash = Command::new("bash");
    bash.args(["-c", script, "bash"]).arg(file).args(words).current_dir(&home);
    let ran = bash.output().expect("bash");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("UTF-8").lines().map(String::from).collect()
}

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

/// Bash proposes known values, paths for arguments that are paths, and nothing for other values.
#[test]
fn bash_proposes_what_a_value_can_be() {
    let mut tool = uzima_backup::cli::command();
    tool.build();
    let mut closed = Vec::new();
    for command in tool.get_subcommands().filter(|command| command.get_name() != "help") {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            let Some(flag) = arg.get_long() else { continue };
            let values = arg.get_possible_values();
            let kind = arg.get_value_names().map(|names| names[0].as_str()).unwrap_or_default();
            let want: Vec<&str> = match kind {
                _ if !values.is_empty() => values.iter().map(|value| value.get_name()).collect(),
                "FILE" => vec!["-o filenames", "file", "folder"],
                "PATH" => vec!["file", "folder"],
                "DIR" => vec!["-o plusdirs", ""],
                _ => vec!["-o nospace", ""],
            };
            let name = format!("{} --{flag}", command.get_name());
            let mut found = proposed(&["uzima-backup", command.get_name(), &format!("--{flag}"), ""]);
            // Values that are no paths are no files of that name either.
            found.retain(|line| values.is_empty() || line != "-o nospace");
            found[usize::from(kind == "FILE")..]
                .sort_by_key(|line| want.iter().position(|word| word == line));
            assert_eq!(found, want, "{name}");
            closed.extend((!values.is_empty()).then_some(name));
        }
    }
    let some = ["backup --engine", "backup --consistency", "backup --format", "list --status"];
    let more = ["health --skip", "health --only", "notify --event"];
    assert!(some.iter().chain(&more).all(|name| closed.iter().any(|closed| closed == name)), "{closed:?}");
}

/// The completions of fish and zsh never fall back to file names.
#[test]
fn no_shell_proposes_files_where_none_belong() {
    for (shell, falls_back) in
        [("fish", |line| str::ends_with(line, " -r")), ("zsh", |line| str::contains(line, ":_default"))]
            as [(&str, fn(&str) -> bool); 2]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("completions/uzima-backup.{shell}"));
        let text = std::fs::read_to_string(path).expect("completions");
        assert_eq!(text.lines().find(|line| falls_back(line)), None, "{shell}");
    }
}
