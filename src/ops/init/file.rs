//! The text of the configuration file, and writing it as a whole.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::{Chosen, EXAMPLE, LeftOut};
use crate::base::beneath::{Folder, read_named, settled};
use crate::base::error::{Error, Result};
use crate::base::files::{create, replace_as};
use crate::config::Raw;
use crate::config::file::LARGEST;
use crate::config::table::COPY;

/// Returns the example with the chosen settings switched on, and all others off. The first table of a copy gets the settings of the
/// copy.
pub(super) fn render(
    example: &str,
    file: &Path,
    chosen: &Chosen<'_>,
    left_out: &[LeftOut],
    found: &[String],
    now: DateTime<Utc>,
) -> String {
    let mut out = format!(
        "# {}, written by `uzima-backup init` on {}\n#\n# Found on this machine:\n",
        file.display().to_string().escape_debug(),
        now.format("%F")
    );
    for line in found {
        out.push_str(&format!("#   {}\n", line.replace(char::is_control, " ")));
    }
    // The first line of the example says that it is an example.
    let rest = example.split_once('\n').map_or(example, |(_, rest)| rest);
    let Chosen { values, copy } = chosen;
    let (mut table, mut tables_of_copies) = (String::new(), 0);
    for line in rest.lines() {
        let bare = line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line);
        if bare == COPIES {
            table = "copies.".into();
            tables_of_copies += 1;
            let used = tables_of_copies == 1 && !copy.is_empty();
            out.push_str(if used { bare } else { line });
        } else if table == "copies."
            && bare.contains(" = ")
            && is_key(bare.split(' ').next().unwrap_or_default())
        {
            let (key, _) = bare.split_once(" = ").unwrap_or_default();
            if let Some(left_out) = left_out.iter().find(|left_out| left_out.key == format!("copies.{key}"))
                && tables_of_copies == 1
            {
                out.push_str(&format!("# (The secret is in the file that {} names.)\n", left_out.variable));
            }
            match copy.get(key).filter(|_| tables_of_copies == 1) {
                _ if key == "name" && tables_of_copies == 1 && !copy.is_empty() => {
                    out.push_str(&format!("name = \"{COPY}\""));
                    // The example has the directory in another table.
                    let dir = copy.get("dir").map(|dir| format!("\ndir = {}", toml(dir)));
                    out.push_str(&dir.unwrap_or_default());
                }
                Some(raw) => out.push_str(&format!("{key} = {}", toml(raw))),
                None => out.push_str(&format!("#{bare}")),
            }
        } else if let Some(name) = bare.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            table = format!("{name}.");
            let used = values.keys().any(|key| key.starts_with(&table));
            out.push_str(if used { bare } else { line });
        } else if let Some((name, _)) = bare.split_once(" = ").filter(|(name, _)| is_key(name)) {
            let key = format!("{table}{name}");
            if let Some(left_out) = left_out.iter().find(|left_out| left_out.key == key) {
                let variable = &left_out.variable;
                out.push_str(&format!("# (The secret is in the file that {variable} names.)\n"));
            }
            match values.get(key.as_str()) {
                Some(raw) => out.push_str(&format!("{name} = {}", toml(raw))),
                None => out.push_str(&format!("#{bare}")),
            }
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// The line that begins the table of a copy.
const COPIES: &str = "[[copies]]";

fn is_key(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A value as TOML. Numbers, `true` and `false` have no quotes, as in a file that a person writes.
pub(super) fn toml(raw: &Raw) -> String {
    let text = |text: &String| toml::Value::String(text.clone()).to_string();
    match raw {
        Raw::List(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Raw::Text(value) => {
            let number = value.parse::<u32>().is_ok_and(|number| number.to_string() == *value);
            if number || value == "true" || value == "false" { value.clone() } else { text(value) }
        }
    }
}

/// Returns true if a file is at `path` that a person would miss.
pub(super) fn is_edited(path: &Path) -> bool {
    let is_example = || read_named(path, LARGEST).is_ok_and(|(text, _)| text == EXAMPLE.as_bytes());
    fs::metadata(path).is_ok_and(|meta| meta.is_file()) && !is_example()
}

/// Returns true if the file at `path` has this text, apart from the first line, which has the date.
pub(super) fn holds(path: &Path, text: &str) -> bool {
    let body = |text: &str| text.split_once('\n').map(|(_, body)| body.to_string());
    read_named(path, LARGEST)
        .is_ok_and(|(old, _)| String::from_utf8(old).is_ok_and(|old| body(&old) == body(text)))
}

/// The text of the file of a secret; `None` if there is no such file.
pub(super) fn secret(path: &Path) -> Option<String> {
    let (bytes, _) = read_named(path, 64 << 10).ok()?;
    Some(String::from_utf8(bytes).ok()?.trim_end_matches(['\r', '\n']).to_string())
}

/// The permissions of the file.
pub(super) fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path).map_err(|e| failed(path, e))?.mode() & 0o7777)
}

