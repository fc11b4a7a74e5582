//! Whether two backups of one job are of one server. A job that suddenly reads another server makes
//! backups that look good, while retention deletes the last ones of the server that mattered.

use crate::config::uri;
use crate::model::manifest::SourceServer;
use crate::model::server::Topology;

/// How the source of `now` is another than that of `before`, in words; `None` if it is the same.
///
/// A replica set is known by its id, or by its name where the user may not read the id: its members
/// change places. A router says nothing of the cluster behind it, so two of them count as one.
pub fn changed(before: &SourceServer, now: &SourceServer) -> Option<String> {
    let same = match (before.topology, now.topology) {
        (Topology::Standalone, Topology::Standalone) => server(&before.member) == server(&now.member),
        (Topology::Mongos, Topology::Mongos) => true,
        (Topology::ReplicaSet, Topology::ReplicaSet) => match (&before.set_id, &now.set_id) {
            (Some(before), Some(now)) => before == now,
            _ => before.set_name == now.set_name,
        },
        _ => false,
    };
    (!same).then(|| format!("the source was {}, and is {}", words(before), words(now)))
}

/// A member's host and port. All names of loopback are one: `localhost`, `127.0.0.1` and `[::1]` are what
/// people write for the same server.
fn server(member: &str) -> (&str, &str) {
    let (host, port) = member.rsplit_once(':').unwrap_or((member, ""));
    (if uri::is_loopback(host) { "localhost" } else { host }, port)
}

fn words(source: &SourceServer) -> String {
    let member = &source.member;
    match (source.topology, &source.set_name) {
        (Topology::Standalone, _) => format!("the single server {member}"),
        (Topology::Mongos, _) => format!("a sharded cluster at {member}"),
        (Topology::ReplicaSet, name) => {
            let id = source.set_id.as_ref().map(|id| format!(" with the id {id}")).unwrap_or_default();
            format!("the replica set {}{id} at {member}", name.as_deref().unwrap_or("without a name"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(topology: Topology, member: &str, name: Option<&str>, id: Option<&str>) -> SourceServer {
        SourceServer {
            topology,
            member: member.into(),
            version: "8.0.0".into(),
            feature_compatibility_version: None,
            set_name: name.map(Into::into),
            set_id: id.map(Into::into),
        }
    }

    #[test]
    fn what_is_one_server_and_what_is_not() {
        use Topology::{Mongos, ReplicaSet, Standalone};
        let set = |member, name, id| source(ReplicaSet, member, Some(name), id);
        let single = |member| source(Standalone, member, None, None);
        for (before, now, same) in [
            (single("a:1"), single("a:1"), true),
            (single("a:1"), single("b:1"), false),
            (single("localhost:1"), single("127.0.0.1:1"), true),
            (single("[::1]:1"), single("localhost:1"), true),
            (single("127.0.0.1:1"), single("localhost:2"), false),
            (single("localhost:1"), single("a:1"), false),
            (set("a:1", "rs", Some("1")), set("b:1", "rs", Some("1")), true),
            (set("a:1", "rs", Some("1")), set("a:1", "rs", Some("2")), false),
            (set("a:1", "rs", Some("1")), set("b:1", "rs", None), true),
            (set("a:1", "rs", None), set("a:1", "other", None), false),
            (single("a:1"), set("a:1", "rs", None), false),
            (source(Mongos, "a:1", None, None), source(Mongos, "b:1", None, None), true),
        ] {
            let change = changed(&before, &now);
            assert_eq!(change.is_none(), same, "{change:?}");
            assert!(change.is_none_or(|words| words.contains(&now.member)), "names the new one");
        }
    }
}
