//! docs/troubleshooting.md: the tool prints the messages that the page quotes, and the page's commands are valid.

use std::path::Path;

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// The cells of each row of the table.
fn rows() -> Vec<Vec<&'static str>> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The texts between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Adds the sources below a folder without their tests and comments. A text that spans several lines becomes one line.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            continue;
        }
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code: Vec<&str> =
                product.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let joined = code.join("\n").split("\\\n").map(str::trim_start).collect::<Vec<_>>().join("");
            into.push_str(&joined);
            into.push('\n');
        }
    }
}

#[test]
fn every_quoted_message_is_in_the_sources() {
    let mut all = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    let mut pieces = 0;
    for row in rows() {
        for piece in quoted(row[0]).flat_map(|message| message.split('…')) {
            let piece = piece.trim_end();
            assert!(all.contains(piece), "no message has {piece:?}");
            pieces += usize::from(piece.len() > 5);
        }
    }
    assert!(pieces > 12, "{pieces}");
}

#[test]
fn every_command_is_valid() {
    let mut commands = 0;
    for row in rows() {
        assert_eq!(row.len(), 3, "{row:?}");
        for command in row[1..].iter().flat_map(|cell| quoted(cell)) {
            let Some((_, args)) = command.split_once("uzima-backup ") else { continue };
            let args =
                args.split(' ').map(|word| if word == "ID" { "20261123T030000Z-7k3q9d" } else { word });
            let args = std::iter::once("uzima-backup").chain(args);
            let parsed = uzima_backup::cli::command().try_get_matches_from(args);
            assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
            commands += 1;
        }
    }
    assert!(commands > 12, "{commands}");
}
