//! Commands with little stack.

use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::S3Server;
use uzima_testkit::torture;

use super::hardship::shell;
use super::s3::to_s3;
use super::support::{Home, run};
use crate::drill::support::{mongod, scratch};
use crate::notify::support::{KEY, accepted, asked, service};

/// Every command runs in half of the stack of a thread of Rust, although a build without optimization needs much more stack than
/// a release.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_runs_with_a_stack_of_1_mib() {
    let source = Mongod::builder().replica_set("rs0").start().await.expect("mongod");
    let client = source.client().await.expect("a client");
    torture::fill_with(&client, torture::Options { big: false, users: false }).await.expect("data");
    let target = Mongod::builder().start().await.expect("mongod");
    let (home, bucket, within, mails) =
        (Home::new(), S3Server::start(), scratch(), service(vec![accepted()]).await);
    let with_stack_of = |uri: &str, kib: u32, args: &str| {
        let mut tool = to_s3(&home, uri, &bucket);
        tool.env("RESTORE_URI", target.uri()).env("MONGOD_PATH", mongod()).env("TMPDIR", within.path());
        tool.env("RESEND_API_KEY", KEY).env("RESEND_BASE_URL", mails.uri());
        tool.env("ADMIN_EMAILS", "ops@example.com");
        run(&mut shell(&tool, &format!(r#"ulimit -s {kib}; exec "$TOOL" {args}"#)))
    };
    let with_1_mib = |args: &str| with_stack_of(&source.uri(), 1024, args);
    with_stack_of(&source.uri(), 128, "backup").says(&["a stack overflow"]);
    for args in [
        "backup --dry-run",
        "backup",
        "oplog",
        "list",
        "verify",
        "verify latest --drill",
        "restore latest --dry-run",
        "restore latest --yes",
        "get latest shop.orders",
        "timeline",
        "stats --email",
        "cleanup",
        "notify --test",
        "config",
    ] {
        with_1_mib(args).ends(0);
    }
    with_1_mib("backup").ends(0);
    let listed = with_1_mib("list --json").ends(0).json();
    let id = |at: usize| listed["backups"][at]["id"].as_str().expect("an id").to_owned();
    with_1_mib(&format!("diff {} {} --documents", id(0), id(1))).ends(0);
    // The source and the state are on the machine of the test, which is not the test's business.
    let health = with_1_mib("health");
    assert!(health.stdout.contains("mongodb"), "{} {}", health.stdout, health.stderr);
    let sent = asked(&mails).await.len();
    with_stack_of("mongodb://127.0.0.1:1", 1024, "backup").ends(1);
    assert_eq!(asked(&mails).await.len(), sent + 1, "the failure is mailed");
}
