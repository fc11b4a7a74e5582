//! Chooses the instant of a snapshot, at which the list of collections must be valid, too.
//!
//! Documents can be read as of an earlier time, but `listCollections` and `listIndexes` return only the present state (6.0.5:
//! "read concern not supported"). So the namespaces are listed before the instant and again after it. If both lists agree,
//! they were valid at the instant.

use bson::rawdoc;

use super::describe::{self, Description};
use super::oplog;
use crate::base::error::{Error, Kind, Result};
use crate::config::selection::Selection;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::model::server::Topology;
use crate::mongo::commands;
use crate::mongo::server::Server;

/// How often the namespaces are listed before the tool gives up, because an application creates and drops collections all the
/// time.
const LISTINGS: u32 = 10;

/// Returns why a server cannot be read as of one instant; `None` if it can.
pub fn refused(topology: Topology, version: &str) -> Option<String> {
    let major = version.split('.').next().and_then(|n| n.parse::<u32>().ok());
    match topology {
        Topology::Standalone => Some("a standalone server keeps no history to read from".into()),
        Topology::Mongos => Some("a sharded cluster cannot be read as of one instant through mongos".into()),
        // Before 5.0, this read concern works only in transactions, which end after 60 s.
        Topology::ReplicaSet if major.is_some_and(|major| major < 5) => {
            Some(format!("MongoDB {version} cannot read as of a given time; MongoDB 5.0 or later can"))
        }
        Topology::ReplicaSet => None,
    }
}

/// Returns true if a namespace cannot be read as of an earlier time, so that it is read at its own time. On 6.0.5, capped
/// collections (error 246) and `config.transactions` (5557800) cannot. All other collections of `admin` and `config` that the
/// role `backup` may read can.
pub fn apart(namespace: &Namespace) -> bool {
    let capped = namespace.options.get_bool("capped").unwrap_or(false);
    capped || (namespace.db == "config" && namespace.collection == "transactions")
}

/// Chooses a time at which the server had exactly the namespaces of `description`. Lists them again if they changed.
///
/// # Errors
/// Returns a [`Kind::Instant`] if collections, their options or indexes changed between all lists.
pub async fn choose(server: &Server, selection: &Selection, description: &mut Description) -> Result<OpTime> {
    for _ in 0..LISTINGS {
        // The chosen time is later than every change that the list shows. A majority of the set has reached it, so reads as
        // of this time need not wait.
        let listed = oplog::applied(server).await?.time;
        let committed = oplog::wait(server, listed, server.stall).await?;
        let at = committed.ok_or_else(|| oplog::behind(server, listed))?.time;
        let (now, _) = describe::list_namespaces(server, selection).await?;
        if now.namespaces == description.namespaces {
            return Ok(at);
        }
        (description.namespaces, description.uuids) = (now.namespaces, now.uuids);
    }
    let address = &server.hello.address;
    let text =
        format!("collections or indexes of {address} were created or dropped each time they were listed");
    Err(Error::new(Kind::Instant, text).hint("Use --consistency oplog (BACKUP_CONSISTENCY)"))
}

/// The number of seconds for which the member keeps its history; `None` if the user may not read it. The built-in role
/// `backup` may (6.0.5).
pub async fn window(server: &Server) -> Option<i64> {
    let ask = rawdoc! {"getParameter": 1, "minSnapshotHistoryWindowInSeconds": 1};
    let reply = server.command("admin", ask).await.ok()?;
    i64::try_from(commands::number(reply.get("minSnapshotHistoryWindowInSeconds")?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dumpformat::metadata;

    #[test]
    fn snapshots_depend_on_topology_version_and_namespace() {
        for (topology, version, can) in [
            (Topology::ReplicaSet, "6.0.5", true),
            (Topology::ReplicaSet, "5.0.0", true),
            (Topology::ReplicaSet, "4.4.29", false),
            (Topology::ReplicaSet, "unknown", true),
            (Topology::Standalone, "6.0.5", false),
            (Topology::Mongos, "6.0.5", false),
        ] {
            assert_eq!(refused(topology, version).is_none(), can, "{topology:?} {version}");
        }
        for (db, collection, options, apart_of_it) in [
            ("d", "c", "{}", false),
            ("d", "c", r#"{"options":{"capped":true}}"#, true),
            ("d", "c", r#"{"options":{"capped":false}}"#, false),
            ("config", "transactions", "{}", true),
            ("config", "settings", "{}", false),
            ("d", "transactions", "{}", false),
        ] {
            let namespace = metadata::parse(db, collection, options).unwrap();
            assert_eq!(apart(&namespace), apart_of_it, "{db}.{collection} {options}");
        }
    }
}
