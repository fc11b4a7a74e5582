//! The runs whose output is compared, without the values that differ between two runs, and compact JSON.

use std::sync::LazyLock;

use mongodb::Client;
use regex::Regex;
use serde_json::Value;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, Ran, TOOL, run};
use crate::restore::support::rows;

/// A server with two collections of five documents in all, and a folder for the backups of the job `nightly`.
pub struct Shop {
    pub server: Mongod,
    pub client: Client,
    pub home: Home,
}

impl Shop {
    pub async fn open() -> Shop {
        let server = Mongod::builder().start().await.expect("mongod");
        let client = server.client().await.expect("a client");
        rows(&client, "shop", "customers", 0..2).await;
        rows(&client, "shop", "orders", 0..3).await;
        Shop { server, client, home: Home::new() }
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        run(self.home.to_dir(&self.server.uri()).env("BACKUP_JOB", "nightly").args(args))
    }

    pub fn text(&self, args: &[&str]) -> String {
        normalize_measured(&all(&self.run(args)), &self.home)
    }

    pub fn json(&self, args: &[&str]) -> String {
        normalize_measured(&compact(&self.run(&[args, &["--json"]].concat()).json()), &self.home)
    }
}

/// Patterns and their replacements, applied in this order.
static RULES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let rule = |pattern: &str, with| (Regex::new(pattern).expect("a pattern"), with);
    vec![
        rule(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "0000-00-00T00:00:00Z"),
        rule(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?", "0000-00-00 00:00"),
        rule(r"\b2\d{3}-\d\d-\d\d\b", "0000-00-00"),
        rule(r"\b2\d{3}/\d\d/", "0000/00/"),
        rule(r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d\b", "Mon 00 00:00"),
        rule(r"127\.0\.0\.1:\d{2,5}", "127.0.0.1:00000"),
        rule(r"[4-9]\.\d+\.\d+, feature compatibility version \d\.\d", "[SERVER VERSION]"),
        rule(r"\([4-9]\.\d+\.\d+\)", "([SERVER VERSION])"),
        rule(r#""(server_version|feature_compatibility_version)": "[^"]*""#, r#""$1": "[SERVER VERSION]""#),
        rule(r#""[0-9a-f]{64}""#, r#""[BLAKE3]""#),
        rule(r#""uuid": "[0-9a-f]{32}""#, r#""uuid": "[UUID]""#),
        rule(r#""[0-9a-f]{32}""#, r#""[XXH3]""#),
        rule(r#""[0-9a-f]{16}""#, r#""[CRC64]""#),
        rule(r#""version": "\d+\.\d+\.\d+""#, r#""version": "[SERVER VERSION]""#),
        rule(r#""host": "[^"]*""#, r#""host": "[HOST]""#),
        rule(r#""(milliseconds|age_seconds)": \d+"#, r#""$1": 0"#),
    ]
});

/// The sizes and durations of a real backup, which differ between two backups of the same documents.
static MEASURED: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    let rule = |pattern: &str, with| (Regex::new(pattern).expect("a pattern"), with);
    vec![
        rule(r"\b\d+(\.\d+)? m?s\b", "[TIME]"),
        rule(r"\b\d+(\.\d+)? ([KMGT]i)?B\b", "[SIZE]"),
        rule(r#""(\w*bytes\w*|size)": \d+"#, r#""$1": 0"#),
        rule(r#""(\w*seconds)": [\d.]+(e-\d+)?"#, r#""$1": 0"#),
    ]
});

/// Replaces the ids, times, ports and paths of a text by fixed values. Replacements of ids and times are as long as the
/// original, so that the columns of a table stay aligned.
pub fn normalize(text: &str, home: &Home) -> String {
    let text = text.replace(&home.path().display().to_string(), "[HOME]").replace(TOOL, "uzima-backup");
    let text = text.replace(env!("CARGO_PKG_VERSION"), "[VERSION]");
    let text = with_numbered_ids(&text);
    apply(&RULES, text)
}

/// Also replaces sizes and durations, for output about a backup of a real server.
pub fn normalize_measured(text: &str, home: &Home) -> String {
    apply(&MEASURED, normalize(text, home))
}

fn apply(rules: &[(Regex, &str)], text: String) -> String {
    rules.iter().fold(text, |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// Numbers the backup ids of a text in the order of their first appearance: `00000000T000000Z-000001`.
fn with_numbered_ids(text: &str) -> String {
    static ID: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b2\d{7}T\d{6}Z-[0-9a-z]{6}\b").expect("a pattern"));
    let mut seen: Vec<String> = Vec::new();
    ID.replace_all(text, |found: &regex::Captures| {
        let at = seen.iter().position(|id| *id == found[0]).unwrap_or_else(|| {
            seen.push(found[0].to_string());
            seen.len() - 1
        });
        format!("00000000T000000Z-{:06}", at + 1)
    })
    .into_owned()
}

/// Joins the exit code, standard output and standard error of a run.
pub fn all(ran: &Ran) -> String {
    let mut text = format!("exit code {}\n", ran.code.expect("an exit code"));
    for (name, lines) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        if !lines.is_empty() {
            text.push_str(&format!("--- {name}\n{lines}"));
        }
    }
    text
}

/// Formats JSON with one line per field. Flat objects and lists are on one line if they fit. Timings are left out, because
/// the length of their numbers differs.
pub fn compact(value: &Value) -> String {
    let (mut value, mut out) = (value.clone(), String::new());
    without_timings(&mut value);
    write(&value, 0, &mut out);
    out
}

fn without_timings(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| match (key.as_str(), &value) {
            ("timing", Value::Object(_)) => *value = "[TIMING]".into(),
            _ => without_timings(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(without_timings),
        _ => {}
    }
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let line = one_line(value);
    let flat = match value {
        Value::Array(items) => !items.iter().any(Value::is_object),
        Value::Object(fields) => !fields.values().any(|field| field.is_object() || field.is_array()),
        _ => true,
    };
    if flat && depth > 0 && line.chars().count() + 2 * depth <= 110 || line.len() == 2 {
        out.push_str(&line);
        return;
    }
    let pad = "  ".repeat(depth + 1);
    let mut first = true;
    let mut entry = |key: Option<&String>, value: &Value, out: &mut String| {
        out.push_str(if std::mem::take(&mut first) { "\n" } else { ",\n" });
        out.push_str(&pad);
        if let Some(key) = key {
            out.push_str(&format!("{}: ", Value::from(key.as_str())));
        }
        write(value, depth + 1, out);
    };
    let close = match value {
        Value::Array(items) => {
            out.push('[');
            items.iter().for_each(|item| entry(None, item, out));
            ']'
        }
        Value::Object(fields) => {
            out.push('{');
            fields.iter().for_each(|(key, field)| entry(Some(key), field, out));
            '}'
        }
        scalar => return out.push_str(&scalar.to_string()),
    };
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
    out.push(close);
}

/// Formats JSON on one line, with a space after each colon and comma.
fn one_line(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(one_line).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(key, field)| format!("{}: {}", Value::from(key.as_str()), one_line(field)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}
