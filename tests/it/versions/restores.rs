//! Restores within one version, into newer versions and from a set of two versions: equal documents, users
//! and roles, and equivalent options and indexes.

use bson::doc;
use uzima_testkit::mongod::{Version, connect};
use uzima_testkit::replica_set::ReplicaSet;
use uzima_testkit::torture;
use uzima_testkit::torture::users::password;

use super::support::{Engine, FORMATS, chosen, differences, format_of, guarded, server, upgrades, versions};
use crate::cli::support::run;
use crate::drill::support::{assert_gone, drill, scratch};
use crate::restore::support::Backup;

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

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_come_back_and_log_in_on_every_version() {
    let chosen = chosen("users", upgrades(), |(from, to)| from == to);
    for (from, to) in chosen {
        let (source, original) = guarded(from).await;
        let options = torture::Options { big: false, users: true };
        torture::fill_with(&original, options).await.expect("the torture database");
        let privilege =
            doc! { "resource": { "db": "shop", "collection": "orders" }, "actions": ["find", "insert"] };
        let nested = doc! {
            "createRole": "clerk", "privileges": [privilege], "roles": [{ "role": "read", "db": "shop" }],
        };
        original.database("shop").run_command(nested).await.expect("a role");
        source.create_user("keeper@x", "p:/%", &[("backup", "admin")]).await.expect("a user");
        let backup = Backup::at(&source.uri_as("keeper@x", "p:/%", "admin"), &[]);

        let (target, restored) = guarded(to).await;
        let roles = [("restore", "admin"), ("readAnyDatabase", "admin")];
        target.create_user("bringer", "x", &roles).await.expect("a user");
        let mut command = backup.restore_into(&target);
        run(command.env("RESTORE_URI", target.uri_as("bringer", "x", "admin"))).ends(0);
        restored.database("admin").run_command(doc! { "dropUser": "bringer" }).await.expect("no user");
        let differences = differences((from, &original), (to, &restored)).await;
        assert_eq!(differences, Vec::<String>::new(), "{from} → {to}");

        let app = connect(&target.uri_as("app", &password("app"), "shop")).await.expect("a client");
        let orders = app.database("shop").collection::<bson::Document>("orders");
        assert_eq!(orders.count_documents(doc! {}).await.expect("a login"), 1000, "{from} → {to}");
        let foreign = app.database("opts").collection::<bson::Document>("src");
        assert!(foreign.count_documents(doc! {}).await.is_err(), "{from} → {to}: more rights than before");
        println!("{from} → {to}: equal, and log in");
    }
}
