//! Checks the user's rights before anything is dropped, by `connectionStatus` with `showPrivileges`.
//!
//! A restore first drops and then creates, fills and indexes, and each of these steps needs its own right.
//! With a user who may only drop, the restore would lose the data at the target.

use bson::{Bson, Document, rawdoc};
use mongodb::Client;

use super::RestoreTarget;
use crate::base::error::{Error, Result};
use crate::model::namespace::BUCKETS;
use crate::mongo::errors::{self, Class};

/// The most namespaces in a message for each right.
const NAMED: usize = 3;

/// A right that a restore needs on a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Drop,
    /// Deleting all documents.
    Empty,
    Create,
    /// Creating a capped collection.
    Cap,
    /// Inserting documents that the validator would refuse.
    Insert,
    Index,
    /// Finding documents, to compare them or to read a staging collection.
    Read,
    /// Writing, reading and removing the mark of a restore.
    Mark,
}

impl Right {
    const ALL: [Right; 8] = [
        Right::Drop,
        Right::Empty,
        Right::Create,
        Right::Cap,
        Right::Insert,
        Right::Index,
        Right::Read,
        Right::Mark,
    ];

    /// The words for messages, and the privilege actions of MongoDB: one of each list is needed. `insert` also
    /// allows creating a collection.
    fn words_and_actions(self) -> (&'static str, &'static [&'static [&'static str]]) {
        match self {
            Right::Drop => ("drop", &[&["dropCollection"]]),
            Right::Empty => ("delete from", &[&["remove"]]),
            Right::Create => ("create", &[&["createCollection", "insert"]]),
            // `createCollection` is not enough (code 13 on 6.0.5).
            Right::Cap => ("create as capped collections", &[&["convertToCapped"]]),
            Right::Insert => ("insert past the validator of", &[&["insert"], &["bypassDocumentValidation"]]),
            Right::Index => ("build indexes on", &[&["createIndex"]]),
            Right::Read => ("read", &[&["find"]]),
            Right::Mark => ("write marks to", &[&["find"], &["insert"], &["update"], &["remove"]]),
        }
    }
}

/// A right, and the database and collection that it is needed for.
pub(crate) type NeededRight = (Right, (String, String));

impl RestoreTarget {
    /// Checks that the user has all these rights. Changes nothing. A server that does not answer the
    /// question, or has no access control, counts as allowing everything. The error has the missing rights and
    /// the command that grants them.
    pub(crate) async fn may(&self, needs: &[NeededRight]) -> Result<()> {
        let lacking = self.lacking(needs).await?;
        if lacking.is_empty() {
            return Ok(());
        }
        let (user, db) = self.user_and_db();
        let roles: &[&str] =
            match lacking.iter().any(|(right, _)| [Right::Empty, Right::Read].contains(right)) {
                true => &["restore", "readWriteAnyDatabase"],
                false => &["restore"],
            };
        let roles = roles.iter().map(|role| errors::granted(role, db)).collect::<Vec<_>>().join(", ");
        let what = lacking_text(&lacking);
        Err(Error::failed(format!("user '{user}' may not {what} (MongoDB at {})", self.address)).hint(
            format!(
                "Nothing was changed. Grant the missing rights: \
             db.getSiblingDB(\"{db}\").grantRolesToUser({user:?}, [{roles}])"
            ),
        ))
    }

    /// The rights in `needs` that the user does not have.
    pub(super) async fn lacking<'a>(&self, needs: &'a [NeededRight]) -> Result<Vec<&'a NeededRight>> {
        let status = rawdoc! {"connectionStatus": 1, "showPrivileges": true};
        let answer = match self.insist("admin", status).await {
            Ok(answer) => answer,
            Err(e) if [Class::Interrupted, Class::Login].contains(&errors::classify(&e)) => {
                return Err(self.explain("cannot read the user's privileges", e));
            }
            Err(_) => return Ok(Vec::new()),
        };
        let Some(privileges) = privileges(&answer) else { return Ok(Vec::new()) };
        let lacking: Vec<&NeededRight> = needs.iter().filter(|need| !allowed(privileges, need)).collect();
        // A server without access control reports the privileges of the connected user, but allows
        // everything.
        if lacking.is_empty() || !self.refuses_strangers().await {
            return Ok(Vec::new());
        }
        Ok(lacking)
    }

    /// Returns true if the server refuses a client that is not logged in, which means that it has access
    /// control.
    async fn refuses_strangers(&self) -> bool {
        let Ok(stranger) = Client::with_options(self.stranger.clone()) else { return false };
        let command = rawdoc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": false};
        let answer = RestoreTarget { client: stranger.clone(), ..self.clone() }.run("admin", command).await;
        stranger.shutdown().await;
        answer.is_err_and(|e| errors::classify(&e) == Class::Unauthorized)
    }
}

/// The privileges of the connected user; `None` if no user is logged in, or the server does not report them.
fn privileges(answer: &Document) -> Option<&[Bson]> {
    let info = answer.get_document("authInfo").ok()?;
    info.get_array("authenticatedUsers").ok().filter(|users| !users.is_empty())?;
    info.get_array("authenticatedUserPrivileges").ok().map(Vec::as_slice)
}

