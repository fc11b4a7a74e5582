//! Options that applications put into connection strings.

use uzima_testkit::mongod::Mongod;

use super::support::{backup, hands_over, official};
use crate::cli::support::{Home, NOWHERE, run};

/// Each option, with its warning if it causes one.
const TAKEN: &[(&str, &str)] = &[
    ("useNewUrlParser=true&useUnifiedTopology=true", "useNewUrlParser and useUnifiedTopology are ignored"),
    ("autoReconnect=true&keepAlive=true", "autoReconnect and keepAlive are ignored"),
    (
        "socketTimeoutMS=20000&wtimeout=100&timeoutMS=5000",
        "socketTimeoutMS, wtimeout and timeoutMS are ignored",
    ),
    ("uuidRepresentation=standard", "uuidRepresentation is ignored: documents are copied byte by byte"),
    ("maxIdleTimeMS=30000&poolSize=5&j=true&slaveOk=true", ""),
    ("connect=direct&compressors=snappy,zstd,zlib&zlibCompressionLevel=6", ""),
    ("readPreference=secondaryPreferred&readPreferenceTags=dc:x&readPreferenceTags=", ""),
    ("readPreferenceTags=&ssl=false&sslValidate=false&retryWrites=True", ""),
    ("waitQueueTimeoutMS=1&waitQueueMultiple=2", "waitQueueTimeoutMS is ignored"),
    ("readConcernLevel=majority;gssapiServiceName=mongodb&&", "readConcernLevel is ignored"),
    ("replicaSet=&heartbeatFrequencyMS=10000&localThresholdMS=15", "replicaSet is ignored: it has no value"),
];

#[tokio::test]
async fn options_of_applications_are_used_or_ignored_with_one_warning() {
    const TEST: &str = "connect::options::options_of_applications_are_used_or_ignored_with_one_warning";
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    for (query, warning) in TAKEN {
        let uri = format!("mongodb://{}?{query}", server.host());
        let home = Home::new();
        let said = backup(&home, &uri, "native").ends(0).stderr;
        let warnings: Vec<&str> = said.lines().filter(|line| line.contains("ignored")).collect();
        let named = warnings.iter().filter(|line| line.contains(warning)).count();
        assert_eq!(named, if warning.is_empty() { 0 } else { 1 }, "{query}: {said}");
        assert!(warnings.iter().all(|line| line.contains("mongo_uri: ")), "{said}");
        let mut names: Vec<&str> =
            warnings.iter().filter_map(|line| line.split("mongo_uri: ").nth(1)).collect();
        names.dedup();
        assert_eq!(names.len(), warnings.len(), "each once: {said}");
    }
    let all: Vec<&str> = TAKEN
        .iter()
        .map(|(query, _)| *query)
        .filter(|q| !q.contains("readPreference=") && !q.contains("slaveOk"))
        .collect();
    let uri = format!("mongodb://{}/?{}", server.host(), all.join("&"));
    hands_over(
        &uri,
        &format!(
            "mongodb://{}/?compressors=snappy,zstd,zlib&heartbeatFrequencyMS=10000&tls=false&zlibCompressionLevel=6&\
             directConnection=true",
            server.host()
        ),
    );
    official(TEST, &uri);
}

/// In each setting that holds a connection string, and without connecting.
#[test]
fn a_wrong_option_is_named_with_the_allowed_values() {
    for (query, words) in [
        ("replicaSte=rs0", ["option replicaSte is unknown: did you mean replicaSet?", "Correct the option"]),
        ("frobnicate=1", ["option frobnicate is unknown", "The options are appName, authMechanism,"]),
        (
            "readPreference=second",
            ["option readPreference has an invalid value", "readPreference must be primary,"],
        ),
        ("tls=maybe", ["option tls has an invalid value", "tls must be true or false"]),
        (
            "authMechanism=GSSAPI",
            ["option authMechanism has an invalid value", "authMechanism must be SCRAM-SHA-1,"],
        ),
        ("tlsCRLFile=/x", ["option tlsCRLFile cannot be honoured", "Revocation lists are not supported"]),
    ] {
        let wrong = format!("mongodb://u:hunter2@127.0.0.1:1/?{query}");
        for (variable, command) in [
            ("MONGO_URI", &["backup"][..]),
            ("MONGO_URI", &["health", "--only", "mongodb"]),
            ("BACKUP_RECORDS", &["backup"]),
            ("RESTORE_URI", &["restore", "latest", "--yes"]),
            ("DRILL_URI", &["verify", "--drill"]),
        ] {
            let home = Home::new();
            let said = run(home.to_dir(NOWHERE).env(variable, &wrong).args(command));
            let text = said.stdout + &said.stderr;
            assert_eq!(said.code, Some(if command[0] == "health" { 5 } else { 2 }), "{text}");
            assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
            assert!(!text.contains("hunter2") && !text.contains("percent"), "{text}");
        }
    }
}
