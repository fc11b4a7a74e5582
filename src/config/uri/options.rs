//! Reads the options of a connection string, by the tables of [`super::table`].

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::table::{HONOURED, Honoured, IGNORED, REFUSED, TRANSLATED, Value};
use crate::base::suggest;

/// The options of a connection string, each under its name in the MongoDB manual and with a value that both
/// engines take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// In the order of the table.
    taken: BTreeMap<usize, Vec<String>>,
    /// Ignored options, each with the reason.
    ignored: Vec<(String, String)>,
}

/// An option that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The option and what is wrong with it. It never has a value, except a value from a list of words.
    pub why: String,
    /// What to write instead.
    pub instead: String,
}

fn wrong<T>(why: impl Into<String>, instead: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { why: why.into(), instead: instead.into() })
}

const LEAVE_OUT: &str = "Correct the option, or leave it out";

impl Options {
    /// Reads `name=value` pairs with `&` (or `;`, as mongodump takes it) between them. `srv`: whether the scheme is
    /// `mongodb+srv`.
    ///
    /// # Errors
    /// Returns an error if an option is unknown, is refused by the table, or has an invalid value.
    pub fn read(query: &str, srv: bool) -> Result<Options, Wrong> {
        let mut options = Options::default();
        let mut translated = Vec::new();
        for pair in query.split(['&', ';']).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let shown = shown(name);
            if !pair.contains('=') {
                return wrong(
                    format!("option {shown} has no value"),
                    "Write name=value, with & between the options, or leave it out",
                );
            }
            let name = decoded(name);
            let value = decoded(value);
            if let Some(at) = HONOURED.iter().position(|option| spelled(option, &name)) {
                options.take(at, &shown, &value)?;
            } else if let Some(option) = TRANSLATED.iter().find(|option| same(option.name, &name)) {
                if same(option.value, &value) {
                    translated.push(option);
                } else if !value.is_empty() && !option.others.iter().any(|other| same(other, &value)) {
                    let words: Vec<&str> = [option.value].iter().chain(option.others).copied().collect();
                    return wrong(
                        format!("option {} has an invalid value", option.name),
                        format!("{} is {}", option.name, alternatives(&words)),
                    );
                }
            } else if let Some((known, why)) = ignored(&name) {
                options.ignore(known, why);
            } else if let Some(refused) =
                REFUSED.iter().find(|refused| refused.names.iter().any(|known| same(known, &name)))
            {
                return wrong(format!("option {shown} cannot be honoured"), refused.instead);
            } else {
                return unknown(&shown);
            }
        }
        for option in translated {
            // A current option takes precedence over an outdated one.
            if options.value(option.option).is_none() {
                options.set(option.option, option.becomes);
            }
        }
        options.settle(srv)?;
        Ok(options)
    }

    /// Takes an honoured option.
    fn take(&mut self, at: usize, shown: &str, value: &str) -> Result<(), Wrong> {
        let option = &HONOURED[at];
        let value = match checked(option, value) {
            Fit::As(value) => value,
            Fit::Partly(value, why) => {
                self.ignore(shown, &why);
                value
            }
            Fit::Nothing(why) => {
                self.ignore(shown, &why);
                return Ok(());
            }
            Fit::Default => return Ok(()),
            Fit::Wrong(instead) => {
                return wrong(format!("option {shown} has an invalid value"), instead);
            }
        };
        let values = self.taken.entry(at).or_default();
        if option.value == Value::Tags {
            values.push(value);
            return Ok(());
        }
        if let Some(before) = values.first().filter(|before| **before != value) {
            if option.value == Value::Bool && option.name.starts_with("tls") {
                return wrong(
                    format!("option {} is there twice, as {before} and as {value}", option.name),
                    "Leave out one of the two",
                );
            }
            self.ignore(shown, "it is there twice, and the last one counts");
        }
        self.taken.insert(at, vec![value]);
        Ok(())
    }

    /// Checks the options against each other.
    fn settle(&mut self, srv: bool) -> Result<(), Wrong> {
        let on = |options: &Options, name| options.value(name) == Some("true");
        let files = ["tlsCAFile", "tlsCertificateKeyFile"];
        if self.value("tls") == Some("false") {
            if let Some(file) = files.into_iter().find(|file| self.value(file).is_some()) {
                return wrong(
                    format!("{file} and tls=false contradict each other"),
                    "Leave out one of the two",
                );
            }
        } else if srv || files.iter().any(|file| self.value(file).is_some()) {
            self.set("tls", "true");
        }
        // The driver switches TLS on for these options; other drivers do not.
        if !on(self, "tls") {
            for name in ["tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames"] {
                self.remove(name);
            }
            if self.remove("tlsCertificateKeyFilePassword") {
                self.ignore("tlsCertificateKeyFilePassword", "there is no tlsCertificateKeyFile");
            }
        }
        if on(self, "tlsInsecure") || on(self, "tlsAllowInvalidCertificates") {
            // A client that trusts any certificate does not check the name in it.
            self.remove("tlsAllowInvalidHostnames");
            self.remove("tlsInsecure");
            self.set("tlsAllowInvalidCertificates", "true");
        } else {
            self.remove("tlsInsecure");
        }
        if self.value("authMechanism") == Some("MONGODB-X509") {
            if self.value("authSource").is_some_and(|source| source != "$external") {
                return wrong(
                    "option authSource contradicts authMechanism=MONGODB-X509",
                    "Users of certificates are in $external: write authSource=$external, or leave it out",
                );
            }
            if self.value("tlsCertificateKeyFile").is_none() {
                return wrong(
                    "authMechanism=MONGODB-X509 cannot be used without a certificate",
                    "Name the file with the client's certificate and key: tlsCertificateKeyFile=/path/client.pem",
                );
            }
        }
        let secondary = self.value("readPreference").is_some_and(|mode| mode != "primary");
        if !secondary {
            let tags =
                self.values("readPreferenceTags").is_some_and(|tags| tags.iter().any(|t| !t.is_empty()));
            self.remove("readPreferenceTags");
            if tags {
                self.ignore("readPreferenceTags", "it needs a readPreference other than primary");
            }
            if self.remove("maxStalenessSeconds") {
                self.ignore("maxStalenessSeconds", "it needs a readPreference other than primary");
            }
        }
        let number = |options: &Options, name| options.value(name).and_then(|n| n.parse::<i64>().ok());
        if number(self, "maxStalenessSeconds") == Some(-1) {
            self.remove("maxStalenessSeconds");
        }
        let frequency = number(self, "heartbeatFrequencyMS").unwrap_or(10_000);
        // Server selection specification: both bounds.
        let least = ((frequency + 999) / 1000 + 10).max(90);
        if number(self, "maxStalenessSeconds").is_some_and(|seconds| seconds < least) {
            return wrong(
                "option maxStalenessSeconds has an invalid value",
                format!("maxStalenessSeconds is at least {least} here"),
            );
        }
        let most = number(self, "maxPoolSize").unwrap_or(100);
        if number(self, "minPoolSize").is_some_and(|least| least > most) {
            self.remove("minPoolSize");
            self.ignore("minPoolSize", "it is above maxPoolSize");
        }
        for name in ["srvMaxHosts", "srvServiceName"] {
            if !srv && self.value(name).is_some() {
                return wrong(format!("option {name} is only for mongodb+srv://"), LEAVE_OUT);
            }
        }
        let several = |one: &str, other: &str| {
            wrong(format!("options {one} and {other} contradict each other"), "Leave out one of the two")
        };
        if srv && on(self, "directConnection") {
            return wrong(
                "option directConnection=true cannot be used with mongodb+srv://",
                "Leave it out, or name the member with mongodb://",
            );
        }
        if on(self, "loadBalanced") && on(self, "directConnection") {
            return several("loadBalanced", "directConnection");
        }
        if on(self, "loadBalanced") && self.value("replicaSet").is_some() {
            return several("loadBalanced", "replicaSet");
        }
        if number(self, "srvMaxHosts").is_some_and(|n| n > 0) && self.value("replicaSet").is_some() {
            return several("srvMaxHosts", "replicaSet");
        }
        // The driver takes a level only together with zlib.
        if !self.value("compressors").is_some_and(|names| names.split(',').any(|name| name == "zlib")) {
            self.remove("zlibCompressionLevel");
        }
        Ok(())
    }

    /// The value of an option.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values(name)?.first().map(String::as_str)
    }

    fn values(&self, name: &str) -> Option<&[String]> {
        self.taken.get(&HONOURED.iter().position(|option| option.name == name)?).map(Vec::as_slice)
    }

    fn set(&mut self, name: &str, value: &str) {
        if let Some(at) = HONOURED.iter().position(|option| option.name == name) {
            self.taken.insert(at, vec![value.to_string()]);
        }
    }

    /// Removes an option; returns true if it was there.
    fn remove(&mut self, name: &str) -> bool {
        let at = HONOURED.iter().position(|option| option.name == name);
        at.is_some_and(|at| self.taken.remove(&at).is_some())
    }

    fn ignore(&mut self, name: &str, why: &str) {
        let row = (name.to_string(), why.to_string());
        if !self.ignored.contains(&row) {
            self.ignored.push(row);
        }
    }

    /// The same options without those of TLS.
    pub fn without_tls(&self) -> Options {
        let mut options = self.clone();
        options.taken.retain(|at, _| !HONOURED[*at].name.starts_with("tls"));
        options
    }

    /// All options with their values; `tls` comes before the options that depend on it.
    pub fn all(&self) -> impl Iterator<Item = (&'static Honoured, &str)> {
        let rows = self.taken.iter().map(|(at, values)| (&HONOURED[*at], values));
        rows.flat_map(|(option, values)| values.iter().map(move |value| (option, value.as_str())))
    }

    /// The ignored options, a line for each reason: `useNewUrlParser and family are ignored: …`.
    pub fn warnings(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (name, why) in &self.ignored {
            match reasons.iter_mut().find(|(reason, _)| reason == why) {
                Some((_, names)) => names.push(name),
                None => reasons.push((why, vec![name])),
            }
        }
        let line = |(why, names): (&str, Vec<&str>)| {
            let are = if names.len() == 1 { "is" } else { "are" };
            format!("{} {are} ignored: {why}", listed(&names, "and"))
        };
        reasons.into_iter().map(line).collect()
    }
}

