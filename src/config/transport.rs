//! The settings of the service, server or program that sends the mails.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::layers::{Layers, boolean};
use super::place::are;
use super::table::{Origin, Setting, by_key};
use crate::base::error::{Error, Result};
use crate::base::secret::Secret;

/// Who sends the mails.
#[derive(Debug, Clone)]
pub enum MailTransport {
    Resend(ResendOptions),
    Smtp(SmtpOptions),
    /// The path of a program with the arguments of sendmail(8).
    Sendmail(PathBuf),
}

#[derive(Debug, Clone)]
pub struct ResendOptions {
    /// The API key.
    pub key: Secret,
    /// The URL of the service, without a slash at the end.
    pub base_url: String,
}

#[derive(Debug, Clone)]
pub struct SmtpOptions {
    /// A host name in ASCII or an IP address without brackets.
    pub host: String,
    pub port: u16,
    pub security: SmtpSecurity,
    /// `None` for a server that asks for no login.
    pub login: Option<SmtpLogin>,
    /// A PEM file with the only CAs to trust; `None` for this machine's.
    pub ca_file: Option<PathBuf>,
}

impl SmtpOptions {
    /// The host and the port, for messages.
    pub fn server(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

#[derive(Debug, Clone)]
pub struct SmtpLogin {
    pub user: String,
    pub password: Secret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// The connection begins unencrypted, and nothing but EHLO and STARTTLS is sent before it is encrypted (RFC 3207).
    StartTls,
    /// The connection is encrypted from its first byte (RFC 8314).
    Tls,
    /// No encryption, which is only allowed to this machine.
    Plain,
}

impl fmt::Display for SmtpSecurity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SmtpSecurity::StartTls => "STARTTLS",
            SmtpSecurity::Tls => "TLS",
            SmtpSecurity::Plain => "no encryption",
        })
    }
}

/// The port on which TLS begins at once (RFC 8314, 7.3).
const TLS_PORT: u16 = 465;

/// A transport, by its word in `mail.by`, and its settings. The first setting is enough to choose it.
struct Kind {
    word: &'static str,
    keys: &'static [&'static str],
    options: fn(&Layers) -> Result<Option<MailTransport>>,
}

const KINDS: [Kind; 3] = [
    Kind { word: "resend", keys: &["mail.resend_api_key", "mail.base_url"], options: resend },
    Kind {
        word: "smtp",
        keys: &[
            "mail.smtp_host",
            "mail.smtp_port",
            "mail.smtp_security",
            "mail.smtp_user",
            "mail.smtp_password",
            "mail.smtp_ca_file",
        ],
        options: smtp,
    },
    Kind { word: "sendmail", keys: &["mail.sendmail_path"], options: sendmail },
];

/// The settings that show that mails are wanted, as far as they are set. Variables such as `SMTP_HOST` are not among them:
/// other programs on the machine have the same ones.
pub(super) fn set_keys(layers: &Layers) -> Vec<&'static str> {
    let foreign = |key: &str| {
        key.contains("smtp_") && matches!(layers.origin(setting(key).key), Some(Origin::Environment(_)))
    };
    let wants_dead_man = !matches!(layers.value("mail.dead_man", boolean), Ok(false));
    let keys = KINDS.iter().flat_map(|kind| kind.keys.iter().copied());
    let keys = ["mail.by"].into_iter().chain(wants_dead_man.then_some("mail.dead_man")).chain(keys);
    keys.filter(|key| layers.is_set(key) && !foreign(key)).collect()
}

fn setting(key: &str) -> &'static Setting {
    by_key(key).expect("the key is in the table")
}

/// Chooses the transport: the one that `mail.by` names, or else the only one with a setting. `set` are the mail settings that
/// are set, for the error.
pub(super) fn transport(layers: &Layers, set: &[&str]) -> Result<MailTransport> {
    let words = KINDS.map(|kind| kind.word);
    let by = layers.parsed("mail.by", |text| match words.iter().position(|word| *word == text) {
        Some(at) => Ok(&KINDS[at]),
        None => Err(format!("it must be {}, {} or {}", words[0], words[1], words[2])),
    })?;
    let some: Vec<&Kind> =
        KINDS.iter().filter(|kind| kind.keys.iter().any(|key| layers.is_set(key))).collect();
    let kind = match (by, some.as_slice()) {
        (Some(by), _) => by,
        (None, [one]) => one,
        (None, []) => {
            return Err(Error::usage(format!(
                "{} set, but no mail can be sent: neither RESEND_API_KEY, SMTP_HOST nor SENDMAIL_PATH is set",
                are(set)
            ))
            .hint(
                "Set RESEND_API_KEY (mail.resend_api_key), SMTP_HOST (mail.smtp_host) or MAIL_BY=sendmail (mail.by), or unset \
                 the other mail settings",
            ));
        }
        (None, several) => {
            let words: Vec<&str> = several.iter().map(|kind| kind.word).collect();
            let keys: Vec<&str> = several
                .iter()
                .filter_map(|kind| kind.keys.iter().copied().find(|key| layers.is_set(key)))
                .collect();
            return Err(Error::usage(format!("{} set, so it is not clear how to send mails", are(&keys)))
                .hint(format!("Set MAIL_BY (mail.by) to {}", words.join(" or "))));
        }
    };
    let missing = || {
        let setting = setting(kind.keys[0]);
        Error::usage(format!("{} set, but no mail can be sent: {} is missing", are(set), setting.env))
            .hint(format!("Set {} ({}), or unset the other mail settings", setting.env, setting.key))
    };
    (kind.options)(layers)?.ok_or_else(missing)
}

