//! `[package.metadata.deb]`, from which cargo-deb makes the package.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::{ending, read, root};
use crate::cli::support::run;

fn metadata() -> toml::Table {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("Cargo.toml");
    manifest["package"]["metadata"]["deb"].as_table().expect("the metadata").clone()
}

/// A row of the assets.
struct Asset {
    /// The files, with the star of the row expanded; empty for a file that only a build creates.
    sources: Vec<PathBuf>,
    to: String,
    mode: u32,
}

fn assets() -> Vec<Asset> {
    let rows = metadata()["assets"].as_array().expect("a list").clone();
    let asset = |row: &toml::Value| {
        let cell = |n: usize| row[n].as_str().expect("a text").to_string();
        let (from, to, mode) = (cell(0), cell(1), cell(2));
        let sources = match from.split_once('*') {
            _ if from.starts_with("target/") => vec![],
            Some((folder, end)) => ending(&root().join(folder), end),
            None => vec![root().join(&from)],
        };
        assert!(!sources.is_empty() || from == "target/release/uzima-backup", "no file is {from}");
        assert!(sources.iter().all(|path| path.is_file()), "no file is {from}");
        Asset { sources, to, mode: u32::from_str_radix(&mode, 8).expect("octal") }
    };
    rows.iter().map(asset).collect()
}

#[test]
fn everything_that_is_there_is_packed_with_its_mode() {
    let assets = assets();
    let packed: BTreeSet<&PathBuf> = assets.iter().flat_map(|asset| &asset.sources).collect();
    let systemd = root().join("examples/systemd");
    for (folder, end) in [
        (root().join("man"), ".1"),
        (root().join("completions"), ""),
        (root().join("docs"), ".md"),
        (systemd.clone(), ".service"),
        (systemd.clone(), ".timer"),
        (systemd.join("uzima-backup-.service.d"), ".conf"),
    ] {
        let there = ending(&folder, end);
        assert!(!there.is_empty());
        for file in there {
            assert!(packed.contains(&file), "{} is not packed", file.display());
        }
    }
    for Asset { to, mode, .. } in &assets {
        let want = match to.as_str() {
            "usr/bin/" => 0o755,
            // It may hold secrets; postinst gives it the group that may read them.
            "etc/uzima-backup/config.toml" => 0o640,
            _ => 0o644,
        };
        assert_eq!(*mode, want, "{to}");
    }
}

/// An upgrade does not overwrite files that an operator changed.
#[test]
fn what_is_in_etc_is_the_operators() {
    let in_etc: Vec<String> =
        assets().into_iter().filter(|a| a.to.starts_with("etc/")).map(|a| format!("/{}", a.to)).collect();
    let metadata = metadata();
    let kept: Vec<&str> = metadata["conf-files"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_str().expect("a text"))
        .collect();
    assert_eq!(kept, in_etc);
    assert_eq!(kept, [uzima_backup::config::DEFAULT_FILE]);
}

/// The documents link to each other and to examples; the package has all of them.
#[test]
fn a_link_of_a_packed_document_leads_to_a_packed_file() {
    const DOC: &str = "usr/share/doc/uzima-backup/";
    let mut packed: Vec<(PathBuf, PathBuf)> = Vec::new();
    for Asset { sources, to, .. } in assets().into_iter().filter(|asset| asset.to.starts_with(DOC)) {
        for from in sources {
            let to = if to.ends_with('/') {
                Path::new(&to).join(from.file_name().expect("a name"))
            } else {
                (&to).into()
            };
            packed.push((from, to));
        }
    }
    for (from, to) in packed.iter().filter(|(_, to)| to.extension().is_some_and(|end| end == "md")) {
        let text = read(from);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || link.contains("://") {
                continue;
            }
            let mut path = to.parent().expect("a folder").to_path_buf();
            for part in Path::new(file).components() {
                match part {
                    Component::ParentDir => drop(path.pop()),
                    part => path.push(part),
                }
            }
            assert!(packed.iter().any(|(_, to)| to.starts_with(&path)), "{}: {link}", from.display());
        }
    }
}

