//! Why the driver found no server, in words. It tells that in one text only, with the state of every member
//! it knows: `ServerSelectionError` of the mongodb crate, `TopologyDescription` and `ServerInfo`'s `Display`.

use std::collections::BTreeSet;

/// Why no server was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfound {
    /// The cause.
    pub why: String,
    /// The next step, where it is another than for a server that is not reached.
    pub step: Option<Step>,
}

/// The next step if no server was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Correct the host's name.
    Host,
    /// Correct `replicaSet`.
    SetName,
    /// Initiate the set.
    Initiate,
    /// Start members until there is a primary. `secondary`: a secondary answers meanwhile, and could be read.
    Primary { secondary: bool },
    /// Loosen the read preference.
    Preference,
    /// Start members that hold data, or wait for them.
    Members,
    /// Update the server.
    Version,
    /// Name the CA.
    Authority,
    /// Name the host as its certificate does.
    Certificate,
    /// Switch TLS off or on.
    Tls,
}

impl Step {
    /// Returns true if the server may become usable without this step: it starts again, or a primary is elected.
    pub fn passes(self) -> bool {
        match self {
            Step::Host | Step::Primary { .. } | Step::Preference | Step::Members => true,
            Step::SetName
            | Step::Initiate
            | Step::Version
            | Step::Authority
            | Step::Certificate
            | Step::Tls => false,
        }
    }

    /// The step in words. `whose` is the setting with the connection string; `writes` is true if the connection is for
    /// writing, which needs a primary.
    pub fn words(self, whose: &str, writes: bool) -> String {
        const PRIMARY: &str =
            "Start the members that do not answer until the set has a primary (rs.status() shows them)";
        match self {
            Step::Host => {
                format!("Correct the host in {whose}, or make its name known here (DNS, /etc/hosts)")
            }
            Step::SetName => format!(
                "Correct replicaSet in {whose} to the set's own name (`rs.conf()._id`); for a standalone server leave it \
                 out"
            ),
            Step::Initiate => {
                "Run rs.initiate() there, or wait until the member knows its set (`rs.status()`)".to_string()
            }
            Step::Primary { secondary: true } if !writes => {
                format!(
                    "{PRIMARY}; to read a secondary meanwhile, add readPreference=secondaryPreferred to {whose}"
                )
            }
            Step::Primary { .. } => PRIMARY.to_string(),
            Step::Preference => format!(
                "Loosen readPreference in {whose}: secondaryPreferred takes a secondary, or else the primary; \
                 readPreferenceTags and maxStalenessSeconds narrow the choice"
            ),
            Step::Members => format!(
                "Look at the set with rs.status(): start the members that hold data, wait until one is PRIMARY or SECONDARY, \
                 and name those members in {whose}"
            ),
            Step::Version => "Update the server".to_string(),
            Step::Authority => format!(
                "Name the file with the certificate of the CA that signed the server's: tlsCAFile=/path/ca.pem in {whose}"
            ),
            Step::Certificate => format!(
                "Name the host in {whose} as its certificate does; if that cannot be, tlsAllowInvalidHostnames=true checks \
                 the certificate's CA but not its names"
            ),
            Step::Tls => format!("Take tls out of {whose}, or let the server speak TLS"),
        }
    }
}

const UNKNOWN: &str = "the host's name is unknown";
const NO_TLS: &str = "no TLS is spoken there";

/// Reads the driver's text; `None` if it is another one.
pub fn read(text: &str) -> Option<Unfound> {
    let found = |why: String, step| Some(Unfound { why, step: Some(step) });
    if let Some((address, wire)) = old(text) {
        let version = version_of_wire(wire);
        return found(format!("{address} runs {version}, and MongoDB 4.4 or later is needed"), Step::Version);
    }
    let (suited, topology) = text.strip_prefix("Server selection timeout: ")?.split_once("Topology: ")?;
    let set = between(topology, "Set Name: ", &[", ", " }"]).unwrap_or_default();
    let members: Vec<&str> = topology.split("{ Address: ").skip(1).collect();
    if members.is_empty() {
        return found(format!("no server there is a member of a replica set '{set}'"), Step::SetName);
    }
    let mut states: Vec<(String, State)> =
        members.iter().map(|member| (address(member), state(member))).collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    let other = states.iter().find_map(|(_, state)| match state {
        State::Failed(error) => between(error, "does not match actual name ", &[]),
        _ => None,
    });
    if let Some(other) = other {
        let own = match other {
            "<none>" => "it is a standalone".to_string(),
            name => format!("its own is '{}'", name.trim_matches('"')),
        };
        return found(
            format!("the server there is no member of a replica set '{set}', {own}"),
            Step::SetName,
        );
    }
    let is = |wanted: State| states.iter().any(|(_, state)| *state == wanted);
    let each: Vec<String> =
        states.iter().map(|(address, state)| format!("{address}{}", state.words())).collect();
    let each = each.join(", ");
    let all = if set.is_empty() { "the servers".to_string() } else { format!("the replica set '{set}'") };
    if is(State::Ghost) {
        let there = if states.len() == 1 { "the server there".into() } else { format!("a server ({each})") };
        return found(
            format!("{there} is to be a member of a replica set that was not initiated"),
            Step::Initiate,
        );
    }
    let secondary = is(State::Is("a secondary"));
    if suited.contains("(Primary)") && secondary && !is(State::Is("the primary")) {
        return found(
            format!("{all} has no primary: {each}").replace("servers has", "servers have"),
            Step::Primary { secondary },
        );
    }
    if secondary || is(State::Is("the primary")) {
        return found(format!("no member matches the readPreference: {each}"), Step::Preference);
    }
    if is(State::Is("an arbiter")) || is(State::Other) {
        return found(format!("no member that holds data can be read: {each}"), Step::Members);
    }
    let mut errors: Vec<(&String, &String)> = Vec::new();
    for (address, state) in &states {
        if let State::Failed(error) = state {
            errors.push((address, error));
        }
    }
    let causes: BTreeSet<&String> = errors.iter().map(|(_, error)| *error).collect();
    let why = match (errors.as_slice(), causes.len()) {
        ([], _) => format!("no member may be read: {each}"),
        ([(_, only), ..], 1) => (*only).clone(),
        (several, _) => several
            .iter()
            .map(|(address, error)| format!("{address}: {error}"))
            .collect::<Vec<_>>()
            .join("; "),
    };
    let step = step_of(&why).or_else(|| errors.is_empty().then_some(Step::Members));
    Some(Unfound { why, step })
}

