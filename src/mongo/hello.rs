//! Who a member of a deployment is.

use mongodb::Client;
use mongodb::options::ServerAddress;

use super::server::any_member;
use super::unfound::Step;
use crate::config::uri;
use crate::model::server::Topology;

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// `host:port`, an IPv6 address in brackets, or the path of a Unix socket.
    pub address: String,
    /// The deployment's kind.
    pub topology: Topology,
    /// The replica set's name.
    pub set_name: Option<String>,
    /// Whether it takes writes.
    pub primary: bool,
    /// Why it cannot be read.
    pub unfit: Option<Unfit>,
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

/// Why a member that answers cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It votes, and holds no data.
    Arbiter,
    /// It was started for a replica set that was not initiated.
    Uninitiated,
    /// It is starting, copying data or recovering.
    Recovering,
}

impl Unfit {
    /// Reads a reply to `hello`.
    pub fn of(reply: &bson::Document) -> Option<Unfit> {
        let on = |key| reply.get_bool(key).unwrap_or(false);
        if on("arbiterOnly") {
            Some(Unfit::Arbiter)
        } else if on("isreplicaset") && !reply.contains_key("setName") {
            Some(Unfit::Uninitiated)
        } else if reply.contains_key("setName") && !on("isWritablePrimary") && !on("secondary") {
            Some(Unfit::Recovering)
        } else {
            None
        }
    }

    /// What it is, in words that follow a member's address.
    pub fn words(self) -> &'static str {
        match self {
            Unfit::Arbiter => "is an arbiter, which holds no data",
            Unfit::Uninitiated => "is to be a member of a replica set that was not initiated",
            Unfit::Recovering => {
                "is neither primary nor secondary: it is starting, copying data or recovering"
            }
        }
    }

    /// The next step.
    pub fn step(self) -> Step {
        match self {
            Unfit::Arbiter | Unfit::Recovering => Step::Members,
            Unfit::Uninitiated => Step::Initiate,
        }
    }
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
        address: uri::shown(address),
        topology,
        set_name,
        election: reply.get_object_id("electionId").ok().map(|id| id.to_hex()),
        primary: reply.get_bool("isWritablePrimary").unwrap_or(false),
        unfit: Unfit::of(&reply),
        process: process.ok().map(|id| id.to_hex()),
    })
}