/// The result of checking a value.
enum Fit {
    /// Valid; used in this form.
    As(String),
    /// Partly valid; the rest is ignored.
    Partly(String, String),
    /// Ignored, with the reason.
    Nothing(String),
    /// The same as without the option.
    Default,
    /// Invalid, with the values that are valid.
    Wrong(String),
}

fn checked(option: &Honoured, value: &str) -> Fit {
    let name = option.name;
    if value.is_empty() && option.value != Value::Tags {
        // Without such an option a connection would be less safe than intended.
        return match name.starts_with("tls") || name.starts_with("auth") {
            true => Fit::Wrong(format!("Give {name} a value, or leave it out")),
            false => Fit::Nothing("it has no value".into()),
        };
    }
    match option.value {
        Value::Text => Fit::As(value.to_string()),
        Value::Bool => match value.to_ascii_lowercase().as_str() {
            word @ ("true" | "false") => Fit::As(word.to_string()),
            _ => Fit::Wrong(format!("{name} is true or false")),
        },
        Value::Millis(least) => match value.parse::<u64>() {
            Ok(0) if name == "maxIdleTimeMS" => Fit::Default,
            Ok(0) => Fit::Nothing("0 means no limit, and the usual limit holds".into()),
            Ok(n) if n >= least && n <= u32::MAX.into() => Fit::As(n.to_string()),
            _ => Fit::Wrong(format!("{name} is a number of milliseconds, at least {least}")),
        },
        Value::Number(least, most) => match value.parse::<i64>() {
            Ok(0) if name == "maxPoolSize" => {
                Fit::Nothing("0 means no limit, and the usual limit holds".into())
            }
            Ok(n) if (least..=most).contains(&n) => Fit::As(n.to_string()),
            _ => Fit::Wrong(format!("{name} is a whole number from {least} to {most}")),
        },
        Value::OneOf(words) => match words.iter().find(|word| same(word, value)) {
            // Removed in MongoDB 4.0.
            Some(&"MONGODB-CR") => Fit::Nothing("the server offers the mechanism".into()),
            Some(&"DEFAULT") => Fit::Default,
            Some(word) => Fit::As((*word).to_string()),
            None if name == "authMechanism" => Fit::Wrong(
                "authMechanism is SCRAM-SHA-1, SCRAM-SHA-256, MONGODB-X509 or PLAIN; without it the server and this \
                 program agree on one"
                    .into(),
            ),
            None => Fit::Wrong(format!("{name} is {}", alternatives(words))),
        },
        Value::Compressors => compressors(value),
        Value::Tags => match value.is_empty() || value.split(',').all(|tag| tag.split(':').count() == 2) {
            true => Fit::As(value.to_string()),
            false => Fit::Wrong(format!("{name} is key:value, with commas between several")),
        },
        Value::Concern => match value.parse::<i64>() {
            Ok(0) => Fit::Nothing("a restore always waits for the server's answer".into()),
            Ok(n) if n < 0 => Fit::Wrong(format!("{name} is a number of members, majority, or a name")),
            _ => Fit::As(value.to_string()),
        },
    }
}