/// Debian's policy requires a copyright file and a changelog in every package.
#[test]
fn licence_and_changelog_are_there() {
    let path = |key: &str| root().join(metadata()[key].as_str().expect("a path"));
    let copyright = read(&path("license-file"));
    let words =
        |text: &str| text.split_whitespace().filter(|word| *word != ".").collect::<Vec<_>>().join(" ");
    let licence = words(&read(&root().join("LICENSE")));
    let (_, terms) = licence.split_once("Permission is").expect("the terms");
    assert!(words(&copyright).ends_with(terms) && copyright.contains("\nLicense: MIT\n"), "{copyright}");
    // cargo-deb's revision, where none is set, is 1.
    let first = format!("uzima-backup ({}-1) ", env!("CARGO_PKG_VERSION"));
    assert!(read(&path("changelog")).starts_with(&first));
}

#[test]
fn the_scripts_are_sound() {
    let folder = root().join(metadata()["maintainer-scripts"].as_str().expect("a folder"));
    let scripts = ending(&folder, "");
    let names: Vec<_> =
        scripts.iter().map(|path| path.file_name().expect("a name").to_string_lossy()).collect();
    assert_eq!(names, ["postinst", "postrm", "prerm"]);
    for script in &scripts {
        let text = read(script);
        assert!(text.starts_with("#!/bin/sh\n") && text.contains("\nset -e\n"), "{}", script.display());
        let mode = script.metadata().expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{}", script.display());
        run(Command::new("sh").arg("-n").arg(script)).ends(0);
    }
    // The scripts name every timer, and the user of the units.
    let text: String = scripts.iter().map(|script| read(script)).collect();
    let timers = ending(&root().join("examples/systemd"), ".timer");
    let operations =
        text.split_once("for operation in ").expect("a loop").1.split(';').next().expect("a list");
    let mut stopped: Vec<String> =
        operations.split(' ').map(|operation| format!("uzima-backup-{operation}.timer")).collect();
    stopped.sort();
    let timers: Vec<_> =
        timers.iter().map(|path| path.file_name().expect("a name").to_string_lossy()).collect();
    assert_eq!(stopped, timers);
    assert!(text.contains("useradd --system") && text.contains(" uzima-backup\n"));
}

/// The README says that the binary needs only libc.
#[test]
fn the_binary_needs_libc_alone() {
    let ran = run(Command::new("readelf").args(["-d", env!("CARGO_BIN_EXE_uzima-backup")])).ends(0);
    let needed = ran.stdout.lines().filter(|line| line.contains("(NEEDED)"));
    let needed: Vec<&str> = needed.filter_map(|line| line.split_once('[')?.1.strip_suffix(']')).collect();
    assert!(needed.contains(&"libc.so.6"), "{}", ran.stdout);
    // glibc's own: its mathematics and its loader.
    let libc = |name: &&str| ["libc.so", "libm.so", "ld-linux"].iter().any(|own| name.starts_with(own));
    assert!(needed.iter().all(libc), "{needed:?}");
}

/// A purge deletes only the state, because the state directory may also contain backups.
#[test]
fn a_purge_takes_the_state_and_no_backup() {
    let folder = tempfile::tempdir().expect("a folder");
    let (state, var) = (folder.path().join("uzima-backup"), folder.path().to_str().expect("UTF-8"));
    let etc = folder.path().join("etc");
    let script = read(&root().join("packaging/debian/postrm")).replace("/var/lib", var);
    let script = script.replace("/etc/", &format!("{}/", etc.display()));
    let purge = || run(Command::new("sh").args(["-c", &script, "postrm", "purge"])).ends(0).stdout;
    let fill = |below: &str| {
        for name in ["locks/all@vm.backup.lock", "uploads/one.json", uzima_backup::notify::throttle::FILE] {
            let file = state.join(below).join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
            std::fs::write(file, "x").expect("a file");
        }
    };
    fill("");
    fill(".local/state/uzima-backup");
    std::fs::create_dir_all(etc.join("uzima-backup")).expect("a folder");
    assert_eq!(purge(), "");
    assert!(!state.exists());
    // Files of an operator are reported and stay.
    for name in ["uzima-backup/mongo_uri", "systemd/system/uzima-backup-.service.d/local.conf"] {
        let file = etc.join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("folders");
        std::fs::write(&file, "x").expect("a file");
        let told = format!("{} is not removed: ", file.parent().expect("a folder").display());
        assert!(purge().contains(&told) && file.exists(), "{told}");
    }
    fill("");
    let backup = state.join("backups/2026/11/manifest.json");
    std::fs::create_dir_all(backup.parent().expect("a folder")).expect("folders");
    std::fs::write(&backup, "{}").expect("a file");
    purge();
    assert!(backup.exists());
    assert_eq!(std::fs::read_dir(&state).expect("the state").count(), 1);
}
