//! Classifies the driver's errors, and turns them into messages with a next step.
//!
//! If the driver finds no suitable server, it reports the state of every member in one text. The second half of this
//! module reads that text. Its format is `ServerSelectionError` of the mongodb crate, and the `Display` of
//! `TopologyDescription` and `ServerInfo`.

use std::io::ErrorKind::TimedOut;

use mongodb::error::{Error as Driver, ErrorKind, WriteFailure};

use crate::base::error::Error;

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

/// Why the driver found no server.
#[derive(Debug, PartialEq, Eq)]
struct SelectionFailure {
    why: String,
    /// `None` if the server cannot be reached and the cause is unknown.
    step: Option<ConnectStep>,
}

/// The next step if no server was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectStep {
    Host,
    SetName,
    Initiate,
    /// Start members until there is a primary. `secondary` is true if a secondary answers and could be read until then.
    Primary {
        secondary: bool,
    },
    Preference,
    /// Start members that hold data, or wait for them.
    Members,
    Version,
    Authority,
    /// Use the host name in the certificate.
    Certificate,
    Tls,
}

impl ConnectStep {
    /// The next step after a failed connection, if `why` is a known cause.
    pub(super) fn after(why: &str) -> Option<ConnectStep> {
        if why.contains("not valid for name") || why.contains("NotValidForName") {
            return Some(ConnectStep::Certificate);
        }
        if ["UnknownIssuer", "BadSignature", "CaUsedAsEndEntity"].iter().any(|fault| why.contains(fault)) {
            return Some(ConnectStep::Authority);
        }
        match why {
            UNKNOWN_HOST => Some(ConnectStep::Host),
            NO_TLS => Some(ConnectStep::Tls),
            _ => None,
        }
    }

    /// Returns true if the server may become usable without this step, because it starts again or a primary is elected.
    pub(super) fn passes(self) -> bool {
        use ConnectStep::{Host, Members, Preference, Primary};
        matches!(self, Host | Primary { .. } | Preference | Members)
    }

    pub(super) fn words(self, UriSetting { name: whose, writes, .. }: UriSetting) -> String {
        const PRIMARY: &str =
            "Start the members that do not answer until the set has a primary (rs.status() shows them)";
        match self {
            ConnectStep::Host => format!(
                "Correct the host in {whose}, or make its name known to this machine (DNS, /etc/hosts)"
            ),
            ConnectStep::SetName => format!(
                "Correct replicaSet in {whose} to the set's own name (`rs.conf()._id`); for a standalone server leave it \
                 out"
            ),
            ConnectStep::Initiate => {
                "Run rs.initiate() on the server, or wait until it has found its set (`rs.status()`)".into()
            }
            ConnectStep::Primary { secondary: true } if !writes => format!(
                "{PRIMARY}; to read a secondary meanwhile, add readPreference=secondaryPreferred to {whose}"
            ),
            ConnectStep::Primary { .. } => PRIMARY.into(),
            ConnectStep::Preference => format!(
                "Loosen readPreference in {whose}: secondaryPreferred takes a secondary, or else the primary; \
                 readPreferenceTags and maxStalenessSeconds narrow the choice"
            ),
            ConnectStep::Members => format!(
                "Look at the set with rs.status(): start the members that hold data, wait until one is PRIMARY or SECONDARY, \
                 and name those members in {whose}"
            ),
            ConnectStep::Version => "Update the server".into(),
            ConnectStep::Authority => format!(
                "Name the file with the certificate of the CA that signed the server's certificate: tlsCAFile=/path/ca.pem \
                 in {whose}"
            ),
            ConnectStep::Certificate => format!(
                "Use the host name of the server's certificate in {whose}; if that is impossible, \
                 tlsAllowInvalidHostnames=true checks the certificate's CA but not its names"
            ),
            ConnectStep::Tls => format!("Remove tls from {whose}, or enable TLS on the server"),
        }
    }
}

