//! The users and roles of a backup: of a whole server, and of single databases
//! (`mongodump --db X --dumpDbUsersAndRoles`).

use std::collections::BTreeMap;

use bson::RawDocumentBuf;
use tokio::runtime::Handle;

use super::offer::{Offer, is_people};
use super::{Options, Origin, Users};
use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::restore_target::users::People;

/// How logins are stored by every server since 3.0 (SCRAM).
const AUTH_SCHEMA: [i64; 2] = [3, 5];

/// Reads users and roles, if they are wanted.
pub async fn wanted(origin: &Origin, offers: &[Offer], options: &Options) -> Result<Vec<People>> {
    let mut all = Vec::new();
    if !options.wants_people() {
        return Ok(all);
    }
    for (db, places) in places(offers) {
        let read = async |kind: &str| match places.get(kind) {
            Some(at) => documents(origin, *at, offers[*at].name()).await,
            None => Ok(Vec::new()),
        };
        let (users, roles) = (read("system.users").await?, read("system.roles").await?);
        if !(users.is_empty() && roles.is_empty()) {
            known(&read("system.version").await?)?;
            all.push(People { db: db.into(), users, roles });
        }
    }
    if all.is_empty() && options.users == Users::Always {
        return Err(Error::usage("the backup holds no users and no roles").hint(
            "Only backups of a whole server do, and dumps by mongodump --dumpDbUsersAndRoles; leave --users out",
        ));
    }
    Ok(all)
}

/// Where they lie, by the database that they are of (`""`: all) and the collection's name.
fn places(offers: &[Offer]) -> BTreeMap<&str, BTreeMap<&str, usize>> {
    let mut places: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (at, offer) in offers.iter().enumerate() {
        let (db, kind) = match offer.collection.strip_prefix("$admin.") {
            Some(kind) => (offer.db.as_str(), kind),
            None if is_people(&offer.db, &offer.collection) => ("", offer.collection.as_str()),
            None => continue,
        };
        places.entry(db).or_default().insert(kind, at);
    }
    places
}

/// Looks whether the server will understand the logins.
fn known(versions: &[RawDocumentBuf]) -> Result<()> {
    let schema = versions.iter().find(|v| v.get_str("_id").is_ok_and(|id| id == "authSchema"));
    let version = schema.and_then(|schema| match schema.get("currentVersion") {
        Ok(Some(bson::RawBsonRef::Int32(n))) => Some(i64::from(n)),
        Ok(Some(bson::RawBsonRef::Int64(n))) => Some(n),
        Ok(Some(bson::RawBsonRef::Double(n))) => Some(n as i64),
        _ => None,
    });
    // From 8.1 on, servers keep no authSchema document: the form of users is the one that they all have since 3.0
    // (SERVER-83663).
    match version.or(schema.is_none().then_some(5)) {
        Some(version) if AUTH_SCHEMA.contains(&version) => Ok(()),
        version => Err(Error::failed(format!(
            "the users of the backup are of an unknown form (authSchema {version:?})"
        ))
        .hint("Restore without them: --no-users")),
    }
}

async fn documents(origin: &Origin, at: usize, name: String) -> Result<Vec<RawDocumentBuf>> {
    let (origin, handle) = (origin.clone(), Handle::current());
    let read = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        origin.scan(at, &handle, &mut |document| out.push(document.to_vec()))?;
        Ok::<_, Error>(out)
    });
    let read = read.await.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
    let parse = |bytes: Vec<u8>| {
        let damaged = |why: String| Error::new(Kind::Mismatch, format!("{name} is damaged")).caused_by(why);
        let document = RawDocumentBuf::from_bytes(bytes).map_err(|e| damaged(e.to_string()))?;
        bounds::check_depth(&document).map_err(damaged)?;
        Ok(document)
    };
    read.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn users_without_an_authschema_document_have_the_current_form() {
        let compatibility = rawdoc! {"_id": "featureCompatibilityVersion", "version": "8.2"};
        let schema = |version: bson::RawBson| rawdoc! {"_id": "authSchema", "currentVersion": version};
        for versions in [
            vec![],
            vec![compatibility.clone()],
            vec![compatibility.clone(), schema(5.into())],
            vec![schema(3_i64.into())],
        ] {
            assert!(known(&versions).is_ok(), "{versions:?}");
        }
        for versions in [vec![schema(1.into())], vec![compatibility, schema("5".into())]] {
            let error = known(&versions).unwrap_err();
            assert!(error.next_step().unwrap().contains("--no-users"), "{versions:?}");
        }
    }
}
