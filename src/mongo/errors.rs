//! Classifies the driver's errors, and turns them into messages with a next step.
//!
//! If the driver finds no suitable server, it reports the state of every member in one text, which [`selection`] reads.

mod selection;

use std::io::ErrorKind::TimedOut;

use mongodb::error::{Error as Driver, ErrorKind, WriteFailure};

use crate::base::error::Error;
pub(super) use selection::ConnectStep;
use selection::SelectionFailure;

/// The user that a connection logs in as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// The database that the user was created in.
    pub db: String,
}

/// The setting with a connection string, for messages.
#[derive(Debug, Clone, Copy)]
pub struct UriSetting {
    pub name: &'static str,
    /// The setting that names a file with the connection string.
    file: &'static str,
    /// True if the connection is for writing, which needs a primary.
    pub(super) writes: bool,
}

impl UriSetting {
    pub const SOURCE: UriSetting = UriSetting { name: "MONGO_URI", file: "MONGO_URI_FILE", writes: false };
    pub const TARGET: UriSetting = UriSetting {
        name: "the connection string of the target",
        file: "RESTORE_URI_FILE (for a drill DRILL_URI_FILE)",
        writes: true,
    };
    pub const RECORDS: UriSetting = UriSetting {
        name: "the connection string of the records",
        file: "BACKUP_RECORDS_FILE",
        writes: true,
    };

    /// The next step if a server cannot be reached and nothing more is known.
    pub(super) fn check(self) -> String {
        format!(
            "Check that MongoDB runs at this address, that {} names it, and that its TLS settings are right",
            self.name
        )
    }
}

/// The meaning of a driver's error for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Login,
    Unauthorized,
    /// The connection broke, the member stepped down or is shutting down, or the cursor is gone. Reading may continue
    /// where it stopped.
    Interrupted,
    /// The record that a resume token names is gone (KeyNotFound, CappedPositionLost).
    TokenGone,
    /// The collection is gone (QueryPlanKilled, NamespaceNotFound).
    CollectionGone,
    /// The server no longer keeps the history for the instant that is read (SnapshotTooOld, SnapshotUnavailable).
    InstantGone,
    /// The server does not know an option of the command.
    UnknownOption,
    /// All other errors, including malformed replies.
    Other,
}

/// Returns the server's error code; `None` if the error is not a server's answer to a command.
pub fn code(error: &Driver) -> Option<i32> {
    if let ErrorKind::Command(c) = &*error.kind { Some(c.code) } else { None }
}

/// Classifies an error. The codes are listed in MongoDB's `src/mongo/base/error_codes.yml`.
pub fn classify(error: &Driver) -> Class {
    match &*error.kind {
        ErrorKind::Authentication { .. } => Class::Login,
        ErrorKind::Command(c) => match c.code {
            18 => Class::Login,
            13 => Class::Unauthorized,
            // CursorNotFound, CursorKilled, Interrupted*, shutdown and step-down codes.
            43 | 237 | 6 | 7 | 89 | 91 | 189 | 262 | 9001 | 10107 | 11600 | 11601 | 11602 | 13435 | 13436 => {
                Class::Interrupted
            }
            136 | 211 => Class::TokenGone,
            175 | 26 => Class::CollectionGone,
            239 | 246 => Class::InstantGone,
            2 | 9 | 72 | 238 | 40415 => Class::UnknownOption,
            _ => Class::Other,
        },
        ErrorKind::Io(_) | ErrorKind::ConnectionPoolCleared { .. } | ErrorKind::ServerSelection { .. } => {
            Class::Interrupted
        }
        _ => Class::Other,
    }
}

/// Returns the cause of an error that may pass by itself: a broken connection, a server that is down, a name that was
/// not resolved. A server that was silent for the stall time-out is not asked again.
pub fn passing(error: &Driver) -> Option<String> {
    let passes = match &*error.kind {
        ErrorKind::DnsResolve { .. } => true,
        ErrorKind::Io(e) if e.kind() == TimedOut => false,
        ErrorKind::ServerSelection { message, .. } => {
            SelectionFailure::parse(message).and_then(|failure| failure.step).is_none_or(ConnectStep::passes)
        }
        _ => classify(error) == Class::Interrupted,
    };
    passes.then(|| tidy(error))
}

/// Returns true if the error came after a long wait: the server is down, or does not answer.
pub(super) fn waited(error: &Driver) -> bool {
    match &*error.kind {
        ErrorKind::ServerSelection { .. } => true,
        ErrorKind::Io(e) => e.kind() == TimedOut,
        _ => false,
    }
}

