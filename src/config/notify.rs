//! The settings of mails, signals and the webhook.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::choices::choose;
use super::layers::{Layers, boolean};
use super::place::are;
use super::transport::{self, MailTransport};
use crate::base::error::{Error, Result};

/// An event that is mailed and sent to the webhook. The setting `notify` (BACKUP_NOTIFY) selects events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A backup was completed.
    Success,
    /// A run failed.
    Failure,
    /// A run succeeded after reported failures.
    Recovered,
    /// A cleanup finished.
    Cleanup,
    /// A cleanup deletes nothing until a person decides.
    Frozen,
    /// The report of `stats --email`.
    Stats,
    /// The report of `health --email`.
    Health,
}

pub const EVENTS: [Event; 7] = [
    Event::Success,
    Event::Failure,
    Event::Recovered,
    Event::Cleanup,
    Event::Frozen,
    Event::Stats,
    Event::Health,
];

/// The words of [`EVENTS`], in the same order.
const WORDS: [&str; 7] = ["success", "failure", "recovered", "cleanup", "frozen", "stats", "health"];

impl Event {
    /// The word of the event in settings, JSON and file names.
    pub fn word(self) -> &'static str {
        WORDS[self as usize]
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
        choose(word, WORDS, EVENTS).map_err(|why| format!("'{word}' is not an event: {why}"))
    }
}

/// How mails are sent.
#[derive(Debug, Clone)]
pub struct MailOptions {
    pub by: MailTransport,
    /// An address, or `Name <address>`.
    pub from: String,
    /// Addresses without names.
    pub to: Vec<String>,
    pub events: Vec<Event>,
    /// The service keeps a mail that it sends if backups stop.
    pub dead_man: bool,
    /// Each cleanup that deletes backups is mailed, because `notify` names `cleanup`. Otherwise only unusual ones are, and
    /// the next mail about a backup mentions the others.
    pub each_cleanup: bool,
}

/// Signals to other programs, sent by every run.
#[derive(Debug, Clone, Default)]
pub struct SignalOptions {
    /// The address of a monitor that receives pings.
    pub ping: Option<Address>,
    /// The address of a monitor that receives the pings of `oplog`.
    pub oplog_ping: Option<Address>,
    /// The metrics file for Prometheus.
    pub metrics: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct WebhookOptions {
    pub address: Address,
    pub format: WebhookFormat,
    pub events: Vec<Event>,
    /// As in [`MailOptions`], for the message of a chat.
    pub each_cleanup: bool,
}

/// The form of the webhook's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookFormat {
    /// The tool's own document, for programs.
    Json,
    Slack,
    Discord,
    /// An adaptive card for a workflow of Teams.
    Teams,
}

impl FromStr for WebhookFormat {
    type Err = String;

    fn from_str(word: &str) -> Result<WebhookFormat, String> {
        use WebhookFormat::{Discord, Json, Slack, Teams};
        choose(word, ["json", "slack", "discord", "teams"], [Json, Slack, Discord, Teams])
    }
}

/// An HTTP address that is secret, because everybody who knows it can use it.
#[derive(Clone)]
pub struct Address(Url);

impl Address {
    /// The whole address, secrets included.
    pub fn url(&self) -> Url {
        self.0.clone()
    }

