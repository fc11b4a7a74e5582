//! The text of the file: the example's lines, those of the chosen settings with their values.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::chosen::Chosen;
use crate::config::Raw;

/// The example with the chosen settings switched on, and all others off.
pub fn render(example: &str, file: &Path, chosen: &Chosen, found: &[String], now: DateTime<Utc>) -> String {
    let mut out = format!(
        "# {}, written by `uzima-backup init` on {}\n",
        file.display().to_string().escape_debug(),
        now.format("%F")
    );
    out.push_str("#\n# What was there:\n");
    for line in found {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        out.push_str(&format!("#   {line}\n"));
    }
    // The first line says that it is an example.
    let rest = example.split_once('\n').map_or(example, |(_, rest)| rest);
    let mut table = String::new();
    for line in rest.lines() {
        let bare = line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line);
        if let Some(name) = bare.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            table = format!("{name}.");
            let used = chosen.values.keys().any(|key| key.starts_with(&table));
            out.push_str(if used { bare } else { line });
        } else if let Some((name, _)) = bare.split_once(" = ").filter(|(name, _)| is_key(name)) {
            let key = format!("{table}{name}");
            if let Some(left_out) = chosen.left_out.iter().find(|left_out| left_out.key == key) {
                out.push_str(&format!(
                    "# (Its secret is not here: {} names the file that has it.)\n",
                    left_out.variable
                ));
            }
            match chosen.values.get(key.as_str()) {
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

fn is_key(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A value as TOML; numbers and switches as such, so that the file looks as a person would write it.
fn toml(raw: &Raw) -> String {
    let text = |text: &String| toml::Value::String(text.clone()).to_string();
    match raw {
        Raw::List(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(", ")),
        Raw::Text(value) => {
            let number = value.parse::<u32>().is_ok_and(|number| number.to_string() == *value);
            if number || value == "true" || value == "false" { value.clone() } else { text(value) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::file;
    use crate::config::table::{SETTINGS, Setting};
    use crate::ops::init::EXAMPLE;
    use crate::ops::init::chosen::LeftOut;

    fn rendered(values: BTreeMap<&'static str, Raw>, found: &[String]) -> String {
        let left_out =
            LeftOut { key: "mongo_uri", variable: "MONGO_URI_FILE".into(), file: "/x".into(), there: false };
        let chosen = Chosen { values, left_out: vec![left_out] };
        render(EXAMPLE, Path::new("/etc/a\nb"), &chosen, found, Utc::now())
    }

    fn value(setting: &Setting, text: &str) -> Raw {
        match setting.list {
            true => Raw::List(vec![text.into(), "second".into()]),
            false => Raw::Text(text.into()),
        }
    }

    /// Every setting alone, with every other one, and all at once: what is read is what was chosen.
    #[test]
    fn every_combination_is_read_as_it_was_chosen() {
        let one = |setting: &'static Setting| (setting.key, value(setting, "x"));
        let pairs = SETTINGS.iter().flat_map(|a| SETTINGS.iter().map(move |b| [one(a), one(b)].into()));
        let all: BTreeMap<_, _> = SETTINGS.iter().map(one).collect();
        for chosen in pairs.chain([BTreeMap::new(), all]) {
            let text = rendered(chosen.clone(), &[]);
            let read = file::parse("config.toml", &text).unwrap_or_else(|e| panic!("{}\n{text}", e.chain()));
            assert_eq!(read, chosen);
        }
    }

    #[test]
    fn a_value_is_what_it_was() {
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
                assert_eq!(read.unwrap_or_else(|e| panic!("{}\n{rendered}", e.chain())), chosen);
            }
        }
    }

    #[test]
    fn it_says_what_was_there_and_explains_all_settings() {
        let text = rendered(BTreeMap::new(), &["MongoDB 6\nmongo_uri = 'x'".into()]);
        assert!(text.starts_with("# /etc/a\\nb, written by `uzima-backup init` on "), "{text}");
        assert!(text.contains("\n#   MongoDB 6 mongo_uri = 'x'\n"), "{text}");
        assert!(
            text.contains("(Its secret is not here: MONGO_URI_FILE names the file that has it.)\n#mongo_uri")
        );
        for line in EXAMPLE.lines().skip(1).filter(|line| line.starts_with("# ")) {
            assert!(text.contains(line), "{line}");
        }
    }
}
