//! Reads the options of a connection string, by the tables of [`super::table`].

use std::collections::BTreeMap;

use super::table::{HONOURED, Honoured, IGNORED, OptionValue, REFUSED, TRANSLATED};
use crate::base::secret::decoded;
use crate::base::suggest;

/// The options of a connection string. Both engines take their names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UriOptions {
    /// The values, by the names of the options in the MongoDB manual. Only `readPreferenceTags` can have
    /// several values.
    taken: BTreeMap<&'static str, Vec<String>>,
    /// Ignored options, each with the reason.
    ignored: Vec<(String, String)>,
}

/// An option that cannot be used.
#[derive(Debug)]
pub struct WrongOption {
    /// The option and the fault. It quotes no value except one from a list of words.
    pub why: String,
    /// The next step.
    pub instead: String,
}

fn wrong<T>(why: impl Into<String>, instead: impl Into<String>) -> Result<T, WrongOption> {
    Err(WrongOption { why: why.into(), instead: instead.into() })
}

const LEAVE_OUT: &str = "Correct the option, or leave it out";
const LEAVE_ONE: &str = "Leave out one of the two";

impl UriOptions {
    /// Reads `name=value` pairs, separated by `&` or, as mongodump accepts, by `;`. `srv` means that the scheme is
    /// `mongodb+srv`.
    ///
    /// # Errors
    /// Returns an error if an option is unknown, is refused by the table, or has an invalid value.
    pub fn read(query: &str, srv: bool) -> Result<UriOptions, WrongOption> {
        let mut options = UriOptions::default();
        let mut translated = Vec::new();
        for pair in query.split(['&', ';']).filter(|pair| !pair.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return wrong(
                    format!("option {} has no value", shown(pair)),
                    "Write name=value, with & between the options, or leave it out",
                );
            };
            let (shown, name, value) = (shown(name), decoded(name), decoded(value));
            let is_in = |names: &'static str| named(names, &name).is_some();
            if let Some(option) = HONOURED.iter().find(|o| same(o.name, &name) || is_in(o.spellings)) {
                options.take(option, &shown, &value)?;
            } else if let Some(option) = TRANSLATED.iter().find(|option| same(option.name, &name)) {
                if same(option.value, &value) {
                    translated.push(option);
                } else if !value.is_empty() && named(option.others, &value).is_none() {
                    let words = format!("{} {}", option.value, option.others);
                    return wrong(
                        format!("option {} has an invalid value", option.name),
                        format!("{} must be {}", option.name, listed(words.split(' '), "or")),
                    );
                }
            } else if let Some((known, why)) =
                IGNORED.iter().find_map(|row| Some((named(row.names, &name)?, row.why)))
            {
                options.ignore(known, why);
            } else if let Some(refused) = REFUSED.iter().find(|refused| is_in(refused.names)) {
                return wrong(format!("option {shown} cannot be honoured"), refused.instead);
            } else {
                return unknown(&shown);
            }
        }
        for option in translated {
            // A current option takes precedence over an outdated one.
            options.taken.entry(option.option).or_insert_with(|| vec![option.becomes.to_string()]);
        }
        options.settle(srv)?;
        Ok(options)
    }

    /// Adds an honoured option.
    fn take(&mut self, option: &'static Honoured, shown: &str, value: &str) -> Result<(), WrongOption> {
        let (value, why) = match checked(option, value) {
            Ok(checked) => checked,
            Err(instead) => return wrong(format!("option {shown} has an invalid value"), instead),
        };
        if let Some(why) = why {
            self.ignore(shown, &why);
        }
        let Some(value) = value else { return Ok(()) };
        let name = option.name;
        match self.value(name).filter(|before| *before != value) {
            _ if option.value == OptionValue::Tags => {
                self.taken.entry(name).or_default().push(value);
                return Ok(());
            }
            Some(before) if option.value == OptionValue::Bool && name.starts_with("tls") => {
                return wrong(format!("option {name} occurs twice, as {before} and as {value}"), LEAVE_ONE);
            }
            Some(_) => self.ignore(shown, "it occurs twice, and the last value counts"),
            None => {}
        }
        self.set(name, &value);
        Ok(())
    }

    /// Checks the options against each other.
    fn settle(&mut self, srv: bool) -> Result<(), WrongOption> {
        let file = ["tlsCAFile", "tlsCertificateKeyFile"].into_iter().find(|file| self.value(file).is_some());
        match (self.value("tls"), file) {
            (Some("false"), Some(file)) => {
                return wrong(format!("{file} and tls=false contradict each other"), LEAVE_ONE);
            }
            (Some("false"), None) => {}
            (_, file) if file.is_some() || srv => self.set("tls", "true"),
            _ => {}
        }
        // The driver switches TLS on for these options; other drivers do not.
        if !self.is_on("tls") {
            for name in ["tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames"] {
                self.taken.remove(name);
            }
            self.drop_because("tlsCertificateKeyFilePassword", "there is no tlsCertificateKeyFile");
        }
        let trusts_all = self.is_on("tlsInsecure") || self.is_on("tlsAllowInvalidCertificates");
        self.taken.remove("tlsInsecure");
        if trusts_all {
            // A client that trusts any certificate does not check the name in it.
            self.taken.remove("tlsAllowInvalidHostnames");
            self.set("tlsAllowInvalidCertificates", "true");
        }
        if self.value("authMechanism") == Some("MONGODB-X509") {
            if self.value("authSource").is_some_and(|source| source != "$external") {
                return wrong(
                    "option authSource contradicts authMechanism=MONGODB-X509",
                    "Certificate users are in $external: write authSource=$external, or leave it out",
                );
            }
            if self.value("tlsCertificateKeyFile").is_none() {
                return wrong(
                    "authMechanism=MONGODB-X509 cannot be used without a certificate",
                    "Name the file with the client's certificate and key: tlsCertificateKeyFile=/path/client.pem",
                );
            }
        }
        if self.value("readPreference").is_none_or(|mode| mode == "primary") {
            if self.taken.get("readPreferenceTags").is_some_and(|tags| tags.iter().all(String::is_empty)) {
                self.taken.remove("readPreferenceTags");
            }
            for name in ["readPreferenceTags", "maxStalenessSeconds"] {
                self.drop_because(name, "it needs a readPreference other than primary");
            }
        }
        if self.number("maxStalenessSeconds") == Some(-1) {
            self.taken.remove("maxStalenessSeconds");
        }
        let frequency = self.number("heartbeatFrequencyMS").unwrap_or(10_000);
        // Both bounds are in the driver's specification of server selection.
        let least = ((frequency + 999) / 1000 + 10).max(90);
        if self.number("maxStalenessSeconds").is_some_and(|seconds| seconds < least) {
            return wrong(
                "option maxStalenessSeconds has an invalid value",
                format!("maxStalenessSeconds must be at least {least} here"),
            );
        }
        if self.number("minPoolSize") > Some(self.number("maxPoolSize").unwrap_or(100)) {
            self.drop_because("minPoolSize", "it is above maxPoolSize");
        }
        for name in ["srvMaxHosts", "srvServiceName"] {
            if !srv && self.value(name).is_some() {
                return wrong(format!("option {name} is only for mongodb+srv://"), LEAVE_OUT);
            }
        }
        if srv && self.is_on("directConnection") {
            return wrong(
                "option directConnection=true cannot be used with mongodb+srv://",
                "Leave it out, or name the member with mongodb://",
            );
        }
        let has_effect = |name| self.value(name).is_some_and(|value| value != "false" && value != "0");
        for (one, other) in [
            ("loadBalanced", "directConnection"),
            ("loadBalanced", "replicaSet"),
            ("srvMaxHosts", "replicaSet"),
        ] {
            if has_effect(one) && has_effect(other) {
                return wrong(format!("options {one} and {other} contradict each other"), LEAVE_ONE);
            }
        }
        // The driver accepts a level only together with zlib.
        if !self.value("compressors").is_some_and(|names| names.split(',').any(|name| name == "zlib")) {
            self.taken.remove("zlibCompressionLevel");
        }
        Ok(())
    }

    /// The value of an option, by its name in the MongoDB manual.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.taken.get(name)?.first().map(String::as_str)
    }

    pub fn is_on(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.value(name)?.parse().ok()
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.taken.insert(name, vec![value.to_string()]);
    }

    /// Removes an option, and adds a warning if it was set.
    fn drop_because(&mut self, name: &str, why: &str) {
        if self.taken.remove(name).is_some() {
            self.ignore(name, why);
        }
    }

    fn ignore(&mut self, name: &str, why: &str) {
        let row = (name.to_string(), why.to_string());
        if !self.ignored.contains(&row) {
            self.ignored.push(row);
        }
    }

    /// Returns the options without the TLS options.
    pub fn without_tls(mut self) -> UriOptions {
        self.taken.retain(|name, _| !name.starts_with("tls"));
        self
    }

    /// All options with their values; `tls` comes before the options that depend on it.
    pub fn all(&self) -> impl Iterator<Item = (&'static Honoured, &str)> {
        HONOURED.iter().flat_map(|option| {
            let values = self.taken.get(option.name).into_iter().flatten();
            values.map(move |value| (option, value.as_str()))
        })
    }

    /// A line for each reason why options are ignored: `useNewUrlParser and family are ignored: …`.
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
            format!("{} {are} ignored: {why}", listed(names, "and"))
        };
        reasons.into_iter().map(line).collect()
    }
}

