//! docs/configuration.md has a hand-written head and, below a mark, generated tables of all settings.

use std::collections::BTreeMap;
use std::path::Path;

use clap::error::ErrorKind;
use uzima_backup::cli;
use uzima_backup::config::table::{SETTINGS, Setting};
use uzima_backup::config::uri::table::{HONOURED, IGNORED, REFUSED, TRANSLATED};

use super::pages::VARIABLES;

pub const PAGE: &str = "docs/configuration.md";

/// Everything below this line is generated.
const MARK: &str =
    "<!-- generated from src/config/table.rs: UPDATE_GENERATED=1 cargo test --test it -- generated -->\n";

/// The committed head and the generated tables.
pub fn page() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = std::fs::read_to_string(path).expect(PAGE);
    let head = text.split_once(MARK).expect("the mark above the tables").0;
    let flags = flags();
    let mut page = format!("{head}{MARK}");
    let tables = [
        ("", "Top level", "are outside of tables"),
        ("hooks.", "`[hooks]`", "are in the table `[hooks]`"),
        ("mail.", "`[mail]`", "are in the table `[mail]`"),
        ("s3.", "`[s3]`", "are in the table `[s3]`"),
    ];
    for (prefix, title, place) in tables {
        page += &format!("\n## {title}\n\nThe keys {place}.\n\n");
        page += "| key | variable | flag | default | what it is for |\n|---|---|---|---|---|\n";
        for setting in SETTINGS {
            let (table, key) = setting.key.rsplit_once('.').unwrap_or(("", setting.key));
            if prefix.trim_end_matches('.') == table {
                page += &row(setting, key, flags.get(setting.key).map_or("", String::as_str));
            }
        }
    }
    assert_eq!(page[head.len()..].matches("\n| `").count(), SETTINGS.len(), "a table is missing");
    page += "\n## Variables that are not settings\n\n| variable | what it is for |\n|---|---|\n";
    for (name, what) in VARIABLES {
        page += &format!("| {name} | {what} |\n");
    }
    page += &options();
    page.into_bytes()
}

/// The options of connection strings.
fn options() -> String {
    let code =
        |names: &str| names.split_whitespace().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut text = "\n## Options of connection strings\n\n".to_string();
    text += "These tables hold for `mongo_uri`, `restore_uri`, `drill_uri` and `records`, and for both engines;\n\
             mongodump gets the options that it uses, in its own spelling. Letter case does not matter. If an option is\n\
             there twice, the last one counts, with a warning. An option without a value is ignored with a warning; an\n\
             option of TLS or of the login without a value is an error. An option that is in none of these tables is an\n\
             error (exit code 2).\n\n\
             | honoured | other spellings |\n|---|---|\n";
    for option in HONOURED {
        text += &format!("| `{}` | {} |\n", option.name, code(option.spellings));
    }
    text += "\n| translated | into |\n|---|---|\n";
    for option in TRANSLATED {
        text += &format!("| `{}={}` | `{}={}` |\n", option.name, option.value, option.option, option.becomes);
    }
    text += "\n| ignored, with one warning | because |\n|---|---|\n";
    for row in IGNORED {
        text += &format!("| {} | {} |\n", code(row.names), row.why);
    }
    text += "\n| refused (exit code 2) | instead |\n|---|---|\n";
    for row in REFUSED {
        text += &format!("| {} | {} |\n", code(row.names), row.instead);
    }
    text
}

fn row(setting: &Setting, key: &str, flag: &str) -> String {
    let variable = match setting.file_variable() {
        Some(file) => format!("`{}`, `{file}`", setting.env),
        None => format!("`{}`", setting.env),
    };
    let default = setting.default.map(|value| format!("`{value}`")).unwrap_or_default();
    let list = if setting.list { " (a list)" } else { "" };
    format!("| `{key}` | {variable} | {flag} | {default} | {}{list} |\n", setting.help)
}

/// The flags that set each setting, with their commands. Found by parsing every flag of every command.
fn flags() -> BTreeMap<&'static str, String> {
    let mut found: BTreeMap<&str, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let mut command = cli::command();
    command.build();
    let mut commands = 0;
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        commands += 1;
        for flag in command.get_arguments().filter_map(|arg| arg.get_long()) {
            for key in set_by(command.get_name(), flag) {
                let of = found.entry(key).or_default().entry(format!("`--{flag}`")).or_default();
                of.push(command.get_name().to_string());
            }
        }
    }
    let shown = |(flag, of): (String, Vec<String>)| match of.len() == commands {
        true => flag,
        false => format!("{flag} of {}", of.join(", ")),
    };
    let all =
        |flags: BTreeMap<String, Vec<String>>| flags.into_iter().map(shown).collect::<Vec<_>>().join("; ");
    found.into_iter().map(|(key, flags)| (key, all(flags))).collect()
}

/// The settings that a flag of a command sets.
fn set_by(command: &str, flag: &str) -> Vec<&'static str> {
    const ID: &str = "20261123T030000Z-7k3q9d";
    let needed: &[&str] = match command {
        "restore" => &["latest"],
        "get" => &["latest", "shop.orders"],
        "pin" | "unpin" => &[ID],
        "verify" => &["--drill"],
        "notify" => &["--test"],
        "copy" => &["--missing"],
        "diff" => &[ID, "latest"],
        "keygen" => &["--out", "backup.key"],
        _ => &[],
    };
    let flag = format!("--{flag}");
    let mut refused = String::new();
    let alone = [ErrorKind::ArgumentConflict, ErrorKind::MissingRequiredArgument, ErrorKind::DisplayHelp];
    // A switch, then values of every kind there is.
    for value in [
        None,
        Some("1"),
        Some("30m"),
        Some("10%"),
        Some("json"),
        Some(ID),
        Some("failed"),
        Some("failure"),
        Some("freshness"),
        Some("2026-11-23"),
    ] {
        let args = ["uzima-backup", command].into_iter().chain(needed.iter().copied());
        match cli::set_by(args.chain([flag.as_str()]).chain(value)) {
            Ok(keys) => return keys,
            // A flag that conflicts with, or needs, another flag is an action and sets nothing.
            Err(e) if alone.contains(&e.kind()) => return vec![],
            Err(e) => refused = e.to_string(),
        }
    }
    panic!("no value fits {command} {flag}: {refused}")
}

#[test]
fn flags_are_found() {
    let flags = flags();
    assert_eq!(flags["drill_uri"], "`--to-uri` of verify");
    assert_eq!(flags["log_file"], "`--log-file`");
    assert_eq!(flags["databases"], "`--db` of backup, oplog");
    assert_eq!(flags["check_compression"], "`--check-compression` of backup");
    assert!(!flags.contains_key("retention_days"));
}
