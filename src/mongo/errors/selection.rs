//! Reads the text in which the driver reports that it found no suitable server, with the state of every member. Its format is
//! `ServerSelectionError` of the mongodb crate, and the `Display` of `TopologyDescription` and `ServerInfo`.

use super::{NO_TLS, UNKNOWN_HOST, UriSetting, between, plain};

/// Why the driver found no server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SelectionFailure {
    pub why: String,
    /// `None` if the server cannot be reached and the cause is unknown.
    pub step: Option<ConnectStep>,
}

/// The next step if no server was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mongo) enum ConnectStep {
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
    pub(in crate::mongo) fn after(why: &str) -> Option<ConnectStep> {
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
    pub(in crate::mongo) fn passes(self) -> bool {
        use ConnectStep::{Host, Members, Preference, Primary};
        matches!(self, Host | Primary { .. } | Preference | Members)
    }

    pub(in crate::mongo) fn words(self, UriSetting { name: whose, writes, .. }: UriSetting) -> String {
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
    pub(super) fn parse(text: &str) -> Option<SelectionFailure> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
