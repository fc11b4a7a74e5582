//! The server's errors in classes, and in words a person can act on.

use mongodb::error::{Error as Driver, ErrorKind, WriteFailure};

use super::client::User;
use super::unfound;
use crate::base::error::Error;

/// What a driver's error means for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The login was refused.
    Login,
    /// The user may not do this.
    Unauthorized,
    /// The connection broke, the member stepped down or is shutting down, or the cursor is gone:
    /// reading may go on where it was.
    Interrupted,
    /// The record that a resume token names is gone (KeyNotFound, CappedPositionLost).
    TokenGone,
    /// The collection is gone (QueryPlanKilled, NamespaceNotFound).
    CollectionGone,
    /// The instant that is read cannot be read any more (SnapshotTooOld, SnapshotUnavailable).
    InstantGone,
    /// The server does not know an option of the command.
    UnknownOption,
    /// Everything else, malformed replies among it.
    Other,
}

/// The server's code of an error, if it sent one.
pub fn code(error: &Driver) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(c) => Some(c.code),
        _ => None,
    }
}

/// Classifies an error. Codes: MongoDB `src/mongo/base/error_codes.yml`.
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

/// An error of ours from the driver's: `doing` names what failed and on what.
pub fn explain(doing: String, user: Option<&User>, error: Driver) -> Error {
    // What the layers of the driver say of each other is for who looks closer.
    log::debug!("{doing}: {error}");
    let who = match user {
        Some(user) => format!("user '{}'", user.name),
        None if of_certificate(&error) => "the user of the client's certificate".into(),
        None => "an anonymous user".into(),
    };
    match classify(&error) {
        Class::Login => Error::failed(format!("{doing}: the login of {who} was refused"))
            .hint(login_step(&error, "MONGO_URI", "MONGO_URI_FILE"))
            .caused_by(tidy(&error)),
        Class::Unauthorized => Error::failed(format!("{doing}: {who} may not do this"))
            .hint(grant_backup(user))
            .caused_by(tidy(&error)),
        Class::Interrupted => Error::failed(doing)
            .hint(whereabouts(&error, "MONGO_URI", false).unwrap_or_else(|| {
                "Check that MongoDB runs there, that MONGO_URI names it, and its TLS settings".into()
            }))
            .caused_by(tidy(&error)),
        _ if matches!(&*error.kind, ErrorKind::Custom(_)) => Error::failed(doing).caused_by(tidy(&error)).hint(
            "Look at it on the server (db.getCollectionInfos(), db.getUsers()), and define it anew; if MongoDB did not send \
             it, find out what stands between",
        ),
        _ => Error::failed(doing).caused_by(tidy(&error)),
    }
}

/// The next step for a user that may not read what a backup reads.
pub fn grant_backup(user: Option<&User>) -> String {
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

/// A built-in role as `grantRolesToUser` takes it in the database `db`. In databases other than admin the role needs its
/// own database.
pub fn granted(role: &str, db: &str) -> String {
    if db == "admin" { format!("\"{role}\"") } else { format!("{{role: \"{role}\", db: \"admin\"}}") }
}

/// The next step after a login that was refused; `whose` is the connection string, `file` the variable that names
/// a file with it.
pub fn login_step(error: &Driver, whose: &str, file: &str) -> String {
    match &*error.kind {
        // The driver's words of a user without a password, before anything was sent.
        ErrorKind::Authentication { message, .. } if message.contains("no password supplied") => format!(
            "There is a user and no password in {whose} (`uzima-backup config` shows where it came from): the whole \
             connection string, password and all, belongs into the file of {file}, or into the variable itself"
        ),
        _ if of_certificate(error) => format!(
            "The certificate's subject must be a user in $external: `openssl x509 -in FILE -noout -subject -nameopt \
             RFC2253` shows it, FILE being tlsCertificateKeyFile of {whose}, and \
             db.getSiblingDB(\"$external\").createUser({{user: \"CN=…\", roles: […]}}) creates it"
        ),
        _ => format!(
            "Check user, password and authSource in {whose}; a password's special characters are percent-encoded"
        ),
    }
}

/// Returns true if it was a login with a certificate.
fn of_certificate(error: &Driver) -> bool {
    matches!(&*error.kind, ErrorKind::Authentication { message, .. } if message.contains("MONGODB-X509"))
}

/// The next step if a server answers, but does not match the connection string of the setting `whose`. `writes` is true if
/// the connection is for writing.
pub fn whereabouts(error: &Driver, whose: &str, writes: bool) -> Option<String> {
    match &*error.kind {
        ErrorKind::ServerSelection { message, .. } => {
            unfound::read(message)?.step.map(|step| step.words(whose, writes))
        }
        _ => None,
    }
}

/// Why a server that does not know the command `hello` cannot be used. 4.4.2 introduced it, as did late releases of older
/// versions.
pub fn without_hello(error: &Driver) -> Option<&'static str> {
    const COMMAND_NOT_FOUND: i32 = 59;
    (code(error) == Some(COMMAND_NOT_FOUND))
        .then_some("it does not know the command hello; MongoDB 4.4 or later is needed")
}

