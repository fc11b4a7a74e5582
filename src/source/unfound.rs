//! Why the driver found no server, in words. It tells that in one text only, with the state of every member
//! it knows: `ServerSelectionError` of the mongodb crate, `TopologyDescription` and `ServerInfo`'s `Display`.

use std::collections::BTreeSet;

/// Why no server was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfound {
    /// The cause.
    pub why: String,
    /// The next step, where it is another than for a server that is not reached.
    pub hint: Option<&'static str>,
}

const UNKNOWN: &str = "the host's name is unknown";
const NO_HOST: &str = "Correct the host in MONGO_URI, or make its name known here (DNS, /etc/hosts)";
const NO_MEMBER: &str = "Correct replicaSet in MONGO_URI to the set's own name (`rs.conf()._id`); for a standalone \
                         server leave it out";
const NO_SET: &str = "Run rs.initiate() there, or wait until the member knows its set (`rs.status()`)";
const NO_PRIMARY: &str = "Look at the set with rs.status(); to read a secondary, add \
                          readPreference=secondaryPreferred to MONGO_URI";

/// Reads the driver's text; `None` if it is another one.
pub fn read(text: &str) -> Option<Unfound> {
    let (_, topology) = text.strip_prefix("Server selection timeout: ")?.split_once("Topology: ")?;
    let found = |why: String, hint| Some(Unfound { why, hint: Some(hint) });
    let set = between(topology, "Set Name: ", &[", ", " }"]).unwrap_or_default();
    let members: Vec<&str> = topology.split("{ Address: ").skip(1).collect();
    if members.is_empty() {
        return found(format!("no server there is a member of a replica set '{set}'"), NO_MEMBER);
    }
    let mut errors: Vec<(&str, String)> = members.iter().filter_map(|member| error(member)).collect();
    errors.sort();
    if let Some(other) =
        errors.iter().find_map(|(_, error)| between(error, "does not match actual name ", &[]))
    {
        let own = match other {
            "<none>" => "it is a standalone".to_string(),
            name => format!("its own is '{}'", name.trim_matches('"')),
        };
        return found(format!("the server there is no member of a replica set '{set}', {own}"), NO_MEMBER);
    }
    if !errors.is_empty() {
        let causes: BTreeSet<&String> = errors.iter().map(|(_, error)| error).collect();
        let each = || errors.iter().map(|(address, error)| format!("{address}: {error}")).collect::<Vec<_>>();
        let why = if causes.len() == 1 { errors[0].1.clone() } else { each().join("; ") };
        let hint = (why == UNKNOWN).then_some(NO_HOST);
        return Some(Unfound { why, hint });
    }
    if members.iter().all(|member| member.contains("Type: RsGhost")) {
        return found(
            "the server there is to be a member of a replica set that was not initiated".into(),
            NO_SET,
        );
    }
    let listed: Vec<String> =
        members.iter().map(|member| format!("{} is {}", address(member), role(member))).collect();
    found(format!("no member may be read: {}", listed.join(", ")), NO_PRIMARY)
}

/// A failed member, and why.
fn error(member: &str) -> Option<(&str, String)> {
    let text = between(member, "Error: Kind: ", &[", labels: {", " } ] }", " }, "])?;
    Some((address(member), plain(text)))
}

fn address(member: &str) -> &str {
    member.split(',').next().unwrap_or_default()
}

fn role(member: &str) -> &'static str {
    match between(member, "Type: ", &[",", " }"]) {
        Some("RsPrimary") => "the primary",
        Some("RsSecondary") => "a secondary",
        Some("RsArbiter") => "an arbiter",
        Some("Mongos") => "a mongos",
        Some("Standalone") => "a standalone",
        _ => "neither primary nor secondary",
    }
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
        "tls handshake eof" => "no TLS is spoken there".into(),
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
        assert_eq!(lone.unwrap().hint, Some(NO_HOST));
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
        assert_eq!(why(&format!("{{ Servers: [ {second} ] }}")), "no member may be read: a:1 is a secondary");
    }

    #[test]
    fn another_text_is_left_alone() {
        assert_eq!(read("no servers"), None);
    }
}