/// The value to use, if it differs from the default, and the reason if the value or a part of it is ignored. An error text
/// lists the valid values.
type Checked = Result<(Option<String>, Option<String>), String>;

const NO_LIMIT: &str = "0 means no limit, but the usual limit applies";

fn checked(option: &Honoured, value: &str) -> Checked {
    let name = option.name;
    let used = |value: &str| Ok((Some(value.to_string()), None));
    let ignored = |why: &str| Ok((None, Some(why.to_string())));
    if value.is_empty() && option.value != OptionValue::Tags {
        // Without such an option a connection would be less safe than intended.
        return match name.starts_with("tls") || name.starts_with("auth") {
            true => Err(format!("Give {name} a value, or leave it out")),
            false => ignored("it has no value"),
        };
    }
    match option.value {
        OptionValue::Text => used(value),
        OptionValue::Bool => match value.to_ascii_lowercase().as_str() {
            word @ ("true" | "false") => used(word),
            _ => Err(format!("{name} must be true or false")),
        },
        OptionValue::Millis(least) => match value.parse::<u64>() {
            Ok(0) if name == "maxIdleTimeMS" => Ok((None, None)),
            Ok(0) => ignored(NO_LIMIT),
            Ok(n) if n >= least && n <= u32::MAX.into() => used(&n.to_string()),
            _ => Err(format!("{name} must be a number of milliseconds, at least {least}")),
        },
        OptionValue::Number(least, most) => match value.parse::<i64>() {
            Ok(0) if name == "maxPoolSize" => ignored(NO_LIMIT),
            Ok(n) if (least..=most).contains(&n) => used(&n.to_string()),
            _ => Err(format!("{name} must be a whole number from {least} to {most}")),
        },
        OptionValue::OneOf(words) => match named(words, value) {
            // Removed in MongoDB 4.0.
            Some("MONGODB-CR") => ignored("the server offers the mechanism"),
            Some("DEFAULT") => Ok((None, None)),
            Some(word) => used(word),
            None if name == "authMechanism" => {
                Err("authMechanism must be SCRAM-SHA-1, SCRAM-SHA-256, MONGODB-X509 or PLAIN; \
                 without it, the server and this program choose one"
                    .into())
            }
            None => Err(format!("{name} must be {}", listed(words.split(' '), "or"))),
        },
        OptionValue::Compressors => Ok(compressors(value)),
        OptionValue::Tags => {
            match value.is_empty() || value.split(',').all(|tag| tag.split(':').count() == 2) {
                true => used(value),
                false => Err(format!("{name} must be key:value pairs, separated by commas")),
            }
        }
        OptionValue::Concern => match value.parse::<i64>() {
            Ok(0) => ignored("a restore always waits for the server's answer"),
            Ok(n) if n < 0 => Err(format!("{name} must be a number of members, majority, or a name")),
            _ => used(value),
        },
    }
}

