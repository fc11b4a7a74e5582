//! Drills by the same version and by newer ones: an equivalent index or option is no difference.

use bson::doc;
use serde_json::json;
use uzima_testkit::mongod::Version;
use uzima_testkit::torture;
use uzima_testkit::wire_proxy::{Rule, WireProxy};

use super::backups;
use super::support::{chosen, format_of, server, upgrades, versions};
use crate::cli::support::run;
use crate::drill::lent;
use crate::drill::support::{assert_gone, drill, scratch};
use crate::native::support::meanwhile;
use crate::restore::support::Backup;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    /// A scratch mongod.
    Own,
    /// An existing server.
    Lent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DrillData {
    Torture,
    /// With an oplog slice.
    Writers,
}

async fn backup(data: DrillData, version: Version) -> Backup {
    match data {
        DrillData::Torture => {
            let (source, original) = server(version).await;
            let options = torture::Options { big: false, users: true };
            torture::fill_with(&original, options).await.expect("the torture database");
            Backup::of(&source, &["--format", format_of(version)])
        }
        DrillData::Writers => backups::backup(version, "oplog", format_of(version)).await.0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_sound_in_a_drill_by_its_own_version_and_by_newer_ones() {
    let mut all = Vec::new();
    for data in [DrillData::Torture, DrillData::Writers] {
        for (from, to) in upgrades() {
            all.extend([Ground::Own, Ground::Lent].map(|ground| (data, from, to, ground)));
        }
    }
    let (oldest, newest) = (versions()[0], versions()[versions().len() - 1]);
    let chosen = chosen("drills", all, |&(data, from, to, ground)| match (data, ground) {
        (DrillData::Torture, Ground::Own) => from == to || to == newest,
        (DrillData::Torture, Ground::Lent) => (from, to) == (oldest, newest),
        (DrillData::Writers, ground) => (from, to) == (oldest, newest) && ground == Ground::Own,
    });
    for data in [DrillData::Torture, DrillData::Writers] {
        for version in versions() {
            let chosen: Vec<_> = chosen.iter().filter(|one| (one.0, one.1) == (data, version)).collect();
            if chosen.is_empty() {
                continue;
            }
            let backup = backup(data, version).await;
            for &&(_, _, to, ground) in &chosen {
                let report = match ground {
                    Ground::Own => {
                        let within = scratch();
                        let mut command = drill(&backup, within.path());
                        let path = to.path().unwrap_or_else(|error| panic!("{error:#}"));
                        let report = run(command.env("MONGOD_PATH", path).arg("--json")).ends(0).json();
                        assert_gone(within.path());
                        report
                    }
                    Ground::Lent => {
                        let (target, _) = super::support::set(to).await;
                        run(lent::drill(&backup, &target.uri()).arg("--json")).ends(0).json()
                    }
                };
                let found = &report["backups"][0]["drill"];
                assert_eq!(found["version"], to.as_str(), "{found}");
                assert_eq!((&found["findings"], &found["notes"]), (&json!([]), &json!([])), "{found}");
                println!("{data:?} {version} drilled by {to} ({ground:?}): equal");
            }
        }
    }
}

/// A drill finds another key, a lost `unique`, another expiry time and another collation, and nothing else,
/// in whatever form its server describes an index.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_does_something_else_is_found_among_indexes_in_another_form() {
    let (from, to) = (versions()[0], versions()[versions().len() - 1]);
    let (source, original) = server(from).await;
    let indexes = [
        doc! { "key": { "p": "2d" }, "name": "p_2d", "min": -200, "max": 200_i64, "bits": 20.0 },
        doc! { "key": { "hid": 1 }, "name": "hid_1", "hidden": true },
        doc! { "key": { "s": 1 }, "name": "s_1", "sparse": 1, "unique": true },
        doc! { "key": { "never": 1 }, "name": "never_1", "expireAfterSeconds": f64::NAN },
        doc! { "key": { "a": 1, "b": -1_i64 }, "name": "compound" },
        doc! { "key": { "u": 1 }, "name": "u_1", "unique": 1 },
        doc! { "key": { "exp": 1 }, "name": "exp_1", "expireAfterSeconds": 3600.5 },
        doc! { "key": { "col": 1 }, "name": "german", "collation": { "locale": "de" } },
    ];
    let create = doc! { "createIndexes": "many", "indexes": &indexes[..] };
    original.database("shop").run_command(create).await.expect("indexes");
    let backup = Backup::of(&source, &["--db", "shop"]);

    let (target, _) = server(to).await;
    let proxy = WireProxy::start(&[target.host()]).expect("a proxy");
    let changes = meanwhile(target.uri(), async |client| {
        let others = [
            doc! { "key": { "b": -1, "a": 1 }, "name": "compound" },
            doc! { "key": { "u": 1 }, "name": "u_1" },
            doc! { "key": { "exp": 1 }, "name": "exp_1", "expireAfterSeconds": 7200 },
            doc! { "key": { "col": 1 }, "name": "german", "collation": { "locale": "fr" } },
        ];
        let db = client.database(&lent::databases(&client).await[0]);
        for other in others {
            let drop = doc! { "dropIndexes": "many", "index": other.get_str("name").expect("a name") };
            db.run_command(drop).await.expect("no index");
            db.run_command(doc! { "createIndexes": "many", "indexes": [other] })
                .await
                .expect("another index");
        }
    });
    // The plan tries indexes on collections with other names.
    let built = proxy.add(Rule::on("createIndexes").namespace("*.many").nth(1).then(changes));
    // A difference is a note on another version, and a finding on the same version.
    let (code, list) = if from == to { (4, "findings") } else { (3, "notes") };
    let mut command = lent::drill(&backup, &proxy.uri(&target.uri()));
    let report = run(command.arg("--json")).ends(code).json();
    assert_eq!(proxy.hits(built), 1);
    let found: Vec<_> = report["backups"][0]["drill"][list].as_array().expect("a list").iter().collect();
    assert_eq!(found.len(), 4, "{found:?}");
    for (found, name) in found.iter().zip(["compound", "exp_1", "german", "u_1"]) {
        let start = format!("shop.many: its index '{name}' differs from the backup");
        assert!(found.as_str().is_some_and(|text| text.starts_with(&start)), "{found}");
    }
}
