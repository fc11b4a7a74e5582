//! Checks the claims of the documents that a program can check.

mod format;
mod json;
pub mod schema;

use std::collections::BTreeSet;

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Adds all keys of a JSON value, at any depth.
pub fn keys(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                into.insert(key.clone());
                keys(value, into);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
        _ => {}
    }
}

#[test]
fn exit_codes_are_the_same_everywhere() {
    use uzima_backup::base::exit::Exit;
    let all: Vec<Exit> = Exit::all().collect();
    let shown: Vec<String> = all.iter().map(|exit| exit.shown()).collect();
    assert_eq!(shown, ["0", "1", "2", "3", "4", "5", "6", "75", "128 + n"]);
    let page = read("docs/operations.md");
    let table =
        page.split_once("| exit code | meaning | what to do |\n|---|---|---|\n").expect("the table").1;
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), all.len());
    for (exit, row) in all.iter().zip(rows) {
        let advice = row.strip_prefix(&format!("| {} | {} | ", exit.shown(), exit.meaning()));
        assert!(advice.is_some_and(|advice| advice.len() > " |".len()), "{row}");
    }
    let man = read("man/uzima-backup.1").replace("\\-", "-");
    let help = uzima_backup::cli::command().render_long_help().to_string();
    // Help is wrapped to the terminal's width.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for exit in all {
        let entry = format!("{} {}", exit.shown(), exit.meaning());
        assert!(help.contains(&entry), "--help does not say {entry:?}");
        let entry = format!("\\fB{}\\fR\n{}\n", exit.shown(), exit.meaning());
        assert!(man.contains(&entry), "the man page does not say {entry:?}");
    }
}

/// The table of tested versions is the kit's list of servers.
#[test]
fn compatibility_md_lists_the_versions_that_the_tests_run() {
    use uzima_backup::model::versions;
    use uzima_backup::model::versions::Support;
    use uzima_testkit::mongod::Version;
    let page = read("docs/compatibility.md");
    let table = page.split_once("| version | run by the tests |\n|---|---|\n").expect("the table").1;
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let listed: Vec<&str> = rows.map(|row| row.split('|').nth(1).expect("a version").trim()).collect();
    assert_eq!(listed, Version::ALL.map(Version::as_str));
    // `health` calls exactly these versions tested.
    assert!(listed.iter().all(|version| versions::support(version) == Support::Tested), "{listed:?}");
    for tested in versions::TESTED {
        assert!(listed.iter().any(|version| version.starts_with(&format!("{tested}."))), "{tested}");
        assert!(read("README.md").contains(&tested.to_string()), "{tested}");
    }
    assert!(page.contains(&format!("| newer than {} |", versions::NEWEST)));
    assert!(page.contains(&format!("| older than {} |", versions::OLDEST)));
}

/// Reads a page, and checks that it names at least so many tests, and that all of them exist.
#[track_caller]
fn with_tests(page: &str, at_least: usize) -> String {
    let this = std::env::current_exe().unwrap();
    let list = std::process::Command::new(this).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let tests: BTreeSet<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let parsers = read("fuzz/parsers.rs");
    let exists = |name: &str| match name.strip_prefix("fuzzing::tests::") {
        Some(name) => parsers.contains(&format!("fn {name}()")),
        None => tests.contains(name),
    };
    let text = read(page);
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).collect();
    assert!(named.len() >= at_least, "{page}: {}", named.len());
    let missing: Vec<&&str> = named.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{page}: no such test: {missing:?}");
    text
}

/// Each row of a table with a column of tests names a test.
#[test]
fn security_md_names_tests_that_exist() {
    let text = with_tests("docs/security.md", 30);
    let mut tested = false;
    for row in text.lines() {
        match row.strip_prefix("| ") {
            Some(_) if row.ends_with("| Test |") => tested = true,
            Some(_) if tested => assert!(row.contains("::"), "no test behind: {row}"),
            Some(_) => {}
            None => tested = tested && row.starts_with('|'),
        }
    }
}

#[test]
fn reliability_md_names_tests_that_exist() {
    let text = with_tests("docs/reliability.md", 100);
    for row in text.lines().filter(|row| row.starts_with("| ") && !row.starts_with("| What happens")) {
        assert!(row.contains("::"), "no test behind: {row}");
    }
}
