//! The server's errors in classes, and in words a person can act on.

use mongodb::error::{Error as Driver, ErrorKind};

use crate::error::Error;

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
pub fn explain(doing: String, user: Option<&str>, error: Driver) -> Error {
    let who = user.map_or_else(|| "an anonymous user".to_string(), |u| format!("user '{u}'"));
    match classify(&error) {
        Class::Login => Error::failed(format!("{doing}: the login of {who} was refused"))
            .hint("Check user, password and authSource in MONGO_URI; a password's special characters are percent-encoded")
            .caused_by(tidy(&error)),
        Class::Unauthorized => Error::failed(format!("{doing}: {who} may not do this"))
            .hint(match user {
                Some(user) => format!(
                    "Grant the built-in role: db.getSiblingDB(\"admin\").grantRolesToUser(\"{user}\", [\"backup\"])"
                ),
                None => "Name a user with the built-in role \"backup\" in MONGO_URI: \
                         mongodb://user:password@host/?authSource=admin"
                    .into(),
            })
            .caused_by(tidy(&error)),
        Class::Interrupted => Error::failed(doing)
            .hint("Check that MongoDB runs there, that MONGO_URI names it, and its TLS settings")
            .caused_by(tidy(&error)),
        _ => Error::failed(doing).caused_by(tidy(&error)),
    }
}

/// The driver's words without its type's wrapping.
pub fn tidy(error: &Driver) -> String {
    match &*error.kind {
        ErrorKind::Command(c) => format!("{} (code {}, {})", c.message, c.code, c.code_name),
        kind @ ErrorKind::ServerSelection { .. } => without_empty_fields(&kind.to_string()),
        kind => kind.to_string(),
    }
}

/// Of each member that it cannot reach the driver prints every field an error may have, and mostly has
/// not: those from the labels on go.
fn without_empty_fields(text: &str) -> String {
    const FIRST: &str = ", labels: {";
    const LAST: &str = ", server response: None";
    let mut parts = text.split(FIRST);
    let mut out = parts.next().unwrap_or_default().to_string();
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
    fn what_the_driver_says_of_members_is_cut_to_what_it_knows() {
        let member = "{ Address: db1:27017, Error: Kind: I/O error: refused";
        let none = ", labels: {\"Retryable\"}, source: None, server response: None }";
        let text = format!("no servers: [ {member}{none}, {member}{none} ]");
        assert_eq!(without_empty_fields(&text), format!("no servers: [ {member} }}, {member} }} ]"));
        for other in ["no servers", "a, labels: {}, source: None, server response: Some(x) }"] {
            assert_eq!(without_empty_fields(other), other);
        }
    }
}
