//! Root and the user of the nightly runs use the same folders in turn.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use uzima_testkit::mongod::Mongod;

use super::support::{Home, run};

/// A user id that owns nothing on this machine.
const USER: u32 = 65_534;

/// The entries of a folder that do not belong to `owner`.
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

/// Files that root creates by a backup, a verification, a pin or a failed run do not lock the owner of the
/// folders out. Without root, the test still shows that nothing fails for lack of the right to change owners.
#[tokio::test(flavor = "multi_thread")]
async fn files_created_by_root_belong_to_the_owner_of_the_folder() {
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
    // The nightly runs continue. A copy of the tool is used, because that user may not be able to reach the
    // build folder.
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
