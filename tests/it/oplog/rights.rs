//! The rights that `oplog` needs.

use bson::{Document, doc};
use mongodb::options::{CollectionOptions, WriteConcern};
use uzima_testkit::mongod::{Mongod, Version};

use super::support::{one_chain, tool};
use crate::cli::support::{Home, run};
use crate::encryption::support::Key;

/// The role may not read the id of the set, so the chain has an id that is made from what it may read.
#[tokio::test]
async fn the_built_in_role_backup_is_enough() {
    for version in [Version::V4_4_2, Version::V6_0_5] {
        let server =
            Mongod::builder().version(version).auth().replica_set("rs").start().await.expect("mongod");
        server.create_user("backup", "x", &[("backup", "admin")]).await.expect("a user");
        let (uri, home) = (server.uri_as("backup", "x", "admin"), Home::new());
        // Only entries that a majority has are stored.
        let majority = CollectionOptions::builder().write_concern(WriteConcern::majority()).build();
        let live = server.client().await.expect("a client").database("live");
        let rows = live.collection_with_options::<Document>("rows", majority);
        let key = Key::new(home.path(), "key");
        for (n, recipients) in [None, Some(&key.recipient)].into_iter().enumerate() {
            rows.insert_one(doc! {"_id": n as i32}).await.expect("a row");
            let of = |args: &[&str]| {
                let mut tool = tool(&home, &uri, args);
                tool.envs(recipients.map(|recipient| ("BACKUP_RECIPIENTS", recipient)));
                tool
            };
            run(&mut of(&["backup"])).ends(0);
            rows.insert_one(doc! {"_id": 10 + n as i32}).await.expect("a row");
            let stored = run(&mut of(&["oplog", "--json"])).ends(0).json();
            assert_eq!(stored["entries"], if n == 0 { 1 } else { 2 }, "{stored}");
        }
        let slices = one_chain(&home);
        assert!(slices.len() == 2 && slices[0].chain.set_id.starts_with("ffffffff"), "{slices:?}");
        let timeline =
            run(tool(&home, &uri, &["timeline", "--json", "--identity"]).arg(&key.file)).ends(0).json();
        assert_eq!(timeline["ranges"].as_array().map(Vec::len), Some(1), "{timeline}");
    }
}
