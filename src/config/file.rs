//! Reads the configuration file (TOML). Unknown keys are errors, and every error has its line and column.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::table::{self, COPY_SETTINGS, FIRST, Raw};
use crate::base::beneath::read_named;
use crate::base::error::{Error, Result};
use crate::base::suggest;

/// The largest configuration file in bytes.
pub const LARGEST: u64 = 1 << 20;

/// The values of a file, by the keys of their settings.
#[derive(Debug, Default)]
pub struct FileValues {
    pub values: BTreeMap<&'static str, Raw>,
    /// The tables `[[copies]]`, in their order.
    pub copies: Vec<CopyValues>,
}

/// The values of a table `[[copies]]`, by the keys of the settings with the same meaning for the first place.
#[derive(Debug)]
pub struct CopyValues {
    pub name: String,
    pub values: BTreeMap<&'static str, Raw>,
}

pub fn read(path: &Path) -> Result<FileValues> {
    let failed = |e: std::io::Error| {
        let step = match e.kind() {
            ErrorKind::Other | ErrorKind::FileTooLarge => {
                "Name a regular file of at most 1 MiB with --config or UZIMA_BACKUP_CONFIG"
            }
            _ => "Correct --config or UZIMA_BACKUP_CONFIG, or let this user read it",
        };
        Error::usage(format!("cannot read the configuration file {}", path.display()))
            .caused_by(e)
            .hint(format!("{step}; `uzima-backup init` writes a new one"))
    };
    let (bytes, file) = read_named(path, LARGEST).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let text =
        String::from_utf8(bytes).map_err(|e| failed(std::io::Error::new(ErrorKind::InvalidData, e)))?;
    let file = parse(&path.display().to_string(), &text)?;
    let mut all = file.values.iter().chain(file.copies.iter().flat_map(|copy| &copy.values));
    match all.find(|(key, raw)| holds_secret(key, raw)) {
        Some((key, _)) if mode & 0o007 != 0 => {
            let path = path.display();
            Err(Error::usage(format!("{path} holds a secret ({key}), and every user can read it"))
                .hint(format!("chmod 640 {path}")))
        }
        _ => Ok(file),
    }
}

/// A connection string without a password is not a secret.
fn holds_secret(key: &str, raw: &Raw) -> bool {
    let secret = table::by_key(key).is_some_and(|setting| setting.secret);
    let uri = matches!(key, "mongo_uri" | "records");
    secret && (!uri || matches!(raw, Raw::Text(uri) if uri.contains('@')))
}

/// Parses the text of a file. Errors call the file `name`.
pub fn parse(name: &str, text: &str) -> Result<FileValues> {
    let at = |offset: usize| {
        let before = &text[..offset.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("line {line}, column {column}")
    };
    let table = DeTable::parse(text).map_err(|e| {
        let place = at(e.span().map_or(0, |span| span.start));
        // The parser's own rendering quotes the line, which may hold a secret.
        Error::usage(format!("{name}, {place}: {}", e.message())).hint(
            "Correct that line: it is a [table], or a setting as in dir = '/srv/backups', max_age = 30 or \
             databases = ['shop', 'blog'], each once",
        )
    })?;
    let (mut file, mut mistakes) = (FileValues::default(), Vec::new());
    walk("", table.get_ref(), &mut file, &mut mistakes);
    if mistakes.is_empty() {
        return Ok(file);
    }
    mistakes.sort_by_key(|(offset, _)| *offset);
    let lines: Vec<String> =
        mistakes.iter().map(|(offset, what)| format!("{}: {what}", at(*offset))).collect();
    Err(Error::usage(format!("{name}, {}", lines.join("; "))).hint(
        "Correct that entry, or remove it: `uzima-backup --config /dev/null config` shows all settings",
    ))
}

/// Collects the values of a table. An error comes with its offset in the text.
fn walk(prefix: &str, table: &DeTable<'_>, file: &mut FileValues, mistakes: &mut Vec<(usize, String)>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let at = key.span().start;
        if name == COPIES {
            copies(at, value, file, mistakes);
            continue;
        }
        let mut wrong = |what: String| mistakes.push((at, what));
        if let DeValue::Table(inner) = value.get_ref() {
            if table::SETTINGS.iter().any(|s| s.key.starts_with(&format!("{name}."))) {
                walk(&format!("{name}."), inner, file, mistakes);
            } else {
                wrong(format!("there is no table '{name}'"));
            }
            continue;
        }
        let Some(setting) = table::by_key(&name) else {
            wrong(format!("there is no setting '{name}'{}", suggestion(&name)));
            continue;
        };
        let raw = match (value.get_ref(), setting.list) {
            (DeValue::Array(items), true) => items.iter().map(scalar).collect::<Option<_>>().map(Raw::List),
            (_, true) => None,
            (_, false) => scalar(value).map(Raw::Text),
        };
        let wanted = if setting.list { "a list of texts" } else { SCALAR };
        match raw {
            Some(raw) => drop(file.values.insert(setting.key, raw)),
            None => wrong(format!("'{name}' takes {wanted}")),
        }
    }
}

