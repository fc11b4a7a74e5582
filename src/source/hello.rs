//! Who a member of a deployment is.

use mongodb::Client;
use mongodb::options::ServerAddress;
use serde::{Deserialize, Serialize};

use super::server::any_member;

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// `host:port`.
    pub address: String,
    /// The deployment's kind.
    pub topology: Topology,
    /// The replica set's name.
    pub set_name: Option<String>,
    /// Whether it takes writes.
    pub primary: bool,
    /// Of a primary: by which election it is one.
    pub election: Option<String>,
    /// Changes when the process is started again; unknown before 4.4.
    pub process: Option<String>,
}

impl Hello {
    /// Who it is, in words: `replica set rs0, db1:27017`.
    pub fn words(&self) -> String {
        let kind = match (self.topology, &self.set_name) {
            (Topology::Standalone, _) => "standalone".to_string(),
            (Topology::Mongos, _) => "mongos".to_string(),
            (Topology::ReplicaSet, name) => {
                format!("replica set {}", name.as_deref().unwrap_or("without a name"))
            }
        };
        format!("{kind}, {}", self.address)
    }
}

/// The deployment's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// A single server without an oplog.
    Standalone,
    /// A member of a replica set.
    ReplicaSet,
    /// The router of a sharded cluster.
    Mongos,
}

/// Asks a member who it is, which is reached by this address.
pub async fn hello(client: &Client, address: &ServerAddress) -> mongodb::error::Result<Hello> {
    let reply = client
        .database("admin")
        .run_command(bson::doc! {"hello": 1})
        .selection_criteria(any_member())
        .await?;
    let set_name = reply.get_str("setName").ok().map(str::to_string);
    let topology = if reply.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        Topology::Mongos
    } else if set_name.is_some() {
        Topology::ReplicaSet
    } else {
        Topology::Standalone
    };
    let process = reply.get_document("topologyVersion").and_then(|v| v.get_object_id("processId"));
    Ok(Hello {
        address: address.to_string(),
        topology,
        set_name,
        election: reply.get_object_id("electionId").ok().map(|id| id.to_hex()),
        primary: reply.get_bool("isWritablePrimary").unwrap_or(false),
        process: process.ok().map(|id| id.to_hex()),
    })
}
