//! The code blocks of the documents: each block of commands is run by a test, or a comment says why not.

mod commands;
mod point_in_time;
mod retention;
mod users;

use std::collections::BTreeSet;
use std::path::Path;

/// The comment above a block that no test can run. The reason follows.
const MARK: &str = "<!-- not run: ";

/// The sections whose commands a test runs. docs/restore.md is not in the list: its own test fails for an unknown
/// block.
const RUN: &[(&str, &str, &str)] = &[
    ("README.md", "A backup, a list and a restore", "readme::the_transcript_is_what_the_commands_print"),
    ("README.md", "First backup", "readme::the_first_backup_is_restored_with_stock_tools"),
    ("README.md", "To S3", "readme::the_policies_allow_exactly_the_requests_of_backup_and_cleanup"),
    ("README.md", "Verify", "pages::commands::of_the_readme"),
    ("README.md", "Restore", "readme::the_restore_commands_restore"),
    ("README.md", "Bring it back", "readme::the_first_backup_is_restored_with_stock_tools"),
    ("docs/configuration.md", "Configuration", "pages::commands::of_the_operations_page"),
    ("docs/copies.md", "The worst day", "copies::page::a_lost_first_place_is_restored_from_and_filled_again"),
    (
        "docs/copies.md",
        "Filling the first place again",
        "copies::page::a_lost_first_place_is_restored_from_and_filled_again",
    ),
    ("docs/encryption.md", "Set-up", "encryption::page::the_commands_of_the_page_restore"),
    ("docs/encryption.md", "The worst day", "encryption::page::the_commands_of_the_page_restore"),
    ("docs/encryption.md", "Oplog slices", "encryption::page::the_commands_of_the_page_restore"),
    ("docs/monitoring.md", "What to alert on", "readme::health_does_what_its_section_says"),
    ("docs/monitoring.md", "Health", "readme::health_does_what_its_section_says"),
    ("docs/monitoring.md", "Statistics", "readme::the_first_backup_is_restored_with_stock_tools"),
    ("docs/monitoring.md", "Mail", "pages::commands::the_test_mail"),
    ("docs/operations.md", "Monthly", "pages::commands::of_the_operations_page"),
    ("docs/operations.md", "What changed between two backups", "diff::page::the_commands_compare_backups"),
    ("docs/operations.md", "Storing the oplog", "pages::point_in_time::of_the_operations_page"),
    ("docs/operations.md", "Moving the store", "pages::commands::of_the_operations_page"),
    ("docs/operations.md", "Changing the server", "pages::commands::the_server_changes"),
    ("docs/point-in-time.md", "Set-up", "pages::point_in_time::of_the_page"),
    ("docs/point-in-time.md", "The worst day", "pages::point_in_time::of_the_page"),
    ("docs/point-in-time.md", "One collection", "pages::point_in_time::of_the_page"),
    ("docs/point-in-time.md", "Join the slices", "pages::point_in_time::of_the_page"),
    ("docs/signing.md", "Set-up", "signing::page::the_commands_of_the_page_prove_a_backup_and_a_slice"),
    (
        "docs/signing.md",
        "Check a backup",
        "signing::page::the_commands_of_the_page_prove_a_backup_and_a_slice",
    ),
    (
        "docs/signing.md",
        "Check a slice",
        "signing::page::the_commands_of_the_page_prove_a_backup_and_a_slice",
    ),
];

/// The first code block of a language after a heading.
///
/// # Panics
/// If there is none in that section.
pub fn block<'a>(page: &'a str, heading: &str, language: &str) -> &'a str {
    let title = |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == heading;
    let found = blocks(page).into_iter().find(|block| title(block.heading) && block.language == language);
    found.unwrap_or_else(|| panic!("no block of {language} below {heading}")).code
}

pub struct Block<'a> {
    /// The line of the heading above.
    pub heading: &'a str,
    pub language: &'a str,
    pub code: &'a str,
    /// The line above.
    pub above: &'a str,
}

/// All code blocks of a page.
pub fn blocks(page: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut heading, mut above, mut at) = (Vec::new(), "", "", 0);
    while at < page.len() {
        let line = page[at..].lines().next().expect("a line");
        at += line.len() + 1;
        if let Some(language) = line.strip_prefix("```") {
            let code = page[at..].split_once("\n```").expect("its end").0;
            blocks.push(Block { heading, language, code, above });
            at += code.len() + "\n```\n".len();
        } else if line.starts_with('#') {
            heading = line;
        }
        if !line.is_empty() {
            above = line;
        }
    }
    blocks
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The pages whose commands and links are checked.
fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).expect("docs");
    let docs = docs.map(|entry| format!("docs/{}", entry.expect("an entry").file_name().display()));
    let mut pages: Vec<String> = docs.filter(|path| path.ends_with(".md")).collect();
    pages.extend(["README.md", "CONTRIBUTING.md"].map(String::from));
    pages
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let this = std::env::current_exe().expect("this test");
    let list = std::process::Command::new(this).arg("--list").output().expect("its tests");
    let list = String::from_utf8(list.stdout).expect("UTF-8");
    let tests: BTreeSet<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let mut seen = BTreeSet::new();
    for path in pages().iter().filter(|path| *path != "docs/restore.md") {
        let page = read(path);
        for block in blocks(&page).iter().filter(|block| ["sh", "bash", "console"].contains(&block.language))
        {
            let title = block.heading.trim_start_matches('#').trim();
            if let Some(why) = block.above.strip_prefix(MARK) {
                assert!(why.len() > 10, "{path}, {title}: why is it not run?");
                continue;
            }
            let run = RUN.iter().find(|(page, heading, _)| page == path && *heading == title);
            let run = run.unwrap_or_else(|| panic!("{path}: no test runs the commands below '{title}'"));
            assert!(seen.insert(run), "{path}: a test runs only the first block below '{title}'");
            assert!(tests.contains(run.2), "there is no test {}", run.2);
        }
    }
    assert_eq!(seen.len(), RUN.len(), "a section of the list has no commands");
}

#[test]
fn links_between_the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let anchor = |line: &str| -> String {
        let kept = line.trim_start_matches('#').trim().chars();
        let kept = kept.filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_');
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    let mut links = 0;
    for path in pages() {
        let page = read(&path);
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let to = match file {
                "" => root.join(&path),
                file => root.join(&path).parent().expect("a folder").join(file),
            };
            assert!(to.exists(), "{path}: the target of {link} does not exist");
            links += 1;
            if !section.is_empty() {
                let text = std::fs::read_to_string(&to).expect("a page");
                let there = text.lines().any(|line| line.starts_with('#') && anchor(line) == section);
                assert!(there, "{path}: the target of {link} does not exist");
            }
        }
    }
    assert!(links > 40, "{links}");
}
