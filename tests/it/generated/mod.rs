//! Man pages, completions, JSON Schemas and the tables of settings are generated from the definitions in the code, and committed. These
//! tests compare them. `UPDATE_GENERATED=1 cargo test --test it -- generated` writes them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

mod completions;
mod configuration;
mod man;
mod pages;

/// The command line without the subcommand `help`, which has no man page.
fn tool() -> clap::Command {
    uzima_backup::cli::command().disable_help_subcommand(true)
}

/// Every generated file and its content.
fn files() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut command = tool();
    command.build();
    for (page, is_tool) in command.get_subcommands().map(|c| (c, false)).chain([(&command, true)]) {
        let name = page.get_display_name().unwrap_or(page.get_name());
        files.insert(PathBuf::from(format!("man/{name}.1")), man::page(page, is_tool));
    }
    files.extend(completions::files());
    files.insert(PathBuf::from(configuration::PAGE), configuration::page());
    files.extend(uzima_backup::cli::schemas().map(|(name, schema)| {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        (PathBuf::from(format!("docs/schema/{name}.json")), text.into_bytes())
    }));
    files
}

#[test]
fn what_is_generated_is_of_the_binary() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = files();
    assert!(files.len() >= 7, "{:?}", files.keys());
    for (path, content) in &files {
        let path = root.join(path);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(
            committed == *content,
            "{} is out of date: run UPDATE_GENERATED=1 cargo test --test it -- generated",
            path.display()
        );
    }
    for folder in ["man", "completions", "docs/schema"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = Path::new(folder).join(entry.unwrap().file_name());
            assert!(files.contains_key(&path), "{} belongs to no command", path.display());
        }
    }
}
