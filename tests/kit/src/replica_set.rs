//! A replica set of two members whose record ids differ for the same documents.
//!
//! The first member is filled while it is alone. The second joins afterwards, and its initial sync assigns new record
//! ids without gaps. So code that continues at a record id of the other member fails visibly. Use
//! [`insert_with_gaps`] (or delete documents) while filling; otherwise both members count 1, 2, 3 …

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::{Client, Collection};

use crate::mongod::{Builder, Mongod, ROOT_PASSWORD, ROOT_USER, TlsFiles, Version, connect, percent_encode};

/// Two data-bearing members, optionally an arbiter, and the members that [`ReplicaSet::join`] adds.
pub struct ReplicaSet {
    pub members: Vec<Mongod>,
    pub arbiter: Option<Mongod>,
    name: String,
    auth: bool,
    /// The options of a member that joins.
    joining: Builder,
    /// Keeps the files that the members read when they are started again.
    _certificates: tempfile::TempDir,
}

/// The options of a set, from [`ReplicaSet::builder`].
pub struct SetBuilder {
    name: String,
    member: Builder,
    /// The versions of the first and the second member, if the test chooses them.
    versions: Option<[Version; 2]>,
    arbiter: bool,
    auth: bool,
    tls: bool,
}

impl SetBuilder {
    /// Adds an arbiter. Then the other member is elected even if the primary was killed. Without an arbiter, it is
    /// elected only if the primary steps down.
    pub fn arbiter(mut self) -> Self {
        self.arbiter = true;
        self
    }

    /// Check users, with root as in [`Builder::auth`].
    pub fn auth(mut self) -> Self {
        self.auth = true;
        self
    }

    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Options of every member: parameters, arguments, cache.
    pub fn members(mut self, change: impl FnOnce(Builder) -> Builder) -> Self {
        self.member = change(self.member);
        self
    }

    /// The version of the first member, which is primary at the start, and of the arbiter; and the version of the
    /// second member. A set of 5.0 and 6.0 needs the feature compatibility version of the older one:
    /// `.members(|member| member.compatibility("5.0"))`.
    pub fn versions(mut self, first: Version, second: Version) -> Self {
        self.versions = Some([first, second]);
        self
    }

    /// Starts the first member, lets `fill` write to it, then adds the second and waits for its sync.
    pub async fn start_filled(self, fill: impl AsyncFnOnce(&Client) -> Result<()>) -> Result<ReplicaSet> {
        let mut member = self.member.replica_set(&self.name);
        if self.auth {
            member = member.auth().key(&format!("{:032x}", rand::random::<u128>()));
        }
        let certificates = tempfile::tempdir()?;
        if self.tls {
            member = member.tls_files(TlsFiles::create(certificates.path())?);
        }
        let of = |index: usize| match self.versions {
            Some(versions) => member.clone().version(versions[index]),
            None => member.clone(),
        };
        let first = of(0).start().await?;
        let client = first.client().await?;
        fill(&client).await.context("filling the first member")?;
        // With an arbiter, the server requires an explicit default write concern.
        let concern = doc! { "setDefaultRWConcern": 1, "defaultWriteConcern": { "w": "majority" } };
        client.database("admin").run_command(concern).await?;

        let second = of(1).uninitiated().start().await?;
        add_member(&client, doc! { "_id": 1, "host": second.host() }).await?;
        second.wait_for_member_state(&["SECONDARY"]).await?;
        let mut set = ReplicaSet {
            members: vec![first, second],
            arbiter: None,
            name: self.name,
            auth: self.auth,
            joining: member.clone().uninitiated(),
            _certificates: certificates,
        };
        if self.arbiter {
            let arbiter = of(0).uninitiated().start().await?;
            add_member(&client, doc! { "_id": 2, "host": arbiter.host(), "arbiterOnly": true }).await?;
            arbiter.wait_for_member_state(&["ARBITER"]).await?;
            set.arbiter = Some(arbiter);
        }
        wait_for_votes(&client, if self.arbiter { 3 } else { 2 }).await?;
        Ok(set)
    }

    pub async fn start(self) -> Result<ReplicaSet> {
        self.start_filled(async |_: &Client| Ok(())).await
    }
}

impl ReplicaSet {
    pub fn builder(name: &str) -> SetBuilder {
        let member = Mongod::builder();
        SetBuilder { name: name.to_owned(), member, versions: None, arbiter: false, auth: false, tls: false }
    }

    /// Returns a URI with both members as seeds.
    pub fn uri(&self) -> String {
        let hosts: Vec<_> = self.members.iter().map(Mongod::host).collect();
        let mut uri = "mongodb://".to_owned();
        if self.auth {
            uri += &format!("{}:{}@", percent_encode(ROOT_USER), percent_encode(ROOT_PASSWORD));
        }
        uri += &format!("{}/?replicaSet={}", hosts.join(","), self.name);
        if self.auth {
            uri += "&authSource=admin";
        }
        if let Some(ca) = self.members[0].ca_file() {
            uri += &format!("&tls=true&tlsCAFile={}", percent_encode(&ca.to_string_lossy()));
        }
        uri
    }

