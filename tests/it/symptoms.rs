//! docs/troubleshooting.md: what it quotes is what the tool says, and its commands are commands.

use std::path::Path;

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// The cells of each row.
fn rows() -> Vec<Vec<&'static str>> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// All sources below a folder, each text in them in one line.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("symptoms.rs") {
            let text = std::fs::read_to_string(&path).expect("a source");
            let joined = text.split("\\\n").map(str::trim_start).collect::<Vec<_>>().join("");
            into.push_str(&joined);
            into.push('\n');
        }
    }
}

#[test]
fn what_is_quoted_is_said() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    sources(&root.join("src"), &mut all);
    sources(&root.join("tests/it"), &mut all);
    let mut pieces = 0;
    for row in rows() {
        for piece in quoted(row[0]).flat_map(|message| message.split('…')) {
            let piece = piece.trim_end();
            assert!(all.contains(piece), "nobody says {piece:?}");
            pieces += usize::from(piece.len() > 5);
        }
    }
    assert!(pieces > 12, "{pieces}");
}

#[test]
fn its_commands_are_commands() {
    let mut commands = 0;
    for row in rows() {
        assert_eq!(row.len(), 3, "{row:?}");
        for command in row[1..].iter().flat_map(|cell| quoted(cell)) {
            let Some((_, args)) = command.split_once("uzima-backup ") else { continue };
            let args = std::iter::once("uzima-backup").chain(args.split(' '));
            let parsed = uzima_backup::cli::command().try_get_matches_from(args);
            assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
            commands += 1;
        }
    }
    assert!(commands > 12, "{commands}");
}
