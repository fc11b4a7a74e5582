//! The settings of mails, signals and the webhook. They are resolved apart from all others, so that a run that fails because
//! of another setting still sends its notices.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use super::place::are;
use crate::base::error::{Error, Result};
use crate::base::secret::{ExposeSecret, Secret};

/// An event that is mailed and sent to the webhook. `notify` (BACKUP_NOTIFY) selects events by their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A backup was completed.
    Success,
    /// A run failed.
    Failure,
    /// A run succeeded after reported failures.
    Recovered,
    /// A clean-up finished.
    Cleanup,
    /// A clean-up is frozen: it deletes nothing until a person has looked.
    Frozen,
    /// `stats --email`.
    Stats,
    /// `health --email`.
    Health,
}

/// Every event.
pub const EVENTS: [Event; 7] = [
    Event::Success,
    Event::Failure,
    Event::Recovered,
    Event::Cleanup,
    Event::Frozen,
    Event::Stats,
    Event::Health,
];

impl Event {
    /// The word of the event in settings, JSON and file names.
    pub fn word(self) -> &'static str {
        match self {
            Event::Success => "success",
            Event::Failure => "failure",
            Event::Recovered => "recovered",
            Event::Cleanup => "cleanup",
            Event::Frozen => "frozen",
            Event::Stats => "stats",
            Event::Health => "health",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(word: &str) -> Result<Event, String> {
        let found = EVENTS.into_iter().find(|event| event.word() == word);
        found.ok_or_else(|| {
            format!("there is no mail '{word}'; there are {}", EVENTS.map(Event::word).join(", "))
        })
    }
}

/// How mails are sent.
#[derive(Debug, Clone)]
pub struct MailOptions {
    /// The API key of the mail service.
    pub key: Secret,
    /// The sender: an address, or `Name <address>`.
    pub from: String,
    /// The addresses of the recipients.
    pub to: Vec<String>,
    /// The address of the mail service, without a slash at the end.
    pub base_url: String,
    /// The events that are sent.
    pub events: Vec<Event>,
}

/// The signals that every run gives to machines.
#[derive(Debug, Clone, Default)]
pub struct SignalOptions {
    /// The address that a monitor is pinged at.
    pub ping: Option<Address>,
    /// The metrics file for Prometheus.
    pub metrics: Option<PathBuf>,
}

/// The webhook.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    pub address: Address,
    /// The events that are sent.
    pub events: Vec<Event>,
}

/// An HTTP address that is a secret, because everybody who knows it can use it.
#[derive(Clone)]
pub struct Address(Secret);

impl Address {
    /// The whole address, secrets included.
    pub fn url(&self) -> Url {
        Url::parse(self.0.expose_secret()).expect("it was checked")
    }

