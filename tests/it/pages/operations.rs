//! docs/operations.md: what it says of exit codes and policies.

use uzima_backup::config::file;
use uzima_backup::exit::Exit;

use super::{blocks, read};

#[test]
fn each_exit_code_has_advice() {
    let page = read("docs/operations.md");
    let table = page.split_once("| exit code | what to do |\n|---|---|\n").expect("the table").1;
    let rows = table.lines().map_while(|line| line.strip_prefix("| ")?.split_once(" | "));
    let shown: Vec<&str> = rows.map(|(code, _)| code).collect();
    assert_eq!(shown, Exit::all().map(Exit::shown).collect::<Vec<_>>());
}

#[test]
fn its_policies_are_settings() {
    let page = read("docs/operations.md");
    let policies: Vec<_> = blocks(&page).into_iter().filter(|block| block.language == "toml").collect();
    for policy in &policies {
        let values = file::parse("policy", policy.code).unwrap_or_else(|e| panic!("{}", e.chain()));
        assert!(values.contains_key("retention_days"), "{}", policy.code);
    }
    assert_eq!(policies.len(), 3);
}
