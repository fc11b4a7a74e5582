//! What the user may do with the target, by the server's own words: `connectionStatus` with `showPrivileges`.
//!
//! A restore drops first and creates, fills and indexes afterwards, each by a right of its own: a user who has
//! the first alone would lose what was there.

use bson::{Bson, Document, rawdoc};
use mongodb::Client;

use super::Target;
use crate::base::error::{Error, Result};
use crate::mongo::errors;
use crate::mongo::errors::Class;

/// How the collection that holds the documents of a time series is called, before its name.
pub const BUCKETS: &str = "system.buckets.";
/// So many namespaces are told of what is not allowed.
const TOLD: usize = 3;

/// Something that a user may be allowed to do with a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Dropping it.
    Drop,
    /// Deleting all that is in it.
    Empty,
    /// Creating it.
    Create,
    /// Creating it as a capped collection.
    Cap,
    /// Inserting documents, whatever its validator says of them.
    Insert,
    /// Building indexes.
    Index,
}

impl Act {
    const ALL: [Act; 6] = [Act::Drop, Act::Empty, Act::Create, Act::Cap, Act::Insert, Act::Index];

    fn words(self) -> &'static str {
        match self {
            Act::Drop => "drop",
            Act::Empty => "delete from",
            Act::Create => "create",
            Act::Cap => "create as capped collections",
            Act::Insert => "insert past the validator of",
            Act::Index => "build indexes on",
        }
    }

    /// The actions of MongoDB that it takes: one of each list. Inserting creates, too.
    fn actions(self) -> &'static [&'static [&'static str]] {
        match self {
            Act::Drop => &[&["dropCollection"]],
            Act::Empty => &[&["remove"]],
            Act::Create => &[&["createCollection", "insert"]],
            // The right to create it is not enough (code 13 on 6.0.5).
            Act::Cap => &[&["convertToCapped"]],
            Act::Insert => &[&["insert"], &["bypassDocumentValidation"]],
            Act::Index => &[&["createIndex"]],
        }
    }
}

/// An act and the namespace that it is meant for: database, collection.
pub type Need = (Act, (String, String));

impl Target {
    /// Asks whether the user may do all of this; nothing is changed by it. A server that does not tell, and one
    /// without access control, is taken to allow it.
    ///
    /// # Errors
    /// If not, with what is not allowed and the role to grant.
    pub async fn may(&self, needs: &[Need]) -> Result<()> {
        let lacking = self.lacking(needs).await?;
        if lacking.is_empty() {
            return Ok(());
        }
        let (user, db) = self.user.as_ref().map_or(("…", "admin"), |user| (&user.name, &user.db));
        let roles: &[&str] = match lacking.iter().any(|(act, _)| *act == Act::Empty) {
            true => &["restore", "readWriteAnyDatabase"],
            false => &["restore"],
        };
        let roles = roles.iter().map(|role| errors::granted(role, db)).collect::<Vec<_>>().join(", ");
        let what = told(&lacking);
        Err(Error::failed(format!("user '{user}' may not {what} (MongoDB at {})", self.address)).hint(
            format!(
                "Nothing was changed. Grant what is missing: \
             db.getSiblingDB(\"{db}\").grantRolesToUser({user:?}, [{roles}])"
            ),
        ))
    }

    /// The part of `needs` that the user may not do.
    pub(super) async fn lacking<'a>(&self, needs: &'a [Need]) -> Result<Vec<&'a Need>> {
        let status = || rawdoc! {"connectionStatus": 1, "showPrivileges": true};
        let answer = match self.insist("admin", status).await.answer {
            Ok(answer) => answer,
            Err(e) if [Class::Interrupted, Class::Login].contains(&errors::classify(&e)) => {
                return Err(self.explain("cannot ask what the user may do", e));
            }
            Err(_) => return Ok(Vec::new()),
        };
        let Some(privileges) = privileges(&answer) else { return Ok(Vec::new()) };
        let lacking: Vec<&Need> = needs.iter().filter(|need| !allowed(privileges, need)).collect();
        // A server without access control lists the privileges of the user that logs in, but allows everything.
        if lacking.is_empty() || !self.refuses_strangers().await {
            return Ok(Vec::new());
        }
        Ok(lacking)
    }

    /// Whether somebody who is not logged in is refused: the server has access control.
    async fn refuses_strangers(&self) -> bool {
        let Ok(stranger) = Client::with_options(self.stranger.clone()) else { return false };
        let command = rawdoc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": false};
        let answer = Target { client: stranger.clone(), ..self.clone() }.run("admin", command).await;
        stranger.shutdown().await;
        answer.is_err_and(|e| errors::classify(&e) == Class::Unauthorized)
    }
}

