//! The users and roles of a backup.

use bson::RawDocumentBuf;
use tokio::runtime::Handle;

use super::offer::Offer;
use super::{Options, Origin, Users};
use crate::error::{Error, Kind, Result};
use crate::target::users::People;

/// How logins are stored by every server since 3.0 (SCRAM).
const AUTH_SCHEMA: [i64; 2] = [3, 5];

/// Reads users and roles, if they are wanted.
pub async fn wanted(origin: &Origin, offers: &[Offer], options: &Options) -> Result<Option<People>> {
    if !options.wants_people() {
        return Ok(None);
    }
    let people = People {
        users: documents(origin, offers, "system.users").await?,
        roles: documents(origin, offers, "system.roles").await?,
    };
    if people.users.is_empty() && people.roles.is_empty() {
        return match options.users {
            Users::Always => Err(Error::usage("the backup holds no users and no roles")
                .hint("Only backups of a whole server do; leave --users out")),
            _ => Ok(None),
        };
    }
    let versions = documents(origin, offers, "system.version").await?;
    let schema = versions.iter().find(|v| v.get_str("_id").is_ok_and(|id| id == "authSchema"));
    let version = schema.and_then(|schema| match schema.get("currentVersion") {
        Ok(Some(bson::RawBsonRef::Int32(n))) => Some(i64::from(n)),
        Ok(Some(bson::RawBsonRef::Int64(n))) => Some(n),
        Ok(Some(bson::RawBsonRef::Double(n))) => Some(n as i64),
        _ => None,
    });
    // Servers from 8.1 on keep no such document.
    match version.or(versions.is_empty().then_some(5)) {
        Some(version) if AUTH_SCHEMA.contains(&version) => Ok(Some(people)),
        version => Err(Error::failed(format!(
            "the users of the backup are of an unknown form (authSchema {version:?})"
        ))
        .hint("Restore without them: --no-users")),
    }
}

async fn documents(origin: &Origin, offers: &[Offer], collection: &str) -> Result<Vec<RawDocumentBuf>> {
    let Some(at) = offers.iter().position(|o| o.db == "admin" && o.collection == collection) else {
        return Ok(Vec::new());
    };
    let (origin, handle) = (origin.clone(), Handle::current());
    let read = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        origin.scan(at, &handle, &mut |document| out.push(document.to_vec()))?;
        Ok::<_, Error>(out)
    });
    let read = read.await.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
    let parse = |bytes: Vec<u8>| {
        RawDocumentBuf::from_bytes(bytes)
            .map_err(|e| Error::new(Kind::Mismatch, format!("admin.{collection} is damaged")).caused_by(e))
    };
    read.into_iter().map(parse).collect()
}