/// Checks that a person would miss nothing at `path`. The unchanged example, which the Debian package installs, may be
/// replaced.
///
/// # Errors
/// Returns an error if another file is there, and `force` is false.
pub(super) fn check_replaceable(path: &Path, force: bool) -> Result<()> {
    let refused = |what: &str, step: &str| Err(Error::usage(format!("{} {what}", path.display())).hint(step));
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed(path, e)),
        Ok(meta) if !meta.is_file() => {
            refused("exists and is not a file", "Name another file: --config FILE")
        }
        Ok(_) if force || !is_edited(path) => Ok(()),
        Ok(_) => refused(
            "is there already",
            "Edit it, replace it and keep a copy (--force), or write another file (--config FILE)",
        ),
    }
}

/// Writes the file, and returns its permissions and the copy of the file that it replaces. The new file has the owner, the
/// group and the permissions of the replaced one, without those of other users. A copy is kept of a file that a person
/// wrote.
///
/// # Errors
/// As [`check_replaceable`], also if another process creates the file at the same time; or if it cannot be written.
pub(super) fn write(path: &Path, text: &str, force: bool) -> Result<(u32, Option<PathBuf>)> {
    check_replaceable(path, force)?;
    let fail = |e| failed(path, e);
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).map_err(fail)?;
    // A link stays: the file to which it leads is replaced.
    let path = &settled(path).map_err(fail)?;
    let fail = |e| failed(path, e);
    let (mode, kept) = match fs::metadata(path).ok() {
        Some(old) => {
            let (mode, owner) = (old.mode() & 0o770, (old.uid(), old.gid()));
            let kept = keep(path, mode, owner).map_err(fail)?;
            replace_as(path, text.as_bytes(), mode, owner).map_err(fail)?;
            (mode, kept)
        }
        None => {
            create(path, text.as_bytes(), 0o600).map_err(|e| match e.kind() {
                ErrorKind::AlreadyExists => {
                    Error::usage(format!("another process created {} at the same time", path.display()))
                }
                _ => fail(e),
            })?;
            (0o600, None)
        }
    };
    Folder::of_file(path).and_then(|(folder, _)| folder.sync()).map_err(fail)?;
    Ok((mode, kept))
}

/// Keeps a copy of the file at `path`, unless it is the example or an equal copy exists. No copy is overwritten. dpkg
/// removes a `.bak` together with its configuration file.
pub(super) fn keep(path: &Path, mode: u32, owner: (u32, u32)) -> io::Result<Option<PathBuf>> {
    let (text, _) = read_named(path, LARGEST)?;
    if text == EXAMPLE.as_bytes() {
        return Ok(None);
    }
    let mut middle = String::new();
    for number in 2.. {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{middle}.bak"));
        let copy = PathBuf::from(name);
        match read_named(&copy, LARGEST).map(|(text, _)| text) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return replace_as(&copy, &text, mode, owner).map(|()| Some(copy));
            }
            Ok(other) if other == text => return Ok(Some(copy)),
            _ => middle = format!(".{number}"),
        }
    }
    Ok(None)
}

