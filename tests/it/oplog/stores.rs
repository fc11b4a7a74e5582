//! A store that fails: whatever request fails, the chain stays whole, and the next run continues it.

use bson::{Document, doc};
use uzima_backup::model::slice::SliceManifest;
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::support::{JOB, set};
use crate::cli::s3::to_s3;
use crate::cli::support::{Home, run};

fn chain(bucket: &S3Server) -> Vec<SliceManifest> {
    let objects = bucket.objects();
    let manifests = objects.iter().filter(|(key, _)| key.ends_with("/slice.json"));
    let mut slices: Vec<SliceManifest> =
        manifests.map(|(_, bytes)| SliceManifest::decode(bytes).expect("a sound manifest")).collect();
    slices.sort_by_key(|slice| (slice.chain.clone(), slice.start));
    for pair in slices.windows(2) {
        assert!(pair[1].continues(&pair[0]), "{:?}\n{:?}", pair[0], pair[1]);
    }
    for body in slices.iter().filter_map(|slice| slice.body.as_ref()) {
        let bytes = &objects[&format!("daily-backups/{}", body.key)];
        assert_eq!(blake3::hash(bytes).to_hex().to_string(), body.blake3);
    }
    slices
}

#[tokio::test]
async fn a_store_that_fails_at_any_request_breaks_no_chain() {
    let ((server, client), home, bucket) = (set().await, Home::new(), S3Server::start());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 0}).await.expect("a row");
    let tool = |args: &[&str]| {
        let mut command = to_s3(&home, &server.uri(), &bucket);
        command.env("BACKUP_JOB", JOB).env("BACKUP_DATABASES", "live").env("BACKUP_PATIENCE", "1").args(args);
        run(&mut command)
    };
    tool(&["backup"]).ends(0);
    tool(&["oplog"]).ends(0);
    let (mut failed, mut n) = (0, 1);
    for fault in [
        Fault::Answer(403, "AccessDenied"),
        Fault::Answer(500, "InternalError"),
        Fault::Answer(412, "PreconditionFailed"),
        Fault::LoseRequest,
        Fault::LoseAnswer,
    ] {
        for request in 0..6 {
            rows.insert_one(doc! {"_id": n}).await.expect("a row");
            n += 1;
            let before = chain(&bucket).len();
            bucket.faults().add(Rule::from(request, "*", fault.clone()));
            let ran = tool(&["oplog"]);
            bucket.faults().clear();
            failed += usize::from(ran.code != Some(0));
            assert!(matches!(ran.code, Some(0 | 1)), "{fault:?} {request}: {}", ran.stderr);
            assert!(chain(&bucket).len() >= before);
            tool(&["oplog"]).ends(0);
        }
    }
    assert!(failed > 10, "{failed}");
    let entries: u64 = chain(&bucket).iter().map(|slice| slice.entries).sum();
    // The chain begins at the backup, so it has all rows but the first, and each one once.
    assert_eq!(entries, n as u64 - 1);
    assert_eq!(bucket.open_uploads(), vec![]);
}
