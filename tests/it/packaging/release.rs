//! The package for crates.io, and `packaging/release`, which makes all files of a release.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{read, root};
use crate::cli::support::{Ran, run};

/// crates.io refuses a package without these fields. The build of the package needs what the code includes.
#[test]
fn the_package_for_crates_io_has_what_its_build_reads() {
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("Cargo.toml");
    let package = manifest["package"].as_table().expect("a table");
    for key in ["description", "license", "readme", "documentation", "rust-version"] {
        assert!(package.get(key).and_then(toml::Value::as_str).is_some_and(|text| !text.is_empty()), "{key}");
    }
    let count = |key: &str| package[key].as_array().expect("a list").len();
    assert!((1..=5).contains(&count("keywords")) && (1..=5).contains(&count("categories")));
    let include: Vec<PathBuf> = package["include"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|path| {
            root().join(path.as_str().and_then(|path| path.strip_prefix('/')).expect("a path from the root"))
        })
        .collect();
    include.iter().for_each(|path| assert!(path.exists(), "{} does not exist", path.display()));
    let packed = |path: &Path| {
        let path = path.canonicalize().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        include.iter().any(|included| path.starts_with(included))
    };
    let mut included = 0;
    let is_test =
        |path: &Path| path.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"));
    for (file, text) in sources(&root().join("src")) {
        // The tests are not compiled from the package.
        if is_test(file.strip_prefix(root()).expect("below the root")) {
            continue;
        }
        // The macro of the units is given a name alone.
        for path in text.split("include_str!(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let path = file.parent().expect("a folder").join(path);
            assert!(packed(&path), "{} includes {}", file.display(), path.display());
            included += 1;
        }
    }
    assert!(included >= 2 && packed(&root().join("examples/systemd/uzima-backup-backup.service")));
    for path in ["build.rs", "askama.toml", "LICENSE", package["readme"].as_str().expect("a text")] {
        assert!(packed(&root().join(path)), "{path}");
    }
    // A dependency by path must have a version, or be one of the tests alone.
    for (name, value) in manifest["dependencies"].as_table().expect("a table") {
        assert!(value.get("path").is_none() || value.get("version").is_some(), "{name}");
    }
}

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let own = files.into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs"));
    let own = own.map(|path| (path.clone(), read(&path)));
    own.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// A checkout with the script and stand-ins for cargo and its tools, which write the files of the real ones.
struct Release {
    folder: tempfile::TempDir,
}