/// The privileges of whoever is logged in; `None` if nobody is, or the server does not tell.
fn privileges(answer: &Document) -> Option<&[Bson]> {
    let info = answer.get_document("authInfo").ok()?;
    info.get_array("authenticatedUsers").ok().filter(|users| !users.is_empty())?;
    info.get_array("authenticatedUserPrivileges").ok().map(Vec::as_slice)
}

fn allowed(privileges: &[Bson], (act, (db, collection)): &Need) -> bool {
    let has = |action: &&str| {
        privileges.iter().filter_map(Bson::as_document).any(|privilege| {
            let covered = privilege.get_document("resource").is_ok_and(|r| covers(r, db, collection));
            let actions = privilege.get_array("actions").map(Vec::as_slice).unwrap_or_default();
            covered && actions.iter().any(|one| [Some(*action), Some("anyAction")].contains(&one.as_str()))
        })
    };
    act.actions().iter().all(|any| any.iter().any(has))
}

/// Whether a resource of a privilege has a namespace in it. Manual, "Resource Document": an empty name stands
/// for all, but system collections are named one by one, and the buckets of time series by `system_buckets`.
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

/// `drop a.b, a.c and 3 others, create a.b`.
fn told(lacking: &[&Need]) -> String {
    let acts = Act::ALL.into_iter().filter_map(|act| {
        let of = lacking.iter().filter(|(one, _)| *one == act);
        let names: Vec<String> = of.map(|(_, (db, collection))| format!("{db}.{collection}")).collect();
        let more = names.len().checked_sub(TOLD).filter(|more| *more > 0);
        let more = more.map(|more| format!(" and {more} others")).unwrap_or_default();
        let first = names.iter().take(TOLD).cloned().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{} {first}{more}", act.words()))
    });
    acts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn need(act: Act, name: &str) -> Need {
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
    fn an_act_takes_all_its_actions_and_creation_one_of_two() {
        let with = |actions: &[&str]| {
            let resource = doc! {"db": "shop", "collection": ""};
            let privileges = [Bson::Document(doc! {"resource": resource, "actions": actions.to_vec()})];
            Act::ALL.map(|act| allowed(&privileges, &need(act, "shop.orders")))
        };
        assert_eq!(with(&["insert"]), [false, false, true, false, false, false]);
        assert_eq!(with(&["insert", "bypassDocumentValidation"]), [false, false, true, false, true, false]);
        assert_eq!(with(&["dropCollection", "createIndex"]), [true, false, false, false, false, true]);
        assert_eq!(with(&["createCollection", "convertToCapped"]), [false, false, true, true, false, false]);
        assert_eq!(with(&["anyAction"]), [true; 6]);
    }

    #[test]
    fn nobody_and_silence_tell_nothing() {
        let users = doc! {"authInfo": {"authenticatedUsers": [{"user": "x", "db": "admin"}]}};
        assert_eq!(privileges(&users), None);
        let nobody = doc! {"authInfo": {"authenticatedUsers": [], "authenticatedUserPrivileges": []}};
        assert_eq!(privileges(&nobody), None);
    }

    #[test]
    fn many_are_told_by_the_first() {
        let needs: Vec<Need> = ["s.a", "s.b", "s.c", "s.d", "s.e"].map(|name| need(Act::Drop, name)).into();
        let all: Vec<&Need> = needs.iter().collect();
        assert_eq!(told(&all), "drop s.a, s.b, s.c and 2 others");
        let other = need(Act::Index, "s.a");
        assert_eq!(told(&[&needs[0], &other]), "drop s.a; build indexes on s.a");
    }
}
