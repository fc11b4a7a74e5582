//! The versions of a server: the version of its binary, and the feature compatibility version of its data.

use bson::{RawDocument, RawDocumentBuf, doc, rawdoc};
use uzima_backup::base::exit::Exit;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Shelf, behind_a_proxy, failed, insert, only};
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
    // This user may not run getParameter, but may read the document that contains the version.
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
        // Without a feature compatibility version, the binary's version decides.
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

/// Makes the server behind the proxy report this version.
fn claim(proxy: &WireProxy, version: &'static str) {
    let text = [&(version.len() as i32 + 1).to_le_bytes()[..], version.as_bytes(), &[0]].concat();
    let claim =
        Action::edit(move |answer| raw::rewrite(answer, &["version"], &|kind, _| Some((kind, text.clone()))));
    proxy.add(Rule::on("buildInfo").then(claim));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_judged_by_health_and_a_newer_one_backed_up_with_a_warning() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "shop", "orders", &[rawdoc! { "_id": 1 }]).await;
    let (home, uri) = (Home::new(), proxy.uri(&server.uri()));
    for (version, code, outcome, words) in [
        ("6.0.5", 0, "ok", "6.0.5, feature compatibility version 6.0"),
        ("8.0.4", 0, "ok", "expected to work"),
        ("10.0.1", 0, "warning", "newer than 9.0"),
        ("4.2.25", 5, "failed", "too old"),
    ] {
        proxy.clear();
        claim(&proxy, version);
        let health = ["health", "--json", "--only", "mongodb"];
        let report = run(home.to_dir(&uri).args(health)).ends(code).json();
        let row = report["checks"].as_array().and_then(|rows| rows.last()).expect("a row");
        assert_eq!(row["outcome"], outcome, "{version}: {report}");
        assert!(row["detail"].as_str().expect("a text").contains(words), "{version}: {report}");
        assert_eq!(row["next_step"].is_string(), outcome != "ok", "{version}: {report}");
        assert_eq!(report["healthy"], code == 0);
        let report = match code {
            0 => Shelf::new().run(&uri, |_| {}).await.unwrap_or_else(|e| panic!("{version}: {}", e.chain())),
            _ => continue,
        };
        let warned = report.manifest.warnings.iter().any(|warning| warning.contains("newer than 9.0"));
        let exit = if warned { Exit::NeedsLook } else { Exit::Done };
        assert_eq!((warned, report.exit()), (outcome == "warning", exit), "{version}");
        assert_eq!(report.manifest.source.version, version);
    }
}

/// A time series of MongoDB 9.0 has no bucket collection. The proxy lists none, and finds the buckets under
/// the series' name if the command has `rawData`.
#[tokio::test]
async fn the_buckets_of_a_time_series_are_read_under_its_own_name_from_8_3_on() {
    let (server, proxy, client) = behind_a_proxy().await;
    let series = doc! { "create": "weather", "timeseries": { "timeField": "t", "metaField": "m" } };
    client.database("shop").run_command(series).await.expect("a time series");
    let weather = client.database("shop").collection("weather");
    weather
        .insert_many((0..500).map(|n| doc! { "t": bson::DateTime::now(), "m": n % 50, "x": n }))
        .await
        .expect("readings");
    let (shelf, uri) = (Shelf::new(), proxy.uri(&server.uri()));
    let before = shelf.run(&uri, |_| {}).await.expect("a backup");
    let buckets = shelf.decode(&before).get("shop.system.buckets.weather").to_vec();
    assert!(buckets.len() >= 50, "{}", buckets.len());

    let unlist = || {
        let filter = Action::edit(|answer| {
            let reply = RawDocument::from_bytes(answer).expect("BSON");
            let mut cursor =
                bson::Document::try_from(reply.get_document("cursor").expect("a cursor")).expect("BSON");
            let mut rows = cursor.get_array("firstBatch").expect("rows").clone();
            rows.retain(|row| {
                let name = row.as_document().and_then(|row| row.get_str("name").ok());
                name.is_none_or(|name| !name.starts_with("system.buckets."))
            });
            cursor.insert("firstBatch", rows);
            let cursor = RawDocumentBuf::try_from(&cursor).expect("BSON");
            raw::rewrite(answer, &["cursor"], &|kind, _| Some((kind, cursor.as_bytes().to_vec())))
        });
        proxy.add(Rule::on("listCollections").namespace("shop").then(filter))
    };
    // Before 8.3, a list without the bucket collection is damaged: the series would look empty.
    unlist();
    let text = failed(Shelf::new().run(&uri, |_| {}).await);
    assert!(text.contains("the time series shop.weather cannot be read"), "{text}");

    // The server ignores `rawData` and sends measurements.
    proxy.clear();
    unlist();
    claim(&proxy, "8.3.0");
    // A view of 6.0 knows no resume tokens either.
    let ignore = Action::rewrite(|command| {
        let fields = ["rawData", "$_requestResumeToken", "hint"];
        fields.iter().fold(command.to_vec(), |command, field| raw::rewrite(&command, &[field], &|_, _| None))
    });
    proxy.add(Rule::on("find").having("rawData").then(ignore));
    let text = failed(Shelf::new().run(&uri, |_| {}).await);
    assert!(text.contains("are not buckets"), "{text}");

    for format in ["tar.zst", "archive.zst"] {
        proxy.clear();
        unlist();
        claim(&proxy, "8.3.0");
        let raw = Rule::on("find").namespace("shop.weather").having("rawData");
        let buckets_of = Action::rewrite(|command| {
            let name = b"system.buckets.weather\0";
            let name = [&(name.len() as i32).to_le_bytes()[..], name].concat();
            let command = raw::rewrite(command, &["rawData"], &|_, _| None);
            raw::rewrite(&command, &["find"], &|kind, _| Some((kind, name.clone())))
        });
        let raw = proxy.add(raw.then(buckets_of));
        let shelf = Shelf::new();
        let choose = |options: &mut uzima_backup::ops::backup::BackupOptions| {
            options.settings.format = format.parse().expect("a format");
        };
        let report = shelf.run(&uri, choose).await.unwrap_or_else(|e| panic!("{format}: {}", e.chain()));
        assert!(proxy.hits(raw) >= 1);
        assert_eq!(shelf.decode(&report).get("shop.weather"), buckets, "{format}");
        assert_eq!(report.exit(), Exit::Done);
    }
}
