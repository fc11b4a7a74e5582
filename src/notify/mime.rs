//! A mail in the form of the internet (RFC 5322, MIME), for SMTP and sendmail.

use std::time::{Duration, SystemTime};

use lettre::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::message::plain;
use super::posting::Posting;
use crate::base::error::{Error, Result};
use crate::config::notify::named;

/// A rendered mail. It is the same for each try.
pub(super) struct Letter {
    pub from: Address,
    /// The recipients, in the order of the settings.
    pub to: Vec<Address>,
    /// ASCII, in lines of at most 998 characters that end with CR LF.
    pub bytes: Vec<u8>,
}

/// Renders a mail with both bodies.
///
/// # Errors
/// Returns an error if an address is not one in the sense of RFC 5322.
pub(super) fn letter(posting: &Posting<'_>) -> Result<Letter> {
    let (message, options) = (posting.message, posting.options);
    let from = mailbox(&options.from, "EMAIL_FROM (mail.from)")?;
    let to: Vec<Mailbox> =
        options.to.iter().map(|to| mailbox(to, "ADMIN_EMAILS (mail.to)")).collect::<Result<_>>()?;
    // Servers and readers know by the id that a mail arrived twice.
    let identity = format!("{}\n{}\n{}", message.event, posting.run, options.to.join("\n"));
    let hash = blake3::hash(identity.as_bytes()).to_hex();
    let id = format!("<uzima-backup.{}.{}@{}>", message.event, &hash[..32], from.email.domain());
    let bodies = MultiPart::alternative()
        .boundary(format!("uzima-backup-{}", &hash[32..]))
        .singlepart(part(ContentType::TEXT_PLAIN, message.text()))
        .singlepart(part(ContentType::TEXT_HTML, message.html()));
    let at = Duration::from_secs(posting.at.timestamp().max(0).unsigned_abs());
    let mut builder = lettre::Message::builder()
        .from(from.clone())
        // Nothing that a server or a name of a database contains can begin another header.
        .subject(plain(&message.subject))
        .date(SystemTime::UNIX_EPOCH + at)
        .message_id(Some(id))
        // Out-of-office programs do not answer such a mail (RFC 3834, 5).
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".into(),
        ));
    for to in &to {
        builder = builder.to(to.clone());
    }
    let built =
        builder.multipart(bodies).map_err(|e| Error::failed("the mail cannot be built").caused_by(e))?;
    Ok(Letter { from: from.email, to: to.into_iter().map(|to| to.email).collect(), bytes: built.formatted() })
}

fn part(kind: ContentType, text: String) -> SinglePart {
    SinglePart::builder().header(kind).body(text)
}

/// An address, or `Name <address>`.
fn mailbox(text: &str, setting: &str) -> Result<Mailbox> {
    let (name, address) = named(text);
    let name = name.trim().trim_matches('"').to_string();
    let email = address.parse::<Address>().map_err(|e| {
        Error::usage(format!("'{}' is not a mail address", address.escape_debug()))
            .hint(format!("Correct {setting}"))
            .caused_by(e)
    })?;
    Ok(Mailbox::new(Some(name).filter(|name| !name.is_empty()), email))
}

#[cfg(test)]
mod tests;
