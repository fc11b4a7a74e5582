//! The log of the commands.

use bson::RawDocumentBuf;

use super::message::Message;
use super::rule::is_hello;
use crate::raw;

/// Bodies larger than this are not kept.
const KEPT: usize = 64 << 10;

/// One command that a client sent.
#[derive(Clone, Debug)]
pub struct Command {
    /// The index of the member to which it was sent.
    pub member: usize,
    /// The number of the connection, from 0, over all members.
    pub connection: u64,
    pub name: String,
    /// `database.collection`, or only the database if the command has no collection.
    pub namespace: String,
    /// The cursor that a `getMore` reads or that a `find` opened.
    pub cursor: Option<i64>,
    /// The command, without the documents of an insert; `None` if it is larger than 64 KiB.
    pub body: Option<RawDocumentBuf>,
    /// The action of a rule on the command, if a rule acted.
    pub action: Option<String>,
}

impl Command {
    /// Returns true if it is a handshake or heartbeat of a driver.
    pub fn is_hello(&self) -> bool {
        is_hello(&self.name)
    }

    pub(super) fn parse(message: &Message, member: usize, connection: u64) -> Option<Command> {
        let document = message.document()?;
        let elements = raw::elements(document).ok()?;
        let (kind, name, value) = *elements.first()?;
        let text = |kind: u8, value: &[u8]| {
            (kind == 2 && value.len() > 4)
                .then(|| String::from_utf8_lossy(&value[4..value.len() - 1]).into_owned())
        };
        let field = |name: &str| raw::get(document, &[name]).and_then(|(kind, value)| text(kind, value));
        let name = String::from_utf8_lossy(name).into_owned();
        let (collection, cursor) = match name.as_str() {
            "getMore" => (field("collection"), int64(kind, value)),
            _ => (text(kind, value), None),
        };
        let database = field("$db").unwrap_or_else(|| "admin".into());
        let namespace = match collection {
            Some(collection) => format!("{database}.{collection}"),
            None => database,
        };
        let kept = (document.len() <= KEPT).then(|| RawDocumentBuf::from_bytes(document.to_vec()).ok());
        Some(Command { member, connection, name, namespace, cursor, body: kept.flatten(), action: None })
    }
}

/// The id of the cursor that an answer holds.
pub(super) fn cursor_id(answer: &[u8]) -> Option<i64> {
    raw::get(answer, &["cursor", "id"]).and_then(|(kind, value)| int64(kind, value))
}

fn int64(kind: u8, value: &[u8]) -> Option<i64> {
    (kind == 18).then(|| value.try_into().ok().map(i64::from_le_bytes))?
}
