//! Users and roles, backed up and restored with the roles `backup` and `restore`, on servers with access
//! control.

use bson::doc;
use uzima_testkit::mongod::connect;
use uzima_testkit::torture::{self, users::password};

use super::support::{chosen, differences, guarded, upgrades};
use crate::cli::support::run;
use crate::restore::support::Backup;

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_come_back_and_log_in_on_every_version() {
    let chosen = chosen("users", upgrades(), |(from, to)| from == to);
    for (from, to) in chosen {
        let (source, original) = guarded(from).await;
        let options = torture::Options { big: false, users: true };
        torture::fill_with(&original, options).await.expect("the torture database");
        let privilege =
            doc! { "resource": { "db": "shop", "collection": "orders" }, "actions": ["find", "insert"] };
        let nested = doc! {
            "createRole": "clerk", "privileges": [privilege], "roles": [{ "role": "read", "db": "shop" }],
        };
        original.database("shop").run_command(nested).await.expect("a role");
        source.create_user("keeper@x", "p:/%", &[("backup", "admin")]).await.expect("a user");
        let backup = Backup::at(&source.uri_as("keeper@x", "p:/%", "admin"), &[]);

        let (target, restored) = guarded(to).await;
        let roles = [("restore", "admin"), ("readAnyDatabase", "admin")];
        target.create_user("bringer", "x", &roles).await.expect("a user");
        let mut command = backup.restore_into(&target);
        run(command.env("RESTORE_URI", target.uri_as("bringer", "x", "admin"))).ends(0);
        restored.database("admin").run_command(doc! { "dropUser": "bringer" }).await.expect("no user");
        let differences = differences((from, &original), (to, &restored)).await;
        assert_eq!(differences, Vec::<String>::new(), "{from} → {to}");

        let app = connect(&target.uri_as("app", &password("app"), "shop")).await.expect("a client");
        let orders = app.database("shop").collection::<bson::Document>("orders");
        assert_eq!(orders.count_documents(doc! {}).await.expect("a login"), 1000, "{from} → {to}");
        let foreign = app.database("opts").collection::<bson::Document>("src");
        assert!(foreign.count_documents(doc! {}).await.is_err(), "{from} → {to}: more rights than before");
        println!("{from} → {to}: equal, and log in");
    }
}
