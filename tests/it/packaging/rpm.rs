//! `[package.metadata.generate-rpm]`, from which cargo-generate-rpm makes the package: the same files as the Debian package.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{ending, read, root};
use crate::cli::support::run;

fn metadata(of: &str) -> toml::Table {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("Cargo.toml");
    manifest["package"]["metadata"][of].as_table().expect("the metadata").clone()
}

fn assets() -> Vec<toml::Table> {
    let rows = metadata("generate-rpm")["assets"].as_array().expect("a list").clone();
    rows.iter().map(|row| row.as_table().expect("a table").clone()).collect()
}

fn text<'a>(row: &'a toml::Table, key: &str) -> &'a str {
    row.get(key).and_then(|value| value.as_str()).unwrap_or_default()
}

/// Both packages install the same sources at the same places, except for the folders that differ between the distributions.
#[test]
fn it_has_the_files_of_the_debian_package() {
    let of_rpm: BTreeSet<(String, String, String)> = assets()
        .iter()
        .map(|row| (text(row, "source").into(), text(row, "dest").into(), text(row, "mode").into()))
        .filter(|(source, ..)| source != "LICENSE")
        .collect();
    let deb = metadata("deb")["assets"].as_array().expect("a list").clone();
    let cell = |row: &toml::Value, n: usize| row[n].as_str().expect("a text").to_string();
    let of_deb: BTreeSet<(String, String, String)> = deb
        .iter()
        .map(|row| (cell(row, 0), format!("/{}", cell(row, 1)), cell(row, 2)))
        // Debian's policy wants a second changelog.
        .filter(|(_, to, _)| !to.ends_with("/changelog"))
        .map(|(source, to, mode)| {
            let to = match to.as_str() {
                "/usr/bin/" => "/usr/bin/uzima-backup".into(),
                _ => to.replace("/zsh/vendor-completions/", "/zsh/site-functions/"),
            };
            (source, to, mode)
        })
        .collect();
    assert_eq!(of_rpm, of_deb);
    let licence: Vec<_> = assets().into_iter().filter(|row| text(row, "source") == "LICENSE").collect();
    assert_eq!(text(&licence[0], "dest"), "/usr/share/licenses/uzima-backup/LICENSE");
}

#[test]
fn an_upgrade_keeps_the_settings_of_the_operator() {
    for row in assets() {
        let in_etc = text(&row, "dest").starts_with("/etc/");
        assert_eq!(text(&row, "config"), if in_etc { "noreplace" } else { "" }, "{row}");
        assert_eq!(text(&row, "group"), if in_etc { "uzima-backup" } else { "" }, "{row}");
        let documents = ["/usr/share/doc/", "/usr/share/man/", "/usr/share/licenses/"];
        let is_document = documents.iter().any(|folder| text(&row, "dest").starts_with(folder));
        assert_eq!(row.get("doc").and_then(toml::Value::as_bool).unwrap_or_default(), is_document, "{row}");
    }
}

/// The scripts create the user before the files arrive, and stop the timers only at the removal.
#[test]
fn the_scripts_are_sound() {
    let metadata = metadata("generate-rpm");
    let keys = ["pre_install", "post_install", "pre_uninstall", "post_uninstall"];
    let scripts = keys.map(|key| root().join(text(&metadata, &format!("{key}_script"))));
    let mut there = ending(&root().join("packaging/rpm"), "");
    let mut named = scripts.to_vec();
    there.sort();
    named.sort();
    assert_eq!(named, there);
    for script in &scripts {
        assert!(read(script).starts_with("#!/bin/sh\n") && read(script).contains("\nset -e\n"));
        assert_eq!(script.metadata().expect("a file").permissions().mode() & 0o777, 0o755);
        run(Command::new("sh").arg("-n").arg(script)).ends(0);
    }
    let debian = |name: &str| read(&root().join("packaging/debian").join(name));
    let [user, state, timers, _] = scripts.each_ref().map(|path| read(path));
    let loop_of = |text: &str| {
        text.split_once("for operation in ").and_then(|(_, rest)| rest.split(';').next()).map(str::to_string)
    };
    assert!(loop_of(&timers).is_some() && loop_of(&timers) == loop_of(&debian("prerm")), "{timers}");
    let home = "--home-dir /var/lib/uzima-backup --no-create-home";
    assert!(user.contains(home) && debian("postinst").contains(home), "{user}");
    let install = "install -d -m 0700 -o uzima-backup -g uzima-backup /var/lib/uzima-backup";
    assert!(state.contains(install) && debian("postinst").contains(install), "{state}");
    assert!(metadata["requires"].as_table().is_some_and(|all| all.contains_key("shadow-utils")));
    // No script removes a file.
    assert!(scripts.iter().all(|script| !read(script).contains("rm ")));
}