/// Makes an error of this tool from a driver's error. `doing` says what failed, and on which object.
pub(super) fn explain(doing: String, setting: UriSetting, user: Option<&User>, error: &Driver) -> Error {
    // `tidy` shortens the driver's message, so the debug log keeps the whole one.
    log::debug!("{doing}: {error}");
    let who = match user {
        Some(user) => format!("user '{}'", user.name),
        None if of_certificate(error) => "the user of the client's certificate".into(),
        None => "an anonymous user".into(),
    };
    let (message, hint) = match classify(error) {
        Class::Login => (format!("{doing}: the login of {who} was refused"), login_step(error, setting)),
        Class::Unauthorized => {
            let grant = match setting.writes {
                true => "Name a user with the built-in role \"restore\" in the connection string".into(),
                false => grant_backup(user),
            };
            (format!("{doing}: {who} may not do this"), grant)
        }
        Class::Interrupted => (doing, connect_hint(error, setting).unwrap_or_else(|| setting.check())),
        _ if matches!(&*error.kind, ErrorKind::Custom(_)) => (
            doing,
            "Look at that definition on the server (db.getCollectionInfos(), db.getUsers()) and create it again. If the \
             server has no such definition, look for a proxy that changes its answers"
                .into(),
        ),
        _ => return Error::failed(doing).caused_by(tidy(error)),
    };
    Error::failed(message).hint(hint).caused_by(tidy(error))
}

/// The next step if the user lacks a permission that a backup needs.
pub(super) fn grant_backup(user: Option<&User>) -> String {
    match user {
        Some(User { name, db }) => format!(
            "Grant the built-in role: db.getSiblingDB(\"{db}\").grantRolesToUser({name:?}, [{}])",
            granted("backup", db)
        ),
        None => "Name a user with the built-in role \"backup\" in MONGO_URI: \
                 mongodb://user:password@host/?authSource=admin"
            .into(),
    }
}

/// Writes a built-in role as an argument of `grantRolesToUser` in the database `db`. Built-in roles such as `backup` exist
/// only in `admin`, so any other database must name it.
pub fn granted(role: &str, db: &str) -> String {
    if db == "admin" { format!("\"{role}\"") } else { format!("{{role: \"{role}\", db: \"admin\"}}") }
}

/// The next step after a refused login.
fn login_step(error: &Driver, UriSetting { name: whose, file, .. }: UriSetting) -> String {
    match &*error.kind {
        // The driver's own check of the connection string, before anything is sent.
        ErrorKind::Authentication { message, .. } if message.contains("no password supplied") => format!(
            "{whose} has a user and no password (`uzima-backup config` shows where the value comes from). Put the whole \
             connection string, including the password, into the file that {file} names, or into the variable itself"
        ),
        _ if of_certificate(error) => format!(
            "The certificate's subject must be a user in $external: `openssl x509 -in FILE -noout -subject -nameopt \
             RFC2253` shows the subject, where FILE is tlsCertificateKeyFile of {whose}, and \
             db.getSiblingDB(\"$external\").createUser({{user: \"CN=…\", roles: […]}}) creates the user"
        ),
        _ => format!(
            "Check user, password and authSource in {whose}; special characters in the password must be percent-encoded"
        ),
    }
}

/// Returns true if the login used a certificate.
fn of_certificate(error: &Driver) -> bool {
    matches!(&*error.kind, ErrorKind::Authentication { message, .. } if message.contains("MONGODB-X509"))
}

/// The next step if servers answer, but do not match the connection string.
pub fn connect_hint(error: &Driver, setting: UriSetting) -> Option<String> {
    let ErrorKind::ServerSelection { message, .. } = &*error.kind else { return None };
    SelectionFailure::parse(message)?.step.map(|step| step.words(setting))
}

/// Returns a cause if the server does not know the command `hello`. MongoDB 4.4.2 introduced the command, and late
/// releases of older versions have it, too.
pub fn without_hello(error: &Driver) -> Option<&'static str> {
    const COMMAND_NOT_FOUND: i32 = 59;
    (code(error) == Some(COMMAND_NOT_FOUND))
        .then_some("it does not know the command hello; MongoDB 4.4 or later is needed")
}