fn failed(path: &Path, e: io::Error) -> Error {
    Error::failed(format!("cannot write {}", path.display()))
        .hint("Run it as root, or write another file: --config FILE")
        .caused_by(e)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::file;
    use crate::config::table::{COPY_SETTINGS, SETTINGS, Setting};

    fn rendered(values: BTreeMap<&'static str, Raw>, found: &[String]) -> String {
        rendered_with(&values, &BTreeMap::new(), found)
    }

    fn rendered_with(
        values: &BTreeMap<&'static str, Raw>,
        copy: &BTreeMap<&'static str, Raw>,
        found: &[String],
    ) -> String {
        let left_out =
            LeftOut { key: "mongo_uri", variable: "MONGO_URI_FILE".into(), file: "/x".into(), there: false };
        render(EXAMPLE, Path::new("/etc/a\nb"), &Chosen { values, copy }, &[left_out], found, Utc::now())
    }

    fn value(setting: &Setting, text: &str) -> Raw {
        match setting.list {
            true => Raw::List(vec![text.into(), "second".into()]),
            false => Raw::Text(text.into()),
        }
    }

    /// Combinations: no setting, each alone, each pair, and all.
    #[test]
    fn every_combination_of_settings_is_read_back() {
        let one = |setting: &'static Setting| (setting.key, value(setting, "x"));
        let pairs = SETTINGS.iter().flat_map(|a| SETTINGS.iter().map(move |b| [one(a), one(b)].into()));
        let all: BTreeMap<_, _> = SETTINGS.iter().map(one).collect();
        for chosen in pairs.chain([BTreeMap::new(), all]) {
            let text = rendered(chosen.clone(), &[]);
            let read = file::parse("config.toml", &text).unwrap_or_else(|e| panic!("{}\n{text}", e.chain()));
            assert_eq!(read.values, chosen);
        }
    }

    #[test]
    fn the_settings_of_a_copy_are_read_back() {
        let all = COPY_SETTINGS.iter().map(|setting| (setting.key, Raw::Text("x".into())));
        let bucket: Vec<_> = all.clone().filter(|(key, _)| !["dir", "min_free"].contains(key)).collect();
        for chosen in [vec![("dir", Raw::Text("/b".into()))], bucket] {
            let copy: BTreeMap<&'static str, Raw> = chosen.into_iter().collect();
            let text = rendered_with(&BTreeMap::new(), &copy, &[]);
            let read = file::parse("config.toml", &text).unwrap_or_else(|e| panic!("{}\n{text}", e.chain()));
            assert_eq!((read.copies.len(), read.copies[0].name.as_str()), (1, COPY));
            let keys = COPY_SETTINGS.iter().filter(|setting| copy.contains_key(setting.key));
            let want = keys.map(|setting| (setting.like, copy[setting.key].clone())).collect();
            assert_eq!(read.copies[0].values, want, "{text}");
        }
    }

    #[test]
    fn every_value_is_read_back() {
        for text in [
            "5",
            "007",
            "-1",
            "true",
            "off",
            "a\"b'c\\d",
            "two\nlines",
            "\u{1}",
            "ü $HOME #x",
            "",
            "4294967296",
        ] {
            for setting in SETTINGS {
                let chosen: BTreeMap<_, _> = [(setting.key, value(setting, text))].into();
                let rendered = rendered(chosen.clone(), &[]);
                let read = file::parse("config.toml", &rendered);
                assert_eq!(read.unwrap_or_else(|e| panic!("{}\n{rendered}", e.chain())).values, chosen);
            }
        }
    }

    #[test]
    fn the_file_lists_the_findings_and_explains_all_settings() {
        let text = rendered(BTreeMap::new(), &["MongoDB 6\nmongo_uri = 'x'".into()]);
        assert!(text.starts_with("# /etc/a\\nb, written by `uzima-backup init` on "), "{text}");
        assert!(text.contains("\n#   MongoDB 6 mongo_uri = 'x'\n"), "{text}");
        assert!(text.contains("(The secret is in the file that MONGO_URI_FILE names.)\n#mongo_uri"));
        for line in EXAMPLE.lines().skip(1).filter(|line| line.starts_with("# ")) {
            assert!(text.contains(line), "{line}");
        }
    }

    #[test]
    fn only_its_owner_may_read_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/deep/config.toml");
        let written = write(&path, "x", false).unwrap();
        assert_eq!((written.0, written.1), (0o600, None));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["config.toml"]);
    }

    #[test]
    fn an_existing_file_stays_without_force_and_a_copy_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        fs::write(&path, "mine").unwrap();
        let error = write(&path, "x", false).unwrap_err();
        assert_eq!((error.exit().code(), fs::read_to_string(&path).unwrap().as_str()), (2, "mine"));
        assert!(error.next_step().unwrap().contains("--force"));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let written = write(&path, "x", true).unwrap();
        let bak = dir.path().join("config.toml.bak");
        assert_eq!((written.0, written.1.as_ref()), (0o640, Some(&bak)));
        for file in [&path, &bak] {
            assert_eq!(
                fs::metadata(file).unwrap().mode() & 0o777,
                0o640,
                "other users may not read it any more"
            );
        }
        // The first copy stays, and each content is kept once.
        for (text, copy) in
            [("y", "config.toml.2.bak"), ("mine", "config.toml.3.bak"), ("z", "config.toml.bak")]
        {
            assert_eq!(write(&path, text, true).unwrap().1, Some(dir.path().join(copy)));
        }
        assert_eq!(fs::read_to_string(&bak).unwrap(), "mine");
        // The example is replaced without force, also through a link.
        fs::write(&path, EXAMPLE).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(write(&link, "y", false).unwrap().1, None);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "y");
        assert_eq!(write(dir.path(), "x", true).unwrap_err().exit().code(), 2);
        assert_eq!(write(&path.join("below"), "x", false).unwrap_err().exit().code(), 1);
    }
}
