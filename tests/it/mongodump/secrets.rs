//! The password reaches mongodump through its standard input, and in no other way.

use uzima_testkit::mongod::{Mongod, ROOT_PASSWORD, percent_encode};
use uzima_testkit::standin::{Ending, Play, Via};

use super::support::{recorded, standin, tool};
use crate::cli::support::{Home, run};

#[tokio::test]
async fn mongodump_gets_the_password_on_standard_input_only() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    let encoded = percent_encode(ROOT_PASSWORD);
    // mongodump prints its connection string when it fails, in both forms.
    let leak = Play::archive(recorded())
        .stop_at(100)
        .ending(Ending::Exit(1))
        .stderr(&format!("Failed: error parsing uri mongodb://root:{encoded}@h"))
        .stderr(&format!("password was {ROOT_PASSWORD}"));
    let home = Home::new();
    let mongodump = standin(&[leak, Play::archive(recorded())]);
    let ran = run(tool(&home, &server, &mongodump).env("RUST_LOG", "trace").arg("backup")).ends(0);
    let runs = mongodump.runs().expect("runs");
    assert_eq!(runs.len(), 2);
    for run in &runs {
        assert_eq!(run.config_via, Some(Via::Pipe));
        let uri =
            format!("mongodb://root:{encoded}@{}/?authSource=admin&directConnection=true", server.host());
        assert!(run.config_has("uri", &uri), "{:?}", run.config);
        assert_eq!(run.argv[..2], ["--config", "/dev/stdin"]);
        let argv = run.argv.join(" ");
        assert!(
            !argv.contains(&encoded) && !argv.contains(ROOT_PASSWORD) && !argv.contains("mongodb"),
            "{argv}"
        );
        // The shell sets these variables by itself.
        let env: Vec<&String> = run
            .env
            .keys()
            .filter(|k| !["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&k.as_str()))
            .collect();
        assert!(env.is_empty(), "{env:?}");
    }
    let manifest = &home.manifests()[0];
    assert!(manifest.notes[0].contains("error parsing uri mongodb://root:***@h"), "{:?}", manifest.notes);
    let bytes = manifest.encode().expect("JSON");
    let printed = [String::from_utf8(bytes).expect("text"), ran.stdout, ran.stderr].concat();
    for form in [encoded.as_str(), ROOT_PASSWORD] {
        assert!(!printed.contains(form), "{form}");
    }
}