/// Returns the driver's message without the names of its types and layers.
pub fn tidy(error: &Driver) -> String {
    match &*error.kind {
        ErrorKind::Command(c) => {
            format!("{} (code {}, {})", without_command(&c.message), c.code, c.code_name)
        }
        ErrorKind::ServerSelection { message, .. } => {
            SelectionFailure::parse(message).map_or_else(|| message.clone(), |failure| failure.why)
        }
        ErrorKind::DnsResolve { message, .. } => missing_record(message),
        ErrorKind::Write(WriteFailure::WriteError(e)) => format!("{} (code {})", e.message, e.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(e)) => {
            format!("{} (code {}, {})", e.message, e.code, e.code_name)
        }
        // An answer that this tool itself found invalid.
        ErrorKind::Custom(_) => error.get_custom::<String>().cloned().unwrap_or_default(),
        // The driver appends the whole error because of which it cleared the pool.
        kind @ ErrorKind::ConnectionPoolCleared { .. } => without_empty_fields(&kind.to_string()),
        kind => plain(&kind.to_string()),
    }
}

/// Shortens the server's "not authorized" message: it repeats the whole command, with session and cluster time.
fn without_command(message: &str) -> String {
    match message.split_once(" to execute command { ") {
        Some((who, command)) => {
            format!("{who} to execute {}", command.split(':').next().unwrap_or_default())
        }
        None => message.into(),
    }
}

/// Shortens the message about a DNS name without a record: it prints all fields of the query.
fn missing_record(message: &str) -> String {
    let fields = || {
        let name = between(message, "no records found for Query { name: Name(\"", &["\")"])?;
        let kind = between(message, "query_type: ", &[","])?;
        Some(format!("the name server has no {kind} record for {}", name.trim_end_matches('.')))
    };
    fields().unwrap_or_else(|| message.into())
}

/// Removes the fields that the driver prints after an error's message and that are usually empty: everything from the labels
/// to the server's response.
fn without_empty_fields(text: &str) -> String {
    const FIRST: &str = ", labels: {";
    const LAST: &str = ", server response: None";
    let mut parts = text.split(FIRST);
    let mut out = parts.next().unwrap_or_default().replace("Kind: ", "");
    for part in parts {
        match part.split_once(LAST) {
            Some((_, after)) => out.push_str(after),
            None => out.extend([FIRST, part]),
        }
    }
    out
}

/// Shortens an error of a connection to its cause, without the names and numbers of the layers.
pub(super) fn plain(text: &str) -> String {
    let text = ["I/O error: ", "An invalid argument was provided: "]
        .iter()
        .fold(text, |text, layer| text.strip_prefix(layer).unwrap_or(text));
    let text = text.split(" (os error ").next().unwrap_or(text);
    if text.starts_with("failed to lookup address information") {
        return UNKNOWN_HOST.into();
    }
    match text {
        "tls handshake eof" => NO_TLS.into(),
        text => text.replacen("Connection refused", "connection refused", 1),
    }
}

const UNKNOWN_HOST: &str = "the host's name is unknown";
const NO_TLS: &str = "the server does not speak TLS";

/// The text between `begin` and the first of `ends` that occurs after it, or the end of the text.
fn between<'a>(text: &'a str, begin: &str, ends: &[&str]) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    let end = ends.iter().find_map(|end| rest.find(end)).unwrap_or(rest.len());
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_of_a_driver_error_are_removed() {
        let none = ", labels: {\"Retryable\"}, source: None, server response: None";
        let text = format!("pool for a:1 cleared, because of: Kind: I/O error: refused{none}");
        assert_eq!(without_empty_fields(&text), "pool for a:1 cleared, because of: I/O error: refused");
        for other in ["no servers", "a, labels: {}, source: None, server response: Some(x) }"] {
            assert_eq!(without_empty_fields(other), other);
        }
    }

    #[test]
    fn a_refused_command_is_named_and_not_repeated() {
        let message = "not authorized on uzima_backup to execute command { update: \"runs\", ordered: true, lsid: { \
                       id: UUID(\"x\") }, $db: \"uzima_backup\" }";
        assert_eq!(without_command(message), "not authorized on uzima_backup to execute update");
        assert_eq!(without_command("Authentication failed."), "Authentication failed.");
    }

    #[test]
    fn a_dns_name_without_a_record_is_named() {
        let message = "DNS error: no records found for Query { name: Name(\"_mongodb._tcp.db.example.\"), query_type: \
                       SRV, query_class: IN }";
        assert_eq!(missing_record(message), "the name server has no SRV record for _mongodb._tcp.db.example");
        assert_eq!(missing_record("timed out"), "timed out");
    }
}
