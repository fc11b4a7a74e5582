//! The mail settings, understood by themselves: a run that fails because of another setting still mails.

use super::layers::Layers;
use super::place::are;
use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::config::event::{EVENTS, Event};
use crate::config::notify::MailOptions;

/// Whom to tell, and how; `None` if nothing about mails is set.
pub(super) fn mail(layers: &Layers) -> Result<Option<MailOptions>> {
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

#[cfg(test)]
mod tests;
