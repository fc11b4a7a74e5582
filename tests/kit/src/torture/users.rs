//! Users and roles, which a backup of the data alone does not contain.

use anyhow::Result;
use bson::{Document, doc};
use mongodb::Client;

use super::Inventory;

/// The password of each user. It has a space and a character outside ASCII.
pub fn password(user: &str) -> String {
    format!("pässword {user}")
}

pub(super) async fn fill(client: &Client, made: &mut Inventory) -> Result<()> {
    // Not "root": on a server that checks users, this connection itself uses the user `root`.
    drop_quietly(client, "admin", doc! { "dropUser": "keeper" }).await?;
    drop_quietly(client, "shop", doc! { "dropUser": "app" }).await?;
    drop_quietly(client, "admin", doc! { "dropRole": "auditor" }).await?;

    let privilege = doc! { "resource": { "db": "shop", "collection": "" }, "actions": ["find"] };
    let role = doc! { "createRole": "auditor", "privileges": [privilege], "roles": [] };
    client.database("admin").run_command(role).await?;
    made.roles.push("admin.auditor".into());

    let keeper = doc! { "createUser": "keeper", "pwd": password("keeper"), "roles": ["root"] };
    client.database("admin").run_command(keeper).await?;
    made.users.push("admin.keeper".into());
    let app = doc! {
        "createUser": "app",
        "pwd": password("app"),
        "customData": { "note": "grüße", "n": 1_i64 },
        "roles": [{ "role": "readWrite", "db": "shop" }, { "role": "auditor", "db": "admin" }],
    };
    client.database("shop").run_command(app).await?;
    made.users.push("shop.app".into());
    Ok(())
}

async fn drop_quietly(client: &Client, database: &str, command: Document) -> Result<()> {
    use mongodb::error::ErrorKind;
    match client.database(database).run_command(command).await.map_err(|error| *error.kind) {
        // UserNotFound, RoleNotFound.
        Err(ErrorKind::Command(error)) if [11, 31].contains(&error.code) => Ok(()),
        Err(kind) => anyhow::bail!("{kind}"),
        Ok(_) => Ok(()),
    }
}
