//! Dumps that the mongodump of this machine writes, in each of its forms, and users and roles that were
//! dumped with one database.

use std::path::{Path, PathBuf};
use std::process::Command;

use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::read_all::read_all;
use uzima_testkit::torture;

use super::support::{differences, server};
use crate::cli::support::{Home, run};

/// The forms of a dump, by their mongodump flags without the path.
const FORMS: [&[&str]; 4] = [&["--archive"], &["--archive", "--gzip"], &["--out"], &["--out", "--gzip"]];

/// Dumps `server` and returns the path of the dump.
fn dump(tools: &Official, server: &Mongod, home: &Home, form: &[&str], more: &[&str]) -> PathBuf {
    let path = home.path().join(form.concat());
    let mut command = Command::new(&tools.mongodump);
    command.args(["--quiet", "--uri", &server.uri()]).args(more).args(&form[1..]);
    run(command.arg(format!("{}={}", form[0], path.display()))).ends(0);
    path
}

fn from(home: &Home, path: &Path, target: &Mongod) -> Command {
    let mut command = home.tool();
    command.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--json", "--from"]).arg(path);
    command
}

async fn tortured() -> (Mongod, Client) {
    let (server, client) = server().await;
    torture::fill_with(&client, torture::Options { big: false, users: true }).await.expect("the set");
    (server, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_dump_of_the_official_tool_is_restored() {
    let Some(tools) =
        Official::find("restore::official::every_form_of_a_dump_of_the_official_tool_is_restored")
    else {
        return;
    };
    let (source, original) = tortured().await;
    for form in FORMS {
        let (home, (target, restored)) = (Home::new(), server().await);
        let path = dump(&tools, &source, &home, form, &[]);
        let report = run(&mut from(&home, &path, &target)).ends(0).json();
        assert_eq!((&report["users"], &report["roles"]), (&2.into(), &1.into()), "{form:?}: {report}");
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{form:?}");
    }
}

/// Our backups by the engine `mongodump`, in each of our formats.
#[tokio::test(flavor = "multi_thread")]
async fn backups_by_the_mongodump_engine_are_restored_in_every_format() {
    let Some(tools) =
        Official::find("restore::official::backups_by_the_mongodump_engine_are_restored_in_every_format")
    else {
        return;
    };
    let (source, original) = tortured().await;
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let (home, (target, restored)) = (Home::new(), server().await);
        let tool = |words: &[&str]| {
            let mut command = home.to_dir(&source.uri());
            command.env("MONGODUMP_PATH", &tools.mongodump).env("RESTORE_URI", target.uri());
            run(command.args(words)).ends(0)
        };
        tool(&["backup", "--engine", "mongodump", "--format", format]);
        tool(&["verify", "latest"]);
        tool(&["restore", "latest", "--yes"]);
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_dumped_with_its_users_is_restored() {
    let Some(tools) = Official::find("restore::official::a_database_dumped_with_its_users_is_restored")
    else {
        return;
    };
    let (source, original) = tortured().await;
    let seller = bson::doc! {"createRole": "seller", "privileges": [], "roles": ["read"]};
    original.database("shop").run_command(seller).await.expect("a role");
    let mut wanted = read_all(&original).await.expect("the source");
    wanted.retain(|db, _| db == "shop");
    wanted.users.retain(|id, _| id == "shop.app");
    wanted.roles.retain(|id, _| id == "shop.seller");
    for form in FORMS {
        let (home, (target, restored)) = (Home::new(), server().await);
        let path = dump(&tools, &source, &home, form, &["--db", "shop", "--dumpDbUsersAndRoles"]);
        // The user has a role in another database, which the dump does not contain.
        let report = run(&mut from(&home, &path, &target)).ends(3).json();
        assert!(report["warnings"].to_string().contains("admin.auditor"), "{form:?}: {report}");
        assert_eq!((&report["users"], &report["roles"]), (&1.into(), &1.into()), "{form:?}: {report}");
        let found = read_all(&restored).await.expect("the target");
        assert_eq!(wanted.diff(&found), Vec::<String>::new(), "{form:?}");
    }
}
