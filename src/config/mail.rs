//! The mail settings, understood by themselves: a run that fails because of another setting still mails.

use super::layers::Layers;
use super::place::are;
use crate::error::{Error, Result};
use crate::notify::message::{EVENTS, Event};
use crate::notify::resend::MailOptions;
use crate::secret::Secret;

/// Whom to tell, and how; `None` if nothing about mails is set.
pub fn mail(layers: &Layers) -> Result<Option<MailOptions>> {
    let all = ["mail.resend_api_key", "mail.to", "mail.from", "mail.base_url", "notify"];
    // What is told is chosen for a webhook as well.
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
    let to = layers.list("mail.to");
    if !layers.is_set("mail.to") {
        return Err(missing("ADMIN_EMAILS", "mail.to"));
    }
    let wrong = |why: String| layers.wrong("mail.to", &why);
    let first = to.first().ok_or_else(|| wrong("it names nobody".into()))?;
    for item in to {
        address(item).map_err(wrong)?;
    }
    let domain = first.rsplit_once('@').expect("it was checked").1;
    let from = layers.parsed("mail.from", sender)?.unwrap_or_else(|| format!("uzima-backup@{domain}"));
    let base_url = layers.parsed("mail.base_url", base_url)?.expect("it has a default");
    Ok(Some(MailOptions { key, from, to: distinct(to), base_url, events: events(layers)? }))
}

/// The events that are told.
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

/// The same addresses, each once.
fn distinct(addresses: &[String]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for address in addresses {
        if !all.contains(address) {
            all.push(address.clone());
        }
    }
    all
}

fn key(text: &str) -> Result<Secret, String> {
    match text.bytes().all(|b| b.is_ascii_graphic()) && !text.is_empty() {
        true => Ok(Secret::from(text.to_string())),
        false => Err("a key is one word of letters, digits and signs".into()),
    }
}

/// Checks a plain address: enough that nothing else can hide in it. Whether it exists, a mail tells.
fn address(text: &str) -> Result<(), String> {
    let no = || Err(format!("'{}' is no mail address", text.escape_debug()));
    let Some((local, domain)) = text.rsplit_once('@') else { return no() };
    let odd = |c: char| c.is_control() || c.is_whitespace() || "<>()[],;:\\\"@".contains(c);
    let label = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && label.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let sound =
        !local.is_empty() && !local.contains(odd) && domain.contains('.') && domain.split('.').all(label);
    if sound && text.len() <= 254 { Ok(()) } else { no() }
}

/// An address, or `Name <address>`.
fn sender(text: &str) -> Result<String, String> {
    let inner = match text.strip_suffix('>').map(|rest| rest.split_once('<')) {
        Some(Some((name, inner))) => {
            if name.chars().any(|c| c.is_control() || "<>,;".contains(c)) {
                return Err("a name has no signs of its own: Name <name@example.com>".into());
            }
            inner
        }
        _ => text,
    };
    address(inner).map(|()| text.to_string())
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

#[cfg(test)]
mod tests;
