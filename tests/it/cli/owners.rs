//! Root and the user of the nights take turns in the same folders.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use uzima_testkit::mongod::Mongod;

use super::support::{Home, run};

/// Whoever is nobody here.
const USER: u32 = 65_534;

/// What of a folder belongs to another one than `owner`.
fn foreign(folder: &Path, owner: u32) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.symlink_metadata().expect("an entry").uid() != owner {
            found.push(path.display().to_string());
        }
        if path.is_dir() {
            found.extend(foreign(&path, owner));
        }
    }
    found
}

/// A backup, a verification, a pin and a failure by root lock nobody out. Whoever is not root here sees the
/// rest of it: nothing fails for want of the right to give files away.
#[tokio::test(flavor = "multi_thread")]
async fn what_root_does_by_hand_leaves_the_folders_to_their_owner() {
    let (server, home) = (Mongod::builder().start().await.expect("mongod"), Home::new());
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..50).map(|n| bson::doc! {"_id": n})).await.expect("rows");
    let (uri, me) = (server.uri(), home.path().metadata().expect("the home").uid());
    let owner = if me == 0 { USER } else { me };
    for folder in [home.backups(), home.state()] {
        std::fs::create_dir_all(&folder).expect("a folder");
        chown(&folder, Some(owner), None).expect("an owner");
    }
    let id = || home.manifests().pop().expect("a manifest").id.to_string();
    run(home.to_dir("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=500").arg("backup")).ends(1);
    run(home.to_dir(&uri).arg("backup")).ends(0);
    run(home.to_dir(&uri).args(["verify", "latest", "--job", &home.manifests()[0].job])).ends(0);
    run(home.to_dir(&uri).args(["pin", &id(), "--reason", "by hand"])).ends(0);
    assert_eq!(
        [foreign(&home.backups(), owner), foreign(&home.state(), owner)].concat(),
        Vec::<String>::new()
    );
    // The nights go on. The tool may be built where that user has no way to it.
    let copy = home.path().join("tool");
    std::fs::copy(home.tool().get_program(), &copy).expect("a copy of the tool");
    for command in [&["backup"][..], &["cleanup"], &["verify", "latest"], &["stats"]] {
        let settings = home.to_dir(&uri);
        let mut tool = Command::new(&copy);
        tool.env_clear().envs(settings.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if me == 0 {
            tool.uid(USER).gid(USER);
        }
        run(tool.env("BACKUP_JOB", &home.manifests()[0].job).args(command)).ends(0);
    }
}
