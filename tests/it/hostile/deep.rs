//! Documents that are nested far deeper than a server allows: recursive code would overflow its stack.

use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use crate::cli::support::run;
use crate::signals::support::Signalled;

/// A document with this many levels of nesting.
fn nested(levels: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 * levels);
    for level in 0..levels {
        let len = 5 + 8 * (levels - 1 - level);
        bytes.extend_from_slice(&(len as i32).to_le_bytes());
        if level + 1 < levels {
            bytes.extend_from_slice(&[3, b'0', 0]);
        }
    }
    bytes.resize(bytes.len() + levels, 0);
    bytes
}

/// The document with a deeply nested field at its end.
fn with_deep_field(document: &[u8], levels: usize) -> Vec<u8> {
    let inner = &document[4..document.len() - 1];
    raw::document(&[inner.to_vec(), raw::element(3, b"deep", nested(levels))])
}

/// Backs up through a proxy that changes the answers to this command, and asserts a failure with all notices.
/// Returns the output.
async fn fails_with_notices(command: &str, levels: usize) -> String {
    let server = Mongod::builder().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("orders");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let edit: Action = match command {
        "listCollections" => Action::edit(move |answer| {
            raw::rewrite(answer, &["cursor", "firstBatch", "0", "options"], &|_, _| Some((3, nested(levels))))
        }),
        _ => Action::edit(move |answer| with_deep_field(answer, levels)),
    };
    let rule = Rule::on(command);
    let rule = if command == "listCollections" { rule.namespace("shop") } else { rule };
    let rule = proxy.add(rule.then(edit));
    let signalled = Signalled::new().await;
    let uri = proxy.uri(&server.uri());
    let ran = run(signalled.pinging(&uri).env("BACKUP_DATABASES", "shop").arg("backup")).ends(1);
    assert!(proxy.hits(rule) > 0, "{command}");
    assert_eq!(signalled.paths().await, ["/start", "/fail"], "{}", ran.stderr);
    assert!(signalled.home.manifests().is_empty());
    ran.stderr
}

#[tokio::test(flavor = "multi_thread")]
async fn deeply_nested_options_fail_the_backup_and_are_named() {
    let said = fails_with_notices("listCollections", 100_000).await;
    for words in ["'orders'", "nested deeper than 256 levels", "next step: "] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_fills_the_stack_of_the_driver_is_a_failure_with_all_notices() {
    let said = fails_with_notices("hello", 100_000).await;
    assert!(said.contains("nested too deeply") && said.contains("next step: "), "{said}");
}