    /// The part of the address that may be shown: scheme, host and port.
    pub fn service(&self) -> String {
        self.url().origin().ascii_serialization()
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let good = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        match Url::parse(text) {
            Ok(url) if good(&url) && text.bytes().all(|b| b.is_ascii_graphic()) => {
                Ok(Address(Secret::from(text.to_string())))
            }
            _ => Err("it is an address that begins with https:// or http://".into()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}/***)", self.service())
    }
}

/// Resolves the mail settings; `None` if none of them is set.
pub(super) fn mail(layers: &Layers) -> Result<Option<MailOptions>> {
    let all = ["mail.resend_api_key", "mail.to", "mail.from", "mail.base_url", "notify"];
    // `notify` alone may be meant for the webhook.
    let ours = |key: &&'static str| layers.is_set(key) && (*key != "notify" || !layers.is_set("webhook_url"));
    let set: Vec<&str> = all.into_iter().filter(ours).collect();
    if set.is_empty() {
        return Ok(None);
    }
    let missing = |variable: &str, key: &str| {
        Error::usage(format!("{} set, but nobody can be mailed: {variable} is missing", are(&set)))
            .hint(format!("Set {variable} ({key}), or unset the other mail settings"))
    };
    let key = layers.parsed("mail.resend_api_key", key)?;
    let key = key.ok_or_else(|| missing("RESEND_API_KEY", "mail.resend_api_key"))?;
    if !layers.is_set("mail.to") {
        return Err(missing("ADMIN_EMAILS", "mail.to"));
    }
    let wrong = |why: String| layers.wrong("mail.to", &why);
    let to = recipients(layers.list("mail.to")).map_err(wrong)?;
    let first = to.first().ok_or_else(|| wrong("it names nobody".into()))?;
    let domain = first.rsplit_once('@').expect("it was checked").1;
    let from = layers.parsed("mail.from", sender)?.unwrap_or_else(|| format!("uzima-backup@{domain}"));
    let base_url = layers.parsed("mail.base_url", base_url)?.expect("it has a default");
    Ok(Some(MailOptions { key, from, to, base_url, events: events(layers)? }))
}

/// Resolves the events that are mailed and sent to the webhook.
pub(super) fn events(layers: &Layers) -> Result<Vec<Event>> {
    if !layers.is_set("notify") {
        return Ok(EVENTS.into());
    }
    let words = layers.list("notify");
    if words.is_empty() {
        return Err(layers.wrong("notify", "it names no mail; without it, all are sent"));
    }
    words.iter().map(|word| word.parse().map_err(|e: String| layers.wrong("notify", &e))).collect()
}

fn key(text: &str) -> Result<Secret, String> {
    match text.bytes().all(|b| b.is_ascii_graphic()) && !text.is_empty() {
        true => Ok(Secret::from(text.to_string())),
        false => Err("a key is one word of letters, digits and signs".into()),
    }
}

/// The addresses of a list as people write it: `a@b.example, Name <c@d.example>`, each once. A comma or a semicolon at
/// the end is no mistake. Names are left out: the service needs none.
fn recipients(items: &[String]) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    for item in separate(&items.join(",")) {
        let (_, inner) = named(item);
        let one = address(inner)?;
        if !all.contains(&one) {
            all.push(one);
        }
    }
    Ok(all)
}

/// The items between commas and semicolons, without those in a quoted name. Empty items are left out.
fn separate(list: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let items = list.split(|c: char| {
        let ends = !quoted && (c == ',' || c == ';');
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        ends
    });
    items.map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// The parts of `Name <address>`: what stands before the address, as it is, and the address.
fn named(text: &str) -> (&str, &str) {
    match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, inner)) => (name, inner),
        None => ("", text),
    }
}

/// Characters before the `@` of an address beside letters and digits (`atext`, RFC 5322, 3.2.3), and the dot.
const MARKS: &str = "!#$%&'*+-/=?^_`{|}~.";

/// A plain address in the form that the service takes: its domain in ASCII (RFC 5890). Checks enough that the service
/// does not refuse it, and that nothing else can hide in it. Whether the address exists, a test mail shows.
fn address(text: &str) -> Result<String, String> {
    let no = |why: &str| Err(format!("'{}' is no mail address{why}", text.escape_debug()));
    let Some((local, domain)) = text.rsplit_once('@') else { return no("") };
    if !local.is_ascii() {
        return no(" that the mail service takes: before the @ it has letters beyond ASCII");
    }
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    let sound = local.chars().all(|c| c.is_ascii_alphanumeric() || MARKS.contains(c));
    if local.is_empty() || local.len() > 64 || dots || !sound {
        return no("");
    }
    let Ok(domain) = idna::domain_to_ascii_strict(domain) else { return no(": its domain is not valid") };
    let top = domain.rsplit_once('.').map_or("", |(_, top)| top);
    if top.len() < 2 || !top.contains(|c: char| c.is_ascii_alphabetic()) {
        return no(": its domain is not valid");
    }
    let address = format!("{local}@{domain}");
    if address.len() <= 254 { Ok(address) } else { no("") }
}

/// An address, or `Name <address>`.
fn sender(text: &str) -> Result<String, String> {
    let (name, inner) = named(text.trim());
    if name.chars().any(|c| c.is_control() || "<>,;".contains(c)) {
        return Err("a name has no signs of its own: Name <name@example.com>".into());
    }
    let address = address(inner)?;
    Ok(if name.trim().is_empty() { address } else { format!("{} <{address}>", name.trim()) })
}

fn base_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest)
            if !rest.trim_end_matches('/').is_empty()
                && !rest.contains(['@', '?', '#'])
                && rest.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(text.trim_end_matches('/').to_string())
        }
        _ => Err("it begins with https:// or http://, and holds no login".into()),
    }
}

/// The signals that are for every run.
pub(super) fn signals(layers: &Layers) -> Result<SignalOptions> {
    let metrics = layers.absolute("metrics_file")?;
    if let Some(path) = &metrics
        && path.extension().is_none_or(|ending| ending != "prom")
    {
        let why = "its name must end in .prom: node_exporter's textfile collector reads no other";
        return Err(layers.wrong("metrics_file", why));
    }
    Ok(SignalOptions { ping: layers.parsed("ping_url", Address::from_str)?, metrics })
}

/// Whom to tell by a webhook, of the events that mails are chosen by; `None` if it is not set.
pub(super) fn webhook(layers: &Layers) -> Result<Option<WebhookOptions>> {
    let address = layers.parsed("webhook_url", Address::from_str)?;
    address.map(|address| Ok(WebhookOptions { address, events: events(layers)? })).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_words() {
        for event in EVENTS {
            assert_eq!(event.word().parse(), Ok(event));
        }
        let error = "sucess".parse::<Event>().unwrap_err();
        assert!(error.contains("sucess") && error.contains("success, failure"), "{error}");
    }
}

#[cfg(test)]
mod notify_tests {
    use super::*;

    #[test]
    fn an_address_is_checked_and_shows_only_its_service() {
        let address: Address = "https://hc-ping.example:8443/5b0f2a3c-canary/x?token=canary".parse().unwrap();
        assert_eq!(address.service(), "https://hc-ping.example:8443");
        assert!(!format!("{address:?}").contains("canary"));
        for bad in
            ["", "hc-ping.example/x", "ftp://h/x", "https://", "https://h/a b", "https://h/\nx", "http:/"]
        {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(error.contains("https://"), "{bad}");
        }
    }
}

#[cfg(test)]
mod signals_tests {
    use super::*;
    use crate::base::exit::Exit;
    use crate::config::notify::Event;

    #[test]
    fn each_is_for_itself() {
        let none = Layers::of(&[("BACKUP_FORMAT", "nonsense")]);
        let signals = super::signals(&none).unwrap();
        assert!(signals.ping.is_none() && signals.metrics.is_none() && webhook(&none).unwrap().is_none());
        let all = Layers::of(&[
            ("PING_URL", "https://hc-ping.com/5b0f"),
            ("METRICS_FILE", "/var/lib/node_exporter/uzima-backup.prom"),
            ("WEBHOOK_URL", "http://127.0.0.1:8080/hook?token=x"),
            ("BACKUP_NOTIFY", "failure,recovered"),
        ]);
        let signals = super::signals(&all).unwrap();
        assert_eq!(signals.ping.unwrap().service(), "https://hc-ping.com");
        assert!(signals.metrics.unwrap().ends_with("uzima-backup.prom"));
        assert_eq!(webhook(&all).unwrap().unwrap().events, [Event::Failure, Event::Recovered]);
        assert!(mail(&all).unwrap().is_none(), "the events are chosen for the webhook");
    }

    #[test]
    fn a_mistake_names_its_variable_and_never_the_address() {
        for (name, value, word) in [
            ("PING_URL", "hc-ping.com/canary", "https://"),
            ("PING_URL", "file:///canary", "https://"),
            ("WEBHOOK_URL", "https:///canary x", "https://"),
            ("METRICS_FILE", "uzima.prom", "absolute"),
            ("METRICS_FILE", "/var/lib/uzima.txt", ".prom"),
            ("METRICS_FILE", "/var/lib/.prom", ".prom"),
        ] {
            let layers = Layers::of(&[(name, value)]);
            let error = signals(&layers).and(webhook(&layers).map(drop)).unwrap_err();
            assert_eq!(error.exit(), Exit::Usage);
            let text = format!("{} {error:?}", error.chain());
            assert!(text.contains(name) && text.contains(word) && !text.contains("canary"), "{text}");
        }
        let both = Layers::of(&[("WEBHOOK_URL", "http://h/x"), ("BACKUP_NOTIFY", "succes")]);
        assert!(webhook(&both).unwrap_err().chain().contains("'succes'"));
    }
}

#[cfg(test)]
mod mail_tests;