fn resend(layers: &Layers) -> Result<Option<MailTransport>> {
    let Some(key) = layers.parsed("mail.resend_api_key", key)? else { return Ok(None) };
    let base_url = layers.value("mail.base_url", base_url)?;
    Ok(Some(MailTransport::Resend(ResendOptions { key, base_url })))
}

fn key(text: &str) -> Result<Secret, String> {
    match text.bytes().all(|b| b.is_ascii_graphic()) && !text.is_empty() {
        true => Ok(Secret::from(text.to_string())),
        false => Err("a key consists of letters, digits and signs, without spaces".into()),
    }
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
        _ => Err("it must begin with https:// or http://, and must not contain a login".into()),
    }
}

fn smtp(layers: &Layers) -> Result<Option<MailTransport>> {
    let Some(host) = layers.parsed("mail.smtp_host", host)? else { return Ok(None) };
    let port = layers.parsed("mail.smtp_port", port)?;
    let security = layers.parsed("mail.smtp_security", security)?.unwrap_or(match port {
        Some(TLS_PORT) => SmtpSecurity::Tls,
        _ => SmtpSecurity::StartTls,
    });
    if security == SmtpSecurity::Plain && !is_loopback(&host) {
        return Err(layers
            .wrong(
                "mail.smtp_security",
                &format!("without encryption, everybody on the way to {host} can read the password and the mails"),
            )
            .hint(
                "Set SMTP_SECURITY (mail.smtp_security) to starttls or tls. none is only for a server on this machine: \
                 localhost, 127.0.0.1 or ::1",
            ));
    }
    let port = port.unwrap_or(match security {
        SmtpSecurity::StartTls => 587,
        SmtpSecurity::Tls => TLS_PORT,
        SmtpSecurity::Plain => 25,
    });
    let user = layers.parsed("mail.smtp_user", one_line)?;
    let password = layers.parsed("mail.smtp_password", one_line)?.map(Secret::from);
    let login = match (user, password) {
        (Some(user), Some(password)) => Some(SmtpLogin { user, password }),
        (None, None) => None,
        (user, _) => {
            let (has, lacks) = match user {
                Some(_) => ("SMTP_USER", "SMTP_PASSWORD (mail.smtp_password), or SMTP_PASSWORD_FILE"),
                None => ("SMTP_PASSWORD", "SMTP_USER (mail.smtp_user)"),
            };
            return Err(Error::usage(format!("{has} is set, but a login needs a user and a password"))
                .hint(format!("Set {lacks}, or unset {has} for a server that asks for no login")));
        }
    };
    let ca_file = layers.absolute("mail.smtp_ca_file")?;
    Ok(Some(MailTransport::Smtp(SmtpOptions { host, port, security, login, ca_file })))
}

/// A host name in ASCII, or an IP address, with or without brackets.
fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(ip.to_string());
    }
    match idna::domain_to_ascii_strict(text) {
        Ok(name) if !name.is_empty() => Ok(name),
        _ => Err("it must be a host name or an IP address, without a scheme and a port".into()),
    }
}

/// Returns true if connections to the host cannot leave this machine.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|port| *port > 0).ok_or("it must be a port, from 1 to 65535")
}

fn security(text: &str) -> Result<SmtpSecurity, &'static str> {
    match text {
        "starttls" => Ok(SmtpSecurity::StartTls),
        "tls" => Ok(SmtpSecurity::Tls),
        "none" => Ok(SmtpSecurity::Plain),
        _ => Err("it must be starttls, tls or none"),
    }
}

/// A part of a login. AUTH PLAIN separates the parts by NUL (RFC 4616).
fn one_line(text: &str) -> Result<String, &'static str> {
    match text.is_empty() || text.contains(['\0', '\r', '\n']) {
        true => Err("it must be one line"),
        false => Ok(text.into()),
    }
}

fn sendmail(layers: &Layers) -> Result<Option<MailTransport>> {
    Ok(layers.absolute("mail.sendmail_path")?.map(MailTransport::Sendmail))
}

#[cfg(test)]
mod tests;
