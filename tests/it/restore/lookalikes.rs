//! Views and validators with constants that look like Extended JSON.

use bson::{RawBson, RawDocumentBuf, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::official::Official;

use super::hand_made::from;
use super::support::{Backup, differences, server};
use crate::cli::support::{Home, run};

/// One document for each constant.
fn constants() -> Vec<RawDocumentBuf> {
    let oid = rawdoc! {"$oid": "0123456789abcdef01234567"};
    vec![
        rawdoc! {"$numberInt": "5"},
        rawdoc! {"$numberLong": "5"},
        rawdoc! {"$numberDouble": "1.5"},
        rawdoc! {"$numberDecimal": "1"},
        rawdoc! {"$date": "2026-01-01T00:00:00Z"},
        rawdoc! {"$date": {"$numberLong": "5"}},
        rawdoc! {"$date": 5_i64},
        oid.clone(),
        rawdoc! {"$oid": "x"},
        rawdoc! {"$regex": "^a", "$options": "i"},
        rawdoc! {"$regularExpression": {"pattern": "a", "options": ""}},
        rawdoc! {"$binary": "AAAA", "$type": "00"},
        rawdoc! {"$binary": {"base64": "AAAA", "subType": "00"}},
        rawdoc! {"$uuid": "01234567-89ab-cdef-0123-456789abcdef"},
        rawdoc! {"$code": "f()"},
        rawdoc! {"$code": "f()", "$scope": {}},
        rawdoc! {"$symbol": "s"},
        rawdoc! {"$timestamp": {"t": 1, "i": 1}},
        rawdoc! {"$minKey": 1},
        rawdoc! {"$maxKey": 1},
        rawdoc! {"$undefined": true},
        rawdoc! {"$dbPointer": {"$ref": "a", "$id": oid}},
        rawdoc! {"a": [{"b": {"$numberLong": "7"}}, 7_i64]},
    ]
}

/// Property names that Extended JSON uses, too.
const PROPERTIES: [&str; 9] = [
    "$date",
    "$oid",
    "$numberLong",
    "$uuid",
    "$binary",
    "$code",
    "$minKey",
    "$undefined",
    "$regularExpression",
];

async fn fill(client: &Client) {
    let database = client.database("look");
    database.run_command(doc! {"insert": "c", "documents": [{"_id": 1}]}).await.expect("a document");
    for (n, constant) in constants().into_iter().enumerate() {
        let create = rawdoc! {
            "create": format!("view{n}"), "viewOn": "c", "pipeline": [{"$addFields": {"x": {"$literal": constant}}}],
        };
        database.run_raw_command(create).await.expect("a view");
    }
    for property in PROPERTIES {
        let mut properties = RawDocumentBuf::new();
        properties
            .append(bson::raw::CString::try_from(property).expect("a key"), rawdoc! {"bsonType": "string"});
        let create = rawdoc! {
            "create": format!("c{property}").replace('$', "_"), "validationAction": "warn",
            "validator": {"$jsonSchema": {"properties": properties}},
        };
        database.run_raw_command(create).await.expect("a collection");
    }
    let filter = rawdoc! {"a": {"$eq": {"x": {"$numberLong": "5"}}}, "n": RawBson::Int64(5)};
    let index = rawdoc! {"key": {"a": 1}, "name": "partial", "partialFilterExpression": filter};
    database.run_raw_command(rawdoc! {"createIndexes": "c", "indexes": [index]}).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn constants_that_look_like_extended_json_come_back_unchanged() {
    let (source, original) = server().await;
    fill(&original).await;
    for format in ["tar.gz", "archive.zst"] {
        let backup = Backup::of(&source, &["--format", format]);
        run(backup.home.to_dir("mongodb://127.0.0.1:1").args(["verify", "latest"])).ends(0);
        let (target, restored) = server().await;
        run(&mut backup.restore_into(&target)).ends(0);
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{format}");
        // With its index in the same folder, the artifact is read exactly.
        run(from(&backup.home, &backup.artifact(), &target).arg("--drop")).ends(0);
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{format} by its path");
        // Without its index, the artifact is read as mongorestore would read it, and nothing fails.
        let moved = backup.home.path().join("moved");
        std::fs::copy(backup.artifact(), &moved).expect("a copy");
        run(from(&backup.home, &moved, &target).arg("--drop")).ends(0);
    }
}

/// mongodump refuses to dump such a view.
#[tokio::test(flavor = "multi_thread")]
async fn mongodump_refuses_a_view_with_such_constants() {
    let Some(tools) = Official::find("restore::lookalikes::mongodump_refuses_a_view_with_such_constants")
    else {
        return;
    };
    let (source, original) = server().await;
    fill(&original).await;
    let home = Home::new();
    let mut command = home.to_dir(&source.uri());
    command.env("MONGODUMP_PATH", &tools.mongodump).args(["backup", "--engine", "mongodump"]);
    let ran = run(&mut command).ends(1).says(&["error marshaling metadata", "BACKUP_ENGINE=native"]);
    assert!(!ran.stderr.contains("once more"), "{}", ran.stderr);
}