impl SelectionFailure {
    /// Reads the driver's text. Returns `None` if the text is about something else.
    fn parse(text: &str) -> Option<SelectionFailure> {
        let found = |why: String, step| Some(SelectionFailure { why, step: Some(step) });
        if let Some((address, wire)) = too_old(text) {
            let version = version_of_wire(wire);
            let why = format!("{address} runs {version}, but MongoDB 4.4 or later is needed");
            return found(why, ConnectStep::Version);
        }
        let (suited, topology) = text.strip_prefix("Server selection timeout: ")?.split_once("Topology: ")?;
        let set = between(topology, "Set Name: ", &[", ", " }"]).unwrap_or_default();
        let members: Vec<&str> = topology.split("{ Address: ").skip(1).collect();
        if members.is_empty() {
            let why = format!("no server at this address is a member of the replica set '{set}'");
            return found(why, ConnectStep::SetName);
        }
        let mut members: Vec<SetMember> = members.into_iter().map(SetMember::parse).collect();
        members.sort_by(|a, b| a.address.cmp(&b.address));
        let failed: Vec<(&String, &String)> =
            members.iter().filter_map(|member| Some((&member.address, member.error.as_ref()?))).collect();
        let other = failed.iter().find_map(|(_, error)| between(error, "does not match actual name ", &[]));
        if let Some(other) = other {
            let own = match other {
                "<none>" => "it is a standalone".to_string(),
                name => format!("its own set is '{}'", name.trim_matches('"')),
            };
            let why = format!("the server is not a member of the replica set '{set}', {own}");
            return found(why, ConnectStep::SetName);
        }
        let is = |kind: &str| members.iter().any(|member| member.kind == kind);
        let each = members.iter().map(SetMember::words).collect::<Vec<_>>().join(", ");
        if is("RsGhost") {
            let server = if members.len() == 1 { "the server".into() } else { format!("a server ({each})") };
            let why = format!("{server} is a member of a replica set that was not initiated");
            return found(why, ConnectStep::Initiate);
        }
        let (primary, secondary) = (is("RsPrimary"), is("RsSecondary"));
        if suited.contains("(Primary)") && secondary && !primary {
            let why = match set {
                "" => format!("the servers have no primary: {each}"),
                set => format!("the replica set '{set}' has no primary: {each}"),
            };
            return found(why, ConnectStep::Primary { secondary });
        }
        if secondary || primary {
            return found(format!("no member matches the readPreference: {each}"), ConnectStep::Preference);
        }
        if is("RsArbiter") || is("RsOther") {
            return found(format!("no member that holds data can be read: {each}"), ConnectStep::Members);
        }
        let why = match failed.as_slice() {
            [] => format!("no member can be read: {each}"),
            [(_, first), others @ ..] if others.iter().all(|(_, error)| error == first) => first.to_string(),
            several => {
                let several = several.iter().map(|(address, error)| format!("{address}: {error}"));
                several.collect::<Vec<_>>().join("; ")
            }
        };
        let step = ConnectStep::after(&why).or_else(|| failed.is_empty().then_some(ConnectStep::Members));
        Some(SelectionFailure { why, step })
    }
}

/// A member in the driver's text.
struct SetMember<'a> {
    address: String,
    /// The driver's name for the member's role.
    kind: &'a str,
    /// Why the member cannot be reached.
    error: Option<String>,
}

impl SetMember<'_> {
    fn parse(text: &str) -> SetMember<'_> {
        let error = between(text, "Error: Kind: ", &[", labels: {", " } ] }", " }, "]).map(plain);
        let kind = between(text, "Type: ", &[",", " }"]).unwrap_or_default();
        SetMember { address: address(text), kind, error }
    }

    /// The address and the state.
    fn words(&self) -> String {
        let state = match (self.kind, &self.error) {
            (_, Some(error)) => return format!("{}: {error}", self.address),
            ("RsPrimary", _) => "is the primary",
            ("RsSecondary", _) => "is a secondary",
            ("RsArbiter", _) => "is an arbiter",
            ("Mongos", _) => "is a mongos",
            ("Standalone", _) => "is a standalone",
            ("RsGhost", _) => "was not initiated",
            ("RsOther", _) => "is neither primary nor secondary (it is starting, copying data or recovering)",
            _ => "has not answered",
        };
        format!("{} {state}", self.address)
    }
}

/// The address of a member. Adds the brackets of an IPv6 address, which the driver leaves out.
fn address(member: &str) -> String {
    let text = member.split(',').next().unwrap_or_default();
    match text.rsplit_once(':') {
        Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
        _ => text.to_string(),
    }
}

/// Reads the message about a server that is too old for the driver: its address and its wire version.
fn too_old(text: &str) -> Option<(String, u32)> {
    let (place, wire) = text.strip_prefix("Server at ")?.split_once(" reports wire version ")?;
    Some((address(place), wire.split(',').next()?.parse().ok()?))
}

