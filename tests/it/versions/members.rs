//! A replica set of two versions: the older version can hold everything that the feature compatibility
//! version allows.

use uzima_testkit::mongod::Version;
use uzima_testkit::replica_set::ReplicaSet;
use uzima_testkit::torture;

use super::support::{chosen, differences, format_of, server, versions};
use crate::cli::support::run;
use crate::drill::support::{assert_gone, drill, scratch};
use crate::restore::support::Backup;

/// Whichever member is primary, the backup can be restored into the older version, and drilled with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_of_two_versions_is_restored_into_the_older_one() {
    let (old, new) = (Version::V5_0_32, Version::V6_0_27);
    let mut all = vec![(new, old), (old, new)];
    all.retain(|(first, second)| versions().contains(first) && versions().contains(second));
    for (first, second) in chosen("members", all, |(first, _)| *first == new) {
        let options = torture::Options { big: false, users: true };
        let set = ReplicaSet::builder("mixed")
            .versions(first, second)
            .members(|member| member.compatibility(old.compatibility()))
            .start_filled(async |client: &mongodb::Client| {
                torture::fill_with(client, options).await?;
                Ok(())
            })
            .await
            .expect("a set");
        let original = set.client().await.expect("a client");
        let backup = Backup::at(&set.uri(), &["--format", format_of(first)]);
        assert!(backup.manifest.source.version.starts_with(first.compatibility()));
        let (target, restored) = server(old).await;
        run(&mut backup.restore_into(&target)).ends(0);
        let differences = differences((first, &original), (old, &restored)).await;
        assert_eq!(differences, Vec::<String>::new(), "{first} and {second}");
        let within = scratch();
        let path = old.path().unwrap_or_else(|error| panic!("{error:#}"));
        run(drill(&backup, within.path()).env("MONGOD_PATH", path)).ends(0);
        assert_gone(within.path());
        println!("primary {first}, secondary {second}: equal on {old}");
    }
}
