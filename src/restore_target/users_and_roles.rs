//! Merges users and roles into the target: they are loaded into temporary collections, from which the server
//! command `_mergeAuthzCollections` merges them, as mongorestore does.

use bson::raw::{CStr, cstr};
use bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, rawdoc};

use super::RestoreTarget;
use super::insert::Destination;
use crate::base::error::{Error, Result};

/// The temporary collections of mongorestore, which the role `restore` may write to.
const USERS: &str = "tempusers";
const ROLES: &str = "temproles";

/// The users and roles of a whole server, or of one database.
#[derive(Debug, Clone, Default)]
pub struct UsersAndRoles {
    /// The database; empty for a whole server.
    pub db: String,
    pub users: Vec<RawDocumentBuf>,
    pub roles: Vec<RawDocumentBuf>,
}

impl RestoreTarget {
    /// The `_id`s in `admin.system.users` of the users of this connection.
    pub(crate) async fn connected_users(&self) -> Result<Vec<String>> {
        let answer = self.run("admin", rawdoc! {"connectionStatus": 1}).await;
        let answer = answer.map_err(|e| self.explain("cannot read which user is logged in", e))?;
        let info = answer.get_document("authInfo").ok();
        Ok(info.map(|info| ids(info, "authenticatedUsers", "user")).unwrap_or_default())
    }

    /// Merges users and roles: entries with the same name are replaced. With `exactly`, other entries of the
    /// same database are removed. The connected users stay unchanged.
    pub(crate) async fn merge_users(&self, people: &UsersAndRoles, exactly: bool) -> Result<()> {
        let connected = self.connected_users().await?;
        let mut users = people.users.clone();
        users.retain(|user| !has_id(&connected, user));
        let of_db = if people.db.is_empty() {
            rawdoc! {}
        } else {
            rawdoc! {"db": people.db.as_str()}
        };
        let find = rawdoc! {"find": "system.users", "filter": of_db, "hint": {"$natural": 1}};
        let there = self.find("admin", find).await?;
        let differ = users.iter().any(|user| named(&there, user) && !there.contains(user));
        if exactly || differ {
            // When the server replaces existing users, it also removes the users that are not sent. So the
            // users that stay are sent, too, as they are now.
            let kept = |user: &&RawDocumentBuf| has_id(&connected, user) || !exactly && !named(&users, user);
            let kept: Vec<_> = there.iter().filter(kept).cloned().collect();
            users.extend(kept);
        }
        // The role `restore` does not allow reading the collection of roles, but it allows changing each
        // role.
        let changed = if exactly { Vec::new() } else { self.roles_there(&people.roles).await? };
        let field = cstr!("tempRolesCollection");
        self.merge(field, ROLES, &people.db, &people.roles, exactly).await?;
        for role in people.roles.iter().filter(|role| has_id(&changed, role)) {
            self.change_role(role).await?;
        }
        self.merge(cstr!("tempUsersCollection"), USERS, &people.db, &users, exactly || differ).await
    }

    /// Merges the documents through a temporary collection. With `replace`, the server changes existing
    /// entries and removes entries without a document; otherwise it keeps existing entries as they are (6.0.5
    /// logs "Could not insert user during _mergeAuthzCollections command", and answers ok).
    async fn merge(
        &self,
        field: &CStr,
        waiting: &str,
        db: &str,
        documents: &[RawDocumentBuf],
        replace: bool,
    ) -> Result<()> {
        self.drop_namespace("admin", waiting).await?;
        let merge = async {
            let place = Destination::new("admin", waiting);
            let raw: Vec<u8> = documents.iter().flat_map(|d| d.as_bytes()).copied().collect();
            if let Some(refused) = self.insert(&place, &raw).await?.first() {
                return Err(Error::failed("users or roles cannot be loaded").caused_by(refused.why.clone()));
            }
            let mut command = rawdoc! {"_mergeAuthzCollections": 1};
            command.append(field, format!("admin.{waiting}"));
            command.append(cstr!("drop"), replace);
            command.append(cstr!("db"), db);
            command.append(cstr!("writeConcern"), rawdoc! {"w": "majority"});
            let answer = self.insist("admin", command).await.map(drop);
            answer.map_err(|e| self.explain("cannot merge users and roles", e))
        };
        let merged = merge.await;
        // It holds password hashes.
        self.drop_namespace("admin", waiting).await?;
        merged
    }

    /// The `_id`s of the given roles that exist at the target.
    pub(crate) async fn roles_there(&self, roles: &[RawDocumentBuf]) -> Result<Vec<String>> {
        if roles.is_empty() {
            return Ok(Vec::new());
        }
        let name = |role: &RawDocumentBuf| {
            Some(rawdoc! {"role": role.get_str("role").ok()?, "db": role.get_str("db").ok()?})
        };
        let names: RawArrayBuf = roles.iter().filter_map(name).collect();
        let answer = self.insist("admin", rawdoc! {"rolesInfo": names}).await;
        let answer = answer.map_err(|e| self.explain("cannot read which roles exist", e))?;
        Ok(ids(&answer, "roles", "role"))
    }

    /// Changes an existing role to its form in the backup.
    async fn change_role(&self, role: &RawDocumentBuf) -> Result<()> {
        let (Ok(name), Ok(db)) = (role.get_str("role"), role.get_str("db")) else { return Ok(()) };
        let list = |key: &str| role.get_array(key).map(|list| list.to_owned()).unwrap_or_default();
        let command = rawdoc! {
            "updateRole": name,
            "privileges": list("privileges"),
            "roles": list("roles"),
            "authenticationRestrictions": list("authenticationRestrictions"),
            "writeConcern": {"w": "majority"},
        };
        let answer = self.insist(db, command).await.map(drop);
        answer.map_err(|e| self.explain(format_args!("cannot change the role {db}.{name}"), e))
    }
}

/// The users or roles in an array of an answer, by the `_id`s that their collection uses.
fn ids(answer: &Document, array: &str, name: &str) -> Vec<String> {
    let rows = answer.get_array(array).map(Vec::as_slice).unwrap_or_default().iter();
    let rows = rows.filter_map(Bson::as_document);
    rows.filter_map(|row| Some(format!("{}.{}", row.get_str("db").ok()?, row.get_str(name).ok()?))).collect()
}

fn has_id(ids: &[String], document: &RawDocumentBuf) -> bool {
    id_of(document).is_some_and(|id| ids.iter().any(|one| one == id))
}

fn id_of(document: &RawDocumentBuf) -> Option<&str> {
    document.get_str("_id").ok()
}

/// Returns true if a document has the same `_id`.
fn named(documents: &[RawDocumentBuf], one: &RawDocumentBuf) -> bool {
    documents.iter().any(|document| id_of(document) == id_of(one))
}