/// The compressors that both engines have, and a warning about others.
fn compressors(value: &str) -> (Option<String>, Option<String>) {
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for word in value.split(',').map(|word| word.trim().to_ascii_lowercase()) {
        match word.as_str() {
            "" | "none" | "noop" | "disabled" => {}
            "snappy" | "zstd" | "zlib" if known.contains(&word) => {}
            "snappy" | "zstd" | "zlib" => known.push(word),
            _ => others.push(shown(&word)),
        }
    }
    let why = format!("{} is not a supported compressor", others.join(", "));
    ((!known.is_empty()).then(|| known.join(",")), (!others.is_empty()).then_some(why))
}

fn unknown<T>(shown: &str) -> Result<T, WrongOption> {
    let why = format!("option {shown} is unknown");
    let names = HONOURED.iter().flat_map(|option| [option.name, option.spellings]);
    let names = names.chain(TRANSLATED.iter().map(|option| option.name));
    let names = names.chain(IGNORED.iter().map(|row| row.names)).chain(REFUSED.iter().map(|row| row.names));
    let all: Vec<(String, &str)> =
        names.flat_map(str::split_whitespace).map(|name| (name.to_ascii_lowercase(), name)).collect();
    let meant = suggest::meant(&shown.to_ascii_lowercase(), all.iter().map(|(name, _)| name.as_str()));
    match meant.and_then(|meant| all.iter().find(|(name, _)| name == meant)) {
        Some((_, name)) => wrong(format!("{why}: did you mean {name}?"), LEAVE_OUT),
        None => {
            let all = listed(HONOURED.iter().map(|option| option.name), "and");
            wrong(why, format!("Leave it out. The options are {all}"))
        }
    }
}

/// The name in a list of the tables that equals `name` in any letter case.
fn named(names: &'static str, name: &str) -> Option<&'static str> {
    names.split_whitespace().find(|known| same(known, name))
}

fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The option's name for messages. A name with unusual characters may be part of a password.
fn shown(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
        true => name.to_string(),
        false => "(a name with characters other than letters)".into(),
    }
}

/// `a, b or c`, where `or` is `last`.
fn listed<'a>(words: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.as_slice() {
        [first @ .., end] if !first.is_empty() => format!("{} {last} {end}", first.join(", ")),
        words => words.concat(),
    }
}