    pub async fn client(&self) -> Result<Client> {
        connect(&self.uri()).await
    }

    /// Adds a data-bearing member, waits until it has synced and votes, and returns its index in `members`. `change` changes the
    /// options of the other members.
    pub async fn join(&mut self, change: impl FnOnce(Builder) -> Builder) -> Result<usize> {
        let member = change(self.joining.clone()).start().await?;
        let index = self.members.len();
        // The arbiter has the id 2.
        let id = i32::try_from(index)? + i32::from(self.arbiter.is_some());
        let primary = self.members[self.primary().await?].direct_client().await?;
        add_member(&primary, doc! { "_id": id, "host": member.host() }).await?;
        member.wait_for_member_state(&["SECONDARY"]).await?;
        self.members.push(member);
        wait_for_votes(&primary, id + 1).await?;
        Ok(index)
    }

    /// Waits up to 60 s for a primary, and returns its index in `members`.
    pub async fn primary(&self) -> Result<usize> {
        self.wait_for_primary_other_than(None).await
    }

    /// Makes the primary step down, and returns the index of the new primary.
    pub async fn stepdown(&self) -> Result<usize> {
        let old = self.primary().await?;
        let command = doc! { "replSetStepDown": 60, "secondaryCatchUpPeriodSecs": 30 };
        self.members[old].direct_client().await?.database("admin").run_command(command).await?;
        self.wait_for_primary_other_than(Some(old)).await
    }

    async fn wait_for_primary_other_than(&self, old: Option<usize>) -> Result<usize> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            for (index, member) in self.members.iter().enumerate() {
                if Some(index) == old || member.pid().is_none() {
                    continue;
                }
                let hello =
                    member.direct_client().await?.database("admin").run_command(doc! {"hello": 1}).await;
                if hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false)) {
                    return Ok(index);
                }
            }
            if Instant::now() > deadline {
                bail!("the set {} has no new primary after 60 s", self.name);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Adds a member. (The server accepts one voting member at a time.)
async fn add_member(client: &Client, member: Document) -> Result<()> {
    let admin = client.database("admin");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = admin.run_command(doc! { "replSetGetConfig": 1 }).await?;
        let mut config = answer.get_document("config")?.clone();
        config.insert("version", config.get_i32("version")? + 1);
        config.get_array_mut("members")?.push(Bson::Document(member.clone()));
        match admin.run_command(doc! { "replSetReconfig": config }).await {
            Ok(_) => return Ok(()),
            // The configuration before is not yet committed by a majority.
            Err(error) if Instant::now() > deadline => return Err(error).context("replSetReconfig"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Waits until all members vote and know it. The server gives a new member its vote only some time after its sync, by
/// another configuration, and a member without that configuration cannot be elected.
async fn wait_for_votes(client: &Client, votes: i32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let admin = client.database("admin");
    loop {
        let status = admin.run_command(doc! { "replSetGetStatus": 1 }).await?;
        let config = admin.run_command(doc! { "replSetGetConfig": 1 }).await?;
        let version = config.get_document("config")?.get_i32("version")?;
        let heard = status.get_array("members")?.iter().all(|member| {
            let member = member.as_document();
            member.is_some_and(|member| member.get_i32("configVersion").ok() == Some(version))
        });
        if heard && status.get_i32("votingMembersCount")? == votes {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the set does not have {votes} votes after 60 s: {status}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Inserts the documents so that there is an unused record id between them: before each of them, a document is
/// inserted that is deleted afterwards.
pub async fn insert_with_gaps(
    collection: &Collection<RawDocumentBuf>,
    documents: &[RawDocumentBuf],
) -> Result<()> {
    for chunk in documents.chunks(500) {
        let spaced = chunk.iter().flat_map(|document| {
            let spacer = bson::rawdoc! { "_id": bson::oid::ObjectId::new(), "spacer": "uzima" };
            [spacer, document.clone()]
        });
        collection.insert_many(spaced).await?;
    }
    collection.delete_many(doc! { "spacer": "uzima" }).await?;
    Ok(())
}

/// The record ids of all documents in the order of the record ids, read from one member.
pub async fn record_ids(member: &Mongod, database: &str, collection: &str) -> Result<Vec<(Bson, i64)>> {
    let client = member.direct_client().await?;
    let find = doc! {
        "find": collection, "hint": { "$natural": 1 }, "projection": { "_id": 1 }, "showRecordId": true,
    };
    let any =
        mongodb::options::SelectionCriteria::ReadPreference(mongodb::options::ReadPreference::Nearest {
            options: None,
        });
    let mut cursor = client.database(database).run_cursor_command(find).selection_criteria(any).await?;
    let mut ids = Vec::new();
    while cursor.advance().await? {
        let document: Document = cursor.deserialize_current()?;
        let id = document.get("_id").context("a document without _id")?.clone();
        ids.push((id, document.get_i64("$recordId")?));
    }
    Ok(ids)
}