/// The first release that has a wire version (server source, `src/mongo/db/wire_version.h`).
fn version_of_wire(wire: u32) -> String {
    const FROM_3: [&str; 6] = ["3.0", "3.2", "3.4", "3.6", "4.0", "4.2"];
    let release = wire.checked_sub(3).and_then(|at| FROM_3.get(at as usize));
    release.map_or("a version before MongoDB 3.0".into(), |release| format!("MongoDB {release}"))
}

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

    fn why(topology: &str) -> String {
        SelectionFailure::parse(&format!(
            "Server selection timeout: No available servers. Topology: {topology}"
        ))
        .unwrap()
        .why
    }

    fn member(address: &str, error: &str) -> String {
        let none = ", labels: {\"Retryable\"}, source: None, server response: None";
        format!("{{ Address: {address}, Type: Unknown, Error: Kind: {error}{none} }}")
    }

    #[test]
    fn unreachable_members_are_named_with_their_cause() {
        let refused = "I/O error: Connection refused (os error 111)";
        let one = format!("{{ Type: Unknown, Servers: [ {} ] }}", member("db1:27017", refused));
        assert_eq!(why(&one), "connection refused");
        let unknown = "I/O error: failed to lookup address information: Name or service not known";
        let two = format!("{{ Servers: [ {}, {} ] }}", member("a:1", refused), member("b:2", unknown));
        assert_eq!(why(&two), "a:1: connection refused; b:2: the host's name is unknown");
        let same = format!("{{ Servers: [ {}, {} ] }}", member("a:1", refused), member("b:2", refused));
        assert_eq!(why(&same), "connection refused");
        let lone = SelectionFailure::parse(&format!(
            "Server selection timeout: No available servers. Topology: {{ Servers: [ {} ] }}",
            member("b:2", unknown)
        ));
        assert_eq!(lone.unwrap().step, Some(ConnectStep::Host));
        let tls = member("a:1", "I/O error: invalid peer certificate: UnknownIssuer");
        assert_eq!(why(&format!("{{ Servers: [ {tls} ] }}")), "invalid peer certificate: UnknownIssuer");
    }

    #[test]
    fn a_server_of_another_set_is_named() {
        assert_eq!(
            why("{ Type: ReplicaSetNoPrimary, Set Name: rs0 }"),
            "no server at this address is a member of the replica set 'rs0'"
        );
        for (own, words) in [("<none>", "it is a standalone"), ("\"rs1\"", "its own set is 'rs1'")] {
            let text =
                "An invalid argument was provided: Connection string replicaSet name \"rs0\" does not match";
            let single = member("a:1", &format!("{text} actual name {own}"));
            let why = why(&format!("{{ Type: Single, Set Name: rs0, Servers: [ {single} ] }}"));
            assert_eq!(why, format!("the server is not a member of the replica set 'rs0', {words}"));
        }
        let ghost = "{ Address: a:1, Type: RsGhost, Average RTT: 896.711µs, Max Wire Version: 17 }";
        assert!(
            why(&format!("{{ Type: Unknown, Servers: [ {ghost} ] }}")).ends_with("that was not initiated")
        );
        let second = ghost.replace("RsGhost", "RsSecondary");
        assert_eq!(
            why(&format!("{{ Servers: [ {second} ] }}")),
            "no member matches the readPreference: a:1 is a secondary"
        );
    }

    /// The cause and the next step if some members of a set answer.
    fn of_set(criteria: &str, members: &[String]) -> (String, Option<ConnectStep>) {
        let topology =
            format!("{{ Type: ReplicaSetNoPrimary, Set Name: rs0, Servers: [ {} ] }}", members.join(", "));
        let text = format!(
            "Server selection timeout: None of the available servers suitable for criteria ReadPreference({criteria}). \
             Topology: {topology}"
        );
        let SelectionFailure { why, step } = SelectionFailure::parse(&text).unwrap();
        (why, step)
    }

    #[test]
    fn members_that_answer_decide_the_cause() {
        let down = member("a:1", "I/O error: Connection refused (os error 111)");
        let up =
            |role: &str| format!("{{ Address: b:1, Type: {role}, Average RTT: 1ms, Max Wire Version: 17 }}");
        let (why, step) = of_set("Primary", &[up("RsSecondary"), down.clone()]);
        assert_eq!(why, "the replica set 'rs0' has no primary: a:1: connection refused, b:1 is a secondary");
        assert_eq!(step, Some(ConnectStep::Primary { secondary: true }));
        let words = ConnectStep::Primary { secondary: true }.words(UriSetting::SOURCE);
        assert!(words.contains("readPreference=secondaryPreferred to MONGO_URI"), "{words}");
        assert!(
            !ConnectStep::Primary { secondary: true }
                .words(UriSetting::TARGET)
                .contains("secondaryPreferred")
        );
        let (why, step) = of_set("Secondary { options: None }", &[up("RsPrimary"), down.clone()]);
        assert!(why.starts_with("no member matches the readPreference: a:1"), "{why}");
        assert_eq!(step, Some(ConnectStep::Preference));
        for (role, words) in [
            (
                "RsArbiter",
                "no member that holds data can be read: a:1: connection refused, b:1 is an arbiter",
            ),
            ("RsOther", "b:1 is neither primary nor secondary (it is starting, copying data or recovering)"),
        ] {
            let (why, step) = of_set("Primary", &[up(role), down.clone()]);
            assert!(why.contains(words), "{why}");
            assert_eq!(step, Some(ConnectStep::Members));
        }
        let (why, step) = of_set("Primary", &[up("RsGhost"), down]);
        assert!(why.ends_with("that was not initiated") && why.contains("a:1: connection refused"), "{why}");
        assert_eq!(step, Some(ConnectStep::Initiate));
    }

    #[test]
    fn an_old_server_is_named_with_its_version() {
        let text = "Server at ::1:27017 reports wire version 8, but this version of the MongoDB Rust driver requires at \
                    least 9 (MongoDB 4.4).";
        let SelectionFailure { why, step } = SelectionFailure::parse(text).unwrap();
        assert_eq!(why, "[::1]:27017 runs MongoDB 4.2, but MongoDB 4.4 or later is needed");
        assert_eq!(step, Some(ConnectStep::Version));
    }

    #[test]
    fn other_texts_are_not_parsed() {
        assert_eq!(SelectionFailure::parse("no servers"), None);
    }
}