/// The driver's words without its types' wrapping.
pub fn tidy(error: &Driver) -> String {
    match &*error.kind {
        ErrorKind::Command(c) => {
            format!("{} (code {}, {})", without_command(&c.message), c.code, c.code_name)
        }
        ErrorKind::ServerSelection { message, .. } => {
            unfound::read(message).map_or_else(|| message.clone(), |unfound| unfound.why)
        }
        ErrorKind::DnsResolve { message, .. } => record(message),
        ErrorKind::Write(WriteFailure::WriteError(e)) => format!("{} (code {})", e.message, e.code),
        ErrorKind::Write(WriteFailure::WriteConcernError(e)) => {
            format!("{} (code {}, {})", e.message, e.code, e.code_name)
        }
        // This tool's own checks of an answer.
        ErrorKind::Custom(_) => error.get_custom::<String>().cloned().unwrap_or_default(),
        // Of a pool that was emptied the driver prints the whole error that emptied it.
        kind @ ErrorKind::ConnectionPoolCleared { .. } => without_empty_fields(&kind.to_string()),
        kind => unfound::plain(&kind.to_string()),
    }
}

/// What is not allowed, without the whole command that is not: the server repeats it, with session and
/// cluster time.
fn without_command(message: &str) -> String {
    match message.split_once(" to execute command { ") {
        Some((who, command)) => {
            format!("{who} to execute {}", command.split(':').next().unwrap_or_default())
        }
        None => message.into(),
    }
}

/// A name that a name server does not know, without the query's fields.
fn record(message: &str) -> String {
    let fields = || {
        let (_, rest) = message.split_once("no records found for Query { name: Name(\"")?;
        let (name, rest) = rest.split_once("\")")?;
        let (_, kind) = rest.split_once("query_type: ")?;
        let kind = kind.split(',').next()?;
        Some(format!("the name server knows no {kind} record of {}", name.trim_end_matches('.')))
    };
    fields().unwrap_or_else(|| message.into())
}

/// Of an error the driver prints every field it may have, and mostly has not: those from the labels on go.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_wraps_around_an_error_goes() {
        let none = ", labels: {\"Retryable\"}, source: None, server response: None";
        let text = format!("pool for a:1 cleared, because of: Kind: I/O error: refused{none}");
        assert_eq!(without_empty_fields(&text), "pool for a:1 cleared, because of: I/O error: refused");
        for other in ["no servers", "a, labels: {}, source: None, server response: Some(x) }"] {
            assert_eq!(without_empty_fields(other), other);
        }
    }

    #[test]
    fn a_command_that_is_not_allowed_is_named_and_not_repeated() {
        let message = "not authorized on uzima_backup to execute command { update: \"runs\", ordered: true, lsid: { \
                       id: UUID(\"x\") }, $db: \"uzima_backup\" }";
        assert_eq!(without_command(message), "not authorized on uzima_backup to execute update");
        assert_eq!(without_command("Authentication failed."), "Authentication failed.");
    }

    #[test]
    fn a_name_without_a_record_is_named() {
        let message = "DNS error: no records found for Query { name: Name(\"_mongodb._tcp.db.example.\"), query_type: \
                       SRV, query_class: IN }";
        assert_eq!(record(message), "the name server knows no SRV record of _mongodb._tcp.db.example");
        assert_eq!(record("timed out"), "timed out");
    }
}
