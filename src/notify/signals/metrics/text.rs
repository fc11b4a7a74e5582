//! The file's text: written, and read back line by line, each as strictly as it was written.

use std::collections::BTreeMap;

use super::METRICS;

/// What all names begin with.
pub const PREFIX: &str = "uzima_backup_";

/// The label of the job. `job` itself is the scrape's: Prometheus renames one that is exported
/// (`honor_labels` in its configuration).
pub const LABEL: &str = "backup_job";

/// Samples by metric (its place in [`METRICS`]) and job.
#[derive(Debug, Default, PartialEq)]
pub struct Page {
    samples: BTreeMap<(usize, String), f64>,
}

/// What was read.
#[derive(Debug, PartialEq)]
pub enum Read {
    /// A page, and how many lines of it nobody understands.
    Page(Page, usize),
    /// In this line there is a metric of somebody else.
    Foreign(usize),
}

impl Page {
    /// Sets a sample of a job; `name` is without [`PREFIX`].
    pub fn set(&mut self, name: &str, job: &str, value: f64) {
        let place = METRICS.iter().position(|metric| metric.name[PREFIX.len()..] == *name);
        self.samples.insert((place.expect("it is in the list"), job.into()), value);
    }

    /// The text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (place, metric) in METRICS.iter().enumerate() {
            let mut samples = self.samples.iter().filter(|((at, _), _)| *at == place).peekable();
            if samples.peek().is_some() {
                text.push_str(&format!("# HELP {0} {1}\n# TYPE {0} gauge\n", metric.name, metric.help));
            }
            for ((_, job), value) in samples {
                text.push_str(&format!("{}{{{LABEL}=\"{}\"}} {value}\n", metric.name, escaped(job)));
            }
        }
        text
    }

    /// Reads a text back.
    pub fn read(text: &str) -> Read {
        let (mut page, mut lost) = (Page::default(), 0);
        for (n, line) in text.split_inclusive('\n').enumerate() {
            // A number that is cut short is another number.
            let Some(line) = line.strip_suffix('\n') else {
                lost += 1;
                continue;
            };
            match sample(line) {
                Some((place, job, value)) => {
                    page.samples.insert((place, job), value);
                }
                None if is_foreign(line) => return Read::Foreign(n + 1),
                None if line.starts_with('#') || line.is_empty() => {}
                None => lost += 1,
            }
        }
        Read::Page(page, lost)
    }
}

/// `name{backup_job="..."} number`.
fn sample(line: &str) -> Option<(usize, String, f64)> {
    let (name, rest) = line.split_once(&format!("{{{LABEL}=\""))?;
    let place = METRICS.iter().position(|metric| metric.name == name)?;
    let (job, value) = rest.rsplit_once("\"} ")?;
    let value: f64 = value.parse().ok()?;
    Some((place, unescaped(job)?, value)).filter(|_| value.is_finite())
}

/// Whether a line is sound, and of a metric that is none of ours.
fn is_foreign(line: &str) -> bool {
    let said = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
    let rest = said.unwrap_or(line);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let named = name.starts_with(|c: char| !c.is_ascii_digit()) && !name.starts_with(PREFIX);
    let number = |text: &str| text.rsplit(' ').next().is_some_and(|word| word.parse::<f64>().is_ok());
    named && (said.is_some() || after.starts_with(['{', ' ']) && number(after))
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn unescaped(label: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = label.chars();
    while let Some(c) = rest.next() {
        text.push(match c {
            '\\' => match rest.next()? {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            },
            '"' => return None,
            c => c,
        });
    }
    Some(text)
}
