//! docs/copies.md: its settings are valid, its commands bring a lost first place back, and its policy is enough.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use crate::cli::hardship::shell;
use crate::cli::s3::variables;
use crate::cli::signals::{STALL, ends_by, start, until};
use crate::cli::support::{Home, TOOL, run, server_with_rows};
use crate::pages::{block, blocks, read};

#[test]
fn its_settings_are_valid() {
    let (page, home) = (read("docs/copies.md"), Home::new());
    let settings: Vec<_> = blocks(&page).into_iter().filter(|block| block.language == "toml").collect();
    for block in &settings {
        let path = home.path().join("config.toml");
        std::fs::write(&path, block.code).expect("a file");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("its mode");
        let mut tool = home.tool();
        tool.env_remove("UZIMA_BACKUP_CONFIG").arg("--config").arg(&path).args(["config", "--json"]);
        let shown = run(&mut tool).ends(0).json();
        assert_eq!(shown["copies"].as_array().map(Vec::len), Some(1), "{}", block.code);
    }
    assert_eq!(settings.len(), 4);
}

#[tokio::test]
async fn a_lost_first_place_is_restored_from_and_filled_again() {
    let (server, home) = (server_with_rows(100, 100).await, Home::new());
    let copy = home.path().join("copy");
    std::fs::create_dir(&copy).expect("a folder");
    let tool = || {
        let mut tool = home.to_dir(&server.uri());
        let path = format!("{}:/usr/bin:/bin", Path::new(TOOL).parent().expect("a folder").display());
        tool.env("COPY_DIR", &copy).env("PATH", path);
        tool
    };
    run(tool().arg("backup")).ends(0);
    std::fs::remove_dir_all(home.backups()).expect("the first place is lost");
    let rows = server.client().await.expect("a client").database("shop");
    rows.drop().await.expect("the data is lost, too");
    let page = read("docs/copies.md");
    let (restore, fill) = page.split_once("### Filling the first place again").expect("two steps");
    let listed = block(restore, "The worst day", "sh").lines().next().expect("a command");
    assert_eq!(listed, "uzima-backup list");
    // The first place is away, so `list` needs a look.
    let rest = block(restore, "The worst day", "sh").replacen(
        "uzima-backup list\n",
        "uzima-backup list || test $? = 3\n",
        1,
    );
    run(&mut shell(&tool(), &format!("set -e\n{rest}"))).ends(0);
    let count =
        rows.collection::<bson::Document>("rows").count_documents(bson::doc! {}).await.expect("a count");
    assert_eq!(count, 100);
    let fill = blocks(fill).into_iter().find(|block| block.language == "sh").expect("a block").code;
    run(&mut shell(&tool(), &format!("set -e\n{fill}"))).ends(0);
    let verdicts = |name: &String| !name.contains("/verified-");
    let names =
        |root: &Path| crate::cli::support::files(root).into_iter().filter(verdicts).collect::<Vec<_>>();
    assert_eq!(names(&home.backups()), names(&copy), "a verdict is not copied");
}

/// The tool with a directory, and with a copy in a bucket.
fn with_bucket(home: &Home, uri: &str, bucket: &S3Server) -> Command {
    let (mut tool, s3) = (home.to_dir(uri), variables(&bucket.endpoint()));
    for (ours, theirs) in [
        ("COPY_S3_BUCKET", "S3_BACKUP_BUCKET"),
        ("COPY_S3_ENDPOINT_URL", "S3_ENDPOINT_URL"),
        ("COPY_AWS_REGION", "AWS_REGION"),
        ("COPY_AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        ("COPY_AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
    ] {
        tool.envs(s3.get(theirs).map(|value| (ours, value)));
    }
    tool
}

#[tokio::test]
async fn a_signal_ends_a_copy_and_the_next_one_goes_on() {
    let (server, home, bucket) = (server_with_rows(10, 10).await, Home::new(), S3Server::start());
    run(home.to_dir(&server.uri()).arg("backup")).ends(0);
    bucket.faults().add(Rule::always("UploadPart", Fault::Delay(STALL)));
    let child = start(with_bucket(&home, &server.uri(), &bucket).args(["copy", "--missing"]));
    until("a part stalls", || bucket.count("UploadPart") > 0);
    ends_by(child, libc::SIGTERM, 128 + libc::SIGTERM);
    assert_eq!(bucket.objects().len(), 0);
    bucket.faults().clear();
    run(with_bucket(&home, &server.uri(), &bucket).args(["copy", "--missing"])).ends(0);
    assert_eq!(bucket.objects().len(), 3);
}

/// A copy needs no right to delete.
#[tokio::test]
async fn a_bucket_is_filled_with_the_policy_of_the_backup() {
    let (server, home, bucket) = (server_with_rows(10, 10).await, Home::new(), S3Server::start());
    run(home.to_dir(&server.uri()).arg("backup")).ends(0);
    let mut tool = with_bucket(&home, &server.uri(), &bucket);
    run(tool.args(["copy", "--missing"])).ends(0);
    let made: BTreeSet<String> = bucket.calls().iter().map(|call| call.operation.to_string()).collect();
    let allowed = [
        "ListObjectsV2",
        "GetObject",
        "HeadObject",
        "PutObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
    ];
    let beyond: Vec<&String> =
        made.iter().filter(|operation| !allowed.contains(&operation.as_str())).collect();
    assert_eq!(beyond, Vec::<&String>::new());
    assert!(made.contains("CompleteMultipartUpload") && bucket.objects().len() == 3, "{made:?}");
}