/// The compressors that both engines have.
fn compressors(value: &str) -> Fit {
    const KNOWN: [&str; 3] = ["snappy", "zstd", "zlib"];
    const NONE: [&str; 4] = ["", "none", "noop", "disabled"];
    let words = value.split(',').map(|word| word.trim().to_ascii_lowercase());
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for word in words.filter(|word| !NONE.contains(&word.as_str())) {
        match KNOWN.contains(&word.as_str()) {
            true if !known.contains(&word) => known.push(word),
            true => {}
            false => others.push(shown(&word)),
        }
    }
    let why = || format!("{} is not a compressor that is known here", others.join(", "));
    match (known.is_empty(), others.is_empty()) {
        (false, true) => Fit::As(known.join(",")),
        (false, false) => Fit::Partly(known.join(","), why()),
        (true, false) => Fit::Nothing(why()),
        (true, true) => Fit::Default,
    }
}

fn unknown<T>(shown: &str) -> Result<T, Wrong> {
    let why = format!("option {shown} is unknown");
    let names = || {
        let honoured =
            HONOURED.iter().flat_map(|option| [option.name].into_iter().chain(option.spellings.to_vec()));
        honoured.chain(TRANSLATED.iter().map(|option| option.name))
    };
    let others = || IGNORED.iter().flat_map(|row| row.names).chain(REFUSED.iter().flat_map(|row| row.names));
    let all: Vec<(String, &str)> =
        names().chain(others().copied()).map(|name| (name.to_ascii_lowercase(), name)).collect();
    let meant = suggest::meant(&shown.to_ascii_lowercase(), all.iter().map(|(name, _)| name.as_str()));
    let meant = meant.and_then(|meant| all.iter().find(|(name, _)| name == meant));
    match meant {
        Some((_, name)) => wrong(format!("{why}: did you mean {name}?"), LEAVE_OUT),
        None => {
            let all: Vec<&str> = HONOURED.iter().map(|option| option.name).collect();
            wrong(why, format!("Leave it out. The options are {}", listed(&all, "and")))
        }
    }
}

fn ignored(name: &str) -> Option<(&'static str, &'static str)> {
    IGNORED
        .iter()
        .find_map(|row| row.names.iter().find(|known| same(known, name)).map(|known| (*known, row.why)))
}

fn spelled(option: &Honoured, name: &str) -> bool {
    same(option.name, name) || option.spellings.iter().any(|spelling| same(spelling, name))
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A name that may be shown. A name with other characters than an option's may be part of a password.
fn shown(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
        true => name.to_string(),
        false => "(a name with other characters than letters)".into(),
    }
}

/// `a, b or c`.
fn alternatives(words: &[&str]) -> String {
    listed(words, "or")
}

fn listed(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_string(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}