/// The key of the tables of copies.
const COPIES: &str = "copies";
const SCALAR: &str = "a text, a number or true/false";

/// Collects the tables of copies.
fn copies(
    at: usize,
    value: &Spanned<DeValue<'_>>,
    file: &mut FileValues,
    mistakes: &mut Vec<(usize, String)>,
) {
    let rows = match value.get_ref() {
        DeValue::Array(rows) => rows.iter().map(|row| (row.span().start, row.get_ref().as_table())).collect(),
        _ => vec![(at, None)],
    };
    for (at, row) in rows {
        let Some(row) = row else {
            mistakes.push((at, "each copy takes a table [[copies]]".into()));
            continue;
        };
        let mut copy = CopyValues { name: String::new(), values: BTreeMap::new() };
        for (key, value) in row {
            let name = key.get_ref();
            let known = COPY_SETTINGS.iter().find(|setting| setting.key == name);
            let what = match (known, scalar(value)) {
                (None, Some(text)) if name == "name" => {
                    copy.name = text;
                    continue;
                }
                (Some(setting), Some(text)) => {
                    copy.values.insert(setting.like, Raw::Text(text));
                    continue;
                }
                (None, _) if name != "name" => {
                    let keys = COPY_SETTINGS.iter().map(|setting| setting.key).chain(["name"]);
                    let near = suggest::meant(name, keys).map(|near| format!(" (did you mean '{near}'?)"));
                    format!("a copy has no setting '{name}'{}", near.unwrap_or_default())
                }
                (_, None) | (None, Some(_)) => format!("'{name}' takes {SCALAR}"),
            };
            mistakes.push((key.span().start, what));
        }
        match file.copies.iter().any(|other| other.name == copy.name) {
            _ if copy.name.is_empty() => {
                mistakes.push((at, "a copy needs a name: name = \"offsite\"".into()))
            }
            _ if copy.name == FIRST => mistakes
                .push((at, format!("'{FIRST}' is the name of the first place: give the copy another one"))),
            true => mistakes.push((at, format!("two copies have the name '{}'", copy.name))),
            false => file.copies.push(copy),
        }
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

/// Suggests the key that was probably meant, also if its table was left out.
fn suggestion(wrong: &str) -> String {
    let keys = || table::SETTINGS.iter().map(|setting| setting.key);
    let in_table = || keys().find(|key| key.rsplit('.').next() == Some(wrong));
    match suggest::meant(wrong, keys()).or_else(in_table) {
        Some(key) => format!(" (did you mean '{key}'?)"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(values: &BTreeMap<&str, Raw>, key: &str) -> String {
        match &values[key] {
            Raw::Text(text) => text.clone(),
            Raw::List(items) => items.join("|"),
        }
    }

    #[test]
    fn values_of_every_kind() {
        let FileValues { values, .. } = parse(
            "c.toml",
            "mongo_uri = 'mongodb://a'\ndatabases = ['a,b', 'c']\ncompression_level = 5\n[s3]\nbucket = 'b'\nforce_path_style = true\n",
        )
        .unwrap();
        assert_eq!(text_of(&values, "mongo_uri"), "mongodb://a");
        assert_eq!(text_of(&values, "databases"), "a,b|c");
        assert_eq!(text_of(&values, "compression_level"), "5");
        assert_eq!(text_of(&values, "s3.force_path_style"), "true");
    }

    #[test]
    fn copies_are_read_in_their_order() {
        let text = "dir = '/a'\n[[copies]]\nname = 'offsite'\nbucket = 'b'\nretention_days = 90\n[[copies]]\nname = 'usb'\ndir = '/m'\n";
        let file = parse("c.toml", text).unwrap();
        let names: Vec<&str> = file.copies.iter().map(|copy| copy.name.as_str()).collect();
        assert_eq!(names, ["offsite", "usb"]);
        assert_eq!(text_of(&file.copies[0].values, "s3.bucket"), "b");
        assert_eq!(text_of(&file.copies[0].values, "retention_days"), "90");
        assert_eq!(text_of(&file.copies[1].values, "dir"), "/m");
    }

    #[test]
    fn mistakes_are_named_with_line_and_column() {
        for (toml, place, word) in [
            ("engine = 'native'\nretention_day = 3\n", "line 2, column 1", "retention_days"),
            ("[s3]\n  buckets = 'x'\n", "line 2, column 3", "s3.bucket"),
            ("[s4]\nbucket = 'x'\n", "line 1, column 2", "s4"),
            ("databases = 'x'\n", "line 1, column 1", "list"),
            ("engine = ['native']\n", "line 1, column 1", "engine"),
            ("engine = \n", "line 1", ""),
            (
                "x = 1\nengine = 'native'\njob = []\n",
                "line 1, column 1: there is no setting 'x'",
                "; line 3, column 1: 'job'",
            ),
            ("[[copies]]\ndir = '/b'\n", "line 1, column 1", "a copy needs a name"),
            ("[[copies]]\nname = 'a'\nbuckets = 'b'\n", "line 3, column 1", "did you mean 'bucket'"),
            ("[[copies]]\nname = 'a'\n[[copies]]\nname = 'a'\n", "line 3, column 1", "two copies"),
            ("[[copies]]\nname = 'a'\ndir = ['/b']\n", "line 3, column 1", "'dir' takes"),
            ("[[copies]]\nname = 'first'\ndir = '/b'\n", "line 1, column 1", "the first place"),
            ("[copies]\nname = 'a'\n", "line 1, column 2", "[[copies]]"),
            ("copies = ['/b']\n", "line 1, column 11", "[[copies]]"),
            ("[s3]\nbuckt = 'b'\n[mail]\ntoo = 'b'\n", "line 2, column 1", "; line 4, column 1: "),
        ] {
            let error = parse("c.toml", toml).unwrap_err();
            assert!(
                error.next_step().is_some_and(|step| step.starts_with("Correct that")),
                "{toml}: {error:?}"
            );
            let error = error.to_string();
            assert!(error.contains(place) && error.contains(word), "{toml}: {error}");
        }
    }

    #[test]
    fn a_mistake_beside_a_secret_does_not_show_it() {
        let error = parse("c.toml", "mongo_uri = 'mongodb://u:hunter2@h' x\n").unwrap_err();
        assert!(!error.chain().contains("hunter2"), "{}", error.chain());
    }

    #[test]
    fn a_file_with_secrets_must_not_be_readable_by_everyone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for (toml, mode, ok) in [
            ("mongo_uri = 'mongodb://u:p@h'", 0o644, false),
            ("mongo_uri = 'mongodb://u:p@h'", 0o640, true),
            ("mongo_uri = 'mongodb://h'", 0o644, true),
            ("records = 'mongodb://u:p@h'", 0o644, false),
            ("records = 'off'", 0o644, true),
            ("[s3]\nsecret_access_key = 'x'", 0o604, false),
            ("[[copies]]\nname = 'a'\nsecret_access_key = 'x'", 0o644, false),
        ] {
            std::fs::write(&path, toml).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_ok(), ok, "{toml} {mode:o}");
        }
    }
}
