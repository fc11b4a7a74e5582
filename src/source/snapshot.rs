//! The one instant that everything is read as of: a time to which the list of collections belongs as well.
//!
//! Documents can be read as of an earlier time, but `listCollections` and `listIndexes` know only the present
//! (6.0.5: "read concern not supported"). So all is listed before the time and once more after it: what is
//! the same both times was so in between.

use super::describe::{self, Description};
use super::oplog::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::config::selection::Selection;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::model::server::Topology;
use crate::mongo::commands::any_member;
use crate::mongo::server::Server;

/// How often all is listed before an application that always makes and drops collections has won.
const LISTINGS: u32 = 10;

/// Why this server cannot be read as of one instant, if so.
pub fn refused(topology: Topology, version: &str) -> Option<String> {
    let major = version.split('.').next().and_then(|n| n.parse::<u32>().ok());
    match topology {
        Topology::Standalone => Some("a standalone server keeps no history to read from".into()),
        Topology::Mongos => {
            Some("a sharded cluster has no one instant that can be read through mongos".into())
        }
        // Before, the read concern was for transactions, which end after 60 s.
        Topology::ReplicaSet if major.is_some_and(|major| major < 5) => {
            Some(format!("MongoDB {version} cannot read at a given time, 5.0 and later can"))
        }
        Topology::ReplicaSet => None,
    }
}

/// Whether a namespace cannot be read as of an earlier time, and is read at its own. On 6.0.5 these refuse
/// it: capped collections (246) and `config.transactions` (5557800); all else of `admin` and `config` that
/// the role `backup` may read does not.
pub fn apart(namespace: &Namespace) -> bool {
    let capped = namespace.options.get_bool("capped").unwrap_or(false);
    capped || (namespace.db == "config" && namespace.collection == "transactions")
}

/// A time at which the server held exactly the namespaces of `description`, which are listed anew if need
/// be.
///
/// # Errors
/// [`Kind::Instant`] when collections, their options or indexes were never the same twice.
pub async fn choose(server: &Server, selection: &Selection, description: &mut Description) -> Result<OpTime> {
    for _ in 0..LISTINGS {
        // Behind everything that was listed, and on a majority of the set: a read as of it need not wait.
        let listed = bounds::applied(server, server.client()).await?.time;
        let committed = bounds::wait(server, server.client(), listed, server.stall).await?;
        let at = committed.ok_or_else(|| bounds::behind(server, listed))?.time;
        let now = describe::catalog(server, selection).await?;
        if now.namespaces == description.namespaces {
            return Ok(at);
        }
        (description.namespaces, description.uuids) = (now.namespaces, now.uuids);
    }
    let address = &server.hello.address;
    let text = format!("collections or indexes of {address} were made or dropped whenever they were listed");
    Err(Error::new(Kind::Instant, text).hint("Use --consistency oplog (BACKUP_CONSISTENCY)"))
}

/// For how many seconds the member keeps its history, if the user may know (the built-in role `backup` may,
/// 6.0.5).
pub async fn window(server: &Server) -> Option<i64> {
    let admin = server.client().database("admin");
    let name = "minSnapshotHistoryWindowInSeconds";
    let command = bson::doc! {"getParameter": 1, name: 1};
    let ask = || admin.run_command(command.clone()).selection_criteria(any_member()).into_future();
    let reply = server.ask(ask).await.ok()?;
    reply.get_i32(name).map(i64::from).or_else(|_| reply.get_i64(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dumpformat::metadata;

    #[test]
    fn what_can_be_read_at_a_time_is_known() {
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
