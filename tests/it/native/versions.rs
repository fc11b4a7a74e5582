//! The server's versions: the binary's, and the feature compatibility version of its data.

use bson::{doc, rawdoc};
use uzima_testkit::mongod::Mongod;

use super::support::{Shelf, insert, only};
use crate::cli::support::{Home, run};

#[tokio::test(flavor = "multi_thread")]
async fn the_feature_compatibility_version_is_recorded_and_shown() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    insert(&client, "shop", "orders", &[rawdoc! { "_id": 1 }]).await;
    let lower = doc! { "setFeatureCompatibilityVersion": "5.0" };
    client.database("admin").run_command(lower).await.expect("a lower version");
    server.create_user("backup", "pw", &[("backup", "admin")]).await.expect("a user");
    server.create_user("shopper", "pw", &[("read", "shop")]).await.expect("a user");
    // May not run getParameter, but read the document that holds it.
    let document =
        doc! { "resource": { "db": "admin", "collection": "system.version" }, "actions": ["find"] };
    let role = doc! { "createRole": "versions", "privileges": [document], "roles": [] };
    client.database("admin").run_command(role).await.expect("a role");
    let roles = [("read", "shop"), ("versions", "admin")];
    server.create_user("reader", "pw", &roles).await.expect("a user");

    for (user, known) in [("backup", true), ("reader", true), ("shopper", false)] {
        let uri = server.uri_as(user, "pw", "admin");
        let shelf = Shelf::new();
        let report = shelf.run(&uri, only(&["shop"])).await.unwrap_or_else(|e| panic!("{}", e.chain()));
        let source = &report.manifest.source;
        let fcv = source.feature_compatibility_version.map(|fcv| fcv.to_string());
        assert_eq!(fcv.as_deref(), known.then_some("5.0"), "{user}");
        // Without it the binary's version has to do.
        let needs = source.needs().expect("a version").to_string();
        assert_eq!(needs == "5.0", known, "{user}: {needs}");
        let key = report.manifest.artifact.key.rsplit_once('/').expect("a folder").0.to_owned();
        let json: serde_json::Value =
            serde_json::from_slice(&shelf.read(&format!("{key}/manifest.json"))).expect("JSON");
        assert_eq!(json["source"]["feature_compatibility_version"].as_str(), fcv.as_deref());

        let home = Home::new();
        let mut tool = home.to_dir(&uri);
        let plan = run(tool.args(["backup", "--dry-run", "--db", "shop", "--json"])).ends(0).json();
        assert_eq!(plan["feature_compatibility_version"].as_str(), fcv.as_deref());
        assert_eq!(plan["server_version"], source.version);
        let words = "feature compatibility version 5.0";
        let text = run(home.to_dir(&uri).args(["backup", "--dry-run", "--db", "shop"])).ends(0).stdout;
        assert_eq!(text.contains(words), known, "{text}");
        let text = run(home.to_dir(&uri).args(["health", "--only", "mongodb"])).ends(0).stdout;
        assert_eq!(text.contains(words), known, "{text}");
    }
}
