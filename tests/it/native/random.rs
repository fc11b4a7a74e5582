//! Random documents of every BSON type are stored byte by byte.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw::{self, binary, document, element, string};

use super::content::assert_manifest;
use super::support::{Shelf, only};

const FORMATS: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

/// A value with its type, nested a few levels deep.
fn value() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let bytes = |n: usize| proptest::collection::vec(any::<u8>(), n);
    let some = |n: usize| proptest::collection::vec(any::<u8>(), 0..n);
    let scope = |code: Vec<u8>| {
        let (code, scope) = (string(&code), document(&[element(16, b"x", 1_i32.to_le_bytes())]));
        [&((code.len() + scope.len() + 4) as i32).to_le_bytes()[..], &code, &scope].concat()
    };
    let leaf = prop_oneof![
        bytes(8).prop_map(|b| (1, b)),
        some(60).prop_map(|b| (2, string(b))),
        (any::<u8>().prop_filter("subtype 2 has a length of its own", |s| *s != 2), some(60))
            .prop_map(|(subtype, b)| (5, binary(subtype, &b))),
        Just((6, vec![])),
        bytes(12).prop_map(|b| (7, b)),
        any::<bool>().prop_map(|b| (8, vec![u8::from(b)])),
        bytes(8).prop_map(|b| (9, b)),
        Just((10, vec![])),
        "[a-z.*]{0,9}".prop_map(|p| (11, [p.as_bytes(), &[0], b"im", &[0]].concat())),
        ("[a-z.]{1,9}", bytes(12)).prop_map(|(ns, id)| (12, [string(ns), id].concat())),
        some(30).prop_map(|b| (13, string(b))),
        some(30).prop_map(|b| (14, string(b))),
        some(30).prop_map(move |b| (15, scope(b))),
        bytes(4).prop_map(|b| (16, b)),
        bytes(8).prop_map(|b| (17, b)),
        bytes(8).prop_map(|b| (18, b)),
        bytes(16).prop_map(|b| (19, b)),
        Just((127, vec![])),
        Just((255, vec![])),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let fields = proptest::collection::vec(("[ -~äß漢]{0,6}", inner.clone()), 0..6);
        let items = proptest::collection::vec(inner, 0..6);
        prop_oneof![
            fields.prop_map(|fields| (3, of_fields(&fields))),
            items.prop_map(|items| {
                let keys = (0..).map(|n: u32| n.to_string());
                (4, of_fields(&keys.zip(items).collect::<Vec<_>>()))
            }),
        ]
    })
}

fn of_fields(fields: &[(String, (u8, Vec<u8>))]) -> Vec<u8> {
    document(
        &fields.iter().map(|(key, (kind, value))| element(*kind, key.as_bytes(), value)).collect::<Vec<_>>(),
    )
}

/// Documents with a counting `_id`, and sometimes one of almost the maximum size.
pub fn documents() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let fields = proptest::collection::vec(("[a-zä]{1,4}", value()), 0..8);
    let large = proptest::option::weighted(0.3, (1_usize << 20)..(16 << 20) - 100);
    (proptest::collection::vec(fields, 1..300), large).prop_map(|(rows, large)| {
        let all = rows.into_iter().enumerate().map(|(n, fields)| {
            let id = ("_id".to_owned(), (16, (n as i32).to_le_bytes().to_vec()));
            of_fields(&[vec![id], fields].concat())
        });
        let large = large.map(|len| {
            document(&[
                element(16, b"_id", (-1_i32).to_le_bytes()),
                element(5, b"b", binary(0, &vec![7; len])),
            ])
        });
        all.chain(large).collect()
    })
}

#[test]
fn random_documents_are_stored_byte_by_byte() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(Mongod::builder().start()).expect("mongod");
    let client = runtime.block_on(server.client()).expect("a client");
    let config = Config { cases: 12, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(documents(), proptest::sample::select(&FORMATS[..])), |(sent, format)| {
            runtime.block_on(async {
                raw::drop_databases(&client, &["r"]).await.expect("a drop");
                raw::insert(&client.database("r"), "c", &sent).await.expect("an insert");
                let shelf = Shelf::new();
                let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
                    only(&["r"])(options);
                    options.settings.format = format.parse().expect("a format");
                };
                let report =
                    shelf.run(&server.uri(), change).await.unwrap_or_else(|e| panic!("{}", e.chain()));
                let decoded = shelf.decode(&report);
                assert!(decoded.get("r.c") == sent, "{format}: {} documents differ", sent.len());
                assert_manifest(&shelf, &report, &decoded);
            });
            Ok(())
        })
        .unwrap();
}
