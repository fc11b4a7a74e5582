//! The torture database, backed up and restored within one version.

use uzima_testkit::torture;

use super::support::{Engine, FORMATS, chosen, differences, format_of, server, versions};
use crate::cli::support::run;

#[tokio::test(flavor = "multi_thread")]
async fn the_torture_database_comes_back_on_every_version() {
    let mut all = Vec::new();
    for version in versions() {
        for engine in Engine::ALL {
            all.extend(FORMATS.map(|format| (version, engine, format)));
        }
    }
    let newest = versions().pop();
    let chosen = chosen("round_trip", all, |(version, engine, format)| match engine {
        Engine::Native => *format == format_of(*version),
        Engine::Mongodump => Some(*version) == newest && *format == format_of(*version),
    });
    for version in versions() {
        let (source, original) = server(version).await;
        let made = torture::fill(&original).await.expect("the torture database");
        for &(_, engine, format) in chosen.iter().filter(|one| one.0 == version) {
            let backup = engine.backup(&source, format);
            let (target, restored) = server(version).await;
            let report = run(backup.restore_into(&target).arg("--json")).ends(0).json();
            let differences = differences((version, &original), (version, &restored)).await;
            assert_eq!(differences, Vec::<String>::new(), "{version} {engine:?} {format}");
            let (users, roles) = (made.users.len(), made.roles.len());
            assert_eq!((&report["users"], &report["roles"]), (&users.into(), &roles.into()), "{report}");
            println!("{version} {engine:?} {format}: equal");
        }
    }
}
