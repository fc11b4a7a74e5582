//! Users and roles: loaded into collections of their own, and merged by the server as mongorestore has it do.

use bson::{RawDocumentBuf, rawdoc};

use super::Target;
use super::insert::Place;
use crate::error::{Error, Result};

/// Where they wait: mongorestore's names, which the role `restore` may write to.
const USERS: &str = "tempusers";
const ROLES: &str = "temproles";

/// Users and roles of a backup, one document after the other.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// The database that they are of; empty: those of all databases.
    pub db: String,
    /// Documents of `admin.system.users`.
    pub users: Vec<RawDocumentBuf>,
    /// Documents of `admin.system.roles`.
    pub roles: Vec<RawDocumentBuf>,
}

impl Target {
    /// The `_id`s in `admin.system.users` of the users that this connection is logged in as.
    pub async fn connected_users(&self) -> Result<Vec<String>> {
        let answer = self.run("admin", rawdoc! {"connectionStatus": 1}).await;
        let answer = answer.map_err(|e| self.explain("cannot ask who is logged in", e))?;
        let info = answer.get_document("authInfo").and_then(|info| info.get_array("authenticatedUsers"));
        let users = info.map(Vec::as_slice).unwrap_or_default().iter().filter_map(|user| {
            let user = user.as_document()?;
            Some(format!("{}.{}", user.get_str("db").ok()?, user.get_str("user").ok()?))
        });
        Ok(users.collect())
    }

    /// Merges users and roles into those that are there: same names are replaced. With `exactly`, others
    /// of the same database are removed. Whoever is connected stays as they are.
    pub async fn merge_users(&self, people: &People, exactly: bool) -> Result<()> {
        let connected = self.connected_users().await?;
        let mut users = people.users.clone();
        users.retain(|user| !user.get_str("_id").is_ok_and(|id| connected.iter().any(|c| c == id)));
        for id in &connected {
            // Handed to the merge as they are now, so that it has nothing to change or remove.
            users.extend(
                self.find("admin", rawdoc! {"find": "system.users", "filter": {"_id": id.as_str()}}).await?,
            );
        }
        self.drop_namespace("admin", USERS).await?;
        self.drop_namespace("admin", ROLES).await?;
        let merged = self.merge(&people.db, &users, &people.roles, exactly).await;
        // They hold what a login is checked against.
        self.drop_namespace("admin", USERS).await?;
        self.drop_namespace("admin", ROLES).await?;
        merged
    }

    async fn merge(
        &self,
        db: &str,
        users: &[RawDocumentBuf],
        roles: &[RawDocumentBuf],
        exactly: bool,
    ) -> Result<()> {
        for (collection, documents) in [(USERS, users), (ROLES, roles)] {
            let place = Place { db: "admin".into(), collection: collection.into(), buckets: false };
            let raw: Vec<u8> = documents.iter().flat_map(|d| d.as_bytes()).copied().collect();
            if let Some(refused) = self.insert(&place, &raw).await?.first() {
                return Err(Error::failed("users or roles cannot be loaded").caused_by(refused.why.clone()));
            }
        }
        let command = rawdoc! {
            "_mergeAuthzCollections": 1,
            "tempUsersCollection": format!("admin.{USERS}"),
            "tempRolesCollection": format!("admin.{ROLES}"),
            "drop": exactly,
            "db": db,
            "writeConcern": {"w": "majority"},
        };
        let answer = self.insist("admin", || command.clone()).await.answer;
        answer.map(|_| ()).map_err(|e| self.explain("cannot merge users and roles", e))
    }
}
