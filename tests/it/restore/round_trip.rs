//! The torture database, with everything that breaks backup tools, is backed up and restored: raw documents,
//! options, indexes, users, roles.

use uzima_testkit::read_all::read_all;
use uzima_testkit::torture;

use super::support::{Backup, differences, server};
use crate::cli::support::run;

const FORMATS: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

#[tokio::test(flavor = "multi_thread")]
async fn the_torture_database_comes_back_in_every_format() {
    let (source, original) = server().await;
    let made = torture::fill(&original).await.expect("the torture database");
    let found = read_all(&original).await.expect("all of it").namespaces.len();
    assert_eq!(found, made.namespaces.len() + 1, "and the buckets of the time series");
    assert!(found > 35, "{found}");
    for format in FORMATS {
        let backup = Backup::of(&source, &["--format", format]);
        let (target, restored) = server().await;
        let report = run(backup.restore_into(&target).arg("--json")).ends(0).json();
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{format}");
        assert_eq!((&report["users"], &report["roles"]), (&2.into(), &1.into()), "{report}");
        // A second restore, over the restored data.
        run(&mut backup.restore_into(&target)).ends(1).says(&["types.", "--drop"]);
        run(backup.restore_into(&target).arg("--drop")).ends(0);
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{format}");
    }
}
