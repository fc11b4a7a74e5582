//! Restores into a newer version: equal documents, users and roles, and equivalent options and indexes.

use uzima_testkit::mongod::Version;
use uzima_testkit::torture;

use super::support::{Engine, FORMATS, chosen, differences, format_of, server, upgrades, versions};
use crate::cli::support::run;

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_a_newer_version_is_equal() {
    let mut all = Vec::new();
    for (from, to) in upgrades().into_iter().filter(|(from, to)| from != to) {
        for engine in Engine::ALL {
            all.extend(FORMATS.map(|format| (from, to, engine, format)));
        }
    }
    // Each version into the next, and the oldest into the newest.
    let versions = versions();
    let next = |from: Version, to: Version| versions.windows(2).any(|pair| pair == [from, to]);
    let widest = |from, to| versions.first() == Some(&from) && versions.last() == Some(&to);
    let chosen = chosen("upgrades", all, |(from, to, engine, format)| {
        *engine == Engine::Native && *format == format_of(*from) && (next(*from, *to) || widest(*from, *to))
    });
    for &version in &versions {
        let (source, original) = server(version).await;
        torture::fill(&original).await.expect("the torture database");
        for &(_, to, engine, format) in chosen.iter().filter(|one| one.0 == version) {
            let backup = engine.backup(&source, format);
            let (target, restored) = server(to).await;
            run(&mut backup.restore_into(&target)).ends(0);
            let differences = differences((version, &original), (to, &restored)).await;
            assert_eq!(differences, Vec::<String>::new(), "{version} → {to} {engine:?} {format}");
            println!("{version} → {to} {engine:?} {format}: equal");
        }
    }
}

/// Each version's server is filled by a restore of the previous version's backup, one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_upgrades_keeps_all_data() {
    let versions = versions();
    let (mut server_now, mut client) = server(versions[0]).await;
    torture::fill(&client).await.expect("the torture database");
    let before = client.clone();
    let first = server_now;
    let mut steps = Vec::new();
    for pair in versions.windows(2) {
        let source = steps.last().unwrap_or(&first);
        let backup = Engine::Native.backup(source, format_of(pair[0]));
        (server_now, client) = server(pair[1]).await;
        run(&mut backup.restore_into(&server_now)).ends(0);
        steps.push(server_now);
    }
    let last = *versions.last().expect("a version");
    let differences = differences((versions[0], &before), (last, &client)).await;
    assert_eq!(differences, Vec::<String>::new(), "{versions:?}");
    println!("versions::upgrades: a chain of {} restores is equal", steps.len());
}