/// The next step after a failed connection, if known.
pub(super) fn step_of(why: &str) -> Option<Step> {
    if why.contains("not valid for name") || why.contains("NotValidForName") {
        return Some(Step::Certificate);
    }
    if why.contains("UnknownIssuer") || why.contains("BadSignature") || why.contains("CaUsedAsEndEntity") {
        return Some(Step::Authority);
    }
    match why {
        UNKNOWN => Some(Step::Host),
        NO_TLS => Some(Step::Tls),
        _ => None,
    }
}

/// The state of a member, for a reader.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It cannot be reached, and why.
    Failed(String),
    /// It answers, and has this role.
    Is(&'static str),
    /// It was started for a set that was not initiated.
    Ghost,
    /// Neither primary nor secondary nor arbiter: it is starting, copying data or recovering.
    Other,
    /// It has not answered yet.
    Unheard,
}

impl State {
    fn words(&self) -> String {
        match self {
            State::Failed(error) => format!(": {error}"),
            State::Is(role) => format!(" is {role}"),
            State::Ghost => " was not initiated".into(),
            State::Other => {
                " is neither primary nor secondary (it is starting, copying data or recovering)".into()
            }
            State::Unheard => " has not answered".into(),
        }
    }
}

fn state(member: &str) -> State {
    if let Some(error) = between(member, "Error: Kind: ", &[", labels: {", " } ] }", " }, "]) {
        return State::Failed(plain(error));
    }
    match between(member, "Type: ", &[",", " }"]) {
        Some("RsPrimary") => State::Is("the primary"),
        Some("RsSecondary") => State::Is("a secondary"),
        Some("RsArbiter") => State::Is("an arbiter"),
        Some("Mongos") => State::Is("a mongos"),
        Some("Standalone") => State::Is("a standalone"),
        Some("RsGhost") => State::Ghost,
        Some("RsOther") => State::Other,
        _ => State::Unheard,
    }
}

/// The address of a member, with the brackets of an IPv6 address, which the driver leaves out.
fn address(member: &str) -> String {
    let text = member.split(',').next().unwrap_or_default();
    match text.rsplit_once(':') {
        Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
        _ => text.to_string(),
    }
}

/// A server that is too old for the driver: its address and its wire version.
fn old(text: &str) -> Option<(String, u32)> {
    let (place, wire) = text.strip_prefix("Server at ")?.split_once(" reports wire version ")?;
    Some((address(place), wire.split(',').next()?.parse().ok()?))
}

/// The release that first had a wire version (server source, `src/mongo/db/wire_version.h`).
pub fn version_of_wire(wire: u32) -> String {
    let release = match wire {
        8 => "4.2",
        7 => "4.0",
        6 => "3.6",
        5 => "3.4",
        4 => "3.2",
        3 => "3.0",
        _ => return "a version before MongoDB 3.0".into(),
    };
    format!("MongoDB {release}")
}

/// What is said of a connection without the layers' names and numbers.
pub fn plain(text: &str) -> String {
    let text = ["I/O error: ", "An invalid argument was provided: "]
        .iter()
        .fold(text, |text, layer| text.strip_prefix(layer).unwrap_or(text));
    let text = text.split(" (os error ").next().unwrap_or(text);
    if text.starts_with("failed to lookup address information") {
        return UNKNOWN.into();
    }
    match text {
        "tls handshake eof" => NO_TLS.into(),
        text => text.replacen("Connection refused", "connection refused", 1),
    }
}

