//! Reads the users and roles of a backup: of a whole server, or of single databases (`mongodump --db X
//! --dumpDbUsersAndRoles`).

use std::collections::BTreeMap;

use bson::RawDocumentBuf;
use tokio::runtime::Handle;

use super::namespaces::{BackupNamespace, is_users_or_roles};
use super::options::{RestoreOptions, Users};
use super::origin::RestoreOrigin;
use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::restore_target::users_and_roles::UsersAndRoles;

/// The versions of the users' format (SCRAM), which is the same in all servers since 3.0.
const AUTH_SCHEMA: [i64; 2] = [3, 5];

/// Reads users and roles, if they are to be restored.
pub(super) async fn read(
    origin: &RestoreOrigin,
    contents: &[BackupNamespace],
    options: &RestoreOptions,
) -> Result<Vec<UsersAndRoles>> {
    let mut all = Vec::new();
    if !options.wants_users() {
        return Ok(all);
    }
    for (db, places) in places(contents) {
        let read = async |kind: &str| match places.get(kind) {
            Some(at) => documents(origin, *at, contents[*at].name()).await,
            None => Ok(Vec::new()),
        };
        let (users, roles) = (read("system.users").await?, read("system.roles").await?);
        if !(users.is_empty() && roles.is_empty()) {
            check_schema(&read("system.version").await?)?;
            all.push(UsersAndRoles { db: db.into(), users, roles });
        }
    }
    if all.is_empty() && options.users == Users::Always {
        return Err(Error::usage("the backup contains no users and no roles").hint(
            "Only backups of a whole server and dumps by mongodump --dumpDbUsersAndRoles contain them; leave --users out",
        ));
    }
    Ok(all)
}

/// Their positions in the backup, by database (`""`: the whole server) and kind of collection.
fn places(contents: &[BackupNamespace]) -> BTreeMap<&str, BTreeMap<&str, usize>> {
    let mut places: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (at, source) in contents.iter().enumerate() {
        let (db, kind) = match source.collection.strip_prefix("$admin.") {
            Some(kind) => (source.db.as_str(), kind),
            None if is_users_or_roles(&source.db, &source.collection) => ("", source.collection.as_str()),
            None => continue,
        };
        places.entry(db).or_default().insert(kind, at);
    }
    places
}

/// Checks that a server since 3.0 understands the users.
fn check_schema(versions: &[RawDocumentBuf]) -> Result<()> {
    let schema = versions.iter().find(|v| v.get_str("_id").is_ok_and(|id| id == "authSchema"));
    let version = schema.and_then(|schema| match schema.get("currentVersion") {
        Ok(Some(bson::RawBsonRef::Int32(n))) => Some(i64::from(n)),
        Ok(Some(bson::RawBsonRef::Int64(n))) => Some(n),
        Ok(Some(bson::RawBsonRef::Double(n))) => Some(n as i64),
        _ => None,
    });
    // Servers from 8.1 on store no authSchema document. Their users have the format of all servers since 3.0
    // (SERVER-83663).
    match version.or(schema.is_none().then_some(5)) {
        Some(version) if AUTH_SCHEMA.contains(&version) => Ok(()),
        version => {
            Err(Error::failed(format!("the backup's users have an unknown format (authSchema {version:?})"))
                .hint("Restore without them: --no-users"))
        }
    }
}

async fn documents(origin: &RestoreOrigin, at: usize, name: String) -> Result<Vec<RawDocumentBuf>> {
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
    fn users_without_an_authschema_document_have_the_current_format() {
        let compatibility = rawdoc! {"_id": "featureCompatibilityVersion", "version": "8.2"};
        let schema = |version: bson::RawBson| rawdoc! {"_id": "authSchema", "currentVersion": version};
        for versions in [
            vec![],
            vec![compatibility.clone()],
            vec![compatibility.clone(), schema(5.into())],
            vec![schema(3_i64.into())],
        ] {
            assert!(check_schema(&versions).is_ok(), "{versions:?}");
        }
        for versions in [vec![schema(1.into())], vec![compatibility, schema("5".into())]] {
            let error = check_schema(&versions).unwrap_err();
            assert!(error.next_step().unwrap().contains("--no-users"), "{versions:?}");
        }
    }
}
