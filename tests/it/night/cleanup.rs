//! The mails of cleanups: a cleanup that deleted something is mailed, one with nothing to do is not, and a
//! freeze is mailed once a day.

use super::support::{JOB, Nights, holds, server};
use crate::cli::support::{NOWHERE, run};

fn cleanup(nights: &Nights, args: &[&str], code: i32) {
    // MongoDB is unreachable, because a cleanup needs only the store.
    let mut command = nights.tool(NOWHERE);
    run(command.env("BACKUP_KEEP_MIN", "1").arg("cleanup").args(args)).ends(code);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleanup_mails_what_it_deleted() {
    let (server, nights) = (server().await, Nights::new().await);
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(0);
    cleanup(&nights, &[], 0);
    assert_eq!(nights.subjects().await, Vec::<String>::new(), "a cleanup with nothing to do sends no mail");
    let old = nights.age_a_copy(40);
    cleanup(&nights, &["--dry-run"], 0);
    assert_eq!(nights.subjects().await, Vec::<String>::new(), "nothing was done");
    cleanup(&nights, &[], 0);
    assert_eq!(nights.subjects().await, [format!("cleanup done, 1 deleted: {JOB}")]);
    holds(&nights.last().await, &[old.id.as_str(), "40 d", nights.home.backups().to_str().expect("a path")]);
    assert_eq!(nights.home.manifests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_cleanup_is_mailed_once_a_day() {
    let (server, nights) = (server().await, Nights::new().await);
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(0);
    nights.age_a_copy(40);
    // The newest backup lost nearly all documents.
    let client = server.client().await.expect("a client");
    let rows = client.database("shop").collection::<bson::Document>("rows");
    rows.delete_many(bson::doc! {"_id": {"$gt": 5}}).await.expect("a deletion");
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(3);
    cleanup(&nights, &[], 3);
    cleanup(&nights, &[], 3);
    assert_eq!(nights.subjects().await, [format!("cleanup frozen: {JOB}")]);
    let newest = nights.home.manifests().pop().expect("a backup").id.to_string();
    let text = nights.last().await.split_whitespace().collect::<Vec<_>>().join(" ");
    holds(&text, &["collapsed", &newest, "uzima-backup cleanup --dry-run", "1 of 3 backups"]);
    cleanup(&nights, &["--accept", &newest], 0);
    assert_eq!(nights.subjects().await[1..], [format!("cleanup works again: {JOB}")]);
    assert_eq!(nights.home.manifests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_cleanup_is_mailed() {
    let nights = Nights::new().await;
    let file = nights.home.path().join("file");
    std::fs::write(&file, "").expect("a file");
    run(nights.tool(NOWHERE).env("BACKUP_DIR", &file).arg("cleanup")).ends(1);
    run(nights.tool(NOWHERE).env("BACKUP_RETENTION_DAYS", "no").arg("cleanup")).ends(2);
    assert_eq!(nights.subjects().await, [format!("cleanup failed: {JOB}")], "one a day");
    holds(&nights.last().await, &[file.to_str().expect("a path")]);
}
