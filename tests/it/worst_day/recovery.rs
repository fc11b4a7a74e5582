//! RECOVERY.txt, as an artifact contains it.

use uzima_testkit::official::Official;
use uzima_testkit::read_all::read_all;

use super::data::{Data, assert_taken, one};
use super::shell::Shell;
use super::shell::indented;
use crate::cli::contents::tar_files;
use crate::cli::support::{decompressed, files};
use crate::restore::support::server;

/// In a folder that contains only the artifact.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_recovery_txt() {
    let data = Data::new().await;
    for format in ["tar.gz", "tar.zst"] {
        let backup = data.backup(format);
        let raw = decompressed(&backup.manifest, &std::fs::read(backup.artifact()).expect("the artifact"));
        let text = String::from_utf8(tar_files(&raw)["RECOVERY.txt"].clone()).expect("UTF-8");
        let blocks = indented(&text);
        let [everything, collection] = &blocks[..] else { panic!("not every block is run: {blocks:?}") };
        let (target, restored) = server().await;
        let shell = Shell::new(&backup.home.backups(), &target.uri());
        let here = |block: &str| format!("cd /var/tmp/rescue\n{block}");
        std::fs::create_dir(shell.rescue()).expect("a folder");
        let name = backup.artifact().file_name().expect("a name").to_owned();
        std::fs::copy(backup.artifact(), shell.rescue().join(name)).expect("the artifact");
        assert_taken(&backup, &shell.taken(&here(everything)));
        assert!(files(&shell.taken(&here(collection))).iter().any(|file| file.ends_with("shop/orders.bson")));
        if Official::find(&format!("worst_day::recovery ({format})")).is_none() {
            continue;
        }
        shell.run(&here(collection));
        let found = read_all(&restored).await.expect("the target");
        assert_eq!((one(&found, "shop"), found.namespaces.len()), (one(&data.original, "shop"), 1));
        restored.database("shop").drop().await.expect("a drop");
        shell.run(&here(everything));
        data.assert_in(&restored).await;
    }
}