    /// The part of the address that may be shown: scheme, host and port.
    pub fn service(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Address, String> {
        let good = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        match Url::parse(text) {
            Ok(url) if good(&url) && text.bytes().all(|b| b.is_ascii_graphic()) => Ok(Address(url)),
            _ => Err("it must be an address that begins with https:// or http://".into()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({}/***)", self.service())
    }
}

/// Resolves the mail settings; `None` if none of them is set.
pub(crate) fn mail(layers: &Layers) -> Result<Option<MailOptions>> {
    // `notify` alone may be meant for the webhook.
    let ours = |key: &&'static str| layers.is_set(key) && (*key != "notify" || !layers.is_set("webhook_url"));
    let set: Vec<&str> = ["mail.to", "mail.from", "notify"].into_iter().filter(ours).collect();
    let set = [transport::set_keys(layers), set].concat();
    if set.is_empty() {
        return Ok(None);
    }
    let by = transport::transport(layers, &set)?;
    if !layers.is_set("mail.to") {
        return Err(Error::usage(format!(
            "{} set, but no mail can be sent: ADMIN_EMAILS is missing",
            are(&set)
        ))
        .hint("Set ADMIN_EMAILS (mail.to), or unset the other mail settings"));
    }
    let to = recipients(layers.list("mail.to")).map_err(|why| layers.wrong("mail.to", &why))?;
    let domain = to[0].rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let from = layers.parsed("mail.from", sender)?.unwrap_or_else(|| format!("uzima-backup@{domain}"));
    let events = events(layers)?;
    let each_cleanup = each_cleanup(layers, &events);
    let dead_man = layers.value("mail.dead_man", boolean)?;
    if dead_man && !matches!(by, MailTransport::Resend(_)) {
        return Err(layers
            .wrong("mail.dead_man", "only Resend keeps a mail until backups stop")
            .hint("Unset MAIL_DEAD_MAN (mail.dead_man), or send mails by Resend; PING_URL is the alarm for all others"));
    }
    Ok(Some(MailOptions { by, from, to, events, dead_man, each_cleanup }))
}

fn each_cleanup(layers: &Layers, events: &[Event]) -> bool {
    layers.is_set("notify") && events.contains(&Event::Cleanup)
}

fn events(layers: &Layers) -> Result<Vec<Event>> {
    match layers.items("notify")? {
        _ if !layers.is_set("notify") => Ok(EVENTS.into()),
        events if events.is_empty() => {
            Err(layers.wrong("notify", "it names no event; without this setting, all events are sent"))
        }
        events => Ok(events),
    }
}

/// Returns the addresses of a list such as `a@b.example, Name <c@d.example>`, each once and without its name, which the
/// service does not need. A comma or a semicolon at the end is allowed.
fn recipients(items: &[String]) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = Vec::new();
    for item in separate(&items.join(",")) {
        let address = address(named(item).1)?;
        if !all.contains(&address) {
            all.push(address);
        }
    }
    if all.is_empty() { Err("it names nobody".into()) } else { Ok(all) }
}

/// Splits a list at commas and semicolons outside of quoted names. Empty items are left out.
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

/// Splits `Name <address>` into the name, unchanged, and the address.
pub fn named(text: &str) -> (&str, &str) {
    match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, inner)) => (name, inner),
        None => ("", text),
    }
}

/// The characters that the part before the `@` may contain besides letters and digits: `atext` (RFC 5322,
/// 3.2.3) and the dot.
const MARKS: &str = "!#$%&'*+-/=?^_`{|}~.";

/// Returns an address in the form that the service accepts, with its domain in ASCII (RFC 5890). The checks ensure that
/// the text is a single address. Only a test mail shows whether the address exists.
fn address(text: &str) -> Result<String, String> {
    let no = |why: &str| Err(format!("'{}' is not a mail address{why}", text.escape_debug()));
    let Some((local, domain)) = text.rsplit_once('@') else { return no("") };
    if !local.is_ascii() {
        return no(" that the mail service accepts: it has non-ASCII characters before the @");
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

fn sender(text: &str) -> Result<String, String> {
    let (name, inner) = named(text.trim());
    if name.chars().any(|c| c.is_control() || "<>,;".contains(c)) {
        return Err(
            "a name must not contain control characters or < > , ; (write Name <name@example.com>)".into()
        );
    }
    let address = address(inner)?;
    Ok(if name.trim().is_empty() { address } else { format!("{} <{address}>", name.trim()) })
}

pub(super) fn signals(layers: &Layers) -> Result<SignalOptions> {
    let metrics = layers.absolute("metrics_file")?;
    if let Some(path) = &metrics
        && path.extension().is_none_or(|ending| ending != "prom")
    {
        let why = "its name must end in .prom: node_exporter's textfile collector reads no other files";
        return Err(layers.wrong("metrics_file", why));
    }
    let ping = layers.parsed("ping_url", Address::from_str)?;
    let oplog_ping = layers.parsed("oplog_ping_url", Address::from_str)?;
    Ok(SignalOptions { ping, oplog_ping, metrics })
}

pub(super) fn webhook(layers: &Layers) -> Result<Option<WebhookOptions>> {
    let format = layers.value("webhook_format", WebhookFormat::from_str)?;
    let Some(address) = layers.parsed("webhook_url", Address::from_str)? else {
        return match layers.is_set("webhook_format") {
            true => Err(Error::usage("webhook_format is set, but WEBHOOK_URL is missing")
                .hint("Set WEBHOOK_URL (webhook_url), or unset WEBHOOK_FORMAT (webhook_format)")),
            false => Ok(None),
        };
    };
    let events = events(layers)?;
    let each_cleanup = each_cleanup(layers, &events);
    Ok(Some(WebhookOptions { address, format, events, each_cleanup }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_words() {
        for event in EVENTS {
            assert_eq!(event.word().parse(), Ok(event));
            assert_eq!(serde_json::to_value(event).unwrap(), event.word());
        }
        let error = "sucess".parse::<Event>().unwrap_err();
        assert!(error.contains("sucess") && error.contains("success, failure"), "{error}");
    }

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
    fn signals_and_webhook_do_not_depend_on_other_settings() {
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