/// The stand-in for cargo. The last argument of `deb` and `generate-rpm` is the folder.
const CARGO: &str = r#"#!/bin/sh
echo "$*" >> "$CALLS"
case "$1" in
  pkgid) echo "path+file:///checkout#uzima-backup@1.2.3" ;;
  build) mkdir -p target/release && echo binary > target/release/uzima-backup ;;
  deb) shift; while [ $# -gt 1 ]; do shift; done; echo deb > "$1/uzima-backup_1.2.3-1_amd64.deb" ;;
  generate-rpm) shift; while [ $# -gt 1 ]; do shift; done; echo rpm > "$1/uzima-backup-1.2.3-1.x86_64.rpm" ;;
  package) mkdir -p target/package && echo crate > target/package/uzima-backup-1.2.3.crate ;;
  cyclonedx) while [ $# -gt 1 ]; do shift; done; echo '{}' > "$1.json"; echo '{}' > "tests/kit/$1.json" ;;
esac
"#;

impl Release {
    fn new(tools: &[&str]) -> Release {
        let release = Release { folder: tempfile::tempdir().expect("a folder") };
        let copied = [
            "README.md",
            "CHANGELOG.md",
            "LICENSE",
            "crontab.example",
            "man",
            "completions",
            "docs",
            "examples",
        ];
        for path in copied {
            run(Command::new("cp").arg("-r").arg(root().join(path)).arg(release.at(""))).ends(0);
        }
        for folder in ["packaging", "tests/kit", "bin"] {
            std::fs::create_dir_all(release.at(folder)).expect("a folder");
        }
        std::fs::copy(root().join("packaging/release"), release.at("packaging/release")).expect("a copy");
        let rustc = "#!/bin/sh\necho 'host: x86_64-unknown-linux-gnu'\n";
        let programs =
            tools.iter().map(|tool| (*tool, "#!/bin/sh\n")).chain([("cargo", CARGO), ("rustc", rustc)]);
        for (name, script) in programs {
            let path = release.at("bin").join(name);
            std::fs::write(&path, script).expect("a program");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        let git = |args: &[&str]| {
            let identity =
                ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"];
            run(Command::new("git").arg("-C").arg(release.at("")).args(identity).args(args)).ends(0);
        };
        std::fs::write(release.at(".gitignore"), "/target\n/bin\n/calls\n/key*\n").expect("a file");
        git(&["init", "--quiet"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "all"]);
        release
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn run(&self, args: &[&str]) -> Ran {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.at("bin").display());
        let mut command = Command::new(self.at("packaging/release"));
        command
            .args(args)
            .env_clear()
            .env("PATH", path)
            .env("CALLS", self.at("calls"))
            .env("HOME", self.at(""));
        run(command.current_dir("/"))
    }
}

const TOOLS: [&str; 3] = ["cargo-deb", "cargo-generate-rpm", "cargo-cyclonedx"];

#[test]
fn the_script_makes_all_files_of_a_release_in_one_folder() {
    let release = Release::new(&TOOLS);
    let key = release.at("key");
    let made =
        run(Command::new("minisign").args(["-G", "-W", "-p"]).arg(release.at("key.pub")).arg("-s").arg(&key));
    made.ends(0);
    release.run(&["--sign", key.to_str().expect("UTF-8")]).ends(0);
    let out = release.at("target/release-1.2.3");
    let mut names: Vec<String> = std::fs::read_dir(&out)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    let tarball = "uzima-backup-1.2.3-x86_64-unknown-linux-gnu.tar.gz";
    let want = [
        "SHA256SUMS",
        "SHA256SUMS.minisig",
        "uzima-backup-1.2.3-1.x86_64.rpm",
        "uzima-backup-1.2.3-x86_64-unknown-linux-gnu.cdx.json",
        tarball,
        "uzima-backup-1.2.3.crate",
        "uzima-backup_1.2.3-1_amd64.deb",
    ];
    assert_eq!(names, want);
    let sums = run(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(&out)).ends(0);
    assert_eq!(sums.stdout.lines().count(), want.len() - 2, "{}", sums.stdout);
    let signed = Command::new("minisign")
        .args(["-V", "-m", "SHA256SUMS", "-p"])
        .arg(release.at("key.pub"))
        .current_dir(&out)
        .output();
    assert!(signed.expect("minisign").status.success());
    let listed = run(Command::new("tar").arg("tvzf").arg(out.join(tarball))).ends(0).stdout;
    let has = |mode: &str, end: &str| {
        let end = format!(" uzima-backup-1.2.3-x86_64-unknown-linux-gnu/{end}");
        listed.lines().any(|line| line.starts_with(mode) && line.contains(" 0/0 ") && line.ends_with(&end))
    };
    assert!(has("-rwxr-xr-x", "uzima-backup") && has("-rw-r--r--", "man/uzima-backup.1"), "{listed}");
    assert!(has("-rw-r--r--", "examples/kubernetes/cronjob.yaml"), "{listed}");
    // The checkout is as it was, and a folder that exists is not replaced.
    let git = run(Command::new("git").arg("-C").arg(release.at("")).args(["status", "--porcelain"])).ends(0);
    assert_eq!(git.stdout, "");
    release.run(&[]).ends(2).says(&["release-1.2.3 exists"]);
    // The same commit gives the same tarball, and another target is passed on.
    let (again, calls) = (release.at("again"), read(&release.at("calls")));
    assert!(calls.contains("build --release --locked --bin uzima-backup\n"), "{calls}");
    release.run(&["--out", again.to_str().expect("UTF-8")]).ends(0);
    let bytes = |folder: &Path| std::fs::read(folder.join(tarball)).expect("a tarball");
    assert!(bytes(&out) == bytes(&again));
}

#[test]
fn the_script_names_what_is_missing_and_leaves_no_part_of_a_release() {
    let release = Release::new(&TOOLS[..1]);
    let ran = release.run(&[]).ends(2);
    for tool in &TOOLS[1..] {
        let line = format!("{tool} is missing: cargo install --locked {tool}\n");
        assert!(ran.stderr.contains(&line), "{}", ran.stderr);
    }
    release.run(&["--sing", "x"]).ends(2).says(&["no option --sing"]);
    let release = Release::new(&TOOLS);
    std::fs::write(release.at("README.md"), "changed").expect("a file");
    release.run(&[]).ends(2).says(&["not committed", "--allow-dirty"]);
    // A step that fails ends the script.
    std::fs::write(release.at("bin/cargo"), CARGO.replace("deb) shift", "deb) exit 7; shift"))
        .expect("a program");
    release.run(&["--allow-dirty"]).ends(7);
    let left: Vec<_> = std::fs::read_dir(release.at("target"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["release"], "only the build");
}
