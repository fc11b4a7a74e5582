//! The example configuration works as it ships.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use uzima_backup::config::Raw;
use uzima_backup::config::file;
use uzima_backup::config::table::SETTINGS;

use super::support::{Home, bare, run};

fn shipped(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The example with every commented-out setting switched on: `#key = value` and `#[table]`. Prose has a space
/// after `#`.
fn all_on(text: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with([' ', '#']) => setting.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| on(line) + "\n").collect()
}

#[test]
fn the_example_configuration_works_unchanged() {
    let home = Home::new();
    let path = home.path().join("config.toml");
    std::fs::write(&path, shipped("examples/config.toml")).expect("a file");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("its mode");
    let shown = run(bare().arg("--config").arg(&path).args(["config", "--json"])).ends(0).json();
    let from_file: Vec<&str> = shown["settings"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|row| row["origin"] == path.display().to_string())
        .map(|row| row["key"].as_str().expect("a key"))
        .collect();
    assert_eq!(from_file, ["mongo_uri", "dir"], "the smallest set that works");
}

#[test]
fn the_example_configuration_works_with_every_setting_switched_on() {
    let text = shipped("examples/config.toml");
    let values = file::parse("config.toml", &all_on(&text)).unwrap_or_else(|e| panic!("{}", e.chain()));
    for setting in SETTINGS {
        let value = values.get(setting.key).unwrap_or_else(|| panic!("{} is missing", setting.key));
        if let Some(default) = setting.default {
            assert_eq!(*value, Raw::Text(default.into()), "the example shows {}'s default", setting.key);
        }
        assert!(text.contains(setting.env), "{} is not named", setting.env);
        assert_eq!(matches!(value, Raw::List(_)), setting.list, "{}", setting.key);
    }
    assert_eq!(values.len(), SETTINGS.len());
}