fn allowed(privileges: &[Bson], (right, (db, collection)): &NeededRight) -> bool {
    let has = |action: &&str| {
        privileges.iter().filter_map(Bson::as_document).any(|privilege| {
            let covered = privilege.get_document("resource").is_ok_and(|r| covers(r, db, collection));
            let actions = privilege.get_array("actions").map(Vec::as_slice).unwrap_or_default();
            covered && actions.iter().any(|one| [Some(*action), Some("anyAction")].contains(&one.as_str()))
        })
    };
    right.words_and_actions().1.iter().all(|any| any.iter().any(has))
}

/// Returns true if a privilege's resource covers a namespace. An empty name covers all namespaces except
/// system collections, which are named one by one; `system_buckets` covers the buckets of time series
/// (MongoDB manual, "Resource Document").
fn covers(resource: &Document, db: &str, collection: &str) -> bool {
    if resource.get_bool("anyResource").unwrap_or(false) {
        return true;
    }
    if let Ok(named) = resource.get_str("system_buckets") {
        let of = resource.get_str("db").unwrap_or_default();
        let series = collection.strip_prefix(BUCKETS);
        return series.is_some_and(|series| named.is_empty() || named == series)
            && (of.is_empty() || of == db);
    }
    let (Ok(of), Ok(named)) = (resource.get_str("db"), resource.get_str("collection")) else { return false };
    let fits = if named.is_empty() { !collection.starts_with("system.") } else { named == collection };
    fits && (of.is_empty() || of == db)
}

/// A text like `drop a.b, a.c and 3 others; create a.b`.
fn lacking_text(lacking: &[&NeededRight]) -> String {
    let parts = Right::ALL.into_iter().filter_map(|right| {
        let of = lacking.iter().filter(|(one, _)| *one == right);
        let names: Vec<String> = of.map(|(_, (db, collection))| format!("{db}.{collection}")).collect();
        let more = names.len().checked_sub(NAMED).filter(|more| *more > 0);
        let more = more.map(|more| format!(" and {more} others")).unwrap_or_default();
        let first = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{} {first}{more}", right.words_and_actions().0))
    });
    parts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn need(act: Right, name: &str) -> NeededRight {
        let (db, collection) = name.split_once('.').unwrap();
        (act, (db.into(), collection.into()))
    }

    #[test]
    fn a_privilege_covers_what_its_resource_says() {
        for (resource, covered) in [
            (doc! {"anyResource": true}, [true, true, true, true]),
            (doc! {"cluster": true}, [false, false, false, false]),
            (doc! {"db": "", "collection": ""}, [true, false, true, false]),
            (doc! {"db": "shop", "collection": ""}, [true, false, false, false]),
            (doc! {"db": "shop", "collection": "orders"}, [true, false, false, false]),
            (doc! {"db": "", "collection": "system.js"}, [false, true, false, false]),
            (doc! {"db": "shop", "collection": "system.buckets.s"}, [false, false, false, true]),
            (doc! {"system_buckets": ""}, [false, false, false, true]),
            (doc! {"db": "shop", "system_buckets": "s"}, [false, false, false, true]),
            (doc! {"db": "blog", "system_buckets": ""}, [false, false, false, false]),
            (doc! {"system_buckets": "other"}, [false, false, false, false]),
        ] {
            let found = [
                ("shop", "orders"),
                ("shop", "system.js"),
                ("blog", "orders.old"),
                ("shop", "system.buckets.s"),
            ]
            .map(|(db, collection)| covers(&resource, db, collection));
            assert_eq!(found, covered, "{resource}");
        }
    }

    #[test]
    fn a_right_needs_all_its_actions_and_creation_one_of_two() {
        let with = |actions: &[&str]| {
            let resource = doc! {"db": "shop", "collection": ""};
            let privileges = [Bson::Document(doc! {"resource": resource, "actions": actions.to_vec()})];
            Right::ALL.map(|act| allowed(&privileges, &need(act, "shop.orders")))
        };
        assert_eq!(with(&["insert"]), [false, false, true, false, false, false, false, false]);
        assert_eq!(
            with(&["insert", "bypassDocumentValidation"]),
            [false, false, true, false, true, false, false, false]
        );
        assert_eq!(
            with(&["dropCollection", "createIndex"]),
            [true, false, false, false, false, true, false, false]
        );
        assert_eq!(
            with(&["createCollection", "convertToCapped"]),
            [false, false, true, true, false, false, false, false]
        );
        assert_eq!(with(&["find"]), [false, false, false, false, false, false, true, false]);
        assert!(with(&["find", "insert", "update", "remove"])[7]);
        assert_eq!(with(&["anyAction"]), [true; 8]);
    }

    #[test]
    fn privileges_are_unknown_without_a_user_or_an_answer() {
        let users = doc! {"authInfo": {"authenticatedUsers": [{"user": "x", "db": "admin"}]}};
        assert_eq!(privileges(&users), None);
        let nobody = doc! {"authInfo": {"authenticatedUsers": [], "authenticatedUserPrivileges": []}};
        assert_eq!(privileges(&nobody), None);
    }

    #[test]
    fn a_message_names_the_first_namespaces_of_each_right() {
        let needs: Vec<NeededRight> =
            ["s.a", "s.b", "s.c", "s.d", "s.e"].map(|name| need(Right::Drop, name)).into();
        let all: Vec<&NeededRight> = needs.iter().collect();
        assert_eq!(lacking_text(&all), "drop s.a, s.b, s.c and 2 others");
        let other = need(Right::Index, "s.a");
        assert_eq!(lacking_text(&[&needs[0], &other]), "drop s.a; build indexes on s.a");
    }
}