/// What follows `begin`, up to the first of `ends` that there is.
fn between<'a>(text: &'a str, begin: &str, ends: &[&str]) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    let end = ends.iter().find_map(|end| rest.find(end)).unwrap_or(rest.len());
    Some(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(topology: &str) -> String {
        read(&format!("Server selection timeout: No available servers. Topology: {topology}")).unwrap().why
    }

    fn member(address: &str, error: &str) -> String {
        let none = ", labels: {\"Retryable\"}, source: None, server response: None";
        format!("{{ Address: {address}, Type: Unknown, Error: Kind: {error}{none} }}")
    }

    #[test]
    fn members_that_cannot_be_reached() {
        let refused = "I/O error: Connection refused (os error 111)";
        let one = format!("{{ Type: Unknown, Servers: [ {} ] }}", member("db1:27017", refused));
        assert_eq!(why(&one), "connection refused");
        let unknown = "I/O error: failed to lookup address information: Name or service not known";
        let two = format!("{{ Servers: [ {}, {} ] }}", member("a:1", refused), member("b:2", unknown));
        assert_eq!(why(&two), "a:1: connection refused; b:2: the host's name is unknown");
        let same = format!("{{ Servers: [ {}, {} ] }}", member("a:1", refused), member("b:2", refused));
        assert_eq!(why(&same), "connection refused");
        let lone = read(&format!(
            "Server selection timeout: No available servers. Topology: {{ Servers: [ {} ] }}",
            member("b:2", unknown)
        ));
        assert_eq!(lone.unwrap().step, Some(Step::Host));
        let tls = member("a:1", "I/O error: invalid peer certificate: UnknownIssuer");
        assert_eq!(why(&format!("{{ Servers: [ {tls} ] }}")), "invalid peer certificate: UnknownIssuer");
    }

    #[test]
    fn sets_that_are_none_or_others() {
        assert_eq!(
            why("{ Type: ReplicaSetNoPrimary, Set Name: rs0 }"),
            "no server there is a member of a replica set 'rs0'"
        );
        for (own, words) in [("<none>", "it is a standalone"), ("\"rs1\"", "its own is 'rs1'")] {
            let text =
                "An invalid argument was provided: Connection string replicaSet name \"rs0\" does not match";
            let single = member("a:1", &format!("{text} actual name {own}"));
            let why = why(&format!("{{ Type: Single, Set Name: rs0, Servers: [ {single} ] }}"));
            assert_eq!(why, format!("the server there is no member of a replica set 'rs0', {words}"));
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

    /// The cause and the next step for a set of which some members answer.
    fn of_set(criteria: &str, members: &[String]) -> (String, Option<Step>) {
        let topology =
            format!("{{ Type: ReplicaSetNoPrimary, Set Name: rs0, Servers: [ {} ] }}", members.join(", "));
        let text = format!(
            "Server selection timeout: None of the available servers suitable for criteria ReadPreference({criteria}). \
             Topology: {topology}"
        );
        let Unfound { why, step } = read(&text).unwrap();
        (why, step)
    }

    #[test]
    fn members_that_answer_are_named_before_those_that_do_not() {
        let down = member("a:1", "I/O error: Connection refused (os error 111)");
        let up =
            |role: &str| format!("{{ Address: b:1, Type: {role}, Average RTT: 1ms, Max Wire Version: 17 }}");
        let (why, step) = of_set("Primary", &[up("RsSecondary"), down.clone()]);
        assert_eq!(why, "the replica set 'rs0' has no primary: a:1: connection refused, b:1 is a secondary");
        assert_eq!(step, Some(Step::Primary { secondary: true }));
        let words = Step::Primary { secondary: true }.words("MONGO_URI", false);
        assert!(words.contains("readPreference=secondaryPreferred to MONGO_URI"), "{words}");
        assert!(!Step::Primary { secondary: true }.words("RESTORE_URI", true).contains("secondaryPreferred"));
        let (why, step) = of_set("Secondary { options: None }", &[up("RsPrimary"), down.clone()]);
        assert!(why.starts_with("no member matches the readPreference: a:1"), "{why}");
        assert_eq!(step, Some(Step::Preference));
        for (role, words) in [
            (
                "RsArbiter",
                "no member that holds data can be read: a:1: connection refused, b:1 is an arbiter",
            ),
            ("RsOther", "b:1 is neither primary nor secondary (it is starting, copying data or recovering)"),
        ] {
            let (why, step) = of_set("Primary", &[up(role), down.clone()]);
            assert!(why.contains(words), "{why}");
            assert_eq!(step, Some(Step::Members));
        }
        let (why, step) = of_set("Primary", &[up("RsGhost"), down]);
        assert!(why.ends_with("that was not initiated") && why.contains("a:1: connection refused"), "{why}");
        assert_eq!(step, Some(Step::Initiate));
    }

    #[test]
    fn an_old_server_is_named_with_its_version() {
        let text = "Server at ::1:27017 reports wire version 8, but this version of the MongoDB Rust driver requires at \
                    least 9 (MongoDB 4.4).";
        let Unfound { why, step } = read(text).unwrap();
        assert_eq!(why, "[::1]:27017 runs MongoDB 4.2, and MongoDB 4.4 or later is needed");
        assert_eq!(step, Some(Step::Version));
    }

    #[test]
    fn another_text_is_left_alone() {
        assert_eq!(read("no servers"), None);
    }
}
