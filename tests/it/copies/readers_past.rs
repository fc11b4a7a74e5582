//! Backups of version 0.1.0, whose metadata is only in the artifact.

use std::path::Path;
use std::process::Command;

use uzima_testkit::read_all::read_all;

use super::readers_support::{TwoPlaces, flip, segments};
use crate::cli::support::run;
use crate::restore::support::server;

#[tokio::test(flavor = "multi_thread")]
async fn damaged_metadata_of_an_old_backup_is_read_from_the_other_place() {
    let places = TwoPlaces::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backups-0.1.0/2026");
    for place in ["first", "copy"] {
        std::fs::create_dir_all(places.folder(place)).expect("a folder");
        run(Command::new("cp").arg("-r").arg(&fixtures).arg(places.folder(place))).ends(0);
    }
    let (target, live) = server().await;
    let mut from_the_other = 0;
    for manifest in places.home.manifests() {
        if manifest.job != "fixture" || manifest.engine.name != "native" {
            continue;
        }
        let args = [manifest.id.as_str(), "--job", "fixture", "--exact"];
        places.restore(&target, &args).ends(0);
        let wanted = read_all(&live).await.expect("the target");
        let (folder, mut end) = (places.folder("first"), 0);
        for (offset, length) in segments(&folder, &manifest) {
            if offset > end {
                flip(&folder.join(&manifest.artifact.key), end + (offset - end) / 2);
            }
            end = offset + length;
        }
        let ran = places.restore(&target, &args);
        // A changed byte of a tar header does not matter.
        assert!(matches!(ran.code, Some(0 | 3)), "{}", ran.stderr);
        from_the_other += usize::from(ran.code == Some(3));
        let restored = read_all(&live).await.expect("the target");
        assert_eq!(wanted.diff(&restored), Vec::<String>::new(), "{}", manifest.artifact.format);
    }
    assert!(from_the_other > 0, "no damage was found");
}
